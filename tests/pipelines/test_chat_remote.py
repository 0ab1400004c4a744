"""A model behind a server: the same answer as here, and a sentence that helps whenever the server does not.

One real server (``transformers serve``) shows that the protocol is spoken; a small HTTP server of the test's
own misbehaves in every way that real ones do.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipelines import catalog, chat_remote
from pipelines.chat import ChatParams, ChatResult, Loader
from pipelines.chat_local import LocalChat
from pipelines.chat_remote import RemoteChat
from pipelines.errors import (
    Cancelled,
    InvalidParams,
    MissingKey,
    ModelMissing,
    RemoteFailed,
    StudioError,
    TimedOut,
)
from pipelines.events import CancelToken, Done, Event, Notice, Partial, Progress
from pipelines.weights import drain

KEY = "sk-secret-0123456789"
#: What is no wait for a timeout (60 s) nor for a Retry-After (30 s), on a machine however busy.
QUICK_S = 15.0
START_S = 300.0  # eight seconds on an idle machine
PLAIN_FIELDS = {"model", "messages", "stream", "temperature", "top_p", "max_tokens"}


def ask(content: str = "the cat", **settings: Any) -> ChatParams:
    values: dict[str, Any] = {"strategy": "greedy", "max_new_tokens": 20, "seed": 1}
    return ChatParams(messages=({"role": "user", "content": content},), **(values | settings))


def remote_model(url: str, name: str = "tiny", **changes: Any) -> catalog.Model:
    values: dict[str, Any] = {
        "id": "server",
        "task": "chat",
        "title": "Server",
        "summary": "Elsewhere.",
        "source": "remote",
        "license": "as served",
        "base_url": url,
        "remote_model": name,
        "key_variable": "STUDIO_REMOTE_KEY",
    }
    return catalog.Model(**(values | changes))


def keep(seen: list[Event], events: Iterator[Event]) -> None:
    """Each event as it comes: what came before a failure counts."""
    for event in events:
        seen.append(event)


def done_of(events: list[Event]) -> Done:
    assert sum(isinstance(e, Done) for e in events) == 1
    done = events[-1]
    assert isinstance(done, Done)
    assert isinstance(done.artifact, ChatResult)
    assert "".join(e.text for e in events if isinstance(e, Partial)) == done.artifact.text
    return done


# --- a real server ---------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@pytest.fixture(scope="session")
def served(lively_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a ``transformers serve`` that serves the lively model, offline."""
    home, port = tmp_path_factory.mktemp("serve"), free_port()
    command = [
        str(Path(sys.executable).with_name("transformers")), "serve", str(lively_folder),
        "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32", "--log-level", "warning",
    ]  # fmt: skip
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            deadline = time.monotonic() + START_S
            while not is_healthy(port):
                assert server.poll() is None, (home / "log").read_text()
                assert time.monotonic() < deadline, (home / "log").read_text()
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


@pytest.fixture
def real(served: str, lively_folder: Path) -> Iterator[RemoteChat]:
    backend = RemoteChat(remote_model(served, str(lively_folder)))
    yield backend
    backend.close()


@pytest.mark.parametrize("settings", [{}, {"max_new_tokens": 40, "top_p": 0.5}, {"system": "be brief"}], ids=str)
def test_a_server_answers_what_the_same_model_answers_here(
    real: RemoteChat, lively: LocalChat, settings: dict[str, Any]
) -> None:
    params = ask("the rat ran", **settings)
    events = list(real.run(params, CancelToken()))
    local = list(lively.run(params, CancelToken()))[-1]
    assert isinstance(local, Done)
    done = done_of(events)
    assert done.artifact.text == local.artifact.text
    assert done.record["finish_reason"] == local.record["finish_reason"] == "length"
    assert sum(isinstance(e, Partial) for e in events) > 3


def test_an_answer_from_a_real_server_can_be_cancelled_and_the_next_one_comes(real: RemoteChat) -> None:
    cancel = CancelToken()
    partials = 0
    with pytest.raises(Cancelled):  # noqa: PT012 - the loop is what is tested
        for event in real.run(ask(max_new_tokens=100), cancel):
            partials += isinstance(event, Partial)
            if partials == 3:
                cancel.set()
    assert partials == 3
    assert done_of(list(real.run(ask(), CancelToken()))).artifact.text


