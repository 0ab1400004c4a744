"""Several conversations per person, kept in their own browser: plain data and the rules for changing it.

Knows no Gradio. What arrives here came from a browser and is checked: unknown shapes are dropped.

The store is ``{"current": id, "conversations": [{"id", "title", "messages": [{"role", "content"}]}]}``.
"""

from __future__ import annotations

import uuid
from typing import Any

MOST_CONVERSATIONS = 30
MOST_MESSAGES = 200
LONGEST_CONTENT = 16_000
LONGEST_TITLE = 48

Message = dict[str, Any]
Store = dict[str, Any]


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
            found.append({"role": message["role"], "content": content[:LONGEST_CONTENT]})
    return found[-MOST_MESSAGES:]


def new_conversation() -> dict[str, Any]:
    return {"id": uuid.uuid4().hex, "title": "New conversation", "messages": [], "feedback": {}}


def clean(store: Any) -> Store:
    """A store with at least one conversation, from whatever the browser sent."""
    kept = []
    raw = store.get("conversations") if isinstance(store, dict) else None
    for one in raw if isinstance(raw, list) else []:
        if isinstance(one, dict) and isinstance(one.get("id"), str) and len(one["id"]) <= 64:
            title = one["title"] if isinstance(one.get("title"), str) else "Conversation"
            feedback = one["feedback"] if isinstance(one.get("feedback"), dict) else {}
            feedback = {str(k): v for k, v in feedback.items() if v in ("Like", "Dislike")}
            messages = plain(one.get("messages"))
            kept.append({"id": one["id"], "title": title[:LONGEST_TITLE], "messages": messages, "feedback": feedback})
    kept = kept[:MOST_CONVERSATIONS] or [new_conversation()]
    current = store.get("current") if isinstance(store, dict) else None
    ids = [one["id"] for one in kept]
    return {"current": current if current in ids else ids[0], "conversations": kept}


def current(store: Store) -> dict[str, Any]:
    """The conversation on screen."""
    found: dict[str, Any] = next(c for c in store["conversations"] if c["id"] == store["current"])
    return found


def with_messages(store: Any, messages: list[Message]) -> Store:
    """The store with the current conversation's messages replaced and its title taken from the first question."""
    cleaned = clean(store)
    one = current(cleaned)
    one["messages"] = plain(messages)
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
    if value in ("Like", "Dislike"):
        feedback[str(index)] = value
    return cleaned


def choices(store: Store) -> list[tuple[str, str]]:
    """(title, id) for the picker; equal titles get a number."""
    seen: dict[str, int] = {}
    found = []
    for one in store["conversations"]:
        title = one["title"]
        seen[title] = seen.get(title, 0) + 1
        found.append((f"{title} ({seen[title]})" if seen[title] > 1 else title, one["id"]))
    return found
