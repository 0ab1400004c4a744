"""The page frame and the program around it: served whole, to the right people, without asking anybody else."""

from __future__ import annotations

import html.parser
import http.client
import json
import re
import shutil
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pipelines import device
from pipelines.errors import Forbidden, StudioError
from studio import conversations, shell
from studio.registry import TABS
from studio.runtime import Studio
from tests.serving import ROOT, App
from tests.studio.conftest import PASSWORD, Served

pytestmark = pytest.mark.filterwarnings(
    "ignore:'future.no_silent_downcasting' is deprecated"  # Gradio 6.31 asks pandas 3 for it after every job
)
WRONG = ("", "guess", "\u00e4", None, 7, ["x"], {"a": 1}, "x" * 100_000)


@pytest.fixture(autouse=True)
def _many_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests guess more often than a minute allows; that limit has its own tests."""
    monkeypatch.setattr("studio.session.ATTEMPTS_PER_MINUTE", 10_000)


def raw_get(url: str, path: str) -> tuple[int, str]:
    """GET with the path sent exactly as given: no client may tidy up its dots."""
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    finally:
        connection.close()


def routes_of(studio: Studio) -> TestClient:
    return TestClient(Starlette(routes=shell.routes(studio)))


# --- our own addresses -----------------------------------------------------------------------------------


def test_the_state_tells_the_header_all_it_shows(served: Served) -> None:
    response = httpx.get(f"{served.url}studio/state")
    assert response.headers["cache-control"] == "no-store"
    state = response.json()
    assert set(state) == {"running", "waiting", "wait_s", "device", "reason", "model"}
    assert (state["running"], state["waiting"], state["wait_s"]) == (0, 0, 0)
    assert state["device"] == "CPU, fp32, tiny"
    assert "asked for" in state["reason"]
    assert state["model"] == "tiny: Apache-2.0"


def test_before_the_hardware_is_known_the_state_only_counts_jobs(
    make_studio: Callable[..., Studio], tmp_path: Path
) -> None:
    with routes_of(make_studio(tmp_path / "data")) as client:
        assert client.get("/studio/state").json() == {"running": 0, "waiting": 0, "wait_s": 0}


@pytest.mark.parametrize("name", list(shell.SERVED))
def test_the_pictures_of_the_page_are_served(served: Served, name: str) -> None:
    response = httpx.get(f"{served.url}studio/web/{name}")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("image/svg+xml")


@pytest.mark.parametrize(
    "path",
    [
        "/studio/web/style.css", "/studio/web/nosuch.svg", "/studio/web/", "/studio/web/../style.css",
        "/studio/web/..%2fstyle.css", "/studio/web/%2e%2e/%2e%2e/app.py", "/studio/web/..%2f..%2f..%2fapp.py",
        "/studio/web/..%5c..%5capp.py", "/studio/web//etc/passwd", "/studio/web/%2fetc%2fpasswd",
        "/studio/web/mote.svg%00.png", "/studio/web/mote.svg/../studio.js", "/studio/../app.py",
    ],
)  # fmt: skip
def test_no_other_file_is_served_however_it_is_named(served: Served, path: str) -> None:
    status, text = raw_get(served.url, path)
    assert status == 404
    assert "import " not in text
    assert "root:" not in text


@pytest.mark.parametrize("model", ["nosuch", "tiny", "smollm2-135m", "remote", "", "..", "..%2f..%2fcatalog.toml"])
def test_only_embedded_models_have_a_card_here(served: Served, model: str) -> None:
    status, text = raw_get(served.url, f"/studio/card/{model}")
    assert status == 404
    assert "Traceback" not in text


def test_the_card_of_an_embedded_model_is_shown_as_text(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "CARD.md").write_text("# Mote <script>alert(1)</script>", encoding="utf-8")
    monkeypatch.setattr(type(studio.models["mote"]), "folder", lambda self: tmp_path)
    with routes_of(studio) as client:
        response = client.get("/studio/card/mote")
    assert response.status_code == 200
    assert "# Mote &lt;script&gt;" in response.text
    assert "<script" not in response.text


def test_what_the_studio_keeps_is_not_served(served: Served) -> None:
    secret = served.studio.settings.data_dir / "browser_secret"
    assert secret.exists()
    for name in (secret, served.studio.settings.catalog_file, ROOT / "app.py", "/etc/passwd"):
        status, _ = raw_get(served.url, f"/gradio_api/file={name}")
        assert status in (403, 404), name


# --- the page --------------------------------------------------------------------------------------------


class Links(html.parser.HTMLParser):
    """Collects the addresses that a browser loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        wanted = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "base": "href"}
        self.found += [value or "" for name, value in attrs if wanted.get(tag) == name]