def test_a_real_server_without_that_model_says_so(served: str) -> None:
    backend = RemoteChat(remote_model(served, "nobody/nothing"))
    with pytest.raises(RemoteFailed, match="nobody/nothing"):
        list(backend.run(ask(), CancelToken()))
    backend.close()


# --- a server that misbehaves ----------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """One request: keeps what was asked, then behaves as the test says."""

    protocol_version = "HTTP/1.1"
    server: Fake

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(({k.lower(): v for k, v in self.headers.items()}, body))
        self.close_connection = True
        try:
            self.server.behave(self, body)
        except OSError:
            self.server.has_lost_client.set()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def refuse(self, status: int, body: str, **headers: str) -> None:
        payload = body.encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(payload)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(payload)

    def start(self, *, is_chunked: bool = False) -> None:
        self.is_chunked = is_chunked
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header(*(("Transfer-Encoding", "chunked") if is_chunked else ("Connection", "close")))
        self.end_headers()

    def send(self, data: str) -> None:
        line = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line) if self.is_chunked else line)
        self.wfile.flush()

    def say(self, content: str | None, finish: str | None = None, logprobs: Any = None) -> None:
        choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish, "logprobs": logprobs}
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": [choice]}
        self.send(json.dumps(chunk))

    def answer(self, *contents: str) -> None:
        self.start()
        for content in contents:
            self.say(content)
        self.say(None, "stop")
        self.send("[DONE]")


Behaviour = Callable[[Handler, dict[str, Any]], None]


class Fake(ThreadingHTTPServer):
    """The server; ``requests`` are (headers, body) as they came."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, behave: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behave = behave
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.has_lost_client = threading.Event()
        self.is_over = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def end(self) -> None:
        self.is_over.set()
        self.shutdown()
        self.server_close()


Connect = Callable[..., tuple[Fake, RemoteChat]]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Start a server that behaves as told and connect to it with the key."""
    monkeypatch.setenv("STUDIO_REMOTE_KEY", KEY)
    started: list[tuple[Fake, RemoteChat]] = []

    def start(behave: Behaviour, **changes: Any) -> tuple[Fake, RemoteChat]:
        fake = Fake(behave)
        backend = RemoteChat(remote_model(fake.url, **changes))
        started.append((fake, backend))
        return fake, backend

    yield start
    for fake, backend in started:
        backend.close()
        fake.end()


def stall(handler: Handler, body: dict[str, Any]) -> None:
    """Say nothing, not even a status, until the test is over."""
    handler.server.is_over.wait(30)


def stall_in_mid_answer(handler: Handler, body: dict[str, Any]) -> None:
    handler.start()
    handler.say("one ")
    handler.say("two ")
    while not handler.server.is_over.wait(0.05):
        handler.wfile.write(b": still here\n\n")  # an SSE comment, which keeps a connection open
        handler.wfile.flush()


def fall_silent_in_mid_answer(handler: Handler, body: dict[str, Any]) -> None:
    handler.start()
    handler.say("one ")
    handler.server.is_over.wait(30)


def wrong_key(handler: Handler, body: dict[str, Any]) -> None:
    handler.refuse(401, json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}))


def forbidden(handler: Handler, body: dict[str, Any]) -> None:
    handler.refuse(403, "{}")


def no_such_model(handler: Handler, body: dict[str, Any]) -> None:
    handler.refuse(404, json.dumps({"error": {"message": "The model does not exist"}}))


def too_long(handler: Handler, body: dict[str, Any]) -> None:
    said = f"This model's maximum context length is 64 tokens.\nTraceback (most recent call last): {KEY}"
    handler.refuse(400, json.dumps({"error": {"message": said}}))


def echo_the_key(handler: Handler, body: dict[str, Any]) -> None:
    handler.refuse(422, json.dumps({"detail": f"bad header Bearer {KEY}"}))


def broken(handler: Handler, body: dict[str, Any]) -> None:
    handler.refuse(500, f"Traceback (most recent call last):\n  File 'x'\nOSError {KEY}")


def too_many(handler: Handler, body: dict[str, Any]) -> None:
    handler.refuse(429, "{}", Retry_After="30")


def hang_up(handler: Handler, body: dict[str, Any]) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def cut(handler: Handler, body: dict[str, Any]) -> None:
    handler.start()
    handler.say("one ")
    handler.say("two ")
    handler.connection.shutdown(socket.SHUT_RDWR)


