"""Form and harmony of a piece: which sections follow which, and the chords of each.

plan_form(16, 0.4, random.Random(1))       # A A B A, or an introduction and A B A
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from pipelines.recipes.music_genres import MOODS, Genre
from pipelines.recipes.music_spec import Spec, draw
from pipelines.recipes.music_theory import home, progression, with_sevenths

#: Forms of blocks of equal length; ``A`` always comes back.
_FORMS = {1: ("A",), 2: ("AA", "AA", "AB"), 3: ("ABA", "ABA", "AAB", "AAA"), 4: ("AABA", "AABA", "ABAB", "ABAC", "AABB", "ABCA"),
          5: ("ABABA", "AABAA", "ABACA"), 6: ("AABABA", "ABACBA"), 7: ("AABBABA", "ABACABA"), 8: ("AABBAABA", "ABACABAA")}  # fmt: skip
#: Where middle sections may begin.
STARTS = {"major": ("IV", "vi", "ii"), "minor": ("bIII", "bVI", "iv"), "dorian": ("IV", "bVII", "bIII"), "mixolydian": ("IV", "bVII"),
               "lydian": ("II", "vi"), "phrygian": ("bII", "bIII")}  # fmt: skip


@dataclass(frozen=True)
class Section:
    label: str  # I for an introduction, else A, B, C
    bars: int
    is_last: bool = False
    is_repeat: bool = False


def plan_form(bars: int, intro_chance: float, rng: random.Random) -> list[Section]:
    """Sections that add up to ``bars``: blocks of 4 or 8, what is left over goes to an introduction of 1 to 4 bars."""
    if bars < 8:
        intro = 2 if bars == 6 and rng.random() < intro_chance else 0
        plan = [("I", intro)] * bool(intro) + [("A", bars - intro)]
    else:
        unit = 8 if bars >= 32 or (bars in (16, 24) and rng.random() < 0.4) else 4
        blocks, left = divmod(bars, unit)
        if left > 4:
            unit, (blocks, left) = 4, divmod(bars, 4)
        while blocks > 8:
            unit, (blocks, left) = unit * 2, divmod(bars, unit * 2)
        has_intro = not left and unit == 4 and blocks >= 4 and rng.random() < intro_chance
        letters = rng.choice(_FORMS[blocks - has_intro])
        plan = [("I", left or 4)] * bool(left or has_intro) + [(letter, unit) for letter in letters]
    seen: set[str] = set()
    out = []
    for index, (label, length) in enumerate(plan):
        out.append(Section(label, length, index == len(plan) - 1, label in seen))
        seen.add(label)
    return out


# --- harmony --------------------------------------------------------------------------------------------------
def _final_chord(spec: Spec, genre: Genre, rng: random.Random) -> str:
    tonic = home(spec.mode)
    if genre.sevenths > 0.8:
        jazzy = {
            "major": ("maj7", "6", "maj9"),
            "lydian": ("maj7", "maj9"),
            "minor": ("m7", "m6"),
            "dorian": ("m6", "m7"),
        }.get(spec.mode)
        if jazzy:
            quality = rng.choice(jazzy)
            return tonic + (quality[1:] if tonic == "i" else quality)
    return tonic + ("add9" if tonic == "I" and spec.mood == "dreamy" else "")


def section_chords(spec: Spec, genre: Genre, section: Section, rng: random.Random) -> list[list[str]]:
    """The numerals of each bar of a section: a loop gone round, or a functional progression into a cadence."""
    loops = genre.loops.get(spec.mode, ())
    mood = MOODS[spec.mood]
    if loops and rng.random() < genre.loop_share:
        loop = rng.choice(loops).split()
        span = draw(rng, genre.chord_bars)
        if section.label == "B" and len(loop) > 2 and rng.random() < 0.6:
            loop = loop[2:] + loop[:2]
        if span == 0.5 and section.bars * 2 >= len(loop):
            halves = [loop[i % len(loop)] for i in range(section.bars * 2)]
            bars = [halves[i : i + 2] for i in range(0, len(halves), 2)]
        else:
            bars = [[loop[int(i // span) % len(loop)]] for i in range(section.bars)]
    else:
        extra = 1 if section.bars >= 4 and rng.random() < 0.5 else 0
        cadence = (
            "authentic"
            if section.is_last or section.label == "A" and rng.random() < 0.6
            else rng.choice(("half", "half", "authentic", "plagal", "deceptive"))
        )
        start = None if section.label != "B" else rng.choice(STARTS[spec.mode])
        row = progression(rng, spec.mode, section.bars + extra, cadence, start)
        if (
            section.label == "B"
            and mood.colour
            and rng.random() < 0.5
            and len(row) > 4
            and spec.mode in ("major", "minor")
        ):
            row[len(row) // 2 - 1] = mood.colour
        bars = (
            [[c] for c in row[: len(row) - 2 - extra]] + ([[row[-3], row[-2]]] if extra else [[row[-2]]]) + [[row[-1]]]
        )
        bars = bars[-section.bars :]
    bars = [with_sevenths(b, spec.mode, rng, genre.sevenths, genre.ninths) for b in bars]
    if section.is_last:
        end_cadence = progression(rng, spec.mode, 2, "authentic" if rng.random() < 0.75 else "plagal")
        if len(bars) > 1 and bars[-2][-1] == home(spec.mode) or genre.loop_share < 0.9:
            bars[-2:-1] = [[with_sevenths(end_cadence[:1], spec.mode, rng, genre.sevenths)[0]]] if len(bars) > 1 else []
        bars[-1] = [_final_chord(spec, genre, rng)]
    return bars
