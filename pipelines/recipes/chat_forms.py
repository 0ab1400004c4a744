"""Composes chat examples for short creative forms and simple text work, and checks answers to them.

The words and the line templates live in ``chat_data/forms.toml``; this module combines them: haiku with
counted syllables, slogans, two-sentence stories, invitations, rewriting of composed sentences, summaries,
sorting, tiny code, a small phrase book. It refuses to know facts about generative AI (that is
``chat_knowledge``), the tokenizer and the training; and it never shows a held-out theme unless asked to.

    python -m pipelines.recipes.chat_forms 5      # print five samples of every kind, then check 3000
"""

from __future__ import annotations

import ast
import random
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DATA: dict[str, Any] = tomllib.loads((Path(__file__).parent / "chat_data" / "forms.toml").read_text("utf-8"))
Messages = list[dict[str, str]]
#: One question with its answer.
Pair = tuple[str, str]
LANGUAGES = ("German", "French", "Spanish")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")
PRODUCT_CLASSES = ("technology", "food", "object", "business")


@cache
def _words(text: str) -> tuple[str, ...]:
    return tuple(w.strip() for w in text.replace("\n", " ").split(",") if w.strip())


@cache
def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _cap(text: str) -> str:
    return text[:1].upper() + text[1:]


def _plural(noun: str) -> str:
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + ("es" if re.search(r"(s|x|z|ch|sh)$", noun) else "s")


def article(noun: str) -> str:
    """``noun`` with the right one of "a" and "an" before it."""
    vowel = noun[:1].lower() in "aeiou" and not re.match(r"(uni|use|one|ukul|euro)", noun)
    return ("an " if vowel or re.match(r"(LLM|hour|honest|heir)", noun) else "a ") + noun


@dataclass(frozen=True)
class Theme:
    """A noun that the creative forms can be about; ``flag`` is c (countable), m (no plural) or u (unique)."""

    noun: str
    syllables: int
    flag: str
    plural: str
    cls: str

    def slots(self) -> dict[str, str]:
        """The ways a template may name the theme."""
        one = {"c": article(self.noun), "m": self.noun, "u": f"the {self.noun}"}[self.flag]
        many = {"c": self.plural, "m": self.noun, "u": f"the {self.noun}"}[self.flag]
        the = self.noun if self.flag == "m" else f"the {self.noun}"
        single = self.flag != "c"
        title = " ".join(map(_cap, self.noun.split()))
        return {
            "t": self.noun,
            "Ti": title,
            "a": one,
            "pl": many,
            "Pl": _cap(many),
            "the": the,
            "be": "is" if single else "are",
            "s": "s" if single else "",
        }


def _read_themes(table: dict[str, str]) -> tuple[Theme, ...]:
    found = []
    for cls, text in table.items():
        for entry in _words(text):
            match = re.fullmatch(r"(.+?) (\d)(?: (\S.*))?", entry)
            if not match:
                raise ValueError(f"forms.toml: bad theme {entry!r}")
            noun, count, extra = match.groups()
            flag = extra if extra in ("m", "u") else "c"
            plural = noun if flag != "c" else extra or _plural(noun)
            found.append(Theme(noun, int(count), flag, plural, cls))
    return tuple(found)


_TRAIN, _HELD = _read_themes(DATA["themes"]), _read_themes(DATA["heldout"])
HELDOUT_THEMES: tuple[str, ...] = tuple(t.noun for t in _HELD)
_BY_WORD = {x.lower(): t for t in _TRAIN + _HELD for x in (t.plural, t.noun)}


def _any_of(nouns: set[str]) -> re.Pattern[str]:
    longest_first = sorted(nouns, key=lambda x: (-len(x), x))
    return re.compile(r"(?<!\w)(" + "|".join(map(re.escape, longest_first)) + r")(?!\w)", re.I)


_THEME_RE, _HELD_RE = _any_of(set(_BY_WORD)), _any_of({x for t in _HELD for x in (t.plural, t.noun)})
ASK = {kind: _lines(text) for kind, text in DATA["ask"].items()}
FOLLOW = {kind: _lines(text) for kind, text in DATA["follow"].items()}
KINDS: tuple[str, ...] = (*ASK, "translate_unknown")


def themes(heldout: bool = False) -> tuple[str, ...]:
    """The nouns the creative forms are about: those of training, or those kept for the evaluation."""
    return HELDOUT_THEMES if heldout else tuple(t.noun for t in _TRAIN)


# ---- syllables and haiku -----------------------------------------------------------------------------------
_SYLLABLES = {t.noun.lower(): t.syllables for t in _TRAIN + _HELD if " " not in t.noun}
_SYLLABLES |= {
    t.plural.lower(): t.syllables + bool(re.search(r"([cgsz]|sh|ch|x)es$", t.plural))
    for t in _TRAIN + _HELD
    if t.flag == "c" and " " not in t.noun
}
_SYLLABLES |= {w.lower(): int(n) for w, n in map(str.split, _words(DATA["syllables"]["exceptions"]))}


