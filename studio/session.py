"""Who is asking: attendee or presenter. What belongs to one person is keyed by their session and nothing else.

Knows no Gradio beyond the request's session hash. Presenter rights are held on the server; the browser
holds only a random ticket that brings them back after a reload.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import deque

from pipelines.errors import Forbidden

TICKET_LIFETIME_S = 12 * 3600.0
ATTEMPTS_PER_MINUTE = 10  # over all sessions: a room has one presenter, a guesser has many sessions


def _same(one: str, other: str) -> bool:
    """Compare in constant time. As bytes: ``compare_digest`` takes text only in ASCII."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


class Sessions:
    """Presenter log-in and the check that every presenter handler makes."""

    def __init__(self, presenter_password: str = "") -> None:
        self._password = presenter_password
        self._presenters: dict[str, float] = {}
        self._tickets: dict[str, float] = {}
        self._attempts: deque[float] = deque()
        self._lock = threading.Lock()

    @property
    def is_locked(self) -> bool:
        """Whether a presenter password is set at all."""
        return bool(self._password)

    def log_in(self, session: str, password: str) -> str:
        """Make ``session`` the presenter's; returns the ticket for its browser. Raises Forbidden."""
        now = time.monotonic()
        with self._lock:
            while self._attempts and now - self._attempts[0] > 60:
                self._attempts.popleft()
            if len(self._attempts) >= ATTEMPTS_PER_MINUTE:
                raise Forbidden("Too many attempts.", "Wait a minute.")
            if not self._password or not _same(password, self._password):
                self._attempts.append(now)
                raise Forbidden("That is not the presenter's password.", "It was set when the studio was started.")
            ticket = secrets.token_urlsafe(32)
            self._tickets[ticket] = now + TICKET_LIFETIME_S
            self._presenters[session] = now + TICKET_LIFETIME_S
        return ticket

    def return_with(self, session: str, ticket: str) -> bool:
        """After a reload: give ``session`` the rights that ``ticket`` stands for."""
        now = time.monotonic()
        with self._lock:
            self._tickets = {t: end for t, end in self._tickets.items() if end > now}
            end = next((e for t, e in self._tickets.items() if _same(t, ticket)), None)
            if end is not None:
                self._presenters[session] = end
        return end is not None

    def log_out(self, session: str, ticket: str = "") -> None:
        with self._lock:
            self._presenters.pop(session, None)
            self._tickets.pop(ticket, None)

    def is_presenter(self, session: str) -> bool:
        """True for a logged-in presenter; without a password nobody is one, and nothing is locked."""
        with self._lock:
            return self._presenters.get(session, 0.0) > time.monotonic()

    def require_presenter(self, session: str, what: str) -> None:
        """Raise Forbidden unless ``session`` may change things for everybody."""
        if self.is_locked and not self.is_presenter(session):
            raise Forbidden(f"Only the presenter may {what}.", "Log in with the lock at the top of the page.")

    def forget(self, session: str) -> None:
        """The page was closed."""
        with self._lock:
            self._presenters.pop(session, None)
