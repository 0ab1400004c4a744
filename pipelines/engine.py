"""One engine per device: admits jobs, is fair between sessions, keeps models inside a byte budget.

Work is cooperative: a job is a generator of events, and the engine's worker steps up to ``slots`` of them
in turn, one event (one token, one denoising step) at a time. So a short job never waits behind a long
one, cancelling takes one step, and the presenter goes first without killing anybody. Knows no page, no
task and no model class: it gets a ``load`` function that turns a catalogue block into a backend.

    engine = Engine(load=chat.open_model, budget_bytes=2 * GIB)
    ticket = engine.submit(Job("session", model, params))
    for event in ticket.events(): ...

Batching compatible jobs later means: a backend that offers ``run_batch`` and a worker that groups by its
``batch_key``. A distributed engine later means: another class with ``submit`` that returns a ``Ticket``.
Neither changes a caller.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Generator
from dataclasses import dataclass

from pipelines.catalog import Model
from pipelines.device import is_out_of_memory, release_memory
from pipelines.errors import Busy, Cancelled, OutOfMemory, StudioError
from pipelines.events import CancelToken, Done, Event, Notice, Progress, Queued, Stopped
from pipelines.jobs import Job, Ticket
from pipelines.shelf import Backend, Shelf

log = logging.getLogger(__name__)
POLL_S = 0.02

#: Turns a catalogue block into a loaded backend, yielding progress while it does.
Load = Callable[[Model, CancelToken], Generator[Event, None, Backend]]


@dataclass
class _Active:
    ticket: Ticket
    steps: Generator[Event, None, None]
    worked_s: float = 0.0
    is_blocked: bool = False

    @property
    def goes_first(self) -> bool:
        """A presenter's job, unless it waits for one of the others."""
        return self.ticket.job.is_presenter and not self.is_blocked


@dataclass(frozen=True)
class _Blocked(Progress):
    """The job cannot go on until another one has."""


@dataclass(frozen=True)
class EngineState:
    """A snapshot of the engine for the page and the presenter: jobs, predicted wait, models and their bytes."""

    running: int
    waiting: int
    wait_s: float
    loaded: tuple[tuple[str, int], ...]