def syllables(text: str) -> int:
    """The syllables of a text: the table of known words, a rule of thumb for the others."""
    total = 0
    for word in re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text.lower()):
        if word in _SYLLABLES:
            total += _SYLLABLES[word]
            continue
        stem = re.sub(r"(?<![aeiouy])e$|(?<=[^aeiouytd])ed$|(?<=[^aeiouyscgzxh])es$|'s$", "", word)
        if re.search(r"[^aeiouyl]le$", word):
            stem = word
        total += max(1, len(re.findall(r"[aeiouy]+", stem)))
    return total


def _theme_line(rng: random.Random, theme: Theme, length: int) -> str | None:
    """A line with the theme in it of exactly ``length`` syllables, by adding up counted parts."""
    spec = DATA["haiku"]
    verbs = spec["verb"]["city" if theme.cls == "business" else theme.cls]
    free = length - theme.syllables
    firsts = range(0 if theme.flag == "m" else 1, 4)
    counts = [(before, verb, free - before - verb) for before in firsts for verb in range(4)]
    choices = [c for c in counts if 0 <= c[2] <= 5 and any(c)]
    if not choices:
        return None
    before, verb, tail = rng.choice(choices)
    parts = [rng.choice(_words(spec["before"][f"{theme.flag}{before}"])) if before else "", theme.noun]
    for table, n in ((verbs, verb), (spec["tail"], tail)):
        parts.append(rng.choice(_words(table[str(n)])) if n else "")
    clash = set(parts[2].split()) & set(parts[3].split())
    return None if clash else " ".join(p for p in parts if p)


def _haiku(rng: random.Random, theme: Theme) -> str:
    spec = DATA["haiku"]
    cls = "city" if theme.cls == "business" else theme.cls
    close = rng.choice(_lines(spec["close"][cls]) * 3 + _lines(spec["close"]["any"]))
    for _ in range(30):
        if theme.syllables <= 3 and rng.random() < 0.6:
            first: str | None = _theme_line(rng, theme, 5)
            second: str | None = rng.choice(_lines(spec["seven"][cls]) * 3 + _lines(spec["seven"]["any"]))
        else:
            first = rng.choice(_lines(spec["open"][cls]))
            second = _theme_line(rng, theme, 7) if theme.syllables < 7 else theme.noun
        if first and second and not _echo(first, second, close):
            return f"{_cap(first)},\n{second},\n{close}."
    return f"{_cap(rng.choice(_lines(spec['open'][cls])))},\n{theme.noun},\n{close}."


def _echo(*lines: str) -> bool:
    """Whether two of the lines share a word that is worth noticing."""
    sets = [{w for w in re.findall(r"\w+", line.lower()) if len(w) > 3} for line in lines]
    return any(sets[i] & sets[j] for i in range(len(sets)) for j in range(i))


# ---- sentences for the text work ---------------------------------------------------------------------------
_PARTS = DATA["parts"]
_NAMES, _ROLES = _words(_PARTS["names"]), _words(_PARTS["roles"])
SUBJECTS = (*_NAMES, *(f"the {r}" for r in _ROLES), *(article(r) for r in _ROLES[:60]))
OBJECTS = {k: _words(_PARTS[k]) for k in ("thing", "text", "food", "device")}


def _verb(entry: str) -> tuple[str, str, str]:
    if "/" in entry:
        base, past, part = entry.split("/")
        return base, past, part
    head, _, rest = entry.partition(" ")
    past = head + "d" if head.endswith("e") else re.sub(r"([^aeiou])y$", r"\1i", head) + "ed"
    past += f" {rest}" if rest else ""
    return entry, past, past


VERBS = {k: tuple(_verb(v) for v in _words(_PARTS["verb"] + "," + _PARTS[f"verb_{k}"])) for k in OBJECTS}
PLACES = tuple(
    f"{prep} the {noun}" for prep in ("in", "at", "near", "behind", "on") for noun in _words(_PARTS[f"place_{prep}"])
)
TIMES = (
    *("yesterday", "last night", "this morning", "last week", "last summer", "before lunch"),
    *(f"on {d}{part}" for d in DAYS for part in ("", " morning", " afternoon", " evening", " night")),
    *(f"last {x}" for x in (*DAYS, *MONTHS)),
    *(f"in {m}" for m in MONTHS),
    *(f"at {n} o'clock" for n in NUMBERS[1:]),
    *(f"{n} {unit} ago" for n in NUMBERS[2:11] for unit in _words(_PARTS["unit"])),
)


