"""Work made steppable: one step per ``next``, turns that never overlap, and an end that leaves nothing behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from pipelines.stepwise import Hands, stepwise

WAITING = -1


def count(hands: Hands[int], last: int = 3) -> str:
    for i in range(last):
        hands.over(i)
    return "done"


def result_of(steps: Iterator[int]) -> tuple[list[int], object]:
    found = []
    while True:
        try:
            value = next(steps)
        except StopIteration as stop:
            return found, stop.value
        if value != WAITING:
            found.append(value)


def test_every_step_comes_in_order_and_then_the_result() -> None:
    turn = threading.Lock()
    assert result_of(stepwise(count, turn, lambda: WAITING)) == ([0, 1, 2], "done")
    assert not turn.locked()


def test_work_stands_still_until_its_next_step_is_asked_for() -> None:
    reached = []

    def work(hands: Hands[int]) -> None:
        for i in range(3):
            reached.append(i)
            hands.over(i)

    steps = stepwise(work, threading.Lock(), lambda: WAITING)
    assert reached == []
    assert next(steps) == 0
    time.sleep(0.05)
    assert reached == [0]
    steps.close()


def test_what_is_only_shown_comes_without_the_turn_being_given_away() -> None:
    turn = threading.Lock()
    shown = threading.Event()

    def work(hands: Hands[int]) -> None:
        hands.show(7)
        shown.wait(10)
        hands.over(8)

    steps = stepwise(work, turn, lambda: WAITING)
    assert next(steps) == 7
    assert turn.locked()
    shown.set()
    assert next(value for value in steps if value != WAITING) == 8
    assert not turn.locked()
    steps.close()


def test_turns_of_one_model_never_overlap() -> None:
    turn, inside = threading.Lock(), []
    most = 0

    def work(hands: Hands[int]) -> None:
        nonlocal most
        for i in range(20):
            inside.append(i)
            most = max(most, len(inside))
            time.sleep(0.001)
            inside.pop()
            hands.over(i)

    runs = [stepwise(work, turn, lambda: WAITING) for _ in range(3)]
    values: list[list[int]] = [[], [], []]
    while any(len(v) < 20 for v in values):
        for i, run in enumerate(runs):
            value = next(run, None)
            if value not in (None, WAITING):
                values[i].append(value)
    assert most == 1
    assert values == [list(range(20))] * 3
    for run in runs:
        run.close()


def test_a_long_step_does_not_hold_up_whoever_asks() -> None:
    go = threading.Event()

    def work(hands: Hands[int]) -> str:
        go.wait(10)
        return "done"

    steps = stepwise(work, threading.Lock(), lambda: WAITING)
    assert next(steps) == WAITING
    assert next(steps) == WAITING
    go.set()
    assert result_of(steps) == ([], "done")


def test_while_another_has_the_turn_the_caller_is_told_to_wait() -> None:
    turn = threading.Lock()
    turn.acquire()
    steps = stepwise(count, turn, lambda: WAITING)
    assert next(steps) == WAITING
    turn.release()
    assert result_of(steps) == ([0, 1, 2], "done")


def test_an_exception_of_the_work_reaches_the_caller_and_frees_the_turn() -> None:
    turn = threading.Lock()

    def work(hands: Hands[int]) -> None:
        hands.over(0)
        raise ValueError("broken")

    steps = stepwise(work, turn, lambda: WAITING)
    assert next(steps) == 0
    with pytest.raises(ValueError, match="broken"):
        list(steps)
    assert not turn.locked()


@pytest.mark.parametrize("steps_before", [0, 1, 3])
def test_closing_ends_the_thread_with_the_turn_held_for_its_cleaning_up(steps_before: int) -> None:
    turn = threading.Lock()
    had_turn = []

    def work(hands: Hands[int]) -> None:
        try:
            for i in range(10):
                hands.over(i)
        except Exception:  # noqa: BLE001 - libraries do this; leaving must get past it
            had_turn.append("swallowed")
        finally:
            had_turn.append(turn.locked())

    before = threading.active_count()
    steps = stepwise(work, turn, lambda: WAITING)
    for _ in range(steps_before):
        next(steps)
    steps.close()
    assert had_turn == ([True] if steps_before else [])
    assert threading.active_count() == before
    assert not turn.locked()


def test_closing_in_the_middle_of_a_step_waits_for_it() -> None:
    go, ended = threading.Event(), []

    def work(hands: Hands[int]) -> None:
        go.wait(10)
        try:
            hands.over(0)
        finally:
            ended.append(True)

    steps = stepwise(work, threading.Lock(), lambda: WAITING)
    assert next(steps) == WAITING
    threading.Timer(0.05, go.set).start()
    steps.close()
    assert ended == [True]


def test_a_handover_costs_well_below_a_millisecond() -> None:
    """Of processor time; how soon a thread is woken is up to the machine's other work."""
    before = time.process_time()
    result_of(stepwise(lambda hands: count(hands, 1000), threading.Lock(), lambda: WAITING))
    assert (time.process_time() - before) / 1000 < 0.0005
