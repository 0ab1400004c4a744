"""Copying exercises for the chat model: random words, to be said again as they are or lightly changed.

Words that never repeat cannot be learnt by heart, so the model has to learn to look back and copy, which every
rewriting task and every "about X" answer stands on. Knows no facts and no sentences.
"""

from __future__ import annotations

import random
from functools import cache

from pipelines.recipes import chat_forms

_SYLLABLES = ("ba", "lo", "mir", "ta", "ven", "os", "ki", "dra", "fen", "ul", "so", "pra", "nel", "gu", "thi", "zor", "wim", "ca",
              "pel", "ro", "xan", "qui", "mo", "jet", "hu", "lan", "bri", "sta", "ny", "er")  # fmt: skip
_TASKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("same", ("Repeat: {s}", "Repeat this: {s}", "Say: {s}", "Copy this text: {s}", "Write this again: {s}", "Say {q}.",
              "Repeat after me: {s}", "Type {q} for me.", "Echo: {s}", "Can you write {q}?", "Please repeat {q}.", "Print {q}.",
              "Say exactly this: {s}", "repeat the words {s}", "Read this back to me: {s}")),
    ("upper", ("In capitals: {s}", "Write in capital letters: {s}", "Put {q} in upper case.", "All caps: {s}")),
    ("first", ("What is the first word of {q}?", "First word of: {s}", "Which word comes first in {q}?")),
    ("last", ("What is the last word of {q}?", "Last word of: {s}", "Which word comes last in {q}?")),
    ("list", ("Make a list of these: {c}", "As a numbered list: {c}", "Number these: {c}", "One per line: {c}")),
)  # fmt: skip
_WEIGHTS = (0.6, 0.1, 0.08, 0.08, 0.14)


@cache
def _words() -> tuple[str, ...]:
    nouns = {w.rstrip("*") for group in chat_forms.OBJECTS.values() for w in group}
    verbs = {v[1] for group in chat_forms.VERBS.values() for v in group}
    places = {w for phrase in (*chat_forms.PLACES, *chat_forms.TIMES, *chat_forms.SUBJECTS) for w in phrase.split()}
    held_out = set(chat_forms.HELDOUT_THEMES)
    return tuple(sorted((set(chat_forms.themes()) | nouns | verbs | places) - held_out))


def made_up(rng: random.Random) -> str:
    """A word that no dictionary has."""
    word = "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice((2, 2, 3))))
    return word.capitalize() if rng.random() < 0.4 else word


def exercise(rng: random.Random) -> tuple[str, str]:
    """One (request, answer)."""
    count = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 10, 12))
    words = [made_up(rng) if rng.random() < 0.25 else rng.choice(_words()) for _ in range(count)]
    kind, wordings = rng.choices(_TASKS, _WEIGHTS)[0]
    if kind == "list":
        words = words[:5]
    text = " ".join(words)
    if kind in ("same", "upper") and rng.random() < 0.6:
        text = text[0].upper() + text[1:] + rng.choice(".!?..")
    mark = rng.choice('""\'')
    request = rng.choice(wordings).format(s=text, q=f"{mark}{text}{mark}", c=", ".join(words))
    if rng.random() < 0.3:
        request = request[:1].lower() + request[1:]
    answer = {
        "same": text,
        "upper": text.upper(),
        "first": words[0],
        "last": words[-1],
        "list": "\n".join(f"{i}. {w}" for i, w in enumerate(words, 1)),
    }[kind]
    return request, answer
