"""Headless Chromium against the real program; after every test: no console error, no other host.

Chromium is the system's where there is one, else the one that ``python -m playwright install chromium`` fetched.
"""

from __future__ import annotations

import re
import shutil
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, expect, sync_playwright

from tests.endless import make_endless_model
from tests.serving import App
from tests.studio.conftest import BLOCK

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
)  # fmt: skip
PATIENCE_MS = 60_000  # for a machine that trains at the same time; an idle one needs a fiftieth

expect.set_options(timeout=PATIENCE_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A catalogue with ``tiny``, whose answers take a moment, and ``slow``, whose answers can be stopped."""
    folder = tmp_path_factory.mktemp("endless")
    tiny = make_endless_model(folder / "tiny", layers=2, context=128)
    slow = make_endless_model(folder / "slow", layers=24, context=2048)
    return BLOCK.format(id="tiny", path=tiny, context=128) + BLOCK.format(id="slow", path=slow, context=2048)


class Visit:
    """One browser with one page of the studio; a person's hands and eyes, in the words of the tests."""

    def __init__(self, context: BrowserContext, app: App) -> None:
        self.context, self.app = context, app
        self.requests: list[str] = []
        self.complaints: list[str] = []
        context.set_default_timeout(PATIENCE_MS)
        context.set_default_navigation_timeout(PATIENCE_MS)
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        self.page = context.new_page()
        self.open()

    def open(self) -> None:
        """Go to the page, or reload it, and wait until it can be used."""
        self.page.goto(self.app.url)
        expect(self.prompt).to_be_visible()
        expect(self.page.locator("#chip-device")).to_contain_text("CPU")

    # --- places ------------------------------------------------------------------------------------------

    @property
    def prompt(self) -> Locator:
        return self.page.locator("#chat-prompt textarea")

    @property
    def ask_button(self) -> Locator:
        return self.page.locator("#chat-ask")

    @property
    def stop_button(self) -> Locator:
        return self.page.locator("#chat-stop")

    @property
    def questions(self) -> Locator:
        return self.page.locator('#chat-messages [data-testid="user"]')

    @property
    def answers(self) -> Locator:
        return self.page.locator('#chat-messages [data-testid="bot"]')

    @property
    def numbers(self) -> Locator:
        return self.page.locator("#chat-numbers")

    @property
    def error(self) -> Locator:
        return self.page.locator("#chat-error .card.error")

    @property
    def tokens(self) -> Locator:
        return self.page.locator("#chat-tokens .token-line button.token")

    @property
    def answer(self) -> str:
        return self.answers.last.inner_text().strip()

    # --- hands -------------------------------------------------------------------------------------------

    def ask(self, question: str) -> None:
        """Type a question and press Ask; the answer may take its time."""
        self.prompt.fill(question)
        self.ask_button.click()

    def ask_and_wait(self, question: str) -> str:
        count = self.answers.count()
        self.ask(question)
        expect(self.answers).to_have_count(count + 1)
        return self.wait_for_answer()

    def wait_for_answer(self) -> str:
        """Until the answer is complete with its numbers; returns its text."""
        expect(self.ask_button).to_be_visible()
        expect(self.stop_button).to_be_hidden()
        expect(self.numbers).to_contain_text("tokens/s")
        return self.answer

    def choose(self, dropdown: str, option: str) -> None:
        """Pick an option of a Gradio dropdown by the beginning of its label."""
        self.page.locator(f"{dropdown} input").click()
        wanted = re.compile(rf"^\W*{re.escape(option)}")
        self.page.locator("ul[role=listbox] li").filter(has_text=wanted).first.click()

    def unfold(self, accordion: str) -> None:
        button = self.page.locator(f"{accordion} > button.label-wrap")
        if "open" not in (button.get_attribute("class") or "").split():
            button.click()

    def set_number(self, name: str, value: float) -> None:
        """Type a value into the number field of a setting under More (or in view)."""
        field = self.page.locator(f"#setting-{name} input[type=number]")
        field.fill(str(value))
        field.press("Tab")

    def start_slow_answer(self, question: str = "Tell me everything.") -> None:
        """An answer of the slow model that is being written and would go on for a while."""
        self.choose("#chat-model", "slow")
        self.unfold("#chat-more")
        self.set_number("max_new_tokens", 1024)
        self.ask(question)
        expect(self.stop_button).to_be_visible()
        expect(self.numbers).to_contain_text("Writing")
        self.page.wait_for_function(
            "() => ([...document.querySelectorAll('#chat-messages [data-testid=bot]')].pop()?.innerText || '').length > 12"
        )

    def records_of(self, selector: str) -> Callable[[], list[int]]:
        """Watch how long the text at ``selector`` is whenever the page changes; the result reads the lengths seen."""
        self.page.evaluate(
            """(selector) => {
              window.seenLengths = [];
              const look = () => {
                const node = [...document.querySelectorAll(selector)].pop();
                const length = node ? node.innerText.length : 0;
                if (window.seenLengths.at(-1) !== length) window.seenLengths.push(length);
              };
              new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true});
            }""",
            selector,
        )
        return lambda: list(self.page.evaluate("window.seenLengths"))

    # --- checks ------------------------------------------------------------------------------------------

    def foreign_requests(self) -> list[str]:
        return [
            url
            for url in self.requests
            if urllib.parse.urlsplit(url).scheme not in ("data", "blob", "about")
            and urllib.parse.urlsplit(url).hostname != "127.0.0.1"
        ]

    def stored(self, key: str) -> Any:
        return self.page.evaluate("(key) => localStorage.getItem(key)", key)


Visitors = Callable[..., Visit]


@pytest.fixture
def visitors(chromium: Browser, app: App) -> Iterator[Visitors]:
    """Opens the page in a browser of its own; each call is another person. Checks afterwards what was loaded."""
    visits: list[Visit] = []

    def visit(**context: Any) -> Visit:
        visits.append(Visit(chromium.new_context(**({"viewport": {"width": 1280, "height": 900}} | context)), app))
        return visits[-1]

    yield visit
    for one in visits:
        one.context.close()
    app.until(lambda now: now["running"] == now["waiting"] == 0, "idle again after the pages were closed")
    assert [one.complaints for one in visits if one.complaints] == []
    assert [one.foreign_requests() for one in visits if one.foreign_requests()] == []
    assert app.attempts == []
    assert "Traceback" not in app.log


@pytest.fixture
def visitor(visitors: Visitors) -> Visit:
    """One person on a page of a desktop's size."""
    return visitors()


def start_app(folder: Path, catalog: str = "", *arguments: str) -> App:
    if catalog:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "catalog.toml").write_text(catalog)
    return App(folder, *arguments).wait()
