"""The cancel token: set once from anywhere, heard by everybody who waits for it."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from pipelines.errors import Cancelled, TimedOut
from pipelines.events import CancelToken


def test_fresh_token_lets_the_work_go_on() -> None:
    token = CancelToken()
    token.start_clock()
    token.check()
    assert not token.is_set


def test_set_token_stops_the_work_at_its_next_check() -> None:
    token = CancelToken()
    token.set()
    assert token.is_set
    with pytest.raises(Cancelled):
        token.check()


def test_callback_is_called_once_however_often_the_token_is_set() -> None:
    token, heard = CancelToken(), list[str]()
    token.on_set(lambda: heard.append("before"))
    token.set()
    token.set()
    assert heard == ["before"]


def test_callback_given_too_late_is_called_at_once() -> None:
    token, heard = CancelToken(), list[str]()
    token.set()
    token.on_set(lambda: heard.append("late"))
    assert heard == ["late"]


def test_failing_callback_neither_hurts_the_caller_nor_the_others(caplog: pytest.LogCaptureFixture) -> None:
    token, heard = CancelToken(), list[str]()

    def fail() -> None:
        raise OSError("the socket was closed already")

    token.on_set(fail)
    token.on_set(lambda: heard.append("second"))
    with caplog.at_level(logging.ERROR):
        token.set()
    assert heard == ["second"]
    assert "the socket was closed already" in caplog.text


def test_time_limit_counts_from_the_start_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("pipelines.events.time", SimpleNamespace(monotonic=lambda: now[0]))
    token = CancelToken(time_limit_s=0.5)
    now[0] += 1000
    token.check()
    token.start_clock()
    now[0] += 0.4
    token.check()
    now[0] += 0.2
    with pytest.raises(TimedOut, match=r"longer than the limit of 0\.5 s"):
        token.check()