def cut_inside_the_encoding(handler: Handler, body: dict[str, Any]) -> None:
    handler.start(is_chunked=True)
    handler.say("one ")
    handler.say("two ")
    handler.wfile.write(b"ff\r\nhalf a chu")
    handler.connection.shutdown(socket.SHUT_RDWR)


def no_json(handler: Handler, body: dict[str, Any]) -> None:
    handler.start()
    handler.send("{half a record")


def error_in_the_stream(handler: Handler, body: dict[str, Any]) -> None:
    handler.start()
    handler.say("one ")
    handler.send(json.dumps({"error": {"message": f"CUDA error {KEY}", "code": 500}}))


def some_web_page(handler: Handler, body: dict[str, Any]) -> None:
    handler.refuse(200, "<html>Welcome</html>", Content_Type="text/html")


FAILURES: list[tuple[Behaviour, type[StudioError], str, str]] = [
    (stall, RemoteFailed, "No answer from the server at http://127.0.0.1:", ""),
    (fall_silent_in_mid_answer, RemoteFailed, "No answer", "one "),
    (wrong_key, MissingKey, "refused the key. Set STUDIO_REMOTE_KEY", ""),
    (forbidden, MissingKey, "refused the key", ""),
    (no_such_model, RemoteFailed, "No model called 'tiny'", ""),
    (too_long, RemoteFailed, "refused this request: This model's maximum context length is 64 tokens.", ""),
    (echo_the_key, RemoteFailed, r"refused this request: bad header Bearer \(key\)", ""),
    (broken, RemoteFailed, "An error 500 from the server", ""),
    (too_many, RemoteFailed, "Too many requests", ""),
    (hang_up, RemoteFailed, "Nothing answers at http://127.0.0.1:", ""),
    (cut, RemoteFailed, "broke off in mid-answer", "one two "),
    (cut_inside_the_encoding, RemoteFailed, "broke in mid-answer", "one two "),
    (no_json, RemoteFailed, "An error from the server", ""),
    (error_in_the_stream, RemoteFailed, "broke in mid-answer", "one "),
    (some_web_page, RemoteFailed, "sent no answer. Is it a model server", ""),
]


@pytest.mark.parametrize(("behave", "kind", "says", "kept"), FAILURES, ids=[f[0].__name__ for f in FAILURES])
def test_every_failure_is_one_quick_sentence_that_helps_and_tells_no_secret(
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    behave: Behaviour,
    kind: type[StudioError],
    says: str,
    kept: str,
) -> None:
    if behave in (stall, fall_silent_in_mid_answer):
        monkeypatch.setattr(chat_remote, "READ_TIMEOUT_S", 1.0)
    _, backend = connect(behave)
    seen: list[Event] = []
    started = time.monotonic()
    with pytest.raises(kind, match=says) as caught:
        keep(seen, backend.run(ask(), CancelToken()))
    assert time.monotonic() - started < QUICK_S
    assert type(caught.value) is kind
    assert "".join(e.text for e in seen if isinstance(e, Partial)) == kept
    shown = str(caught.value)
    assert KEY not in shown
    assert "Traceback" not in shown
    assert "\n" not in shown
    assert caught.value.hint


def test_a_server_that_is_down_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    backend = RemoteChat(remote_model(f"http://127.0.0.1:{port}/v1"))
    started = time.monotonic()
    with pytest.raises(RemoteFailed, match=f"Nothing answers at http://127.0.0.1:{port}/v1. Is the server running"):
        list(backend.run(ask(), CancelToken()))
    assert time.monotonic() - started < QUICK_S
    backend.close()


def test_an_address_that_is_none_is_named() -> None:
    backend = RemoteChat(remote_model("my server"))
    with pytest.raises(RemoteFailed, match="Nothing answers at my server"):
        list(backend.run(ask(), CancelToken()))
    backend.close()


def test_a_password_in_the_address_is_never_shown() -> None:
    backend = RemoteChat(remote_model(f"http://me:pass-word@127.0.0.1:{free_port()}/v1"))
    with pytest.raises(RemoteFailed) as caught:
        list(backend.run(ask(), CancelToken()))
    assert "pass-word" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
    backend.close()


@pytest.mark.parametrize("behave", [too_many, broken])
def test_a_refusal_is_reported_at_once_and_not_tried_again_behind_ones_back(
    connect: Connect, behave: Behaviour
) -> None:
    fake, backend = connect(behave)
    with pytest.raises(RemoteFailed):
        list(backend.run(ask(), CancelToken()))
    assert len(fake.requests) == 1