def foreign(addresses: list[str], own: str) -> list[str]:
    hosts = [(address, urllib.parse.urlsplit(address).hostname) for address in addresses]
    return [address for address, host in hosts if host and host != urllib.parse.urlsplit(own).hostname]


def strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from strings_in(one)


def test_the_page_loads_nothing_from_another_host(served: Served) -> None:
    page = httpx.get(served.url).text
    links = Links()
    links.feed(page)
    assert links.found
    assert foreign(links.found, served.url) == []
    assert served.config["analytics_enabled"] is False
    assert served.config["stylesheets"] == []


def test_what_the_page_is_built_from_loads_nothing_from_another_host(served: Served) -> None:
    for text in strings_in(served.config):
        links = Links()
        links.feed(text)
        links.found += re.findall(r"url\(['\"]?(https?:[^)'\"]*)", text) + re.findall(r"@import\s+['\"]([^'\"]+)", text)
        assert foreign(links.found, served.url) == [], text[:200]


def test_the_pages_own_scripts_and_styles_name_no_other_host() -> None:
    for file in sorted((ROOT / "assets" / "web").iterdir()):
        addresses = re.findall(r"https?://[^\s\"'<>)]+", file.read_text(encoding="utf-8"))
        assert [a for a in addresses if not a.startswith("http://www.w3.org/")] == [], file.name


def test_the_theme_uses_fonts_of_this_server_only(served: Served) -> None:
    style = httpx.get(f"{served.url}theme.css").text
    fonts = re.findall(r"url\('([^')]+)'\)", style)
    assert any("woff2" in font for font in fonts)
    assert foreign(fonts, served.url) == []
    for font in fonts:
        assert httpx.get(served.url + font).status_code == 200


def test_the_page_has_every_tab_that_has_a_model(served: Served) -> None:
    shown = {c["props"].get("elem_id") for c in served.config["components"]}
    tasks = {model.task for model in served.studio.models.values()}
    assert "chat" in tasks
    for tab in TABS:  # one for whose task there is no model could do nothing
        assert (f"tab-{tab.id}" in shown) == (tab.task in tasks)
    assert len({tab.id for tab in TABS}) == len(TABS)


def test_the_page_tells_nobody_the_password(served: Served) -> None:
    assert PASSWORD not in httpx.get(served.url).text
    assert PASSWORD not in json.dumps(served.config)
    assert PASSWORD not in httpx.get(f"{served.url}gradio_api/info").text


def test_nobodys_handler_is_listed_as_an_api(served: Served) -> None:
    assert httpx.get(f"{served.url}gradio_api/info").json()["named_endpoints"] == {}


def test_no_question_and_no_answer_can_fetch_pictures_from_another_host(served: Served) -> None:
    for path in ("", "studio/web/mote.svg"):
        policy = httpx.get(served.url + path).headers["content-security-policy"]
        assert "img-src 'self' data: blob:" in policy
        assert "*" not in policy


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_a_foreign_page_may_not_call_the_studio(served: Served, origin: str) -> None:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    response = httpx.options(f"{served.url}gradio_api/run/log_in", headers=asked)
    assert response.headers.get("access-control-allow-origin") not in ("*", origin)


# --- rights, by every route ------------------------------------------------------------------------------

