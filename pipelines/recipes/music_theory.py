"""Keys, modes, chords, functional progressions, cadences, voice leading and a key finder.

Everything is relative to the tonic (pitch class 0), so that one table serves all twelve keys. Knows no genre.

    python -c "from pipelines.recipes.music_theory import roman; print(roman('ii7'), roman('bVImaj7'))"
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache

from pipelines.recipes.music_score import Chord, Note

MODES = {
    "major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10), "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10), "lydian": (0, 2, 4, 6, 7, 9, 11), "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}  # fmt: skip
KEY_NAMES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
#: Semitones above the root; the first tones are the ones a thin voicing keeps.
QUALITIES = {
    "": (0, 4, 7), "m": (0, 3, 7), "dim": (0, 3, 6), "aug": (0, 4, 8), "7": (0, 4, 10, 7), "maj7": (0, 4, 11, 7),
    "m7": (0, 3, 10, 7), "m7b5": (0, 3, 6, 10), "dim7": (0, 3, 6, 9), "sus4": (0, 5, 7), "sus2": (0, 2, 7), "5": (0, 7),
    "6": (0, 4, 9, 7), "m6": (0, 3, 9, 7), "9": (0, 4, 10, 2), "maj9": (0, 4, 11, 2), "m9": (0, 3, 10, 2),
    "add9": (0, 4, 2, 7),
}  # fmt: skip
_NUMERALS = {"i": 0, "ii": 2, "iii": 4, "iv": 5, "v": 7, "vi": 9, "vii": 11}
_SUFFIXES = {"o": "dim", "o7": "dim7", "h7": "m7b5", "+": "aug"}


@cache
def roman(text: str) -> Chord:
    """``bVImaj7`` -> Chord. Numerals count from the major scale in every mode; small letters are minor chords; ``V7/V``
    is a secondary dominant; ``o`` diminished, ``h7`` half-diminished."""
    if "/" in text:
        chord, target = text.split("/")
        return Chord((roman(chord).root + roman(target).root) % 12, roman(chord).quality)
    shift = text.count("b", 0, 1) * -1 + text.count("#", 0, 1)
    body = text.lstrip("b#")
    end = max(i for i in range(1, len(body) + 1) if body[:i].lower() in _NUMERALS)
    numeral, suffix = body[:end], body[end:]
    if suffix in _SUFFIXES:
        quality = _SUFFIXES[suffix]
    elif numeral.islower():
        quality = "m" + suffix
    else:
        quality = suffix
    return Chord((_NUMERALS[numeral.lower()] + shift) % 12, quality)


@cache
def chord_tones(chord: Chord) -> frozenset[int]:
    return frozenset((chord.root + i) % 12 for i in QUALITIES[chord.quality])


#: Which neighbour an interval of a borrowed chord replaces in the scale: a major third the minor third, and so on.
_REPLACES = {0: 1, 2: 1, 3: 4, 4: 3, 5: 4, 6: 7, 7: 6, 8: 7, 9: 8, 10: 11, 11: 10}


@cache
def scale_on(chord: Chord, mode: str) -> tuple[int, ...]:
    """The mode's seven tones, with those a chord borrows put in the place of their neighbours (G# for G over E in A minor)."""
    tones, wanted = set(MODES[mode]), chord_tones(chord)
    for interval in QUALITIES[chord.quality]:
        tone = (chord.root + interval) % 12
        if tone not in tones:
            tones -= {(chord.root + _REPLACES[interval]) % 12} - wanted
            tones.add(tone)
    return tuple(sorted(tones))


