"""Conversations: whatever a browser sends becomes a sound store, and every change keeps the rest as it was."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from studio import conversations
from studio.conversations import LARGEST_STORE, LONGEST_CONTENT, LONGEST_TITLE, MOST_CONVERSATIONS, MOST_MESSAGES

NOT_STORES: list[Any] = [
    None, 0, 1.5, True, "", "store", [], [1], {}, {"conversations": None}, {"conversations": {}},
    {"conversations": [None, 1, "x", [], {}]}, {"conversations": [{"id": None}]}, {"conversations": [{"id": ["a"]}]},
    {"conversations": [{"id": ""}]}, {"conversations": [{"id": "x" * 65}]}, {"current": {}, "conversations": "abc"},
    {"current": [], "conversations": [{"id": 3, "messages": []}]},
]  # fmt: skip


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def bot(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def store_of(*conversations_: dict[str, Any], current: Any = None) -> dict[str, Any]:
    return {"current": current or conversations_[0]["id"], "conversations": list(conversations_)}


def conversation(id: str, *messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": id, "title": id, "messages": list(messages), "feedback": {}} | more


def check_sound(store: Any) -> None:
    """What every other part of the page relies on."""
    assert set(store) == {"current", "conversations"}
    kept = store["conversations"]
    assert 1 <= len(kept) <= MOST_CONVERSATIONS
    ids = [one["id"] for one in kept]
    assert store["current"] in ids
    assert len(set(ids)) == len(ids)
    for one in kept:
        assert set(one) == {"id", "title", "messages", "feedback"}
        assert isinstance(one["title"], str)
        assert len(one["title"]) <= LONGEST_TITLE
        assert len(one["messages"]) <= MOST_MESSAGES
        for message in one["messages"]:
            assert set(message) == {"role", "content"}
            assert message["role"] in ("user", "assistant")
            assert isinstance(message["content"], str)
            assert len(message["content"]) <= LONGEST_CONTENT
        assert all(0 <= int(k) < len(one["messages"]) and v in ("Like", "Dislike") for k, v in one["feedback"].items())
    json.dumps(store, ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize("sent", NOT_STORES, ids=repr)
def test_what_is_no_store_becomes_one_empty_conversation(sent: Any) -> None:
    store = conversations.clean(sent)
    check_sound(store)
    assert [one["messages"] for one in store["conversations"]] == [[]]


@pytest.mark.parametrize(
    "messages",
    [
        None, "hello", {"role": "user"}, [None, 1, "x", []], [{"role": "system", "content": "obey"}],
        [{"role": ["user"], "content": "x"}], [{"role": "user", "content": None}], [{"role": "user", "content": {}}],
        [{"role": "user"}], [{"content": "x"}],
    ],
    ids=repr,
)  # fmt: skip
def test_messages_of_a_wrong_shape_are_left_out(messages: Any) -> None:
    store = conversations.clean(store_of(conversation("a", messages=messages)))
    check_sound(store)
    assert store["conversations"][0]["messages"] == []


def test_wrong_parts_of_a_conversation_do_not_cost_the_sound_ones() -> None:
    sent = conversation("a", user("hi"), {"role": "tool", "content": "x"}, bot("hello"), title=7, feedback=[1])
    store = conversations.clean(store_of(sent, {"id": 1}, conversation("b"), current="b"))  # type: ignore[arg-type]
    check_sound(store)
    assert [one["id"] for one in store["conversations"]] == ["a", "b"]
    assert store["conversations"][0]["messages"] == [user("hi"), bot("hello")]
    assert store["current"] == "b"


@pytest.mark.parametrize("wanted", [None, 7, [], {}, "unknown", "x" * 10_000, True])
def test_an_unknown_conversation_on_screen_falls_back_to_the_first(wanted: Any) -> None:
    store = conversations.clean({"current": wanted, "conversations": [conversation("a"), conversation("b")]})
    assert store["current"] == "a"


def test_an_id_used_twice_is_kept_once() -> None:
    store = conversations.clean(store_of(conversation("a", user("first")), conversation("a", user("second"))))
    check_sound(store)
    assert store["conversations"][0]["messages"] == [user("first")]


def test_a_giant_store_is_cut_but_keeps_the_conversation_on_screen() -> None:
    many = [conversation(f"c{i}", *[user("x" * 20_000)] * 300, title="t" * 500) for i in range(40)]
    store = conversations.clean({"current": "c39", "conversations": many})
    check_sound(store)
    assert store["current"] == "c39"
    assert len(store["conversations"]) < 3


def test_a_store_too_large_for_a_browser_loses_its_oldest_conversations() -> None:
    each = [conversation(f"c{i}", *[user("x" * 10_000)] * 10) for i in range(20)]  # the newest is first
    store = conversations.clean(store_of(*each))
    check_sound(store)
    assert [one["id"] for one in store["conversations"]] == [f"c{i}" for i in range(LARGEST_STORE // 100_000)]


def test_broken_characters_and_control_characters_can_be_sent_back() -> None:
    sent = conversation("a\ud800", user("half \ud83d pair \x00 \u202e"), title="\udfff")
    check_sound(conversations.clean(store_of(sent)))


@pytest.mark.parametrize(
    "feedback",
    [None, 3, "Like", [["0", "Like"]], {"0": "Love"}, {"0": ["Like"]}, {"9": "Like"}, {"-1": "Like"}, {"x": "Like"}]
    + [{str(i): "Like" for i in range(2, 10_000)}],
    ids=lambda f: repr(f)[:30],
)
def test_feedback_on_nothing_and_of_unknown_kinds_is_left_out(feedback: Any) -> None:
    store = conversations.clean(store_of(conversation("a", user("hi"), bot("hello"), feedback=feedback)))
    check_sound(store)
    assert store["conversations"][0]["feedback"] == {}


def test_cleaning_a_sound_store_changes_nothing() -> None:
    store = conversations.clean(store_of(conversation("a", user("hi"), bot("yes"), feedback={"1": "Like"})))
    assert conversations.clean(json.loads(json.dumps(store))) == store


def test_gradios_content_blocks_become_plain_text() -> None:
    blocks = [{"type": "text", "text": "one "}, {"type": "file", "file": {}}, {"type": "text", "text": "two"}, 3]
    assert conversations.plain([{"role": "user", "content": blocks, "metadata": {}}]) == [user("one two")]


# --- changes ---------------------------------------------------------------------------------------------


def test_a_new_conversation_comes_first_on_screen_and_the_others_stay() -> None:
    before = store_of(conversation("a", user("hi")))
    store = conversations.added(before)
    check_sound(store)
    assert [one["id"] for one in store["conversations"]][1:] == ["a"]
    assert conversations.current(store)["messages"] == []
    assert store["current"] != "a"


def test_an_empty_conversation_is_used_again_instead_of_a_second_one() -> None:
    store = conversations.added(store_of(conversation("a", user("hi")), conversation("b"), current="a"))
    assert [one["id"] for one in store["conversations"]] == ["a", "b"]
    assert store["current"] == "b"


def test_at_the_limit_a_new_conversation_replaces_the_oldest() -> None:
    full = [conversation(f"c{i}", user("hi")) for i in range(MOST_CONVERSATIONS)]
    store = conversations.added(store_of(*full, current=f"c{MOST_CONVERSATIONS - 1}"))
    check_sound(store)
    assert len(store["conversations"]) == MOST_CONVERSATIONS
    assert conversations.current(store)["messages"] == []
    assert "c0" in [one["id"] for one in store["conversations"]]


def test_opening_changes_only_what_is_on_screen() -> None:
    before = conversations.clean(store_of(conversation("a", user("hi")), conversation("b", user("ho"))))
    store = conversations.opened(before, "b")
    assert store == before | {"current": "b"}


@pytest.mark.parametrize("wanted", [None, 3, [], {}, "unknown", "../../etc/passwd"])
def test_opening_an_unknown_conversation_changes_nothing(wanted: Any) -> None:
    before = conversations.clean(store_of(conversation("a"), conversation("b")))
    assert conversations.opened(before, wanted) == before


def test_deleting_takes_the_conversation_on_screen_and_only_that() -> None:
    before = conversations.clean(
        store_of(conversation("a"), conversation("b", user("x")), conversation("c"), current="b")
    )
    store = conversations.deleted(before)
    check_sound(store)
    assert [one["id"] for one in store["conversations"]] == ["a", "c"]


def test_deleting_the_last_conversation_leaves_an_empty_one() -> None:
    store = conversations.deleted(store_of(conversation("a", user("hi"))))
    check_sound(store)
    assert [(one["id"] == "a", one["messages"]) for one in store["conversations"]] == [(False, [])]


def test_new_messages_go_to_the_conversation_on_screen_only() -> None:
    before = store_of(conversation("a", user("hi")), conversation("b"), current="b")
    store = conversations.with_messages(before, [user("ho")])
    assert [one["messages"] for one in store["conversations"]] == [[user("hi")], [user("ho")]]
    assert before["conversations"][1]["messages"] == [], "the store that came in stays as it was"


@pytest.mark.parametrize(
    ("messages", "title"),
    [
        ([], "New conversation"),
        ([bot("Welcome")], "New conversation"),
        ([user("What is\n a   GAN?"), bot("...")], "What is a GAN?"),
        ([user("first"), bot("x"), user("second")], "first"),
        ([user(" \n ")], "New conversation"),
        ([user("x" * LONGEST_TITLE)], "x" * LONGEST_TITLE),
        ([user("x" * (LONGEST_TITLE + 1))], "x" * (LONGEST_TITLE - 1) + "\u2026"),
    ],
)
def test_the_title_is_the_first_question_in_one_line(messages: list[dict[str, Any]], title: str) -> None:
    store = conversations.with_messages(None, messages)
    check_sound(store)
    assert conversations.current(store)["title"] == title


def test_a_like_is_kept_changed_and_taken_back() -> None:
    store: Any = store_of(conversation("a", user("hi"), bot("hello")))
    for value in ("Like", "Dislike", None):
        store = conversations.with_feedback(store, 1, value)
        check_sound(store)
        expected = {} if value is None else {"1": value}
        assert conversations.current(store)["feedback"] == expected
        assert conversations.shown_feedback(conversations.current(store)) == [value], "one for each answer"


@pytest.mark.parametrize("index", [-1, 2, 10**9])
def test_a_like_on_a_message_that_is_not_there_is_ignored(index: int) -> None:
    store = conversations.with_feedback(store_of(conversation("a", user("hi"), bot("hello"))), index, "Like")
    assert conversations.current(store)["feedback"] == {}


def test_a_like_stays_while_the_conversation_goes_on_and_goes_with_its_answer() -> None:
    liked = store_of(conversation("a", user("hi"), bot("hello"), feedback={"1": "Like"}))
    longer = conversations.with_messages(liked, [user("hi"), bot("hello"), user("and"), bot("so")])
    assert conversations.current(longer)["feedback"] == {"1": "Like"}
    asked_again = conversations.with_messages(liked, [user("hi")])
    answered = conversations.with_messages(asked_again, [user("hi"), bot("another")])
    assert conversations.current(answered)["feedback"] == {}
    edited = conversations.with_messages(liked, [user("ho"), bot("hello")])
    assert conversations.current(edited)["feedback"] == {}


def test_equal_titles_are_told_apart_in_the_picker() -> None:
    store = store_of(conversation("a", title="Hi"), conversation("b", title="Hi"), conversation("c", title="Ho"))
    assert conversations.choices(store) == [("Hi", "a"), ("Hi (2)", "b"), ("Ho", "c")]


# --- views -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "</div>",
        "<!-- x -->",
        "&lt;b&gt; &#60;",
        "![x](http://a/b)",
        "![x][1]\n[1]: http://a/b",
    ],
)
def test_what_people_typed_is_no_markup_in_a_view_and_comes_back_as_typed(text: str) -> None:
    (shown,) = conversations.shown([user(text)])
    assert not re.search(r"<[a-zA-Z/!?]|&[#a-zA-Z]|\][(\[:]", shown["content"])
    assert conversations.typed(shown["content"]) == text


def test_answers_and_harmless_questions_are_shown_as_they_are() -> None:
    messages = [user("Is 1 < 2 & 3 > 2? [yes] (x) *really*!"), bot("<b>`x < y`</b> ![x](y)")]
    assert conversations.shown(messages) == messages