PRESENTERS = {"change"}
SIGNING_IN = {"log_in", "come_back", "log_out"}
ANSWERS = {"on_ask", "on_example", "on_retry", "on_edit", "on_again", "on_branch"}
PAINTS = {"on_paint", "on_vary", "on_again_exactly", "on_grid", "on_guidances", "on_write", "on_noise"}
OWN = {
    "on_stop", "on_unbranch", "on_undo", "on_like", "on_clear", "on_new", "on_delete", "on_open", "on_load", "on_model",
    "on_preset", "defaults", "leave", "on_image_stop", "on_picture", "on_take", "on_use_start", "on_cell", "on_made",
    "on_drop", "on_start", "on_no_start", "on_loras", "on_compose", "on_surprise", "on_image_example", "on_swap",
    "on_seed", "on_axis", "on_axis_down", "on_image_model", "on_image_reset", "on_plan", "on_image_load",
}  # fmt: skip


def test_every_handler_is_known_to_these_tests(served: Served) -> None:
    named = {f["api_name"] for f in served.config["dependencies"] if f["api_name"] and not f["cancels"]}
    assert named == PRESENTERS | SIGNING_IN | ANSWERS | PAINTS | OWN
    assert {f["api_visibility"] for f in served.config["dependencies"] if f["api_name"] in named} == {"private"}


def send(served: Served, route: str, api_name: str, body: dict[str, Any]) -> str:
    if route == "queue":
        return served.ask_queue(body)
    if route == "call":
        return served.ask_queue(body, f"/call/{api_name}")
    return served.ask_directly(body, f"/{route}/{api_name}")


@pytest.mark.parametrize("route", ["run", "api", "queue", "call"])
@pytest.mark.parametrize("credentials", ["none", "wrong password", "wrong ticket"])
def test_presenter_handlers_refuse_everybody_else(served: Served, route: str, credentials: str) -> None:
    session = f"attendee {route} {credentials}"
    if credentials == "wrong password":
        log_in(served, session, "guess")
    if credentials == "wrong ticket":
        come_back(served, session, "guess")
    before = (served.studio.limits, served.studio.request, served.studio.wait_until_ready().choices["chat"])
    wishes = {"presenter_model": "slow", "presenter_device": "cpu"}
    answer = send(served, route, "change", served.body("change", session, **wishes))
    assert "Only the presenter may" in answer
    assert before == (served.studio.limits, served.studio.request, served.studio.wait_until_ready().choices["chat"])
    assert not served.studio.sessions.is_presenter(session)


@pytest.mark.parametrize("api_name", ["on_ask", "on_again", "on_branch"])
@pytest.mark.parametrize("route", ["queue", "call"])
def test_another_model_is_refused_to_attendees_by_every_route(served: Served, route: str, api_name: str) -> None:
    asked = conversations.with_messages(None, [{"role": "user", "content": "hello"}])
    values = {"chat_model": "slow", "studio_chat": asked, "chat_prompt": "hello"}
    body = served.body(api_name, f"attendee {route} {api_name}", **values)
    if api_name == "on_branch":
        body["event_data"] = {"prefix": [1]}
    assert "Only the presenter may choose another model" in send(served, route, api_name, body)


def test_jobs_cannot_pass_the_queue(served: Served) -> None:
    for api_name in sorted(ANSWERS | PAINTS):
        answer = served.ask_directly(served.body(api_name, "attendee"), f"/run/{api_name}")
        assert answer.startswith("404"), api_name


def log_in(served: Served, session: str, password: Any) -> str:
    return served.ask_directly(served.body("log_in", session, presenter_password=password), "/run/log_in")


def come_back(served: Served, session: str, ticket: Any) -> str:
    return served.ask_directly(served.body("come_back", session, studio_presenter=ticket), "/run/come_back")


@pytest.mark.parametrize("word", WRONG, ids=lambda w: repr(w)[:12])
def test_wrong_words_open_nothing(served: Served, word: Any) -> None:
    for sign_in in (log_in, come_back):
        answer = sign_in(served, "guesser", word)
        assert answer.startswith("200")
        assert PASSWORD not in answer
        assert not served.studio.sessions.is_presenter("guesser")


