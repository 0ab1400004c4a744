"""What a running job tells the outside: a stream of small frozen records, and the token that stops it.

Knows no model, no page, no thread. A pipeline's ``run`` is a generator of these events; exactly one
``Done`` ends success, an exception ends failure, and ``Stopped`` is what the engine reports when the
work was cancelled.

    for event in backend.run(params, CancelToken()):
        if isinstance(event, Partial): print(event.text, end="")
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipelines.errors import Cancelled, TimedOut

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """Base of everything a job may emit."""


@dataclass(frozen=True)
class Queued(Event):
    """Waiting. ``position`` 1 is next; ``wait_s`` is the predicted wait in seconds."""

    position: int
    wait_s: float


@dataclass(frozen=True)
class Progress(Event):
    """Step ``step`` of ``total`` (0 when unknown) of something named by ``label``."""

    label: str
    step: float = 0
    total: float = 0
    remaining_s: float | None = None


@dataclass(frozen=True)
class Notice(Event):
    """One sentence the person should read: something was dropped, replaced or not possible."""

    text: str


@dataclass(frozen=True)
class Alternative:
    """One candidate for a position.

    ``probability`` is the model's own (softmax of the raw logits); ``kept`` is what was left of it after
    temperature, top-k, top-p, min-p and repetition penalty, 0.0 when they cut it away.
    """

    token_id: int
    text: str
    probability: float
    kept: float


@dataclass(frozen=True)
class Token:
    """One generated token and, when traced, the likeliest candidates it was chosen from."""

    token_id: int
    text: str
    probability: float
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True)
class PromptTokens(Event):
    """How the prompt became tokens: ``pieces`` are (token id, text); ``context`` is the model's window."""

    pieces: tuple[tuple[int, str], ...]
    context: int
    dropped_turns: int = 0


@dataclass(frozen=True)
class Partial(Event):
    """More of the answer: the text that became readable, and the token behind it where known."""

    text: str
    token: Token | None = None


@dataclass(frozen=True)
class Preview(Event):
    """An unfinished artifact (a half-denoised picture, the bars written so far)."""

    artifact: Any
    step: int = 0


@dataclass(frozen=True)
class Done(Event):
    """Success. ``artifact`` is the result, ``record`` all that is needed to do it again exactly."""

    artifact: Any
    record: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stopped(Event):
    """The job was cancelled; nothing went wrong."""


class CancelToken:
    """Set from any thread, polled by the work at least once a token or step. One token per run."""

    def __init__(self, time_limit_s: float | None = None) -> None:
        self._flag = threading.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.RLock()
        self._deadline: float | None = None
        self.time_limit_s = time_limit_s

    def start_clock(self) -> None:
        """The time limit counts from here (waiting in a queue is not working)."""
        if self.time_limit_s is not None:
            self._deadline = time.monotonic() + self.time_limit_s

    def set(self) -> None:
        with self._lock:
            if self._flag.is_set():
                return
            self._flag.set()
            callbacks = list(self._callbacks)
        for callback in callbacks:
            try:
                callback()
            except Exception:
                log.exception("a cancel callback failed")  # the others must still hear of it

    def on_set(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once when the token is set (at once if it already is): unblocks a network read."""
        with self._lock:
            if not self._flag.is_set():
                self._callbacks.append(callback)
                return
        callback()

    @property
    def is_set(self) -> bool:
        return self._flag.is_set()

    def check(self) -> None:
        """Raise ``Cancelled`` when set, ``TimedOut`` when the time limit has passed."""
        if self._flag.is_set():
            raise Cancelled
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise TimedOut(
                f"This took longer than the limit of {self.time_limit_s:g} s and was stopped.",
                "Ask for less (fewer tokens or steps), or ask the presenter to raise the limit.",
            )