def test_after_a_failure_the_next_question_is_answered(connect: Connect) -> None:
    def recover(handler: Handler, body: dict[str, Any]) -> None:
        if len(handler.server.requests) == 1:
            return cut(handler, body)
        return handler.answer("fine")

    _, backend = connect(recover)
    with pytest.raises(RemoteFailed):
        list(backend.run(ask(), CancelToken()))
    assert done_of(list(backend.run(ask(), CancelToken()))).artifact.text == "fine"


def test_a_kept_connection_that_the_server_ended_meanwhile_is_opened_again(connect: Connect) -> None:
    def restart(handler: Handler, body: dict[str, Any]) -> None:
        if len(handler.server.requests) == 2:
            return hang_up(handler, body)
        return handler.answer("fine")

    fake, backend = connect(restart)
    for _ in range(2):
        assert done_of(list(backend.run(ask(), CancelToken()))).artifact.text == "fine"
    assert len(fake.requests) == 3


# --- cancelling and waiting ------------------------------------------------------------------------------


@pytest.mark.parametrize("behave", [stall, stall_in_mid_answer, fall_silent_in_mid_answer])
def test_cancelling_takes_a_moment_whatever_the_server_does(connect: Connect, behave: Behaviour) -> None:
    _, backend = connect(behave)
    cancel = CancelToken()
    steps = backend.run(ask(), cancel)
    while next(steps).__class__ is not (Progress if behave is stall else Partial):
        pass
    threading.Timer(0.3, cancel.set).start()  # while the read waits
    started = time.monotonic()
    with pytest.raises(Cancelled):
        keep([], steps)
    assert 0.2 < time.monotonic() - started < 3


def test_the_server_learns_that_nobody_listens_any_more(connect: Connect) -> None:
    fake, backend = connect(stall_in_mid_answer)
    steps = backend.run(ask(), CancelToken())
    while not isinstance(next(steps), Partial):
        pass
    assert not fake.has_lost_client.is_set()
    steps.close()  # type: ignore[attr-defined]
    assert fake.has_lost_client.wait(QUICK_S)


def test_no_step_keeps_other_jobs_waiting_while_a_server_thinks(connect: Connect) -> None:
    _, backend = connect(fall_silent_in_mid_answer)
    steps = backend.run(ask(), CancelToken())
    while not isinstance(next(steps), Partial):
        pass
    for _ in range(3):
        started = time.monotonic()
        assert next(steps) == Progress("Waiting for Server")
        assert time.monotonic() - started < 3


def test_the_time_limit_ends_a_wait_in_words(connect: Connect) -> None:
    _, backend = connect(stall)
    cancel = CancelToken(time_limit_s=0.1)
    cancel.start_clock()
    started = time.monotonic()
    with pytest.raises(TimedOut):
        list(backend.run(ask(), cancel))
    assert time.monotonic() - started < QUICK_S


def test_two_answers_at_once_stay_apart(connect: Connect) -> None:
    def echo(handler: Handler, body: dict[str, Any]) -> None:
        handler.answer(*(f"{body['messages'][-1]['content']}{i} " for i in range(5)))

    _, backend = connect(echo)
    live = {name: backend.run(ask(name), CancelToken()) for name in ("a", "b")}
    texts = {}
    while live:
        for name, steps in list(live.items()):
            event = next(steps)
            if isinstance(event, Done):
                texts[name] = event.artifact.text
                del live[name]
    assert texts == {name: "".join(f"{name}{i} " for i in range(5)) for name in ("a", "b")}


def test_closing_ends_the_thread_and_a_run_in_words(connect: Connect) -> None:
    before = threading.active_count()
    fake = Fake(stall_in_mid_answer)
    backend = RemoteChat(remote_model(fake.url))
    steps = backend.run(ask(), CancelToken())
    while not isinstance(next(steps), Partial):
        pass
    backend.close()
    with pytest.raises(RemoteFailed, match="broke in mid-answer"):
        list(steps)
    backend.close()  # twice is fine
    fake.end()
    deadline = time.monotonic() + QUICK_S
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() <= before


# --- what is asked ---------------------------------------------------------------------------------------