def test_the_right_password_opens_the_controls_for_this_session_only(served: Served) -> None:
    answer = json.loads(log_in(served, "presenter", PASSWORD).removeprefix("200 "))
    ticket = answer["data"][0]
    assert served.studio.sessions.is_presenter("presenter")
    before = served.studio.limits
    body = served.body("change", "presenter", presenter_device="auto", presenter_seconds=77, presenter_tokens=99)
    assert "Limits set." in served.ask_directly(body, "/run/change")
    assert (served.studio.limits.time_limit_s, served.studio.limits.max_new_tokens) == (77, 99)
    served.studio.limits = before
    assert "Only the presenter" in served.ask_directly(body | {"session_hash": "somebody"}, "/run/change")
    assert come_back(served, "reloaded", ticket).startswith("200")
    assert served.studio.sessions.is_presenter("reloaded")
    out = served.body("log_out", "reloaded", studio_presenter=ticket)
    assert "Logged out." in served.ask_directly(out, "/run/log_out")
    assert not served.studio.sessions.is_presenter("reloaded")
    assert not served.studio.sessions.return_with("again", ticket)


def test_a_presenter_who_comes_back_sees_what_holds_now_and_changes_only_what_was_changed(served: Served) -> None:
    before = served.studio.limits
    served.studio.sessions.log_in("one", PASSWORD)
    served.studio.change_limits("one", 33, 44)
    shown = json.loads(log_in(served, "other", PASSWORD).removeprefix("200 "))["data"][-4:]
    assert [update["value"] for update in shown] == ["tiny", served.studio.request.device, 33, 44]
    choice = served.studio.wait_until_ready().choices["chat"]
    answer = served.ask_directly(
        served.body("change", "other", presenter_seconds=60, presenter_tokens=100), "/run/change"
    )
    assert "Limits set." in answer
    assert served.studio.wait_until_ready().choices["chat"] is choice, "nobody chose another model"
    served.studio.limits = before


@pytest.mark.parametrize("value", [0, -1, 1e9, "NaN", "abc", None, [], {}], ids=repr)
def test_the_presenters_wrong_limits_are_refused_in_words(served: Served, value: Any) -> None:
    served.studio.sessions.log_in("careless", PASSWORD)
    before = served.studio.limits
    for name in ("presenter_seconds", "presenter_tokens"):
        body = served.body("change", "careless", **({"presenter_seconds": 60, "presenter_tokens": 100} | {name: value}))
        answer = served.ask_directly(body, "/run/change")
        assert served.studio.limits == before
        assert "Traceback" not in answer
        assert not answer.startswith("200") or "card error" in answer


def test_two_sessions_never_see_each_others_last_answer(served: Served) -> None:
    mine = served.ask_queue(served.body("on_ask", "mine", chat_prompt="the red hat"))
    assert "process_completed" in mine
    assert "tokens/s" in mine
    pieces = re.findall(r'"content":"((?:[^"\\]|\\.){40,})"', mine.replace('": "', '":"'))
    answer = max(pieces, key=len, default="")
    other = [
        served.ask_queue(served.body("on_again", "other")),
        served.ask_directly(served.body("on_unbranch", "other"), "/run/on_unbranch"),
        served.ask_queue(served.body("on_branch", "other") | {"event_data": {"prefix": [1]}}),
        served.ask_directly(served.body("on_load", "other"), "/run/on_load"),
    ]
    for text in other:
        assert "red hat" not in text
        assert not answer or answer not in text
    asked = conversations.with_messages(None, [{"role": "user", "content": "the red hat"}])
    again = served.ask_queue(served.body("on_again", "mine", studio_chat=asked))
    assert answer in again.replace('": "', '":"'), "its own session does have it"
    assert len(answer) >= 40


# --- starting --------------------------------------------------------------------------------------------


def absent_device() -> str:
    hardware = device.probe()
    return next(
        k for k, there in {"cuda": hardware.cuda, "mps": hardware.mps, "xpu": hardware.xpu}.items() if not there
    )


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, App]]:
    """Two programs that start side by side, since each takes seconds: as shipped, and for a device that is not there."""
    folder = tmp_path_factory.mktemp("apps")
    started = {"shipped": App(folder / "shipped"), "absent": App(folder / "absent", "--device", absent_device())}
    yield started
    for app in started.values():
        app.stop()