class Engine:
    """Runs jobs on one device.

    Args:
        load: makes a backend from a catalogue block (a generator: it reports progress).
        budget_bytes: what the models kept loaded may take together.
        workers: threads; 1 for a device, several for remote servers, where a step waits on the network.
        slots: jobs a worker steps in turn.
        max_waiting: jobs that may wait; one more is refused in words.
        max_per_session: jobs one session may have waiting.
    """

    def __init__(
        self,
        load: Load,
        budget_bytes: int,
        *,
        workers: int = 1,
        slots: int = 4,
        max_waiting: int = 100,
        max_per_session: int = 3,
    ) -> None:
        self._load = load
        self._shelf = Shelf(budget_bytes)
        self._workers, self._slots = workers, slots
        self._max_waiting, self._max_per_session = max_waiting, max_per_session
        self._lock = threading.Condition()
        self._presenter: deque[Ticket] = deque()
        self._sessions: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._running: dict[str, Ticket] = {}
        self._running_sessions: set[str] = set()
        self._seconds: dict[str, float] = {}
        self._loading = threading.Lock()
        self._wants_room = False
        self._busy: set[int] = set()  # workers with a job, by thread
        self._is_closed = False
        self._threads: list[threading.Thread] = []
        self._number = itertools.count(1)

    # --- callers' side -------------------------------------------------------------------------------

    def submit(self, job: Job) -> Ticket:
        """Queue a job. Returns at once; raises Busy in words when the queue or the session's share is full."""
        ticket = Ticket(job)
        with self._lock:
            if self._is_closed:
                raise Busy("The studio is shutting down.", "Reload the page in a moment.")
            if job.is_presenter:
                self._presenter.append(ticket)
            else:
                waiting = sum(len(q) for q in self._sessions.values())
                mine = self._sessions.get(job.session, deque())
                if len(mine) >= self._max_per_session:
                    raise Busy(
                        f"You already have {len(mine)} jobs waiting.",
                        "Let one finish, or stop it, then try again.",
                    )
                if waiting >= self._max_waiting:
                    raise Busy(f"{waiting} jobs are waiting, which is all the queue holds.", "Try again in a minute.")
                self._sessions.setdefault(job.session, deque()).append(ticket)
            ticket.cancel_token.on_set(self._wake)
            self._announce()
            self._start_threads()
            self._lock.notify_all()
        return ticket

    def cancel_session(self, session: str) -> int:
        """Stop everything a session has running or waiting; returns how many jobs that were."""
        with self._lock:
            mine = [t for t in self._running.values() if t.job.session == session]
            mine += list(self._sessions.get(session, ()))
            mine += [t for t in self._presenter if t.job.session == session]
        for ticket in mine:
            ticket.cancel()
        return len(mine)

    def state(self) -> EngineState:
        """How busy the engine is now."""
        with self._lock:
            waiting = len(self._presenter) + sum(len(q) for q in self._sessions.values())
            loaded = tuple((k, b.memory_bytes) for k, b in self._shelf.models.items())
            return EngineState(len(self._running), waiting, self._wait_s(waiting), loaded)

    def preload(self, model: Model) -> None:
        """Load a model now, in the calling thread, so that the first job finds it warm."""
        for event in self._backend(model, CancelToken(), hold=False):
            if isinstance(event, _Blocked):
                time.sleep(POLL_S)

    def unload_all(self) -> None:
        """Drop the loaded models, those in use when their jobs end; later jobs load them anew."""
        with self._lock:
            self._shelf.retire()
        release_memory()

    def close(self, timeout_s: float = 10.0) -> None:
        """Refuse new jobs, cancel all others, wait for the workers, free the models."""
        with self._lock:
            self._is_closed = True
            tickets = [*self._running.values(), *self._order()]
            self._lock.notify_all()
        for ticket in tickets:
            ticket.cancel()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            for key in list(self._shelf.models):
                self._shelf.close(key)
        release_memory()

    # --- queue ---------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Somebody cancelled: whoever only waited leaves at once, whoever runs at their next step."""
        with self._lock:
            for ticket in [t for t in self._order() if t.cancel_token.is_set]:
                self._forget(ticket)
                ticket.put(Stopped())
            self._announce()
            self._lock.notify_all()

    def _wait_s(self, ahead: int) -> float:
        """Predicted wait with ``ahead`` jobs before one: they share the device, so their working times add up."""
        if ahead + len(self._running) < self._slots * self._workers:
            return 0.0
        mean = sum(self._seconds.values()) / len(self._seconds) if self._seconds else 3.0
        return (ahead + len(self._running)) * mean / self._workers

    def _order(self) -> list[Ticket]:
        """Everybody waiting, in the order in which they will be served: presenter, then round-robin."""
        rounds = itertools.zip_longest(*self._sessions.values())
        return [*self._presenter, *(t for turn in rounds for t in turn if t is not None)]

    def _announce(self) -> None:
        for position, ticket in enumerate(self._order(), start=1):
            ticket.put(Queued(position, self._wait_s(position - 1)))

    def _forget(self, ticket: Ticket) -> None:
        if ticket in self._presenter:
            self._presenter.remove(ticket)
        queue = self._sessions.get(ticket.job.session)
        if queue and ticket in queue:
            queue.remove(ticket)
            if not queue:
                del self._sessions[ticket.job.session]

    def _candidate(self, room: int) -> Ticket | None:
        """Who may start now, lock held: the presenter needs no free slot; a session runs one job at a time."""
        for ticket in self._presenter:
            if ticket.job.session not in self._running_sessions:
                return ticket
        if room <= 0:
            return None
        return next((q[0] for s, q in self._sessions.items() if s not in self._running_sessions), None)

    def _start_next(self, room: int) -> Ticket | None:
        """Take the next job off the queue, lock held."""
        chosen = self._candidate(room)
        if chosen is None:
            return None
        self._forget(chosen)
        session = chosen.job.session
        if session in self._sessions:
            self._sessions.move_to_end(session)  # its other jobs wait for everybody else's turn
        self._running[chosen.id] = chosen
        self._running_sessions.add(session)
        self._announce()
        return chosen

    # --- workers -------------------------------------------------------------------------------------

    def _start_threads(self) -> None:
        while len(self._threads) < self._workers:
            thread = threading.Thread(target=self._work, name=f"engine {next(self._number)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        active: list[_Active] = []
        while self._admit(active):
            self._round(active)

    def _admit(self, active: list[_Active]) -> bool:
        """Start whatever may start, waiting when there is nothing to do; False when the worker should end."""
        me = threading.get_ident()
        with self._lock:
            if not active:
                self._busy.discard(me)
            while not active and not self._is_closed and self._candidate(self._slots) is None:
                self._lock.wait(1.0)
            if self._is_closed:
                return bool(active)
            # A worker with something to do leaves further jobs to those that have nothing.
            while not active or len(self._busy) == self._workers:
                ticket = self._start_next(self._slots - len(active))
                if ticket is None:
                    break
                ticket.cancel_token.start_clock()
                active.append(_Active(ticket, self._steps(ticket)))
                self._busy.add(me)
        return True

    def _round(self, active: list[_Active]) -> None:
        """One step of every job, or only of the presenter's; a cancelled job is let go in any case."""
        has_presenter = any(one.goes_first for one in active)
        for one in list(active):
            is_its_turn = not has_presenter or one.goes_first or one.ticket.cancel_token.is_set
            if is_its_turn and not self._step(one):
                active.remove(one)
        if active and all(one.is_blocked for one in active):
            time.sleep(POLL_S)

    def _step(self, one: _Active) -> bool:
        """Advance one job by one event; False when it has ended. Frees its memory outside the except block."""
        started = time.monotonic()
        outcome = self._advance(one)
        one.worked_s += time.monotonic() - started
        if not isinstance(outcome, (Done, Stopped, BaseException)):
            one.is_blocked = isinstance(outcome, _Blocked)
            one.ticket.put(outcome)
            return True
        self._finish(one, outcome)
        return False

    def _advance(self, one: _Active) -> Event | BaseException:
        """The job's next event, or how it ended: Done, Stopped or the error to show. Never raises."""
        token = one.ticket.cancel_token
        outcome: Event | BaseException
        try:
            token.check()
            event = next(one.steps)
            if not isinstance(event, Done):
                return event
            outcome = event
        except (StopIteration, Cancelled):
            outcome = _unfinished()
        except StudioError as error:
            outcome = error
        except BaseException as error:  # noqa: BLE001 - the one boundary where a bug becomes a worded failure;
            outcome = _worded(error)  # a Rust library's panic and sys.exit are no Exceptions
        try:
            one.steps.close()
        except BaseException:  # how the job ended is known already
            log.exception("a job failed while it was closed")
        if isinstance(outcome, OutOfMemory):
            # Its traceback holds the frames, and they the tensors.
            outcome.__traceback__ = outcome.__cause__ = outcome.__context__ = None
        elif token.is_set and not isinstance(outcome, Done):
            outcome = Stopped()
        return outcome

    def _finish(self, one: _Active, outcome: Event | BaseException) -> None:
        """Take an ended job off the books, free memory where it ran out, then tell its listener."""
        ticket, job = one.ticket, one.ticket.job
        with self._lock:
            if isinstance(outcome, Done):
                known = self._seconds.get(job.model.id, one.worked_s)
                self._seconds[job.model.id] = 0.7 * known + 0.3 * one.worked_s
            self._running.pop(ticket.id, None)
            self._running_sessions.discard(job.session)
            if isinstance(outcome, OutOfMemory):
                self._shelf.make_room(self._shelf.budget_bytes)
            self._announce()
            self._lock.notify_all()
        if isinstance(outcome, OutOfMemory):
            release_memory()
        ticket.put(outcome)

    def _steps(self, ticket: Ticket) -> Generator[Event, None, None]:
        """Load the model if needed, then run the job."""
        model = ticket.job.model
        backend = yield from self._backend(model, ticket.cancel_token, hold=True)
        try:
            yield from backend.run(ticket.job.params, ticket.cancel_token)
        finally:
            with self._lock:
                self._shelf.give_back(model.id)

    def _backend(self, model: Model, cancel: CancelToken, *, hold: bool) -> Generator[Event, None, Backend]:
        """The loaded backend of ``model``; ``hold`` keeps it from eviction until it is given back.

        A loaded model is had at once. Only one model is loaded at a time; whoever needs another waits by
        yielding, as the job it waits for may be one that this very thread steps.
        """
        while True:
            with self._lock:
                backend = None if self._wants_room else self._shelf.take(model.id, hold=hold)
            if backend is not None:
                return backend
            if self._loading.acquire(blocking=False):
                break
            yield _Blocked("Waiting for a model to load")
        try:
            with self._lock:
                backend = self._shelf.take(model.id, hold=hold)
            if backend is None:
                while model.id in self._shelf.retired:
                    yield _Blocked("Waiting for the jobs on the former device")
                yield from self._clear_room(model)
                backend = yield from self._load(model, cancel)
                with self._lock:
                    self._shelf.models[model.id] = backend
                    self._shelf.take(model.id, hold=hold)
        finally:
            self._loading.release()
        return backend

    def _clear_room(self, model: Model) -> Generator[Event, None, None]:
        """Unload models until ``model`` fits, waiting for those in use; alone it is tried whatever its size."""
        try:
            while True:
                with self._lock:
                    gone = self._shelf.make_room(model.memory_bytes)
                    # Holds back new users of the loaded models, or a busy room would never let another one in.
                    self._wants_room = bool(self._shelf.models) and not self._shelf.fits(model.memory_bytes)
                if gone:
                    release_memory()
                    yield Notice(f"Made room for {model.title} by unloading {', '.join(gone)}.")
                if not self._wants_room:
                    return
                yield _Blocked("Waiting for memory that another model uses")
        finally:
            self._wants_room = False


def _unfinished() -> StudioError:
    return StudioError("The model stopped without an answer.", "Try again; if it happens twice, report it.")


def _worded(error: BaseException) -> StudioError:
    """A library's exception as something safe to show: out of memory by its name, the rest with an id."""
    if is_out_of_memory(error):
        return OutOfMemory(
            "The device ran out of memory, so this job was stopped and its memory freed.",
            "Ask for less (shorter, fewer, smaller) or choose a smaller model.",
        )
    number = uuid.uuid4().hex[:8]
    log.error("unexpected error %s", number, exc_info=error)
    return StudioError(f"Something unexpected went wrong, id {number}.", "The log has the details under that id.")