def test_all_settings_reach_the_server_under_their_own_names(connect: Connect) -> None:
    fake, backend = connect(lambda handler, body: handler.answer("yes"))
    params = ask(
        strategy="sample", temperature=0.8, top_p=0.9, top_k=7, min_p=0.1, repetition_penalty=1.2, seed=42,
        stop="END", system="be brief", max_new_tokens=9,
    )  # fmt: skip
    list(backend.run(params, CancelToken()))
    headers, body = fake.requests[0]
    assert headers["authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "the cat"}],
        "stream": True,
        "temperature": 0.8,
        "top_p": 0.9,
        "top_k": 7,
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "seed": 42,
        "stop": ["END"],
        "max_tokens": 9,
        "logprobs": True,
        "top_logprobs": 10,
    }


def test_settings_that_change_nothing_are_not_sent(connect: Connect) -> None:
    fake, backend = connect(lambda handler, body: handler.answer("yes"))
    list(backend.run(ask(is_traced=False), CancelToken()))
    body = fake.requests[0][1]
    assert set(body) == PLAIN_FIELDS | {"seed"}
    assert body["temperature"] == 0.0  # greedy


def needs_plain(handler: Handler, body: dict[str, Any]) -> None:
    unknown = sorted(set(body) - PLAIN_FIELDS)
    if unknown:
        handler.refuse(422, json.dumps({"detail": [{"loc": ["body", unknown[0]], "msg": "Extra inputs"}]}))
    else:
        handler.answer("a plain ", "answer END more")


def test_a_server_that_refuses_a_setting_is_asked_without_and_it_is_said(connect: Connect) -> None:
    fake, backend = connect(needs_plain)
    events = list(backend.run(ask(stop="END"), CancelToken()))
    assert [set(body) <= PLAIN_FIELDS for _, body in fake.requests] == [False, True]
    assert [e.text for e in events if isinstance(e, Notice)] == [
        "This server accepts only temperature, top-p and length: seed, top-k, min-p, repetition penalty and token "
        "probabilities were left out."
    ]
    done = done_of(events)
    assert (done.artifact.text, done.record["finish_reason"]) == ("a plain answer ", "stop")
    assert done.record["seed"] is None  # none was used, so none is promised


def test_every_stop_string_counts_also_those_past_the_servers_limit(connect: Connect) -> None:
    def chatter(handler: Handler, body: dict[str, Any]) -> None:
        handler.start()
        for content in ("one ", "two SI", "X three"):
            handler.say(content)
        handler.server.is_over.wait(30)

    fake, backend = connect(chatter)
    started = time.monotonic()
    done = done_of(list(backend.run(ask(stop="A1\nB2\nC3\nD4\nE5\nSIX"), CancelToken())))
    assert (done.artifact.text, done.artifact.finish_reason) == ("one two ", "stop")
    assert fake.requests[0][1]["stop"] == ["A1", "B2", "C3", "D4"]
    assert time.monotonic() - started < QUICK_S  # the rest, which never comes, was not waited for


@pytest.mark.parametrize("settings", [{"strategy": "beam"}, {"prefix_ids": (1,)}], ids=str)
def test_what_only_a_local_model_can_do_is_refused_before_anything_is_sent(
    connect: Connect, settings: dict[str, Any]
) -> None:
    fake, backend = connect(lambda handler, body: handler.answer("yes"))
    with pytest.raises(InvalidParams, match="needs a model that runs here"):
        list(backend.run(ask(**settings), CancelToken()))
    assert fake.requests == []


# --- what comes back -------------------------------------------------------------------------------------


def logged(token: str, probability: float, *others: tuple[str, float]) -> dict[str, Any]:
    tops = [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in ((token, probability), *others)]
    return {"token": token, "logprob": math.log(probability), "bytes": None, "top_logprobs": tops}


def test_token_probabilities_that_a_server_reports_are_shown(connect: Connect) -> None:
    def trace(handler: Handler, body: dict[str, Any]) -> None:
        handler.start()
        handler.say("Hello", logprobs={"content": [logged("Hel", 0.5, ("Wel", 0.25)), logged("lo", 0.9)]})
        handler.say(" you", "stop", {"content": [logged(" you", 0.125, (" me", 0.5), (" all", 0.25))]})

    _, backend = connect(trace)
    events = list(backend.run(ask(), CancelToken()))
    tokens = done_of(events).artifact.tokens
    assert [t.text for t in tokens] == ["Hel", "lo", " you"]
    assert [t.probability for t in tokens] == pytest.approx([0.5, 0.9, 0.125])
    assert [(a.text, round(a.probability, 6)) for a in tokens[2].alternatives] == [
        (" you", 0.125),
        (" me", 0.5),
        (" all", 0.25),
    ]
    partials = [e for e in events if isinstance(e, Partial)]
    assert [(p.text, p.token) for p in partials] == [(t.text, t) for t in tokens]