def test_the_program_starts_and_answers_without_reaching_for_another_host(apps: dict[str, App]) -> None:
    app = apps["shipped"].wait()
    state = app.until(lambda now: now["running"] == 0 and "model" in now, "loaded")
    assert b"Generative AI 101 Studio" in app.get("/")
    assert "Mote" in state["model"]
    config = json.loads(app.get("/config"))
    page = Served(app.url + "/", None, config)  # type: ignore[arg-type]
    answer = page.ask_queue(page.body("on_ask", "somebody", chat_prompt="What is a GAN?", setting_max_new_tokens=8))
    assert "tokens/s" in answer
    assert app.attempts == []
    assert "Traceback" not in app.log
    assert app.stop() == 0
    assert app.attempts == []


def test_a_device_that_is_not_there_is_said_with_what_could_be_used(apps: dict[str, App]) -> None:
    app = apps["absent"].wait()
    state = app.state()
    assert state["device"] == "not ready"
    assert "was asked for, but is not there" in state["reason"]
    assert "This machine offers: cpu" in state["reason"]
    page = Served(app.url + "/", None, json.loads(app.get("/config")))  # type: ignore[arg-type]
    answer = page.ask_queue(page.body("on_ask", "somebody", chat_prompt="hello"))
    assert "This machine offers: cpu" in answer
    assert "unexpected" not in answer


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "app.py", "--port", port, "--data-dir", str(tmp_path)],
            cwd=ROOT, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert done.returncode == 2
    assert f"127.0.0.1:{port}" in done.stderr
    assert "--port" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_broken_default_model_is_said_and_the_others_still_work(
    make_studio: Callable[..., Studio], tmp_path: Path, catalog_text: str
) -> None:
    folder = Path(re.findall(r'path = "([^"]+)"', catalog_text)[0])
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"cut off")
    studio = make_studio(tmp_path / "data")
    studio.settings.catalog_file.write_text(catalog_text.replace(str(folder), str(broken), 1))
    studio = Studio(studio.settings)
    studio.warm_up()
    with routes_of(studio) as client:
        state = client.get("/studio/state").json()
        assert state["device"] == "not ready"
        assert "model.safetensors" in state["reason"]
        assert str(tmp_path) not in state["reason"]
        studio.change_default_model("anybody", "slow")
        assert "slow" in client.get("/studio/state").json()["device"]
    studio.close()


def test_conversations_outlive_a_restart(make_studio: Callable[..., Studio], tmp_path: Path) -> None:
    first = make_studio(tmp_path / "data").browser_secret()
    assert make_studio(tmp_path / "data").browser_secret() == first
    assert (tmp_path / "data" / "browser_secret").stat().st_mode & 0o077 == 0
    assert make_studio(tmp_path / "other").browser_secret() != first


def test_a_data_directory_that_cannot_be_written_does_not_keep_the_page_from_opening(
    make_studio: Callable[..., Studio], tmp_path: Path
) -> None:
    studio = make_studio(tmp_path / "data")
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "data").write_text("a file where the folder should be")
    assert len(studio.browser_secret()) > 20


def test_without_a_password_everything_is_open_and_with_one_it_is_not(
    make_studio: Callable[..., Studio], tmp_path: Path
) -> None:
    open_studio = make_studio(tmp_path / "open")
    open_studio.change_limits("anybody", 60, 100)
    assert open_studio.limits.max_new_tokens == 100
    locked = make_studio(tmp_path / "locked", presenter_password="x")
    for change in (
        lambda: locked.change_limits("anybody", 60, 100),
        lambda: locked.change_default_model("anybody", "slow"),
        lambda: locked.change_device("anybody", device.Request("cpu")),
    ):
        with pytest.raises(Forbidden):
            change()


def test_a_wrong_catalogue_is_said_before_anything_is_opened(
    make_studio: Callable[..., Studio], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "own.toml").write_text("[[model]]\nid = 3\n")
    with pytest.raises(StudioError, match="own.toml"):
        make_studio(data, catalog=data / "own.toml")
