"""Presenter rights: had only with the password, kept by a random ticket, checked on the server."""

from __future__ import annotations

import hmac
import time
from typing import Any

import pytest

from pipelines.errors import Forbidden
from studio import session as session_module
from studio.session import ATTEMPTS_PER_MINUTE, TICKET_LIFETIME_S, Sessions

PASSWORD = "open sesame"


class Clock:
    """Stands for the time module: ``monotonic`` moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(session_module, "time", made)
    return made


@pytest.fixture
def sessions() -> Sessions:
    return Sessions(PASSWORD)


def test_the_right_password_makes_this_session_the_presenter_and_no_other(sessions: Sessions) -> None:
    sessions.log_in("a", PASSWORD)
    assert sessions.is_presenter("a")
    assert not sessions.is_presenter("b")
    assert not sessions.is_presenter("")


@pytest.mark.parametrize(
    "wrong", ["", "Open sesame", "open sesame ", "open", PASSWORD * 2, "\u0000", "\ud800", "\u00f6", "x" * 1_000_000]
)
def test_a_wrong_password_is_refused_and_gives_no_rights(sessions: Sessions, wrong: str) -> None:
    with pytest.raises(Forbidden, match="not the presenter's password"):
        sessions.log_in("a", wrong)
    assert not sessions.is_presenter("a")


def test_without_a_password_nobody_logs_in_and_nothing_is_locked() -> None:
    open_to_all = Sessions("")
    assert not open_to_all.is_locked
    with pytest.raises(Forbidden):
        open_to_all.log_in("a", "")
    assert not open_to_all.is_presenter("a")
    open_to_all.require_presenter("a", "change limits")


def test_guessing_is_stopped_over_all_sessions_and_allowed_again_after_a_minute(
    sessions: Sessions, clock: Clock
) -> None:
    for i in range(ATTEMPTS_PER_MINUTE):
        with pytest.raises(Forbidden, match="not the presenter's password"):
            sessions.log_in(f"guesser {i}", "guess")
    with pytest.raises(Forbidden, match="Too many attempts"):
        sessions.log_in("one more", PASSWORD)
    assert not sessions.is_presenter("one more")
    clock.now += 61
    sessions.log_in("one more", PASSWORD)
    assert sessions.is_presenter("one more")


def test_right_passwords_do_not_count_as_attempts(sessions: Sessions) -> None:
    for i in range(ATTEMPTS_PER_MINUTE + 5):
        sessions.log_in(f"page {i}", PASSWORD)


def test_a_ticket_brings_the_rights_back_after_a_reload(sessions: Sessions) -> None:
    ticket = sessions.log_in("before", PASSWORD)
    sessions.forget("before")
    assert not sessions.is_presenter("before")
    assert sessions.return_with("after", ticket)
    assert sessions.is_presenter("after")


@pytest.mark.parametrize("wrong", ["", "guess", "\u00e4", "\ud800", "x" * 1_000_000])
def test_a_wrong_ticket_brings_nothing(sessions: Sessions, wrong: str) -> None:
    ticket = sessions.log_in("a", PASSWORD)
    assert not sessions.return_with("b", wrong)
    assert not sessions.return_with("b", ticket[:-1])
    assert not sessions.is_presenter("b")


def test_every_ticket_is_another_and_hard_to_guess(sessions: Sessions) -> None:
    tickets = {sessions.log_in(f"page {i}", PASSWORD) for i in range(20)}
    assert len(tickets) == 20
    assert all(len(ticket) >= 40 for ticket in tickets)


def test_rights_and_ticket_end_after_their_lifetime(sessions: Sessions, clock: Clock) -> None:
    ticket = sessions.log_in("a", PASSWORD)
    clock.now += TICKET_LIFETIME_S - 1
    assert sessions.is_presenter("a")
    assert sessions.return_with("b", ticket)
    clock.now += 2
    assert not sessions.is_presenter("a")
    assert not sessions.is_presenter("b"), "coming back does not prolong a ticket"
    assert not sessions.return_with("c", ticket)


def test_logging_out_ends_the_rights_and_the_ticket(sessions: Sessions) -> None:
    ticket = sessions.log_in("a", PASSWORD)
    sessions.log_out("a", ticket)
    assert not sessions.is_presenter("a")
    assert not sessions.return_with("a", ticket)


def test_logging_out_with_a_strangers_ticket_harms_nobody(sessions: Sessions) -> None:
    ticket = sessions.log_in("a", PASSWORD)
    sessions.log_out("b", "guess")
    assert sessions.is_presenter("a")
    assert sessions.return_with("c", ticket)


def test_only_the_presenter_may_pass_where_a_password_is_set(sessions: Sessions) -> None:
    with pytest.raises(Forbidden, match="Only the presenter may change limits.*Log in"):
        sessions.require_presenter("a", "change limits")
    sessions.log_in("a", PASSWORD)
    sessions.require_presenter("a", "change limits")
    with pytest.raises(Forbidden):
        sessions.require_presenter("b", "change limits")


@pytest.mark.parametrize("password", [PASSWORD, "p\u00e4ssw\u00f6rt", "\u5bc6\u7801", "\U0001f511"])
def test_secrets_are_compared_in_constant_time_in_any_alphabet(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[Any, Any]] = []

    def compare(a: Any, b: Any) -> bool:
        compared.append((a, b))
        return hmac.compare_digest(a, b)

    class Recorded:
        compare_digest = staticmethod(compare)

    sessions = Sessions(password)
    monkeypatch.setattr(session_module, "hmac", Recorded)
    with pytest.raises(Forbidden):
        sessions.log_in("a", "\u00fc")
    ticket = sessions.log_in("a", password)
    assert not sessions.return_with("b", "\u00fc")
    assert sessions.return_with("b", ticket)
    assert len(compared) == 4
    assert all(isinstance(one, bytes) and isinstance(other, bytes) for one, other in compared)


def test_a_login_is_quick_however_many_tickets_there_are(sessions: Sessions) -> None:
    for i in range(500):
        sessions.log_in(f"page {i}", PASSWORD)
    started = time.process_time()
    sessions.return_with("late", "x" * 43)
    assert time.process_time() - started < 0.5