@dataclass(frozen=True)
class Sentence:
    """One composed sentence, by its parts."""

    subject: str
    verb: tuple[str, str, str]
    object: str
    many: bool
    rest: str

    def _put(self, *parts: str, mark: str = ".") -> str:
        return _cap(" ".join(p for p in (*parts, self.rest) if p)) + mark

    @property
    def active(self) -> str:
        return self._put(self.subject, self.verb[1], self.object)

    @property
    def passive(self) -> str:
        return self._put(self.object, "were" if self.many else "was", self.verb[2], "by", self.subject)

    @property
    def question(self) -> str:
        return self._put("did", self.subject, self.verb[0], self.object, mark="?")

    @property
    def core(self) -> str:
        return _cap(f"{self.subject} {self.verb[1]} {self.object}.")


def _sentence(rng: random.Random, heldout: bool = False, rest: int | None = None) -> Sentence:
    cls = "thing" if heldout else rng.choice(("thing", "thing", "thing", "text", "food", "device"))
    noun = rng.choice([t.noun for t in _HELD if t.cls == "object"] if heldout else OBJECTS[cls])
    obj = f"{rng.choice(('the', 'the', 'his', 'her', 'my', 'our'))} {noun.rstrip('*')}"
    rest = rng.choice((0, 1, 1, 2, 3)) if rest is None else rest
    place, time = rng.choice(PLACES), rng.choice(TIMES)
    tail = ("", place, time, f"{place} {time}")[rest]
    return Sentence(rng.choice(SUBJECTS), rng.choice(VERBS[cls]), obj, noun.endswith("*"), tail)


def _give(rng: random.Random, wording: str, text: str) -> str:
    """A wording with the user's text: in its slot, or after a colon, in quotes or on a new line."""
    quote = rng.choice('""\'') if "'" not in text else '"'
    if "{s}" in wording:
        return wording.replace("{s}", f"{quote}{text}{quote}")
    wording = wording.rstrip(".?:")
    forms = (f": {text}", f": {text}", f": {quote}{text}{quote}", f":\n{text}", f"\n{text}")
    return wording + rng.choice(forms)


def payload(request: str) -> str:
    """The text that the user gave: in quotes, on the last lines, or after the first colon."""
    quoted: list[str] = re.findall(r'"([^"]+)"', request) or re.findall(r"(?<!\w)'(.+)'(?!\w)", request)
    if quoted:
        return quoted[-1]
    return (request.split("\n", 1)[1] if "\n" in request else request.split(":", 1)[-1]).strip()


# ---- the kinds: each maker returns the question and the answer, with what a follow-up needs ----------------
def _pick(rng: random.Random, *path: str) -> str:
    node: Any = DATA
    for key in path:
        node = node[key]
    return rng.choice(_lines(node))


def _ask(rng: random.Random, kind: str, **slots: str) -> str:
    """A wording; some arrive in lower case, without a stop, or with a word of courtesy."""
    wording = rng.choice(ASK[kind])
    text = wording.format(**slots) if slots else wording
    roll = rng.random()
    if roll < 0.15 and kind in (*_CREATIVE, "thanks", "email", "invite", "rhyme_ai"):
        return text.lower().rstrip(".?")
    if roll < 0.4:
        text = re.sub(r"^([A-Z])(?![A-Z])", lambda m: m[1].lower(), text).rstrip(".?")
    if rng.random() < 0.1 and text[-1] not in "?:":
        text = rng.choice(("hey, ", "ok, ", "hi, ", "so, ")) + text[:1].lower() + text[1:]
    return text


def _creative(rng: random.Random, kind: str, theme: Theme, extra: dict[str, str]) -> str:
    slots = theme.slots() | extra
    if kind == "haiku":
        return _haiku(rng, theme)
    if kind == "slogan":
        product = theme.cls in PRODUCT_CLASSES and rng.random() < 0.6
        return _pick(rng, "slogan", "product" if product else "any").format(**slots)
    if kind == "story":
        pronoun = rng.choice((("she", "her", "her"), ("he", "him", "his")))
        slots |= dict(zip(("sub", "obj", "pos"), pronoun, strict=True)) | {"Sub": _cap(pronoun[0])}
        slots["Who"] = _cap(article(rng.choice(_words(DATA["story"]["who"]))))
        return f"{_pick(rng, 'story', 'open')} {_pick(rng, 'story', 'end')}".format(**slots)
    if kind in ("ideas", "names"):
        fresh = [x for x in _lines(DATA[kind]["all"]) if not _echo(x, slots["Ti"])]
        found = rng.sample(fresh, 3)
        return "\n".join(f"{i}. {x.format(**slots)}" for i, x in enumerate(found, 1))
    if kind == "line":
        return _pick(rng, "line", extra["tone"]).format(**slots)
    if kind == "copy":
        return f"{_pick(rng, 'copy', 'first')} {_pick(rng, 'copy', 'second')}".format(**slots)
    return _pick(rng, kind, "all").format(**slots)