# --- progressions ---------------------------------------------------------------------------------------------
#: What may follow what. Weights follow the usual tables of functional harmony (tonic, subdominant, dominant, tonic).
NEXT: dict[str, dict[str, dict[str, float]]] = {
    "major": {
        "I": {"IV": 3, "V": 2, "vi": 3, "ii": 2, "iii": 1}, "ii": {"V": 6, "IV": 1, "viio": 0.5},
        "iii": {"vi": 4, "IV": 3}, "IV": {"V": 4, "I": 2, "ii": 2, "iv": 0.4}, "V": {"I": 4, "vi": 2, "IV": 0.4},
        "vi": {"ii": 3, "IV": 4, "V": 1, "iii": 1, "V7/V": 0.5}, "viio": {"I": 1}, "V7/V": {"V": 1}, "iv": {"I": 2, "V": 1},
    },
    "minor": {
        "i": {"iv": 3, "bVI": 3, "bVII": 2, "V": 2, "bIII": 1.5, "iio": 1}, "iio": {"V": 1}, "bIII": {"bVI": 3, "bVII": 2, "iv": 2},
        "iv": {"V": 3, "i": 2, "bVII": 2, "iio": 1}, "V": {"i": 5, "bVI": 2}, "bVI": {"bIII": 2, "iv": 2, "bVII": 3, "iio": 1, "V": 1},
        "bVII": {"bIII": 3, "i": 2, "bVI": 2},
    },
    "dorian": {
        "i": {"IV": 5, "bVII": 3, "ii": 2, "v": 1.5, "bIII": 1}, "IV": {"i": 5, "bVII": 2}, "bVII": {"i": 3, "IV": 3},
        "ii": {"i": 2, "v": 1, "IV": 1}, "v": {"i": 3, "IV": 2}, "bIII": {"IV": 3, "bVII": 1, "ii": 1},
    },
    "mixolydian": {
        "I": {"bVII": 5, "IV": 3, "v": 2, "ii": 1}, "bVII": {"I": 4, "IV": 2}, "IV": {"I": 4, "bVII": 2, "v": 1},
        "v": {"I": 2, "IV": 2, "bVII": 1}, "ii": {"bVII": 1, "v": 2, "I": 1},
    },
    "lydian": {
        "I": {"II": 5, "vi": 2, "V": 2, "iii": 1.5}, "II": {"I": 4, "V": 1, "vi": 1}, "V": {"I": 3, "II": 1, "vi": 1},
        "vi": {"II": 3, "I": 2}, "iii": {"II": 2, "vi": 2, "I": 1},
    },
    "phrygian": {
        "i": {"bII": 5, "bVII": 2, "bIII": 1.5, "bVI": 1.5}, "bII": {"i": 5, "bIII": 1, "bVI": 1}, "bVII": {"i": 3, "bII": 1},
        "bIII": {"bII": 3, "bVII": 1}, "bVI": {"bII": 2, "bVII": 2, "i": 1},
    },
}  # fmt: skip
#: The two chords a phrase ends on.
CADENCES = {
    "major": {"authentic": ("V", "I"), "half": ("IV", "V"), "plagal": ("IV", "I"), "deceptive": ("V", "vi")},
    "minor": {"authentic": ("V", "i"), "half": ("iv", "V"), "plagal": ("iv", "i"), "deceptive": ("V", "bVI")},
    "dorian": {"authentic": ("bVII", "i"), "half": ("i", "IV"), "plagal": ("IV", "i"), "deceptive": ("v", "IV")},
    "mixolydian": {"authentic": ("bVII", "I"), "half": ("I", "bVII"), "plagal": ("IV", "I"), "deceptive": ("v", "IV")},
    "lydian": {"authentic": ("V", "I"), "half": ("I", "II"), "plagal": ("II", "I"), "deceptive": ("II", "vi")},
    "phrygian": {
        "authentic": ("bII", "i"),
        "half": ("i", "bII"),
        "plagal": ("bVII", "i"),
        "deceptive": ("bII", "bIII"),
    },
}


def home(mode: str) -> str:
    return "I" if mode in ("major", "lydian", "mixolydian") else "i"


def progression(rng: random.Random, mode: str, length: int, cadence: str, start: str | None = None) -> list[str]:
    """``length`` numerals from ``start`` (the tonic unless told) to the cadence, by a walk through ``NEXT``."""
    table, end = NEXT[mode], CADENCES[mode][cadence]
    if length <= 2:
        return list(end[-length:])
    walk: list[str] = []
    for _ in range(60):
        walk = [start or home(mode)]
        while len(walk) < length - 2:
            options = table[walk[-1]]
            walk.append(rng.choices(list(options), list(options.values()))[0])
        if end[0] in table[walk[-1]] and (length < 6 or len(set(walk)) > 2):
            break
    return [*walk, *end]


def with_sevenths(
    numerals: Sequence[str], mode: str, rng: random.Random, share: float, ninths: float = 0.0
) -> list[str]:
    """Jazz colours: the sevenths (or ninths) that belong to each chord in its mode."""
    out = []
    for text in numerals:
        if text[-1] in "0123456789+o" or "/" in text or rng.random() > share:
            out.append({"viio": "viih7", "iio": "iih7"}.get(text, text) if share > 0.5 else text)
            continue
        root = roman(text).root
        seventh = (root + 11) % 12
        is_dominant = text.isupper() or text.lstrip("b").isupper()
        is_major7 = is_dominant and seventh in MODES[mode] and text != "V"
        nine = rng.random() < ninths and (root + 2) % 12 in MODES[mode]
        out.append(text + ("maj" if is_major7 else "") + ("9" if nine else "7"))
    return out