def test_a_character_in_two_tokens_is_shown_once_and_whole(connect: Connect) -> None:
    def emoji(handler: Handler, body: dict[str, Any]) -> None:
        handler.start()
        halves = [logged("bytes:\\xf0\\x9f", 0.5), logged("bytes:\\x99\\x82", 0.5)]
        handler.say("🙂", logprobs={"content": halves})
        handler.say("!", "stop", {"content": []})

    _, backend = connect(emoji)
    events = list(backend.run(ask(), CancelToken()))
    done = done_of(events)
    assert done.artifact.text == "🙂!"
    assert len(done.artifact.tokens) == 3


def test_chunks_without_text_or_choices_are_passed_over(connect: Connect) -> None:
    def sparse(handler: Handler, body: dict[str, Any]) -> None:
        handler.start()
        handler.send(json.dumps({"choices": [{"index": 0, "delta": {"role": "assistant"}}]}))
        handler.send(json.dumps({"choices": [{"index": 0, "delta": None}]}))
        handler.say("")
        handler.say("text")
        handler.say(None, "length")
        handler.send(json.dumps({"choices": [], "usage": {"completion_tokens": 1}}))
        handler.send("[DONE]")

    _, backend = connect(sparse)
    events = list(backend.run(ask(), CancelToken()))
    assert [e.text for e in events if isinstance(e, Partial)] == ["text"]
    assert done_of(events).artifact.finish_reason == "length"


def test_the_record_says_who_answered_and_how(connect: Connect) -> None:
    _, backend = connect(lambda handler, body: handler.answer("one ", "two"))
    params = ask(seed=-1)
    record = json.loads(json.dumps(done_of(list(backend.run(params, CancelToken()))).record))
    assert record["seed"] >= 0
    assert (record["model"], record["device"], record["dtype"]) == ("server: tiny", "remote", "as served")
    assert record["seconds"] > 0
    assert (record["tokens"], record["finish_reason"]) == (2, "stop")
    assert record["settings"]["strategy"] == "greedy"
    assert KEY not in str(record)


# --- configuration ---------------------------------------------------------------------------------------


def test_a_server_that_is_not_configured_names_the_variables() -> None:
    model = remote_model("${STUDIO_REMOTE_URL}", "${STUDIO_REMOTE_MODEL}", needs_key=True)
    with pytest.raises(ModelMissing, match="Set STUDIO_REMOTE_URL and STUDIO_REMOTE_MODEL and STUDIO_REMOTE_KEY"):
        drain(Loader()(model, CancelToken()))


def test_address_and_name_come_from_the_environment(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, _ = connect(lambda handler, body: handler.answer("yes"))
    monkeypatch.setenv("STUDIO_REMOTE_URL", fake.url)
    monkeypatch.setenv("STUDIO_REMOTE_MODEL", "big")
    backend = drain(Loader()(remote_model("${STUDIO_REMOTE_URL}", "${STUDIO_REMOTE_MODEL}"), CancelToken()))
    assert done_of(list(backend.run(ask(), CancelToken()))).artifact.text == "yes"
    assert fake.requests[0][1]["model"] == "big"
    backend.close()


def test_a_key_copied_with_its_line_end_works(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, _ = connect(lambda handler, body: handler.answer("yes"))
    monkeypatch.setenv("STUDIO_REMOTE_KEY", f" {KEY}\n")
    backend = RemoteChat(remote_model(fake.url))
    list(backend.run(ask(), CancelToken()))
    assert fake.requests[0][0]["authorization"] == f"Bearer {KEY}"
    backend.close()


def test_a_key_that_cannot_be_one_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_REMOTE_KEY", "sk-\u201cquoted\u201d")
    with pytest.raises(MissingKey, match="STUDIO_REMOTE_KEY holds characters") as caught:
        RemoteChat(remote_model("http://127.0.0.1:1/v1"))
    assert "quoted" not in str(caught.value)