def _theme(rng: random.Random, kind: str, heldout: bool) -> Theme:
    product = kind in ("names", "line", "copy") or (kind == "slogan" and rng.random() < 0.7)
    if not heldout and rng.random() < 0.35:  # any word can be a theme: the model must copy it, not know it
        noun = rng.choice(OBJECTS[rng.choice(("thing", "food", "device"))])
        if not noun.endswith("*"):
            return Theme(noun, syllables(noun), "c", _plural(noun), "object")
    pool = [t for t in (_HELD if heldout else _TRAIN) if not product or t.cls in PRODUCT_CLASSES]
    return rng.choice(pool)


def _make_creative(rng: random.Random, kind: str, heldout: bool) -> list[Pair]:
    theme = _theme(rng, kind, heldout)
    extra = {"tone": rng.choice(("formal", "playful"))} if kind == "line" else {}
    pairs = [(_ask(rng, kind, **theme.slots() | extra), _creative(rng, kind, theme, extra))]
    roll = rng.random()
    if roll < 0.1:
        answer = _creative(rng, kind, theme, extra)
        if answer != pairs[0][1]:
            pairs.append((rng.choice(FOLLOW["again"]), answer))
    elif roll < 0.2:
        other = _theme(rng, kind, heldout)
        follow = rng.choice(FOLLOW["theme"]).format(**other.slots())
        pairs.append((follow, _creative(rng, kind, other, extra)))
    elif roll < 0.3 and kind in ("slogan", "title", "copy"):
        short = _pick(rng, "title" if kind == "title" else "slogan", "short").format(**theme.slots())
        pairs.append((rng.choice(FOLLOW["shorter"]), short))
    return pairs


def _make_note(rng: random.Random, kind: str, heldout: bool) -> list[Pair]:
    slots = _theme(rng, kind, heldout).slots()
    slots |= {"name": rng.choice(_NAMES), "day": rng.choice(DAYS)}
    slots["gift"] = rng.choice(_words(DATA["note"]["gift"]))
    slots |= {x: rng.choice(_words(DATA["invite"][x])) for x in ("event", "venue", "hour")}
    if rng.random() < 0.5 and not heldout:
        slots["the"] = "the " + rng.choice(_words(DATA["note"]["topic"]))
    elif rng.random() < 0.7:
        slots["event"] = f"{slots['t']} {rng.choice(('evening', 'workshop', 'party', 'festival'))}"
    slots["aevent"] = slots["event"] if slots["event"] == "breakfast" else article(slots["event"])
    template = _pick(rng, "invite", "all") if kind == "invite" else _pick(rng, "note", kind)
    return [(_ask(rng, kind, **slots), template.format(**slots))]


def _padded(rng: random.Random, s: Sentence) -> str:
    filler, adverb = rng.choice(_words(_PARTS["filler"])), rng.choice(_words(_PARTS["adverb"]))
    start = f"{_cap(filler)}, {s.subject} {adverb} {s.verb[1]} {s.object}"
    return f"{start} {s.rest}".strip() + rng.choice((".", ", and that was that.", ", as far as we know."))


def _rewrite(rng: random.Random, kind: str, heldout: bool) -> Pair:
    """The text to be rewritten and what becomes of it."""
    s = _sentence(rng, heldout)
    slots = {"v": s.verb[0], "o": s.object, "time": rng.choice(("tomorrow", "tonight", "next week"))}
    if kind in ("polite", "formal", "friendly") and s.verb[0] in _words(_PARTS["not_asked_for"]):
        return _rewrite(rng, kind, heldout)
    if kind == "polite":
        rude, answer = (_pick(rng, "formal", f"polite_{x}").format(**slots) for x in ("in", "out"))
        return (_cap(rude) + "." if rng.random() < 0.6 else rude), answer
    if kind in ("formal", "friendly"):
        left, right = _pick(rng, "formal", kind).format(**slots).split(" => ")
        return (left if kind == "formal" else _cap(left)), right
    if kind == "shorter":
        s = _sentence(rng, heldout, rng.choice((1, 2, 3)))
        return _padded(rng, s), s.core
    if kind == "fix":
        right = s.question if rng.random() < 0.3 else s.active
        return right.rstrip(".?").lower(), right
    table = {
        "question": (s.active, s.question),
        "passive": (s.active, s.passive),
        "active": (s.passive, s.active),
        "repeat": (s.active, s.active),
        "upper": (s.active, s.active.upper()),
    }
    return table[kind]


