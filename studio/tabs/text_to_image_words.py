"""The image tab's words: examples, the composer that writes a prompt from pickers, and what makes a text a prompt.

The words themselves are ``assets/composer.toml``. Knows no component.

    sentence("two", "fox", "", "in the snow", "neon")  # a neon sign of two foxes in the snow
"""

from __future__ import annotations

import functools
import random
import re
import sys
from dataclasses import dataclass

from pipelines.catalog import ASSETS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

COUNTS = ("one", "two", "three")
ANY = ""  # a picker left alone
LONGEST_WISH = 200  # characters
LONGEST_WRITTEN = 300
#: What the chat model is told when it writes a prompt.
WRITER = (
    "You write prompts for an image generator. Answer with one prompt in one line of at most 25 words: the subject, "
    "where it is, the background and the style. No explanation, no quotation marks."
)
_TALK = re.compile(r"\b(i am|i'm|i can|i cannot|i can't|sorry|as an ai|mote|you can|ask me|please)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Words:
    """What the pickers offer. ``subjects`` maps one to many, ``styles`` maps a style to how its sentence begins."""

    knows: str
    subjects: dict[str, str]
    colours: tuple[str, ...]
    settings: tuple[str, ...]
    styles: dict[str, str]
    examples: tuple[str, ...]

    @property
    def backgrounds(self) -> list[tuple[str, str]]:
        """(label, words in the sentence), colours after the settings."""
        plain = [(f"{colour} background", f"on a{_n(colour)} {colour} background") for colour in self.colours]
        return [(setting, setting) for setting in self.settings] + plain


@functools.cache
def words() -> Words:
    """Read once from ``assets/composer.toml``."""
    data = tomllib.loads((ASSETS / "composer.toml").read_text(encoding="utf-8"))
    pairs = [entry.partition(", ") for entry in data["subjects"]]
    return Words(
        data["knows"],
        {one: many or one for one, _, many in pairs},
        tuple(data["colours"]),
        tuple(data["settings"]),
        dict(data["styles"]),
        tuple(data["examples"]),
    )


def _n(word: str) -> str:
    """The n of "an" before a vowel's sound."""
    return "n" if word[:1].lower() in "aeiou" and not word.lower().startswith("uni") else ""


def sentence(count: str, subject: str, beside: str, background: str, style: str) -> str:
    """The prompt that the pickers say; nothing without a subject. Unknown words are used as they are."""
    subject = subject.strip()
    if not subject:
        return ""
    many = words().subjects.get(subject, subject)
    said = f"{count} {many}" if count in COUNTS[1:] else f"a{_n(subject)} {subject}"
    if beside.strip():
        said += f" next to a{_n(beside.strip())} {beside.strip()}"
    begin = words().styles.get(style, "")
    return " ".join(part for part in (begin, said, background.strip()) if part)


def surprise() -> tuple[str, str, str, str, str]:
    """Pickers set at random: count, subject, beside, background, style."""
    known = words()
    subject, other = random.sample(sorted(known.subjects), 2)
    count = random.choice((*COUNTS, "one", "one"))
    beside = other if count == "one" and random.random() < 0.3 else ANY
    background = random.choice([said for _, said in known.backgrounds])
    return count, subject, beside, background, random.choice((ANY, ANY, *known.styles))


def written_prompt(text: str, wish: str) -> str:
    """``text`` of a chat model as a prompt, or nothing when it is none: talk instead of a picture, or off the wish."""
    line = next((part.strip() for part in text.splitlines() if part.strip()), "")
    line = re.sub(r"^(prompt|image)\s*:\s*", "", line, flags=re.IGNORECASE).strip("\"'` ")
    wanted = [word for word in re.findall(r"[a-z]{3,}", wish.lower()) if word not in ("the", "and", "with")]
    keeps_wish = bool(wanted) and all(word.rstrip("s") in line.lower() for word in wanted)
    is_more = len(wish) < len(line) <= LONGEST_WRITTEN
    said = re.findall(r"[a-z]{4,}", line.lower())
    is_stuck = len(said) > len(set(said)) + 1  # says the same again and again
    return line if keeps_wish and is_more and not is_stuck and not _TALK.search(line) else ""


def completed(wish: str) -> str:
    """The person's own words with a background and a style of the composer's, where the chat model was no help."""
    known = words()
    background = "" if any(setting in wish for setting in (*known.settings, "background")) else random.choice(
        [said for _, said in known.backgrounds]
    )  # fmt: skip
    has_article = re.match(r"(an?|the|one|two|three|some)\b", wish.lower())
    said = wish if has_article else f"a{_n(wish)} {wish}"
    begin = "" if any(style in wish for style in known.styles) else random.choice(list(known.styles.values()))
    return " ".join(part for part in (begin, said, background) if part)