# --- voice leading --------------------------------------------------------------------------------------------
@lru_cache(maxsize=200_000)
def voicing(chord: Chord, previous: tuple[int, ...], low: int, high: int, size: int) -> tuple[int, ...]:
    """``size`` chord tones within ``low``..``high`` that move least from ``previous`` (any close position)."""
    tones = [(chord.root + i) % 12 for i in QUALITIES[chord.quality]]
    if len(tones) > size:
        tones = tones[1 : size + 1] if size >= 3 and len(tones) > 3 else tones[:size]
    best: tuple[int, ...] = ()
    best_cost = 1e9
    middle = (low + high) / 2
    for bottom in range(low, high + 1):
        if bottom % 12 not in tones:
            continue
        notes, pitch = [bottom], bottom
        rest = sorted(((t - bottom) % 12 or 12) for t in tones)
        for interval in rest + [12 + r for r in rest]:
            if len(notes) < size and interval:
                pitch = bottom + interval
                notes.append(pitch)
        if notes[-1] > high + 3:
            continue
        cost = abs(sum(notes) / len(notes) - middle) * 0.7
        if previous:
            cost += sum(min(abs(n - p) for p in previous) for n in notes) + 0.5 * abs(notes[-1] - previous[-1])
        if cost < best_cost:
            best, best_cost = tuple(notes), cost
    return best or tuple(sorted({low + (t - low) % 12 for t in tones}))


def nearest(pitch_classes: Iterable[int], target: float, low: int = 0, high: int = 127) -> int:
    """The pitch of one of these classes nearest ``target``, within bounds if any is."""
    wanted = frozenset(c % 12 for c in pitch_classes)
    centre = round(min(max(target, low), high))
    for distance in range(13):
        for pitch in (centre - distance, centre + distance):
            if pitch % 12 in wanted and low <= pitch <= high:
                return pitch
    return min((p for p in range(128) if p % 12 in wanted), key=lambda p: abs(p - centre))


def stable(pitch_classes: Iterable[int], target: float, low: int, high: int) -> int:
    """Like ``nearest``, but the tonic and the fifth of the key draw from a little farther away."""
    wanted = frozenset(c % 12 for c in pitch_classes)
    options = [p for p in range(low, high + 1) if p % 12 in wanted and abs(p - target) <= 8]
    if not options:
        return nearest(wanted, target, low, high)
    return min(options, key=lambda p: abs(p - target) - {0: 2.2, 7: 1.0}.get(p % 12, 0.0))


@lru_cache(maxsize=100_000)
def step(pitch: int, steps: int, scale: tuple[int, ...]) -> int:
    """``steps`` scale steps from ``pitch``; a pitch outside the scale counts as the scale tone below it."""
    ladder = [12 * o + s for o in range(-1, 12) for s in scale]
    index = max(i for i, p in enumerate(ladder) if p <= pitch)
    if ladder[index] != pitch and steps > 0:
        return ladder[index + steps]
    if ladder[index] != pitch and steps < 0:
        return ladder[index + steps + 1]
    return ladder[max(0, min(len(ladder) - 1, index + steps))]


# --- finding the key ------------------------------------------------------------------------------------------
#: Krumhansl and Kessler 1982, as printed in Krumhansl, Cognitive Foundations of Musical Pitch (1990).
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


def key_profile(mode: str) -> tuple[float, ...]:
    """The measured profiles of major and minor; for the other modes the nearer of both, values of altered tones swapped."""
    profile = list(_MAJOR if home(mode) == "I" else _MINOR)
    for a, b in {"dorian": ((8, 9),), "phrygian": ((1, 2),), "lydian": ((5, 6),), "mixolydian": ((10, 11),)}.get(
        mode, ()
    ):
        profile[a], profile[b] = profile[b], profile[a]
        if mode == "mixolydian":
            profile[10], profile[11] = max(profile[10], profile[11]) + 0.4, 2.0
    return tuple(profile)


def find_key(notes: Iterable[Note], modes: Sequence[str] = ("major", "minor")) -> tuple[int, str]:
    """(tonic pitch class, mode) with the best correlation of summed durations and profile (Krumhansl-Schmuckler)."""
    weights = [0.0] * 12
    for note in notes:
        weights[note.pitch % 12] += note.duration
    mean = sum(weights) / 12
    best = (-2.0, 0, modes[0])
    for mode in modes:
        profile = key_profile(mode)
        centre = sum(profile) / 12
        spread = sum((p - centre) ** 2 for p in profile) ** 0.5
        for tonic in range(12):
            dot = sum((weights[(tonic + i) % 12] - mean) * (profile[i] - centre) for i in range(12))
            best = max(best, (dot / spread, tonic, mode))
    return best[1], best[2]


def key_agrees(notes: Iterable[Note], tonic: int, mode: str) -> bool:
    """Whether the key finder hears this key: major and minor are told from each other, other modes from all six."""
    return find_key(notes, ("major", "minor") if mode in ("major", "minor") else tuple(MODES)) == (tonic, mode)