def _make_rewrite(rng: random.Random, kind: str, heldout: bool) -> list[Pair]:
    text, answer = _rewrite(rng, kind, heldout)
    pairs = [(_give(rng, _ask(rng, kind), text), answer)]
    if rng.random() < 0.12:
        text, answer = _rewrite(rng, kind, heldout)
        pairs.append((_give(rng, rng.choice(FOLLOW["payload"]), text), answer))
    return pairs


def _make_replace(rng: random.Random, kind: str, heldout: bool) -> list[Pair]:
    s = _sentence(rng, heldout)
    old = rng.choice((s.object, s.object, s.subject)).split()[-1]
    new = rng.choice(OBJECTS["thing"] if old in s.object else _ROLES[:60] if " " in s.subject else _NAMES)
    new = new.rstrip("*").split()[-1]
    if s.active.lower().count(old.lower()) != 1 or new == old:
        return _make_replace(rng, kind, heldout)
    q = rng.choice(("", '"', "'"))
    wording = _ask(rng, kind, x=f"{q}{old}{q}", y=f"{q}{new}{q}", s="{s}")
    answer = re.sub(rf"\b{re.escape(old)}\b", new, s.active)
    answer = re.sub(r"\b([Aa])n? (\w+)", lambda m: m[1] + article(m[2])[1:], answer)
    return [(_give(rng, wording, s.active), answer)]


def _make_summary(rng: random.Random, kind: str, heldout: bool) -> list[Pair]:
    if rng.random() < 0.2:
        main, detail, result = _pick(rng, "summary", "ai").split("|")
        core = f"{main}."
    else:
        s = _sentence(rng, heldout, rng.choice((1, 2, 3)))
        main, core = s.active[:-1], s.core
        detail, result = _pick(rng, "parts", "detail"), _pick(rng, "parts", "result")
    text, answer = f"{main}. {detail}", core
    if rng.random() < 0.7:
        text += f" {rng.choice(('As a result', 'Because of this', 'In the end'))}, {result}."
        answer = f"{core[:-1]}, and {result}."
    return [(_give(rng, _ask(rng, kind), text), answer)]


def _make_words(rng: random.Random, kind: str, heldout: bool) -> list[Pair]:
    """Sorting, counting, acronyms and series."""
    nouns = [t.noun for t in (_HELD if heldout else _TRAIN) if " " not in t.noun and t.noun.islower()]
    nouns += [] if heldout else [x.rstrip("*") for x in OBJECTS["thing"]]
    if kind == "alphabetical":
        found = rng.sample(sorted(set(nouns)), rng.choice((3, 3, 4)))
        return [(_give(rng, _ask(rng, kind), ", ".join(found)), ", ".join(sorted(found)))]
    if kind == "count":
        text = _sentence(rng, heldout).active
        text = text if len(text.split()) <= 8 else " ".join(rng.sample(nouns, rng.randint(2, 6)))
        found = text.rstrip(".").split()
        listed = ", ".join(f"{i} {w}" for i, w in enumerate(found, 1))
        return [(_give(rng, _ask(rng, kind), text), f"{listed}: {len(found)} words.")]
    if kind == "acronym":
        text = " ".join(rng.sample(nouns, rng.choice((3, 3, 4))))
        text = rng.choice(_words(DATA["acronym"]["all"])) if rng.random() < 0.4 else text
        letters = "".join(w[0] for w in text.split()).upper()
        answer = rng.choice((f"{letters}.", f"The first letters give {letters}."))
        return [(_give(rng, _ask(rng, kind), text), answer)]
    if rng.random() < 0.45:
        start, step = rng.randint(1, 40), rng.choice((1, 1, 2, 2, 3, 5, 10))
        found = [str(start + i * step) for i in range(6)]
        return [(_give(rng, _ask(rng, kind), ", ".join(found[:3])), ", ".join(found[3:]))]
    items = [x.strip() for x in _pick(rng, "sequences", "all").split(",")]
    cut = rng.randint(2, len(items) - 1)
    begin = rng.randint(0, max(0, cut - 3))
    text = ", ".join(items[begin:cut]) + rng.choice(("", " ...", ", ..."))
    return [(_give(rng, _ask(rng, kind), text), ", ".join(items[cut:]))]


def _make_rhyme(rng: random.Random, kind: str, heldout: bool) -> list[Pair]:
    if kind == "rhyme_ai":
        term = rng.choice(tuple(DATA["rhyme_ai"]))
        theme = _BY_WORD.get(term.lower())
        named = rng.choice([theme.slots()[x] for x in ("t", "a", "pl")]) if theme else term
        return [(_ask(rng, kind, term=named), DATA["rhyme_ai"][term])]
    group = _pick(rng, "rhymes", "all").split()
    word, other = rng.sample(group, 2)
    q = rng.choice(("", '"', "'"))
    answer = _cap(other) + rng.choice((f" rhymes with {word}.", f' rhymes with "{word}".', "."))
    return [(_ask(rng, kind, w=f"{q}{word}{q}"), answer)]


