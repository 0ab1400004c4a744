"""Chat's settings and the small text machines: what is accepted, what is said otherwise, what is shown when."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from pipelines.chat import (
    LONGEST_MESSAGE,
    MOST_MESSAGES,
    MOST_TOKENS,
    SETTINGS,
    ChatParams,
    StopStrings,
    split_thinking,
)
from pipelines.errors import InvalidParams

QUESTION = {"role": "user", "content": "What is a GAN?"}
ANSWER = {"role": "assistant", "content": "Two networks that compete."}


def test_settings_cannot_change_after_they_were_checked() -> None:
    params = ChatParams(messages=(QUESTION,))
    with pytest.raises(FrozenInstanceError):
        params.temperature = 9.0  # type: ignore[misc]


def test_later_changes_to_a_message_do_not_reach_checked_settings() -> None:
    message = dict(QUESTION)
    params = ChatParams(messages=(message,))
    message["role"] = "system"
    assert params.messages == (QUESTION,)


def test_the_record_holds_every_setting_and_no_message() -> None:
    record = ChatParams(messages=({"role": "user", "content": "a secret"},), seed=7).record()
    assert set(record) == set(SETTINGS)
    assert record["seed"] == 7
    assert "secret" not in str(record)


@pytest.mark.parametrize(
    ("messages", "names"),
    [
        ("What is a GAN?", "messages"),
        (b"bytes", "messages"),
        (None, "messages"),
        (5, "messages"),
        ({"role": "user", "content": "x"}, "messages"),
        (["text"], "Message 1"),
        ([None], "Message 1"),
        ([{"content": "no role"}], "Message 1"),
        ([QUESTION, ANSWER, {"role": "system", "content": "x"}], "Message 3"),
        ([{"role": "tool", "content": "x"}], "Message 1"),
        ([{"role": ["user"], "content": "x"}], "Message 1"),
        ([{"role": "user"}], "Message 1"),
        ([{"role": "user", "content": ["parts"]}], "Message 1"),
        ([{"role": "user", "content": 5}], "Message 1"),
        ([{"role": "user", "content": "\ud800"}], "Message 1"),
        ([QUESTION, ANSWER], "question"),
        ([{"role": "user", "content": " \n\t"}], "question"),
        ([{"role": "user", "content": "\u202e\x00"}], "question"),
    ],
)
def test_messages_that_are_no_conversation_are_refused_by_name(messages: Any, names: str) -> None:
    with pytest.raises(InvalidParams, match=names):
        ChatParams(messages=messages)


@pytest.mark.parametrize("length", [LONGEST_MESSAGE + 1, 10_000_000])
def test_a_message_too_long_is_refused_with_both_numbers(length: int) -> None:
    with pytest.raises(InvalidParams, match=f"Message 2 has {length:,} characters; at most {LONGEST_MESSAGE:,}"):
        ChatParams(messages=(ANSWER, {"role": "user", "content": "a" * length}))


def test_the_longest_message_and_conversation_are_accepted() -> None:
    messages = ({"role": "user", "content": "a" * LONGEST_MESSAGE},) * MOST_MESSAGES
    assert len(ChatParams(messages=messages).messages) == MOST_MESSAGES
    with pytest.raises(InvalidParams, match=f"{MOST_MESSAGES + 1} messages; at most {MOST_MESSAGES}"):
        ChatParams(messages=(QUESTION,) * (MOST_MESSAGES + 1))


def test_unknown_keys_of_a_message_are_dropped() -> None:
    params = ChatParams(messages=({**QUESTION, "metadata": {"x": 1}, "options": []},))
    assert params.messages == (QUESTION,)


def test_invisible_direction_marks_and_control_characters_are_removed() -> None:
    params = ChatParams(messages=({"role": "user", "content": "a\u202eb\x00c\x07\nd"},), system="x\x1by")
    assert params.messages[0]["content"] == "abc\nd"
    assert params.system == "xy"


@pytest.mark.parametrize("ids", [5, None, "12", [-1], [1.5], ["1"], [True], [None], {1: 2}, [0] * (MOST_TOKENS + 1)])
def test_prefix_ids_that_are_no_token_ids_are_refused(ids: Any) -> None:
    with pytest.raises(InvalidParams, match="prefix_ids"):
        ChatParams(messages=(QUESTION,), prefix_ids=ids)


def test_prefix_ids_come_as_a_list_from_a_browser() -> None:
    assert ChatParams(messages=(QUESTION,), prefix_ids=[3, 0, 4]).prefix_ids == (3, 0, 4)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", float("nan")),
        ("temperature", 2.01),
        ("top_p", 0.0),
        ("max_new_tokens", 0),
        ("max_new_tokens", 1.5),
        ("num_beams", 1),
        ("seed", -2),
        ("seed", 2**32),
        ("strategy", "contrastive"),
        ("is_traced", "yes"),
        ("stop", "x" * 501),
        ("system", "x" * 4001),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidParams, match=name):
        ChatParams.from_mapping({"messages": (QUESTION,), name: value})


def test_an_unknown_setting_is_refused_by_name() -> None:
    with pytest.raises(InvalidParams, match="temprature"):
        ChatParams.from_mapping({"messages": (QUESTION,), "temprature": 1.0})


def test_no_seed_means_a_new_one_each_time_and_a_given_one_is_kept() -> None:
    params = ChatParams(messages=(QUESTION,))
    drawn = {params.seeded().seed for _ in range(5)}
    assert len(drawn) > 1
    assert min(drawn) >= 0
    assert ChatParams(messages=(QUESTION,), seed=0).seeded().seed == 0


def test_stop_strings_are_one_per_line_without_empty_ones() -> None:
    assert ChatParams(stop="END\n\n###\n").stop_strings == ("END", "###")
    assert ChatParams().stop_strings == ()


# --- stop strings ----------------------------------------------------------------------------------------


def shown(stops: tuple[str, ...], pieces: list[str]) -> str:
    machine = StopStrings(stops)
    return "".join(machine.push(piece) for piece in pieces) + machine.rest()


@pytest.mark.parametrize(
    ("stops", "text", "expected"),
    [
        (("END",), "one END two", "one "),
        (("END",), "one EN two EEND", "one EN two E"),
        (("aab",), "aaab", "a"),
        (("\n\n",), "a\nb\n\nc", "a\nb"),
        (("xyz", "cd"), "abcdexyz", "ab"),
        (("END",), "no stop, but almost: EN", "no stop, but almost: EN"),
        (("🙂",), "a 🙂 b", "a "),
        ((), "nothing to stop at", "nothing to stop at"),
    ],
)
def test_the_answer_ends_before_a_stop_string_however_it_is_cut_into_pieces(
    stops: tuple[str, ...], text: str, expected: str
) -> None:
    assert shown(stops, list(text)) == expected
    assert shown(stops, [text]) == expected
    for first in range(len(text)):
        for second in range(first, len(text)):
            assert shown(stops, [text[:first], text[first:second], text[second:]]) == expected


def test_nothing_of_a_stop_string_is_ever_shown_before_it_is_ruled_out() -> None:
    machine = StopStrings(("STOP",))
    assert [machine.push(c) for c in "aSTSTOPb"] == ["a", "", "", "ST", "", "", "", ""]
    assert machine.has_stopped
    assert machine.rest() == ""


# --- thinking --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "thinking", "rest"),
    [
        ("Just an answer.", "", "Just an answer."),
        ("", "", ""),
        ("<think>Hm.</think>Yes.", "Hm.", "Yes."),
        ("<think>\nHm.\n</think>\n\nYes.", "Hm.", "Yes."),
        ("Hm.</think>Yes.", "Hm.", "Yes."),  # the template opened the block in the prompt
        ("<think>Not done yet", "Not done yet", ""),
        ("<think></think>Yes.", "", "Yes."),
        ("Sure. <think>Hm.</think>Yes.", "Hm.", "Sure. Yes."),
        ("<think>a</think>b</think>c", "a", "b</think>c"),
        ("I <think", "", "I <think"),
    ],
)
def test_thinking_is_told_apart_from_the_answer(answer: str, thinking: str, rest: str) -> None:
    assert split_thinking(answer) == (thinking, rest)
