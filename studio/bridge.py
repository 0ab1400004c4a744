"""Between the engine and the page: a job's events become one growing view, its errors a card.

The one place where pipeline events meet Gradio. Knows no tab: what a tab draws from a ``View`` is its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from pipelines.errors import StudioError
from pipelines.events import Done, Event, Notice, Partial, Preview, Progress, PromptTokens, Queued, Stopped, Token
from pipelines.jobs import Ticket

log = logging.getLogger(__name__)


@dataclass
class View:
    """Everything a page may want to show of one run, so far.

    ``phase`` is one of waiting, working, done, stopped, failed.
    """

    phase: str = "waiting"
    status: str = "Starting"
    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    prompt: PromptTokens | None = None
    preview: Any = None
    progress: Progress | None = None
    notices: list[str] = field(default_factory=list)
    artifact: Any = None
    record: dict[str, Any] = field(default_factory=dict)
    error: StudioError | None = None

    @property
    def has_ended(self) -> bool:
        return self.phase in ("done", "stopped", "failed")

    def apply(self, event: Event) -> None:
        """Take one event into the view."""
        if isinstance(event, Queued):
            ahead = event.position - 1
            self.status = "You are next" if ahead == 0 else f"{ahead} ahead of you, {seconds(event.wait_s)}"
        elif isinstance(event, Partial):
            self.phase, self.status = "working", "Writing"
            self.text += event.text
            if event.token is not None:
                self.tokens.append(event.token)
        elif isinstance(event, Progress):
            self.phase, self.progress = "working", event
            share = f" {event.step:,.0f} of {event.total:,.0f}" if event.total else ""
            left = f", {seconds(event.remaining_s)} left" if event.remaining_s else ""
            self.status = f"{event.label}{share}{left}"
        elif isinstance(event, Notice):
            self.notices.append(event.text)
        elif isinstance(event, PromptTokens):
            self.phase, self.status, self.prompt = "working", "Reading", event
        elif isinstance(event, Preview):
            self.phase, self.preview = "working", event.artifact
        elif isinstance(event, Done):
            self.phase, self.artifact, self.record = "done", event.artifact, event.record
        elif isinstance(event, Stopped):
            self.phase, self.status = "stopped", "Stopped"


def seconds(value: float) -> str:
    """A duration as people say it."""
    if value < 90:
        return f"about {max(1, round(value))} s"
    return f"about {round(value / 60)} min"


def _cancel_late(submission: asyncio.Future[Ticket]) -> None:
    """The listener left while the job was being submitted: nobody would ever stop it."""
    if not submission.cancelled() and submission.exception() is None:
        submission.result().cancel()


async def follow(submit: Callable[[], Ticket], *, interval_s: float = 0.06) -> AsyncIterator[View]:
    """Submit a job and yield its view whenever it grew, at most once per ``interval_s``; the last has ended.

    The job is submitted, in a thread as that may block until the studio is ready, before the first, empty view
    is handed out: it is under way while the page still draws the question. Whatever goes wrong ends up in
    ``view.error``, so the prompt and what was made so far stay on the page. Closing the iterator (the listener
    left) cancels the job.
    """
    view = View()
    submission = asyncio.ensure_future(asyncio.to_thread(submit))
    try:
        yield view
        ticket = await asyncio.shield(submission)
        async with contextlib.aclosing(ticket.batches(interval_s)) as batches:
            async for events in batches:
                for event in events:
                    view.apply(event)
                yield view
    except (asyncio.CancelledError, GeneratorExit):
        submission.add_done_callback(_cancel_late)  # cancelling twice does no harm
        raise
    except StudioError as error:
        view.phase, view.status, view.error = "failed", "", error
        yield view
    except Exception as error:
        number = uuid.uuid4().hex[:8]
        log.exception("unexpected error %s", number)
        view.phase, view.status = "failed", ""
        view.error = StudioError(f"Something unexpected went wrong, id {number}.", "The log has the details.")
        view.error.__cause__ = error
        yield view


def error_card(error: StudioError | None) -> str:
    """What happened and what to try, as HTML for the place where the result would be."""
    if error is None:
        return ""
    what, hint = html.escape(error.message), html.escape(error.hint)
    return f'<div class="card error" role="alert"><strong>{what}</strong><span>{hint}</span></div>'


def notice_card(notices: list[str]) -> str:
    """Sentences the person should read, as HTML."""
    if not notices:
        return ""
    items = "".join(f"<span>{html.escape(n)}</span>" for n in notices)
    return f'<div class="card notice" role="status">{items}</div>'