def _make_code(rng: random.Random, kind: str, heldout: bool) -> list[Pair]:
    first, second = rng.sample(DATA["code"], 2)
    pairs = [(_ask(rng, kind, task=rng.choice(first["tasks"])), f"```python\n{first['code'].strip()}\n```")]
    if rng.random() < 0.12:
        follow = rng.choice(("now {}", "And how do I {}?", "now show me how to {}"))
        follow = follow.format(rng.choice(second["tasks"]))
        pairs.append((follow, f"```python\n{second['code'].strip()}\n```"))
    return pairs


_ROWS = [line.split("|") for line in _lines(DATA["translate"]["all"])]
_TABLE = {row[0]: dict(zip(LANGUAGES, row[1:], strict=True)) for row in _ROWS}


def _make_translation(rng: random.Random, kind: str, heldout: bool) -> list[Pair]:
    q = rng.choice(('"', '"', "'", ""))
    if kind == "translate":
        word = rng.choice(tuple(_TABLE))
        lang, other = rng.sample(LANGUAGES, 2)
        form = rng.choice(_lines(DATA["translate"]["known"]))
        said = [form.format(lang=x, w=word, x=_TABLE[word][x]) for x in (lang, other)]
        pairs = [(_ask(rng, "translate", w=f"{q}{word}{q}", lang=lang), said[0])]
        if rng.random() < 0.15:
            pairs.append((rng.choice(FOLLOW["lang"]).format(lang=other), said[1]))
        return pairs
    pool = [t.noun for t in (_HELD if heldout else _TRAIN)]
    if not heldout:
        pool += [v[0] for k in VERBS for v in VERBS[k]] + [x.rstrip("*") for k in OBJECTS for x in OBJECTS[k]]
    if rng.random() < 0.35:
        word, lang = rng.choice(tuple(_TABLE)), rng.choice(_words(DATA["translate"]["other"]))
    elif rng.random() < 0.3:
        word, lang = _sentence(rng, heldout).active.rstrip("."), rng.choice(LANGUAGES)
    else:
        word, lang = rng.choice([w for w in pool if w not in _TABLE]), rng.choice(LANGUAGES)
    answer = _pick(rng, "translate", "unknown").format(w=word, lang=lang)
    return [(_ask(rng, "translate", w=f"{q}{word}{q}", lang=lang), answer)]


_CREATIVE = ("haiku", "slogan", "story", "title", "ideas", "names", "line", "copy")
_REWRITES = ("polite", "shorter", "formal", "friendly", "question", "fix", "passive", "active", "repeat", "upper")
_MAKERS: dict[str, Callable[[random.Random, str, bool], list[Pair]]] = {
    **dict.fromkeys(_CREATIVE, _make_creative),
    **dict.fromkeys(("thanks", "email", "invite"), _make_note),
    **dict.fromkeys(_REWRITES, _make_rewrite),
    "replace": _make_replace,
    "summary": _make_summary,
    **dict.fromkeys(("alphabetical", "count", "acronym", "sequence"), _make_words),
    **dict.fromkeys(("rhyme_ai", "rhyme_word"), _make_rhyme),
    "code": _make_code,
    **dict.fromkeys(("translate", "translate_unknown"), _make_translation),
}


def example(rng: random.Random, kind: str, heldout: bool = False) -> Messages:
    """One example of a kind; with ``heldout`` its theme is one that training never shows."""
    while True:
        pairs = _MAKERS[kind](rng, kind, heldout)
        if heldout or not any(_HELD_RE.search(text) for pair in pairs for text in pair):
            return [
                {"role": role, "content": pair[i]} for pair in pairs for i, role in enumerate(("user", "assistant"))
            ]


def examples(rng: random.Random, heldout: bool = False) -> Iterator[tuple[str, Messages]]:
    """Endless (kind, messages); every kind is equally likely."""
    while True:
        kind = rng.choice(KINDS)
        yield kind, example(rng, kind, heldout)


# ---- checking ----------------------------------------------------------------------------------------------
_SMALL = set(_words(_PARTS["small"]))
_POLITE = re.compile(r"please|could you|would you|may i|grateful|kind", re.I)
_SLANG = re.compile(r"\b(u|gimme|gotta|wanna|gonna|dunno|lemme|yo|dude|rn|pls|asap|hey|guys|\w+n't)\b", re.I)
_ONE_LINE = {"slogan": 14, "title": 14, "line": 20}


def _bag(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text.lower())


