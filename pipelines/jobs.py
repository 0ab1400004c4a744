"""A job and the caller's end of it: what to run for whom, and the stream of events that comes back.

Knows no engine: whatever runs a job, here or on another machine, answers with a ``Ticket``.

    async for events in ticket.batches(): ...      # a page
    for event in ticket.events(): ...              # a script
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.catalog import Model
from pipelines.events import CancelToken, Done, Event, Progress, Queued, Stopped

#: Batches that a listener gets without a pause: queued, loading, the prompt, the first token.
PROMPT_BATCHES = 4


@dataclass(frozen=True)
class Job:
    """What to run, for whom. ``session`` is the unit of fairness."""

    session: str
    model: Model
    params: Any
    is_presenter: bool = False
    time_limit_s: float | None = None


class Ticket:
    """The caller's end of a job: a stream of events that ends with Done, Stopped or an exception."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.id = uuid.uuid4().hex
        self.cancel_token = CancelToken(job.time_limit_s)
        self._events: deque[Event | BaseException] = deque()
        self._ready = threading.Condition()
        self._wakers: list[Callable[[], None]] = []
        self._ended = False

    def cancel(self) -> None:
        """Stop the work within one step. Safe to call at any time, any number of times."""
        self.cancel_token.set()

    @property
    def has_ended(self) -> bool:
        """The last event was put; some may still wait to be read."""
        return self._ended

    def put(self, event: Event | BaseException) -> None:
        """Engine's side: add an event. Done, Stopped and exceptions end the stream."""
        with self._ready:
            if self._ended:
                return
            if isinstance(event, (Queued, Progress)) and self._events and type(self._events[-1]) is type(event):
                self._events.pop()  # only the newest is of interest
            self._events.append(event)
            self._ended = isinstance(event, (Done, Stopped, BaseException))
            self._ready.notify_all()
            wakers = list(self._wakers)
        for wake in wakers:
            wake()

    def _take(self) -> list[Event | BaseException]:
        with self._ready:
            taken = list(self._events)
            self._events.clear()
            return taken

    def events(self) -> Iterator[Event]:
        """Block for events until the job ends. Closing the iterator early cancels the job."""
        finished = False
        try:
            while not finished:
                with self._ready:
                    self._ready.wait_for(lambda: bool(self._events))
                for event in self._take():
                    if isinstance(event, BaseException):
                        finished = True
                        raise event
                    finished = finished or isinstance(event, (Done, Stopped))
                    yield event
        finally:
            if not finished:
                self.cancel()

    async def batches(self, interval_s: float = 0.06) -> AsyncIterator[list[Event]]:
        """Events for a page: all that came since the last batch, at most once per ``interval_s``.

        Nothing waits until the first ``PROMPT_BATCHES`` are handed out: by then the first token is on the page. An exception of the job is raised after the events before
        it. Closing the iterator early cancels the job.
        """
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody listens any more
                loop.call_soon_threadsafe(ready.set)

        with self._ready:
            self._wakers.append(wake)
            if self._events:
                ready.set()
        finished, count = False, 0
        try:
            while not finished:
                await ready.wait()
                ready.clear()
                taken = self._take()
                failure = next((e for e in taken if isinstance(e, BaseException)), None)
                events = [e for e in taken if isinstance(e, Event)]
                finished = failure is not None or any(isinstance(e, (Done, Stopped)) for e in events)
                if events:
                    yield events
                if failure is not None:
                    raise failure
                if not finished:
                    count += 1
                    await asyncio.sleep(interval_s if count >= PROMPT_BATCHES else 0)
        finally:
            with self._ready:
                self._wakers.remove(wake)
            if not finished:
                self.cancel()
