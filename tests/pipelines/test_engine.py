"""The engine: fair, bounded, cancellable, and in order after whatever went wrong in a job.

The backends here are small real ones: a job's params are a generator function, which the backend runs.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipelines.catalog import Model
from pipelines.engine import Engine
from pipelines.errors import Busy, ModelMissing, OutOfMemory, StudioError, TimedOut
from pipelines.events import CancelToken, Done, Event, Notice, Partial, Progress, Queued, Stopped
from pipelines.jobs import Job, Ticket
from pipelines.shelf import Backend

MIB = 1024**2
PATIENCE_S = 30.0  # how long a test waits for what ought to happen at once

Work = Callable[[CancelToken], Iterator[Event]]


def model(id: str, memory_mb: int = 100) -> Model:
    return Model(
        id=id,
        task="chat",
        title=id.upper(),
        summary="For a test.",
        source="local",
        license="MIT",
        path=id,
        memory_mb=memory_mb,
    )


A, B, C = model("a"), model("b"), model("c")


class Open:
    """A loaded model that runs whatever generator function a job brings."""

    def __init__(self, model: Model, closed: list[str]) -> None:
        self.memory_bytes = model.memory_bytes
        self._id, self._closed = model.id, closed

    def run(self, params: Work, cancel: CancelToken) -> Iterator[Event]:
        assert self._id not in self._closed, "a closed model was used"
        return params(cancel)

    def close(self) -> None:
        self._closed.append(self._id)


class Library:
    """Loads models in three steps and remembers which; ``trouble`` maps an id to what happens in between."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.closed: list[str] = []
        self.given_up: list[str] = []
        self.trouble: dict[str, Callable[[], Any]] = {}

    def load(self, model: Model, cancel: CancelToken) -> Generator[Event, None, Backend]:
        try:
            for step in range(3):
                yield Progress(f"Loading {model.title}", step, 3)
                if step == 1 and model.id in self.trouble:
                    while self.trouble[model.id]() is False:
                        yield Progress(f"Loading {model.title}", step, 3)
        except GeneratorExit:
            self.given_up.append(model.id)
            raise
        self.loaded.append(model.id)
        if model.id in self.closed:
            self.closed.remove(model.id)
        return Open(model, self.closed)


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> Iterator[None]:
    """An engine that closes collects garbage; torch's many objects need not be looked through each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def library() -> Library:
    return Library()


@pytest.fixture
def make(library: Library) -> Iterator[Callable[..., Engine]]:
    """Makes engines; afterwards each of them closes within seconds and leaves no thread."""
    engines = []

    def build(budget_mb: int = 1000, **options: Any) -> Engine:
        engines.append(Engine(library.load, budget_mb * MIB, **options))
        return engines[-1]

    yield build
    for engine in engines:
        engine.close(PATIENCE_S)
        assert not [t for t in engine._threads if t.is_alive()]


def wait_until(claim: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not claim():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.001)


def ended(ticket: Ticket) -> tuple[list[Event], BaseException | None]:
    """All events of a job that ends by itself, and the error it ended with."""
    wait_until(lambda: ticket.has_ended, "the job to end")
    events: list[Event] = []
    try:
        for event in ticket.events():
            events.append(event)
    except Exception as error:  # noqa: BLE001 - handed to the test
        return events, error
    return events, None


def result(ticket: Ticket) -> Any:
    """What a job that must succeed made."""
    events, error = ended(ticket)
    assert error is None, error
    assert isinstance(events[-1], Done), events
    return events[-1].artifact


def failure(ticket: Ticket) -> StudioError:
    """The error of a job that must fail."""
    _, error = ended(ticket)
    assert isinstance(error, StudioError), error
    return error


def saying(*words: str) -> Work:
    """A job of one word a step."""

    def work(cancel: CancelToken) -> Iterator[Event]:
        for word in words:
            yield Partial(word)
        yield Done(" ".join(words))

    return work


class Gated:
    """A job that makes one step per permit; knows how many it began, and whether its ``finally`` ran."""

    def __init__(self, steps: int = 1000) -> None:
        self.steps, self.begun, self.is_released = steps, 0, False
        self.permits = threading.Semaphore(0)

    def __call__(self, cancel: CancelToken) -> Iterator[Event]:
        try:
            for i in range(self.steps):
                self.begun = i + 1
                assert self.permits.acquire(timeout=PATIENCE_S), "nobody let this job go on"
                yield Partial(str(i))
            yield Done(self.steps)
        finally:
            self.is_released = True

    def let_go(self, steps: int = 1000) -> None:
        self.permits.release(steps)


@pytest.fixture
def gated() -> Iterator[Callable[..., Gated]]:
    """Makes gated jobs, all of which may finish when the test is over."""
    made = []

    def build(steps: int = 1000) -> Gated:
        made.append(Gated(steps))
        return made[-1]

    yield build
    for one in made:
        one.let_go()


def occupy(engine: Engine, work: Gated, session: str = "occupant", model: Model = A) -> Ticket:
    """Submit a gated job and wait until it is inside its first step."""
    ticket = engine.submit(Job(session, model, work))
    wait_until(lambda: work.begun, "the job to start")
    return ticket


# --- a job's events ---------------------------------------------------------------------------------------


def test_events_come_in_order_and_end_with_one_done(make: Callable[..., Engine]) -> None:
    events, error = ended(make().submit(Job("s", A, saying("one", "two", "three"))))
    assert error is None
    assert [type(e) for e in events] == [Queued, Progress, Partial, Partial, Partial, Done]
    assert [e.text for e in events if isinstance(e, Partial)] == ["one", "two", "three"]


def test_nothing_after_done_is_reported(make: Callable[..., Engine]) -> None:
    closed = []

    def work(cancel: CancelToken) -> Iterator[Event]:
        try:
            yield Done("first")
            yield Partial("late")
            yield Done("second")
        finally:
            closed.append(True)

    events, _ = ended(make().submit(Job("s", A, work)))
    assert [e.artifact for e in events if isinstance(e, Done)] == ["first"]
    assert isinstance(events[-1], Done)
    assert closed == [True]


def test_job_without_a_result_is_a_failure_in_words(make: Callable[..., Engine]) -> None:
    def work(cancel: CancelToken) -> Iterator[Event]:
        yield Partial("and then")

    error = failure(make().submit(Job("s", A, work)))
    assert "stopped without an answer" in error.message


def test_listener_may_come_after_the_job_has_ended(make: Callable[..., Engine]) -> None:
    ticket = make().submit(Job("s", A, saying("x")))
    wait_until(lambda: ticket.has_ended, "the job to end")
    assert isinstance(list(ticket.events())[-1], Done)


def test_events_arrive_while_the_job_runs(make: Callable[..., Engine], gated: Callable[..., Gated]) -> None:
    work = gated()
    stream = make().submit(Job("s", A, work)).events()
    work.let_go(1)
    assert Partial("0") in (next(stream), next(stream), next(stream))
    stream.close()


# --- fairness ---------------------------------------------------------------------------------------------


def test_sessions_are_served_in_turn_however_much_one_asks(
    make: Callable[..., Engine], gated: Callable[..., Gated]
) -> None:
    engine, first, started = make(slots=1), gated(1), list[str]()
    occupy(engine, first)

    def noting(name: str) -> Work:
        def work(cancel: CancelToken) -> Iterator[Event]:
            started.append(name)
            yield Done(name)

        return work

    names = [f"{session}{number}" for session in "abc" for number in (1, 2, 3)]
    tickets = [engine.submit(Job(name[0], A, noting(name))) for name in names]
    first.let_go()
    assert [result(t) for t in tickets] == names
    assert started == ["a1", "b1", "c1", "a2", "b2", "c2", "a3", "b3", "c3"]


def test_announced_positions_are_the_order_of_service(make: Callable[..., Engine], gated: Callable[..., Gated]) -> None:
    engine = make(slots=1)
    occupy(engine, gated(1))
    tickets = {n: engine.submit(Job(n[0], A, saying(n))) for n in ("a1", "a2", "b1", "c1")}
    assert {n: position(t) for n, t in tickets.items()} == {"a1": 1, "b1": 2, "c1": 3, "a2": 4}


def test_running_jobs_advance_in_turn(make: Callable[..., Engine], gated: Callable[..., Gated]) -> None:
    engine, long, short = make(slots=2), gated(), saying("x")
    occupy(engine, long)
    ticket = engine.submit(Job("other", A, short))
    long.let_go(20)
    assert result(ticket) == "x"
    assert not long.is_released


def test_session_runs_one_job_at_a_time_and_others_run_beside_it(make: Callable[..., Engine]) -> None:
    engine, running, most = make(slots=4), dict[str, int](), dict[str, int]()

    def counting(session: str) -> Work:
        def work(cancel: CancelToken) -> Iterator[Event]:
            running[session] = running.get(session, 0) + 1
            for _ in range(50):
                most[session] = max(most.get(session, 0), running[session])
                most["all"] = max(most.get("all", 0), sum(running.values()))
                yield Partial("")
            running[session] -= 1
            yield Done(session)

        return work

    both_queued = threading.Event()
    hold = engine.submit(Job("holder", A, waiting_for(both_queued)))
    tickets = [engine.submit(Job(session, A, counting(session))) for session in "aabbab"]
    both_queued.set()
    for ticket in (hold, *tickets):
        result(ticket)
    assert (most["a"], most["b"], most["all"]) == (1, 1, 2)


def waiting_for(event: threading.Event) -> Work:
    """A job that ends when the event is set, a short step at a time."""

    def work(cancel: CancelToken) -> Iterator[Event]:
        deadline = time.monotonic() + PATIENCE_S
        while not event.wait(0.002):
            assert time.monotonic() < deadline, "nobody set the event"
            yield Partial(".")
        yield Done("waited")

    return work


def test_no_more_jobs_run_than_there_are_slots(make: Callable[..., Engine]) -> None:
    engine, steps, go_on = make(slots=2), list[str](), threading.Event()

    def stepping(session: str) -> Work:
        def work(cancel: CancelToken) -> Iterator[Event]:
            while not go_on.is_set():
                steps.append(session)
                yield Partial("")
            yield Done(session)

        return work

    tickets = [engine.submit(Job(session, A, stepping(session))) for session in "abc"]
    wait_until(lambda: steps.count("a") > 20 and steps.count("b") > 20, "two jobs to run")
    assert "c" not in steps
    assert (engine.state().running, engine.state().waiting) == (2, 1)
    go_on.set()
    assert [result(t) for t in tickets] == ["a", "b", "c"]


def test_several_workers_run_in_parallel(make: Callable[..., Engine]) -> None:
    engine, barrier = make(workers=3), threading.Barrier(3)

    def meeting(cancel: CancelToken) -> Iterator[Event]:
        barrier.wait(PATIENCE_S)  # passes only if three are here at once
        yield Done(threading.current_thread().name)

    tickets = [engine.submit(Job(session, A, meeting)) for session in "abc"]
    assert len({result(t) for t in tickets}) == 3


# --- the presenter ----------------------------------------------------------------------------------------


def test_presenter_goes_first_even_when_all_slots_are_busy(make: Callable[..., Engine]) -> None:
    engine, trace, go_on = make(slots=2), list[str](), threading.Event()

    def tracing(name: str, is_done: Callable[[int], bool]) -> Work:
        def work(cancel: CancelToken) -> Iterator[Event]:
            step = 0
            while not is_done(step):
                trace.append(name)
                step += 1
                yield Partial(name)
            yield Done(name)

        return work

    attendees = [engine.submit(Job(s, A, tracing(s, lambda step: go_on.is_set()))) for s in "abc"]
    wait_until(lambda: {"a", "b"} <= set(trace), "both slots to be busy")
    presenter = engine.submit(Job("p", A, tracing("P", lambda step: step == 20), is_presenter=True))
    assert result(presenter) == "P"
    go_on.set()
    assert sorted(result(t) for t in attendees) == ["a", "b", "c"]
    first = trace.index("P")
    assert trace[first : first + 20] == ["P"] * 20, "others were stepped meanwhile"
    assert "c" not in trace[:first], "a waiting attendee started although no slot was free"


def test_presenter_goes_before_everybody_who_waits(make: Callable[..., Engine], gated: Callable[..., Gated]) -> None:
    engine = make(slots=1)
    occupy(engine, gated(1))
    waiting = [engine.submit(Job(s, A, saying(s))) for s in "ab"]
    assert [position(t) for t in waiting] == [1, 2]
    presenter = engine.submit(Job("p", A, saying("p"), is_presenter=True))
    assert position(presenter) == 1
    assert [position(t) for t in waiting] == [2, 3]


def test_presenter_who_needs_a_model_does_not_wait_for_ever_behind_an_attendees_load(
    make: Callable[..., Engine], library: Library
) -> None:
    engine, may_load = make(), threading.Event()
    library.trouble["b"] = may_load.is_set
    attendee = engine.submit(Job("a", B, saying("attendee")))
    wait_until(lambda: engine.state().running == 1, "the load to begin")
    presenter = engine.submit(Job("p", C, saying("presenter"), is_presenter=True))
    wait_until(lambda: engine.state().running == 2, "the presenter to start")
    may_load.set()
    assert result(presenter) == "presenter"
    assert result(attendee) == "attendee"


def test_attendee_can_cancel_while_the_presenters_job_runs(
    make: Callable[..., Engine], gated: Callable[..., Gated]
) -> None:
    engine, long, go_on = make(), gated(), threading.Event()
    attendee = occupy(engine, long)
    presenter = engine.submit(Job("p", A, waiting_for(go_on), is_presenter=True))
    long.let_go(1)
    wait_until(lambda: engine.state().running == 2, "the presenter to start")
    attendee.cancel()
    long.let_go(1)
    assert isinstance(ended(attendee)[0][-1], Stopped)
    assert not presenter.has_ended
    go_on.set()
    assert result(presenter) == "waited"


# --- a full queue -----------------------------------------------------------------------------------------


def position(ticket: Ticket) -> int:
    """The newest announced place in the queue (the events read so far are gone)."""
    found = [e for e in ticket._take() if isinstance(e, Queued)]
    assert found
    return found[-1].position


def test_full_queue_refuses_in_words_but_not_the_presenter(
    make: Callable[..., Engine], gated: Callable[..., Gated]
) -> None:
    engine, first = make(slots=1, max_waiting=2), gated(1)
    occupy(engine, first)
    waiting = [engine.submit(Job(s, A, saying(s))) for s in "ab"]
    with pytest.raises(Busy) as refusal:
        engine.submit(Job("c", A, saying("c")))
    assert refusal.value.message == "2 jobs are waiting, which is all the queue holds."
    assert refusal.value.hint
    presenter = engine.submit(Job("p", A, saying("p"), is_presenter=True))
    first.let_go()
    assert [result(t) for t in (presenter, *waiting)] == ["p", "a", "b"]
    assert result(engine.submit(Job("c", A, saying("c")))) == "c"


def test_one_session_cannot_take_the_whole_queue(make: Callable[..., Engine], gated: Callable[..., Gated]) -> None:
    engine = make(slots=1, max_per_session=2)
    occupy(engine, gated(1))
    for _ in range(2):
        engine.submit(Job("greedy", A, saying("x")))
    with pytest.raises(Busy, match="You already have 2 jobs waiting"):
        engine.submit(Job("greedy", A, saying("x")))
    engine.submit(Job("modest", A, saying("x")))
    assert engine.state().waiting == 3


def test_waiting_jobs_learn_their_position_and_wait(make: Callable[..., Engine], gated: Callable[..., Gated]) -> None:
    engine, first = make(slots=1), gated(1)
    occupy(engine, first)
    tickets = [engine.submit(Job(s, A, saying(s))) for s in "abc"]
    queued = [[e for e in t._take() if isinstance(e, Queued)][-1] for t in tickets]
    assert [q.position for q in queued] == [1, 2, 3]
    waits = [q.wait_s for q in queued]
    assert 0 < waits[0] < waits[1] < waits[2]
    assert engine.state().wait_s > waits[2]
    first.let_go()
    assert [result(t) for t in tickets] == ["a", "b", "c"]


def test_nobody_waits_for_a_free_slot(make: Callable[..., Engine], gated: Callable[..., Gated]) -> None:
    engine = make(slots=2)
    occupy(engine, gated(1))
    assert engine.state().wait_s == 0.0
    events, _ = ended(make().submit(Job("s", A, saying("x"))))
    assert events[0] == Queued(1, 0.0)


def test_predicted_wait_is_made_of_working_time_not_of_others_turns(
    make: Callable[..., Engine], gated: Callable[..., Gated]
) -> None:
    engine = make(slots=3)
    go_on = threading.Event()

    def idle(cancel: CancelToken) -> Iterator[Event]:
        while not go_on.is_set():
            time.sleep(0.01)
            yield Partial("")
        yield Done("idle")

    slow = [engine.submit(Job(s, B, idle)) for s in ("slow", "slower")]
    wait_until(lambda: engine.state().running == 2, "the others to run")
    started = time.monotonic()
    quick = engine.submit(Job("quick", A, saying(*"0123456789")))
    assert result(quick)
    assert engine._seconds["a"] < (time.monotonic() - started) / 2, "ten steps of nothing, between others' of 10 ms"
    go_on.set()
    for ticket in slow:
        result(ticket)


# --- cancelling -------------------------------------------------------------------------------------------


def test_cancelled_while_running_stops_within_one_step(
    make: Callable[..., Engine], gated: Callable[..., Gated]
) -> None:
    work = gated()
    ticket = occupy(make(), work)
    work.let_go(1)
    wait_until(lambda: work.begun == 2, "the second step to begin")
    ticket.cancel()
    work.let_go()
    events, error = ended(ticket)
    assert error is None
    assert isinstance(events[-1], Stopped)
    assert work.begun == 2
    assert work.is_released


def test_cancelled_while_queued_leaves_at_once_and_never_starts(
    make: Callable[..., Engine], gated: Callable[..., Gated]
) -> None:
    engine, never = make(slots=1), gated()
    occupy(engine, gated(1))
    leaving = engine.submit(Job("a", A, never))
    behind = engine.submit(Job("b", A, saying("b")))
    leaving.cancel()
    assert leaving.has_ended, "the running job is still inside its step"
    assert [type(e) for e in leaving.events()] == [Queued, Stopped]
    assert position(behind) == 1
    assert engine.state().waiting == 1
    assert never.begun == 0


def test_cancelling_twice_or_too_late_changes_nothing(make: Callable[..., Engine]) -> None:
    ticket = make().submit(Job("s", A, saying("x")))
    assert result(ticket) == "x"
    ticket.cancel()
    ticket.cancel()
    assert ticket.has_ended


def test_failure_of_a_cancelled_job_is_a_quiet_stop(make: Callable[..., Engine]) -> None:
    engine, is_cancelled = make(), threading.Event()

    def work(cancel: CancelToken) -> Iterator[Event]:
        yield Partial("x")
        is_cancelled.wait(PATIENCE_S)
        raise StudioError("The connection broke.")  # as it does when its socket is closed by the cancel

    ticket = engine.submit(Job("s", A, work))
    wait_until(lambda: engine.state().running == 1, "the job to start")
    ticket.cancel()
    is_cancelled.set()
    events, error = ended(ticket)
    assert error is None
    assert isinstance(events[-1], Stopped)


def test_closing_the_stream_of_events_cancels_the_job(make: Callable[..., Engine], gated: Callable[..., Gated]) -> None:
    work = gated()
    ticket = occupy(make(), work)
    stream = ticket.events()
    next(stream)
    stream.close()
    assert ticket.cancel_token.is_set
    work.let_go()
    wait_until(lambda: work.is_released, "the job to be closed")
    assert work.begun <= 2


async def test_leaving_the_batches_cancels_the_job(make: Callable[..., Engine], gated: Callable[..., Gated]) -> None:
    work = gated()
    ticket = occupy(make(), work)
    async with aclosing(ticket.batches()) as batches:
        async for _ in batches:
            break
    assert ticket.cancel_token.is_set
    work.let_go()
    await asyncio.to_thread(wait_until, lambda: work.is_released, "the job to be closed")
    assert ticket._wakers == []


async def test_cancelled_handler_cancels_its_job(make: Callable[..., Engine], gated: Callable[..., Gated]) -> None:
    work = gated()
    ticket = occupy(make(), work)

    async def listen() -> None:
        async with aclosing(ticket.batches()) as batches:
            async for _ in batches:
                pass

    task = asyncio.create_task(listen())
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ticket.cancel_token.is_set


def test_reading_to_the_end_does_not_cancel(make: Callable[..., Engine]) -> None:
    ticket = make().submit(Job("s", A, saying("x")))
    stream = ticket.events()
    assert isinstance(list(stream)[-1], Done)
    stream.close()
    assert not ticket.cancel_token.is_set


def test_one_session_can_be_stopped_whole(make: Callable[..., Engine], gated: Callable[..., Gated]) -> None:
    engine, mine, theirs = make(slots=2), gated(), gated(3)
    running = occupy(engine, mine, "me")
    waiting = [engine.submit(Job("me", A, saying("x"))) for _ in range(2)]
    mine.let_go(1)
    other = engine.submit(Job("them", A, theirs))
    assert engine.cancel_session("me") == 3
    assert engine.cancel_session("nobody") == 0
    mine.let_go()
    theirs.let_go()
    for ticket in (running, *waiting):
        assert isinstance(ended(ticket)[0][-1], Stopped)
    assert result(other) == 3


def test_time_limit_ends_a_job_in_words_and_closes_it(make: Callable[..., Engine]) -> None:
    closed = []

    def endless(cancel: CancelToken) -> Iterator[Event]:
        try:
            while True:
                time.sleep(0.001)
                yield Partial("x")
        finally:
            closed.append(True)

    engine = make()
    error = failure(engine.submit(Job("s", A, endless, time_limit_s=0.05)))
    assert isinstance(error, TimedOut)
    assert "limit of 0.05 s" in error.message
    assert closed == [True]
    assert result(engine.submit(Job("s", A, saying("next")))) == "next"


def test_waiting_does_not_count_against_the_time_limit(
    make: Callable[..., Engine], gated: Callable[..., Gated], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, first = make(slots=1), gated(1)
    occupy(engine, first)
    now = [0.0]
    monkeypatch.setattr("pipelines.events.time", SimpleNamespace(monotonic=lambda: now[0]))
    patient = engine.submit(Job("patient", A, saying("x"), time_limit_s=5.0))
    now[0] += 1000.0
    first.let_go()
    assert result(patient) == "x"


# --- failures ---------------------------------------------------------------------------------------------


def out_of_memory(*args: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("where", ["load", "first step", "later step"])
def test_out_of_memory_frees_the_models_and_the_next_job_succeeds(
    make: Callable[..., Engine], library: Library, where: str
) -> None:
    engine = make()
    assert result(engine.submit(Job("s", B, saying("warm")))) == "warm"

    def work(cancel: CancelToken) -> Iterator[Event]:
        if where == "first step":
            out_of_memory()
        yield Partial("x")
        out_of_memory()
        yield Done("never")

    if where == "load":
        library.trouble["a"] = out_of_memory
    error = failure(engine.submit(Job("s", A, work)))
    assert isinstance(error, OutOfMemory)
    assert "ran out of memory" in error.message
    assert "smaller" in error.hint
    assert "GiB" not in str(error)
    assert engine.state().loaded == ()
    assert set(library.closed) == ({"b"} if where == "load" else {"a", "b"})
    library.trouble.clear()
    assert result(engine.submit(Job("s", A, saying("again")))) == "again"


@pytest.mark.parametrize("is_translated", [False, True])
def test_error_of_out_of_memory_keeps_no_tensor_alive(make: Callable[..., Engine], is_translated: bool) -> None:
    class Tensor:
        pass

    held = []

    def work(cancel: CancelToken) -> Iterator[Event]:
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        yield Partial("x")
        try:
            out_of_memory(tensor)
        except RuntimeError as error:
            if is_translated:
                raise OutOfMemory("The picture does not fit.") from error
            raise

    ticket = make().submit(Job("s", A, work))
    wait_until(lambda: ticket.has_ended, "the job to end")
    assert held[0]() is None, "before anybody has read the error"
    assert isinstance(failure(ticket), OutOfMemory)


def test_out_of_memory_keeps_a_model_that_another_job_uses(
    make: Callable[..., Engine], gated: Callable[..., Gated], library: Library
) -> None:
    engine, long = make(), gated(200)
    other = occupy(engine, long, model=A)

    def work(cancel: CancelToken) -> Iterator[Event]:
        yield Partial("x")
        out_of_memory()

    failing = engine.submit(Job("s", B, work))
    long.let_go(100)
    assert isinstance(failure(failing), OutOfMemory)
    assert library.closed == ["b"]
    long.let_go()
    assert result(other) == 200


@pytest.mark.parametrize("kind", [RuntimeError, KeyError, SystemExit, type("PanicException", (BaseException,), {})])
def test_unexpected_failure_shows_an_id_and_no_internals(
    make: Callable[..., Engine], caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    def work(cancel: CancelToken) -> Iterator[Event]:
        yield Partial("x")
        raise kind("/home/somebody/secret.py: token hf_abc")

    engine = make()
    with caplog.at_level(logging.ERROR):
        error = failure(engine.submit(Job("s", A, work)))
    assert type(error) is StudioError
    shown = str(error)
    assert "secret" not in shown
    assert kind.__name__ not in shown
    assert error.message.startswith("Something unexpected went wrong, id ")
    number = error.message.removesuffix(".").split()[-1]
    assert len(number) == 8
    assert number in caplog.text
    assert "secret.py" in caplog.text, "the log has the details"
    assert result(engine.submit(Job("s", A, saying("next")))) == "next"


def test_error_in_words_is_handed_on_after_the_events_before_it(make: Callable[..., Engine]) -> None:
    def work(cancel: CancelToken) -> Iterator[Event]:
        yield Partial("half an")
        raise StudioError("The server broke off.", "Try again.")

    events, error = ended(make().submit(Job("s", A, work)))
    assert events[-1] == Partial("half an")
    assert str(error) == "The server broke off. Try again."


@pytest.mark.parametrize("ending", ["done", "cancelled"])
def test_job_that_fails_while_it_is_closed_does_not_take_the_engine_with_it(
    make: Callable[..., Engine], caplog: pytest.LogCaptureFixture, ending: str
) -> None:
    def work(cancel: CancelToken) -> Iterator[Event]:
        try:
            yield Partial("x")
            while ending == "cancelled":
                time.sleep(0.001)
                yield Partial("x")
            yield Done("x")
        finally:
            raise OSError("the file was gone already")

    engine = make()
    ticket = engine.submit(Job("s", A, work))
    if ending == "cancelled":
        ticket.cancel()
    events, error = ended(ticket)
    assert error is None
    assert isinstance(events[-1], Done if ending == "done" else Stopped)
    assert result(engine.submit(Job("s", A, saying("next")))) == "next"


def test_job_that_refuses_to_be_closed_does_not_take_the_engine_with_it(make: Callable[..., Engine]) -> None:
    def work(cancel: CancelToken) -> Iterator[Event]:
        try:
            yield Done("x")
        finally:
            yield Partial("one more thing")

    engine = make()
    assert result(engine.submit(Job("s", A, work))) == "x"
    assert result(engine.submit(Job("s", A, saying("next")))) == "next"


def test_model_that_cannot_be_closed_does_not_take_the_engine_with_it(
    make: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Open) -> None:
        raise RuntimeError("the driver is gone")

    monkeypatch.setattr(Open, "close", refuse)
    engine = make(budget_mb=100)
    assert result(engine.submit(Job("s", A, saying("a")))) == "a"
    assert result(engine.submit(Job("s", B, saying("b")))) == "b"
    assert [k for k, _ in engine.state().loaded] == ["b"]


# --- models -----------------------------------------------------------------------------------------------


def test_model_is_loaded_once_and_kept(make: Callable[..., Engine], library: Library) -> None:
    engine = make()
    for _ in range(3):
        assert result(engine.submit(Job("s", A, saying("x")))) == "x"
    assert library.loaded == ["a"]
    assert engine.state().loaded == (("a", 100 * MIB),)


def test_least_recently_used_model_makes_room_and_a_notice_says_so(
    make: Callable[..., Engine], library: Library
) -> None:
    engine = make(budget_mb=250)
    for wanted in (A, B, A):
        result(engine.submit(Job("s", wanted, saying("x"))))
    events, error = ended(engine.submit(Job("s", C, saying("x"))))
    assert error is None
    assert [e.text for e in events if isinstance(e, Notice)] == ["Made room for C by unloading b."]
    assert library.closed == ["b"]
    assert [k for k, _ in engine.state().loaded] == ["a", "c"]


def test_model_in_use_is_kept_and_an_older_idle_one_goes(make: Callable[..., Engine], library: Library) -> None:
    engine, go_on = make(budget_mb=250), threading.Event()
    using = engine.submit(Job("user", A, waiting_for(go_on)))
    for wanted in (B, C):
        result(engine.submit(Job("other", wanted, saying("x"))))
    assert library.closed == ["b"]
    go_on.set()
    assert result(using) == "waited"


def test_models_in_use_are_never_joined_by_one_that_does_not_fit(
    make: Callable[..., Engine], gated: Callable[..., Gated], library: Library
) -> None:
    engine, long = make(budget_mb=150), gated(60)
    using = occupy(engine, long, "first", A)
    newcomer = engine.submit(Job("second", B, saying("b")))
    latecomer = engine.submit(Job("third", A, saying("a")))
    long.let_go(50)
    wait_until(lambda: long.begun == 51, "fifty turns to pass")
    assert library.loaded == ["a"]
    assert engine.state().running == 3
    long.let_go()
    assert result(using) == 60
    events, error = ended(newcomer)
    assert error is None
    assert "Waiting for memory that another model uses" in [e.label for e in events if isinstance(e, Progress)]
    assert result(latecomer) == "a"
    assert library.loaded == ["a", "b", "a"], "who came later, even for a loaded model, came later"


def test_model_beyond_the_budget_is_tried_alone(make: Callable[..., Engine], library: Library) -> None:
    engine = make(budget_mb=150)
    result(engine.submit(Job("s", A, saying("x"))))
    assert result(engine.submit(Job("s", model("huge", 400), saying("x")))) == "x"
    assert library.closed == ["a"]


@pytest.mark.parametrize("workers", [1, 3])
def test_absent_model_wanted_twice_is_loaded_once(make: Callable[..., Engine], library: Library, workers: int) -> None:
    engine = make(slots=4, workers=workers)
    tickets = [engine.submit(Job(s, A, saying(s))) for s in "abc"]
    assert [result(t) for t in tickets] == ["a", "b", "c"]
    assert library.loaded == ["a"]


@pytest.mark.parametrize("workers", [1, 3])
def test_different_absent_models_are_each_loaded_once(
    make: Callable[..., Engine], library: Library, workers: int
) -> None:
    engine = make(slots=4, workers=workers)
    tickets = [engine.submit(Job(m.id, m, saying(m.id))) for m in (A, B, C)]
    assert [result(t) for t in tickets] == ["a", "b", "c"]
    assert sorted(library.loaded) == ["a", "b", "c"]


def test_loaded_model_answers_while_another_one_loads(make: Callable[..., Engine], library: Library) -> None:
    engine, may_load = make(), threading.Event()
    result(engine.submit(Job("s", A, saying("warm"))))
    library.trouble["b"] = may_load.is_set
    loading = engine.submit(Job("slow", B, saying("slow")))
    assert result(engine.submit(Job("quick", A, saying("quick")))) == "quick"
    assert not loading.has_ended
    may_load.set()
    assert result(loading) == "slow"


def test_cancelled_load_is_given_up_and_can_be_tried_again(make: Callable[..., Engine], library: Library) -> None:
    engine = make()
    library.trouble["a"] = lambda: False
    ticket = engine.submit(Job("s", A, saying("x")))
    assert isinstance(next(e for e in ticket.events() if isinstance(e, Progress)), Progress)
    assert isinstance(ended(ticket)[0][-1], Stopped)  # leaving the events cancelled it
    assert library.given_up == ["a"]
    library.trouble.clear()
    assert result(engine.submit(Job("s", A, saying("again")))) == "again"


def test_failed_load_is_said_and_the_next_model_loads(make: Callable[..., Engine], library: Library) -> None:
    def fail() -> None:
        raise ModelMissing("A is not on this machine.")

    engine = make()
    library.trouble["a"] = fail
    assert failure(engine.submit(Job("s", A, saying("x")))).message == "A is not on this machine."
    assert result(engine.submit(Job("s", B, saying("b")))) == "b"


def test_preloaded_model_is_warm_for_the_first_job(make: Callable[..., Engine], library: Library) -> None:
    engine = make()
    engine.preload(A)
    assert [k for k, _ in engine.state().loaded] == ["a"]
    assert result(engine.submit(Job("s", A, saying("x")))) == "x"
    engine.preload(A)
    assert library.loaded == ["a"]


def test_preloaded_model_can_be_unloaded(make: Callable[..., Engine], library: Library) -> None:
    engine = make(budget_mb=150)
    engine.preload(A)
    engine.preload(B)
    assert library.closed == ["a"]


# --- batches for a page -----------------------------------------------------------------------------------


async def test_batches_bundle_many_events_and_lose_none(make: Callable[..., Engine]) -> None:
    words = [str(i) for i in range(500)]
    ticket = make().submit(Job("s", A, saying(*words)))
    batches = [batch async for batch in ticket.batches(interval_s=0.1)]
    events = [e for batch in batches for e in batch]
    assert [e.text for e in events if isinstance(e, Partial)] == words
    assert isinstance(events[-1], Done)
    assert len(batches) < 100
    assert all(batches)
    assert ticket._wakers == []


async def test_first_batch_does_not_wait_for_more(make: Callable[..., Engine], gated: Callable[..., Gated]) -> None:
    work = gated(1)
    ticket = occupy(make(), work)
    async with aclosing(ticket.batches(interval_s=PATIENCE_S)) as batches:
        first = await asyncio.wait_for(anext(batches), PATIENCE_S / 2)
    assert isinstance(first[0], Queued)


async def test_batches_raise_a_jobs_error_after_its_events(make: Callable[..., Engine]) -> None:
    def work(cancel: CancelToken) -> Iterator[Event]:
        yield Partial("half an")
        raise StudioError("The server broke off.")

    seen: list[Event] = []

    async def listen(ticket: Ticket) -> None:
        async for batch in ticket.batches(interval_s=0.01):
            seen.extend(batch)

    with pytest.raises(StudioError, match="broke off"):
        await listen(make().submit(Job("s", A, work)))
    assert seen[-1] == Partial("half an")


def test_listener_whose_loop_was_closed_does_not_take_the_engine_with_it(
    make: Callable[..., Engine], gated: Callable[..., Gated]
) -> None:
    engine, work = make(), gated(3)
    ticket = occupy(engine, work)
    loop = asyncio.new_event_loop()
    batches = ticket.batches()
    assert loop.run_until_complete(anext(batches))
    loop.close()
    work.let_go()
    assert result(ticket) == 3
    assert result(engine.submit(Job("s", A, saying("next")))) == "next"


# --- the end ----------------------------------------------------------------------------------------------


def test_close_stops_everybody_and_frees_everything(
    make: Callable[..., Engine], gated: Callable[..., Gated], library: Library
) -> None:
    engine, work = make(slots=1), gated()
    running = occupy(engine, work)
    waiting = [engine.submit(Job(s, A, saying(s))) for s in "ab"]
    presenter = engine.submit(Job("p", A, saying("p"), is_presenter=True))
    threading.Timer(0.05, work.let_go).start()
    engine.close(PATIENCE_S)
    for ticket in (running, *waiting, presenter):
        assert ticket.has_ended
        assert isinstance(list(ticket.events())[-1], Stopped)
    assert work.is_released
    assert library.closed == ["a"]
    assert not [t for t in engine._threads if t.is_alive()]
    with pytest.raises(Busy, match="shutting down"):
        engine.submit(Job("s", A, saying("x")))
    engine.close()


def test_unused_engine_closes_without_having_started_a_thread(make: Callable[..., Engine]) -> None:
    engine = make(workers=4)
    engine.close()
    assert engine._threads == []


@pytest.mark.parametrize("workers", [1, 3])
def test_three_hundred_jobs_leave_nothing_behind(make: Callable[..., Engine], workers: int) -> None:
    engine = make(workers=workers, max_waiting=300, max_per_session=10)
    assert result(engine.submit(Job("s", A, saying("warm")))) == "warm"
    before = set(threading.enumerate())
    tickets = [engine.submit(Job(f"s{i // 10}", A, saying(str(i)))) for i in range(300)]
    assert [result(t) for t in tickets] == [str(i) for i in range(300)]
    assert set(threading.enumerate()) - before == set()
    state = engine.state()
    assert (state.running, state.waiting) == (0, 0)
    remembered = [weakref.ref(t) for t in tickets]
    tickets.clear()
    gc.collect()
    assert [r for r in remembered if r() is not None] == []
    assert engine._sessions == {}
    assert engine._running == {}
    assert engine._running_sessions == set()
    assert engine._shelf.in_use == {}


def test_unloading_all_lets_a_running_job_end_and_loads_anew_for_the_next(
    make: Callable[..., Engine], library: Library, gated: Callable[..., Gated]
) -> None:
    engine, running = make(), gated(3)
    first = engine.submit(Job("one", A, running))
    wait_until(lambda: running.begun, "the job to begin")
    engine.unload_all()
    assert library.closed == []
    second = engine.submit(Job("two", A, saying("new")))
    running.let_go()
    assert result(first) == 3
    assert result(second) == "new"
    assert library.loaded == ["a", "a"]
    assert library.closed == []  # the new one stands in the place of the one that was closed