def _sentences(text: str) -> int:
    return len(re.findall(r"[.?!](?=\s|$)", text))


def _shared(one: str, other: str) -> int:
    """How many words, small ones aside, two texts share."""
    return len(set(_bag(one)) & set(_bag(other)) - _SMALL)


def _kept(source: str, answer: str, missing: int) -> bool:
    return len(set(_bag(source)) - set(_bag(answer))) <= missing


def _names_theme(request: str, answer: str) -> bool:
    """Whether the answer names the theme that the request names (or, unknown to us, its last words)."""
    found = {_BY_WORD[m.lower()].noun.lower() for m in _THEME_RE.findall(request)}
    if not found:
        found = {w.rstrip("s") for w in _bag(re.split(r"\b(?:about|for|on|of)\b", request)[-1]) if len(w) > 2}
    low = answer.lower()
    return any(x in low or (x in _BY_WORD and _BY_WORD[x].plural in low) for x in found)


def _mentions(request: str, answer: str, *tables: tuple[str, ...]) -> bool:
    """Whether of each table the longest entry named by the request is in the answer as well."""
    for table in tables:
        named = [x for x in table if re.search(rf"(?<!\w){re.escape(x)}(?!\w)", request, re.I)]
        if named and max(named, key=len).lower() not in answer.lower():
            return False
    return True


def _check_creative(kind: str, request: str, answer: str) -> bool:
    lines = [x for x in answer.split("\n") if x.strip()]
    if kind == "haiku":
        off = [abs(syllables(x) - n) for x, n in zip(lines, (5, 7, 5), strict=False)]
        right = len(lines) == 3 and max(off) <= 1
    elif kind in ("ideas", "names"):
        right = len(set(lines)) == 3 and all(re.match(r"(\d[.)]|[-*]) \S", x) for x in lines)
    elif kind in _ONE_LINE:
        right = len(lines) == 1 and len(answer.split()) <= _ONE_LINE[kind]
    else:
        right = len(lines) == 1 and _sentences(answer) == 2
    return right and _names_theme(request, answer)


def _check_note(kind: str, request: str, answer: str) -> bool:
    tables: tuple[tuple[str, ...], ...]
    if kind == "thanks":
        tables, right = (_NAMES, _words(DATA["note"]["gift"])), "thank" in answer.lower()
    elif kind == "email":
        topics = _words(DATA["note"]["topic"])
        named = any(f"the {x}" in request.lower() for x in topics)
        tables, right = (_NAMES, DAYS, *((topics,) if named else ())), named or _names_theme(request, answer)
    else:
        tables, right = (DAYS, *(_words(DATA["invite"][x]) for x in ("hour", "venue", "event"))), True
    return right and _sentences(answer) == 2 and _mentions(request, answer, *tables)


def _check_rewrite(kind: str, request: str, answer: str) -> bool:
    text = payload(request)
    given, said = text.strip(" ."), answer.strip(' ."')
    first = _bag(text)[:1] or [""]
    if kind in ("repeat", "upper"):
        return said == (given.upper() if kind == "upper" else given)
    if kind == "fix":
        names = [n for n in _NAMES if re.search(rf"\b{n}\b", given, re.I)]
        return (
            _bag(given) == _bag(said)
            and answer[:1].isupper()
            and answer[-1:] in ".?"
            and all(re.search(rf"\b{n}\b", answer) for n in names)
        )
    if kind == "question":
        return answer.endswith("?") and answer[:1].isupper() and _kept(text, answer, 1)
    if kind == "passive":
        return bool(re.search(rf"\b(was|were) .*\bby {first[0]}\b", answer, re.I)) and _kept(text, answer, 2)
    if kind == "active":
        agent = _bag(re.split(r"\bby\b", text)[-1])
        agent = agent[: 2 if agent[:1] in (["the"], ["a"], ["an"]) else 1]
        return _bag(answer)[: len(agent)] == agent and _kept(text, answer, 3)
    if kind == "shorter":
        return 3 <= len(_bag(said)) < len(_bag(given)) and _kept(answer, text, 1)
    if kind == "polite":
        return _shared(text, answer) >= 2 and bool(_POLITE.search(answer)) and _bag(answer) != _bag(text)
    fits = said.lower() != given.lower() and _shared(text, answer) >= 1
    return fits and (kind == "friendly" or not _SLANG.search(answer))


def _check_replace(kind: str, request: str, answer: str) -> bool:
    asked, new = ([w.strip("'") for w in _bag(x) if w != "'"] for x in (request, answer))
    before, old = asked[: -len(new)], asked[-len(new) :]
    pairs = list(zip(old, new, strict=False))
    changed = [(a, b) for a, b in pairs if a != b and {a, b} != {"a", "an"}]
    return len(old) == len(new) and len(changed) == 1 and set(changed[0]) <= set(before)


