"""Several conversations per person, kept in their own browser: plain data and the rules for changing it.

Knows no Gradio. What arrives here came from a browser and is checked: unknown shapes are dropped.

The store is ``{"current": id, "conversations": [{"id", "title", "messages": [{"role", "content"}]}]}``.
"""

from __future__ import annotations

import re
import uuid
from itertools import takewhile
from typing import Any

MOST_CONVERSATIONS = 30
MOST_MESSAGES = 200
LONGEST_CONTENT = 16_000
LONGEST_TITLE = 48
LARGEST_STORE = 1_000_000  # characters; a browser keeps about 5 million, and here they travel encrypted

JOINER = "\u2060"  # takes no room and shows nothing
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])|&(?=[#A-Za-z])|\](?=[(\[:])")

Message = dict[str, Any]
Store = dict[str, Any]


def _readable(text: str) -> str:
    """Text that can be sent back: half of a Unicode pair cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def plain(history: Any) -> list[Message]:
    """Messages of any of Gradio's shapes as role, content and feedback; anything else is left out."""
    found: list[Message] = []
    for message in history if isinstance(history, list) else []:
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
            continue
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(b["text"] for b in content if isinstance(b, dict) and isinstance(b.get("text"), str))
        if isinstance(content, str):
            found.append({"role": message["role"], "content": _readable(content[:LONGEST_CONTENT])})
    return found[-MOST_MESSAGES:]


def new_conversation() -> dict[str, Any]:
    return {"id": uuid.uuid4().hex, "title": "New conversation", "messages": [], "feedback": {}}


def _feedback(raw: Any, messages: list[Message]) -> dict[str, str]:
    """Likes and dislikes, by the index of a message that exists."""
    known = raw if isinstance(raw, dict) else {}
    return {k: known[k] for k in map(str, range(len(messages))) if known.get(k) in ("Like", "Dislike")}


def _conversation(raw: Any) -> dict[str, Any] | None:
    if not isinstance(raw, dict) or not isinstance(raw.get("id"), str) or not 0 < len(raw["id"]) <= 64:
        return None
    title = raw["title"] if isinstance(raw.get("title"), str) else "Conversation"
    messages = plain(raw.get("messages"))
    return {
        "id": _readable(raw["id"]),
        "title": _readable(title[:LONGEST_TITLE]),
        "messages": messages,
        "feedback": _feedback(raw.get("feedback"), messages),
    }


def _size(one: dict[str, Any]) -> int:
    return sum(len(m["content"]) for m in one["messages"])


def clean(store: Any) -> Store:
    """A store with at least one conversation, from whatever the browser sent; too much loses the last ones."""
    raw = store.get("conversations") if isinstance(store, dict) else None
    wanted = store.get("current") if isinstance(store, dict) else None
    by_id: dict[str, dict[str, Any]] = {}
    for one in map(_conversation, raw if isinstance(raw, list) else []):
        if one is not None:
            by_id.setdefault(one["id"], one)
    kept = list(by_id.values()) or [new_conversation()]
    on_screen = wanted if isinstance(wanted, str) and wanted in by_id else kept[0]["id"]
    size, number = sum(map(_size, kept)), len(kept)
    gone = set()
    for one in reversed(kept):  # the newest is first
        if number <= MOST_CONVERSATIONS and size <= LARGEST_STORE:
            break
        if one["id"] != on_screen:
            gone.add(one["id"])
            size, number = size - _size(one), number - 1
    return {"current": on_screen, "conversations": [c for c in kept if c["id"] not in gone]}


def current(store: Store) -> dict[str, Any]:
    """The conversation on screen."""
    found: dict[str, Any] = next(c for c in store["conversations"] if c["id"] == store["current"])
    return found


def with_messages(store: Any, messages: list[Message]) -> Store:
    """The store with the current conversation's messages replaced and its title taken from the first question.

    A like belongs to one answer: it goes when that answer, or anything before it, is another one now.
    """
    cleaned = clean(store)
    one = current(cleaned)
    before, one["messages"] = one["messages"], plain(messages)
    unchanged = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, one["messages"], strict=False)))
    one["feedback"] = _feedback(one["feedback"], one["messages"][:unchanged])
    first = next((m["content"] for m in one["messages"] if m["role"] == "user"), "")
    title = " ".join(first.split())
    one["title"] = (
        title[: LONGEST_TITLE - 1] + "\u2026" if len(title) > LONGEST_TITLE else title
    ) or "New conversation"
    return cleaned


def added(store: Any) -> Store:
    """The store with a fresh conversation on screen (an empty one is reused)."""
    cleaned = clean(store)
    empty = next((c for c in cleaned["conversations"] if not c["messages"]), None)
    if empty is None:
        empty = new_conversation()
        cleaned["conversations"] = [empty, *cleaned["conversations"]][:MOST_CONVERSATIONS]
    return cleaned | {"current": empty["id"]}


def opened(store: Any, conversation_id: Any) -> Store:
    """The store with another conversation on screen."""
    cleaned = clean(store)
    known = [c["id"] for c in cleaned["conversations"]]
    return cleaned | {"current": conversation_id} if conversation_id in known else cleaned


def deleted(store: Any) -> Store:
    """The store without the conversation on screen."""
    cleaned = clean(store)
    rest = [c for c in cleaned["conversations"] if c["id"] != cleaned["current"]]
    return clean({"conversations": rest})


def with_feedback(store: Any, index: int, value: str | None) -> Store:
    """The store with a like or dislike (None takes it back) on message ``index`` of the current conversation."""
    cleaned = clean(store)
    feedback = current(cleaned)["feedback"]
    feedback.pop(str(index), None)
    if value in ("Like", "Dislike") and 0 <= index < len(current(cleaned)["messages"]):
        feedback[str(index)] = value
    return cleaned


def history(store: Any) -> list[Message]:
    """The messages of the conversation on screen."""
    found: list[Message] = current(clean(store))["messages"]
    return found


def shown(messages: list[Message]) -> list[Message]:
    """The messages for a view that renders Markdown: what people typed appears as they typed it.

    An invisible character keeps tags, entities, links and pictures from being taken as such; ``typed`` removes it.
    """
    return [
        m | {"content": _MARKUP.sub(lambda found: found[0] + JOINER, m["content"])} if m["role"] == "user" else m
        for m in messages
    ]


def typed(text: Any) -> str:
    """What somebody typed, as it comes back from a view that showed it."""
    return text.replace(JOINER, "") if isinstance(text, str) else ""


def shown_feedback(one: dict[str, Any]) -> list[str | None]:
    """For every answer of a conversation Like, Dislike or nothing."""
    return [one["feedback"].get(str(i)) for i, m in enumerate(one["messages"]) if m["role"] == "assistant"]


def choices(store: Store) -> list[tuple[str, str]]:
    """(title, id) for the picker; equal titles get a number."""
    seen: dict[str, int] = {}
    found = []
    for one in store["conversations"]:
        title = one["title"]
        seen[title] = seen.get(title, 0) + 1
        found.append((f"{title} ({seen[title]})" if seen[title] > 1 else title, one["id"]))
    return found
