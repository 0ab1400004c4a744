"""The bridge: events grow into one view, whatever goes wrong becomes a card, and nobody's leaving costs work.

The engine is the real one; what it runs here is a script of events instead of a model.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import aclosing

import pytest

from pipelines.catalog import Model
from pipelines.engine import Engine
from pipelines.errors import Busy, InvalidParams, StudioError
from pipelines.events import (
    Alternative,
    CancelToken,
    Done,
    Event,
    Notice,
    Partial,
    Preview,
    Progress,
    PromptTokens,
    Queued,
    Stopped,
    Token,
)
from pipelines.jobs import Job, Ticket
from pipelines.shelf import Backend
from studio.bridge import View, error_card, follow, notice_card, seconds

Script = Callable[[CancelToken], Iterator[Event]]
MODEL = Model(id="script", task="chat", title="Script", summary="", source="local", license="")
WAIT_S = 60.0


class Scripted:
    """A backend that plays a script, one event at a time."""

    memory_bytes = 0

    def run(self, params: Script, cancel: CancelToken) -> Iterator[Event]:
        return params(cancel)

    def close(self) -> None:
        pass


def load(model: Model, cancel: CancelToken) -> Generator[Event, None, Backend]:
    yield Progress("Loading Script")
    return Scripted()


@pytest.fixture
def player() -> Iterator[Engine]:
    made = Engine(load, 0)
    yield made
    made.close()


def submit(player: Engine, script: Script) -> Callable[[], Ticket]:
    return lambda: player.submit(Job("somebody", MODEL, script))


async def views_of(player: Engine, script: Script) -> list[tuple[str, str, str]]:
    """(phase, status, text) after each change; the last one has ended."""
    seen = []
    async with aclosing(follow(submit(player, script), interval_s=0.0)) as views:
        async for view in views:
            seen.append((view.phase, view.status, view.text))
    return seen


async def last_view(player: Engine, script: Script) -> View:
    return [view async for view in follow(submit(player, script), interval_s=0.0)][-1]


async def until(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not claim():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def endless(cancel: CancelToken) -> Iterator[Event]:
    while True:
        time.sleep(0.001)  # an engine with nothing to compute would fill the page's memory
        yield Partial("x")


# --- events to view --------------------------------------------------------------------------------------


async def test_text_grows_token_by_token_until_the_run_is_done(player: Engine) -> None:
    token = Token(7, " world", 0.5, (Alternative(7, " world", 0.5, 1.0),))

    def script(cancel: CancelToken) -> Iterator[Event]:
        yield PromptTokens(((1, "Hi"),), 128)
        yield Partial("hello")
        yield Partial(" world", token)
        yield Done("artifact", {"seed": 1})

    view = await last_view(player, script)
    assert (view.phase, view.text, view.tokens) == ("done", "hello world", [token])
    assert (view.artifact, view.record, view.error) == ("artifact", {"seed": 1}, None)
    assert view.prompt == PromptTokens(((1, "Hi"),), 128)
    assert view.has_ended


async def test_the_first_view_comes_before_anything_is_submitted(player: Engine) -> None:
    def never() -> Ticket:
        raise AssertionError("submitted")

    async with aclosing(follow(never)) as views:
        first = await anext(views)
    assert (first.phase, first.status) == ("waiting", "Starting")


async def test_every_view_holds_at_least_what_the_one_before_held(player: Engine) -> None:
    def script(cancel: CancelToken) -> Iterator[Event]:
        for i in range(200):
            yield Partial(f"{i} ")
        yield Done(None)

    texts = [text for _, _, text in await views_of(player, script)]
    assert all(later.startswith(earlier) for earlier, later in zip(texts, texts[1:], strict=False))
    assert texts[-1] == "".join(f"{i} " for i in range(200))


@pytest.mark.parametrize(
    ("event", "phase", "status"),
    [
        (Queued(1, 0.0), "waiting", "You are next"),
        (Queued(4, 12.4), "waiting", "3 ahead of you, about 12 s"),
        (Queued(40, 600.0), "waiting", "39 ahead of you, about 10 min"),
        (Progress("Loading Mote"), "working", "Loading Mote"),
        (Progress("Painting", 3, 20, 4.0), "working", "Painting 3 of 20, about 4 s left"),
        (Partial("x"), "working", "Writing"),
        (PromptTokens((), 128), "working", "Reading"),
        (Stopped(), "stopped", "Stopped"),
    ],
)
def test_each_event_is_said_in_words(event: Event, phase: str, status: str) -> None:
    view = View()
    view.apply(event)
    assert (view.phase, view.status) == (phase, status)


def test_notices_add_up_and_a_preview_replaces_the_one_before() -> None:
    view = View()
    for event in (Notice("one"), Preview("blurred", 1), Notice("two"), Preview("sharp", 2)):
        view.apply(event)
    assert (view.notices, view.preview) == (["one", "two"], "sharp")


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "about 1 s"), (0.4, "about 1 s"), (89.4, "about 89 s"), (90.0, "about 2 min"), (3600.0, "about 60 min")],
)
def test_durations_are_said_as_people_say_them(value: float, words: str) -> None:
    assert seconds(value) == words


# --- errors ----------------------------------------------------------------------------------------------


async def test_an_error_of_the_job_keeps_what_was_made_so_far(player: Engine) -> None:
    def script(cancel: CancelToken) -> Iterator[Event]:
        yield Partial("half an ")
        raise InvalidParams("That cannot be.", "Try this.")

    view = await last_view(player, script)
    assert (view.phase, view.text, view.status) == ("failed", "half an ", "")
    assert isinstance(view.error, InvalidParams)


async def test_an_error_at_submission_becomes_the_same_kind_of_view() -> None:
    def refuse() -> Ticket:
        raise Busy("100 jobs are waiting.", "Try again in a minute.")

    views = [view async for view in follow(refuse)]
    assert views[-1].phase == "failed"
    assert error_card(views[-1].error) == (
        '<div class="card error" role="alert"><strong>100 jobs are waiting.</strong>'
        "<span>Try again in a minute.</span></div>"
    )


async def test_an_unexpected_exception_shows_an_id_and_no_internals(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Ticket:
        raise RuntimeError("secret /home/somebody/token.txt")

    with caplog.at_level(logging.ERROR):
        views = [view async for view in follow(broken)]
    card = error_card(views[-1].error)
    assert views[-1].phase == "failed"
    assert "secret" not in card
    assert "/home" not in card
    assert "RuntimeError" not in card
    number = card.split("id ")[1][:8]
    assert number in caplog.text
    assert "secret /home/somebody/token.txt" in caplog.text, "the log has what the page has not"


async def test_an_unexpected_exception_inside_the_job_shows_no_internals_either(player: Engine) -> None:
    def script(cancel: CancelToken) -> Iterator[Event]:
        yield Partial("so far")
        raise KeyError("secret")

    view = await last_view(player, script)
    assert view.phase == "failed"
    assert view.text == "so far"
    assert "secret" not in error_card(view.error)
    assert "id " in error_card(view.error)


def test_cards_show_markup_as_text() -> None:
    bad = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
    for card in (error_card(StudioError(bad, bad)), notice_card([bad])):
        assert "<script" not in card
        assert "<img" not in card
        assert "&lt;script&gt;" in card


def test_without_error_and_notices_there_is_no_card() -> None:
    assert error_card(None) == ""
    assert notice_card([]) == ""


# --- leaving ---------------------------------------------------------------------------------------------


async def test_closing_the_iterator_cancels_the_job(player: Engine) -> None:
    tickets: list[Ticket] = []

    def submit_endless() -> Ticket:
        tickets.append(player.submit(Job("somebody", MODEL, endless)))
        return tickets[-1]

    async with aclosing(follow(submit_endless)) as views:
        async for view in views:
            if view.text:
                break
    assert tickets[0].cancel_token.is_set
    await until(lambda: player.state().running == 0)


async def test_a_listener_whose_task_is_cancelled_cancels_the_job(player: Engine) -> None:
    has_begun = asyncio.Event()

    async def listen() -> None:
        async with aclosing(follow(submit(player, endless))) as views:
            async for view in views:
                if view.text:
                    has_begun.set()

    task = asyncio.create_task(listen())
    await asyncio.wait_for(has_begun.wait(), WAIT_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: player.state().running == 0)


async def test_a_job_submitted_after_its_listener_left_is_cancelled(player: Engine) -> None:
    """The submission may wait in its thread until the studio is ready; by then the page may be closed."""
    is_ready, has_asked = threading.Event(), threading.Event()
    tickets: list[Ticket] = []

    def wait_then_submit() -> Ticket:
        has_asked.set()
        assert is_ready.wait(WAIT_S)
        tickets.append(player.submit(Job("somebody", MODEL, endless)))
        return tickets[-1]

    async def listen() -> None:
        async for _ in follow(wait_then_submit):
            pass

    task = asyncio.create_task(listen())
    await until(has_asked.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    is_ready.set()
    await until(lambda: bool(tickets) and tickets[0].has_ended)
    assert player.state().running == 0


async def test_stopping_is_a_quiet_end_that_keeps_the_text(player: Engine) -> None:
    view = View()
    async with aclosing(follow(submit(player, endless), interval_s=0.0)) as views:
        async for view in views:
            if view.text:
                player.cancel_session("somebody")
    assert view.phase == "stopped"
    assert view.error is None
    assert view.text


async def test_a_run_that_is_done_is_not_cancelled_afterwards(player: Engine) -> None:
    tickets: list[Ticket] = []

    def script(cancel: CancelToken) -> Iterator[Event]:
        yield Done("artifact")

    def keep() -> Ticket:
        tickets.append(player.submit(Job("somebody", MODEL, script)))
        return tickets[-1]

    assert [view.phase async for view in follow(keep)][-1] == "done"
    assert not tickets[0].cancel_token.is_set