def _check_summary(kind: str, request: str, answer: str) -> bool:
    text = payload(request)
    main = [w for w in _bag(text.split(". ")[0])[:5] if len(w) > 2]
    kept = sum(w in _bag(answer) for w in main)
    return _sentences(answer) == 1 and len(_bag(answer)) < len(_bag(text)) and kept >= 0.6 * len(main)


def _check_words(kind: str, request: str, answer: str) -> bool:
    text = payload(request).strip(" .")
    if kind == "alphabetical":
        return _bag(answer) == sorted(_bag(text))
    if kind == "acronym":
        return "".join(w[0] for w in text.split()).upper() in answer.replace(" ", "")
    if kind == "count":
        said = [x for x in _bag(answer) if x.isdigit() or x in NUMBERS]
        return bool(said) and said[-1] in (str(len(text.split())), NUMBERS[min(len(text.split()), 11)])
    given, found = ([x for x in re.split(r"[,\s]+", t.strip(" .")) if x.strip(".")] for t in (text, answer))
    if all(x.isdigit() for x in given) and len(given) > 1:
        step = int(given[-1]) - int(given[-2])
        return found == [str(int(given[-1]) + step * (i + 1)) for i in range(len(found))]
    rows = [re.split(r"[,\s]+", x.lower()) for x in _lines(DATA["sequences"]["all"])]
    low = [x.lower() for x in given + found]
    return any(low == row[i:] for row in rows for i in range(len(row)))


def _check_rhyme(kind: str, request: str, answer: str) -> bool:
    if kind == "rhyme_ai":
        lines = [x for x in answer.split("\n") if x.strip()]
        terms = [t for t in DATA["rhyme_ai"] if re.search(rf"(?<!\w){t}s?(?!\w)", request, re.I)]
        return len(lines) == 4 and max(terms, key=len, default="").lower() in answer.lower()
    named = re.findall(r"(?:with|for|like) [\"']?(\w+)|(\w+)[\"']? rhymes with what", request)
    groups = [g.split() for g in _lines(DATA["rhymes"]["all"])]
    asked = {word.lower() for pair in named for word in pair}
    return any(asked & set(g) and set(_bag(answer)) & set(g) - asked for g in groups)


def _check_code(kind: str, request: str, answer: str) -> bool:
    match = re.search(r"```(?:python)?\n(.+?)\n```", answer, re.S)
    fits = [c["key"] for c in DATA["code"] if any(t.lower() in request.lower() for t in c["tasks"])]
    try:
        ast.parse(match[1] if match else "(")
    except SyntaxError:
        return False
    return not fits or any(key in answer for key in fits)


def _check_translation(kind: str, request: str, answer: str) -> bool:
    if kind == "translate_unknown":
        tongues = (*LANGUAGES, *_words(DATA["translate"]["other"]))
        return "do not know" in answer.lower() and _mentions(request, answer, tongues)
    langs = [x for x in LANGUAGES if x.lower() in request.lower()]
    named = sorted((w for w in _TABLE if re.search(rf"(?<!\w){re.escape(w)}(?!\w)", request, re.I)), key=len)
    named = [w for w in named if w != "please"] or named
    return bool(named and langs) and _TABLE[named[-1]][langs[0]].lower() in answer.lower()


_CHECKS: dict[Callable[..., list[Pair]], Callable[[str, str, str], bool]] = {
    _make_creative: _check_creative,
    _make_note: _check_note,
    _make_rewrite: _check_rewrite,
    _make_replace: _check_replace,
    _make_summary: _check_summary,
    _make_words: _check_words,
    _make_rhyme: _check_rhyme,
    _make_code: _check_code,
    _make_translation: _check_translation,
}


def check(kind: str, request: str, answer: str) -> bool:
    """Whether an answer fulfils the form that the request asks for."""
    if not answer.strip() or len(answer.split()) > 60 or (kind != "translate" and not answer.isascii()):
        return False
    return _CHECKS[_MAKERS[kind]](kind, request, answer)


def main() -> None:
    """Print samples of every kind and how many of 3000 generated examples the check accepts."""
    rng = random.Random(2)
    for kind in KINDS:
        print(f"\n=== {kind}")
        for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
            print("\n".join(f"{m['role'][0].upper()}: {m['content']}" for m in example(rng, kind)) + "\n")
    bad = [
        (k, m)
        for k, m in (next(examples(rng, i % 2 > 0)) for i in range(3000))
        if not check(k, m[0]["content"], m[1]["content"])
    ]
    print(f"{3000 - len(bad)} of 3000 accepted;", *(f"\n{k}: {m}" for k, m in bad[:20]))


if __name__ == "__main__":
    main()
