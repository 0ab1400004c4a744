"""Accompaniment, bass, pads and drums: figures of music_patterns played over chords, voice-led and in range.

chords_part(["A...A...A...A..."] * 8, chord_at, "4/4", (52, 69), 3, resets={0})
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence

from pipelines.recipes.music_melody import ChordAt
from pipelines.recipes.music_patterns import FILLS, drum_hits
from pipelines.recipes.music_score import BAR_TICKS, BEAT_TICKS, DRUMS, Chord, Note
from pipelines.recipes.music_theory import QUALITIES, chord_tones, nearest, scale_on, voicing

SIXTEENTH = 3


def _events(figure: str, start: int) -> Iterator[tuple[int, int, str]]:
    """(tick, duration, character) of the sounding steps of a figure."""
    steps = [i for i, c in enumerate(figure) if c != "."]
    for index, i in enumerate(steps):
        if figure[i] != "-":
            end = steps[index + 1] if index + 1 < len(steps) else len(figure)
            yield start + i * SIXTEENTH, (end - i) * SIXTEENTH, figure[i]


def _split_at_changes(tick: int, duration: int, chord_at: ChordAt) -> Iterator[tuple[int, int, Chord]]:
    """A held event is struck anew where the chord changes beneath it (chords change on eighths at the finest)."""
    begin, chord = tick, chord_at(tick)
    for at in range(tick - tick % 3 + 3, tick + duration, 3):
        if chord_at(at) != chord:
            yield begin, at - begin, chord
            begin, chord = at, chord_at(at)
    yield begin, tick + duration - begin, chord


def power_chord(chord: Chord, low: int) -> tuple[int, ...]:
    root = nearest({chord.root}, low + 5, low, low + 11)
    fifth = 6 if 6 in QUALITIES[chord.quality] else 7
    return (root, root + fifth, root + 12)


def chords_part(
    figures: Sequence[str | None], chord_at: ChordAt, metre: str, register: tuple[int, int], size: int,
    resets: Collection[int] = (0,), is_power: bool = False,
) -> list[Note]:  # fmt: skip
    """``figures``: one a bar, None for silence. In bars of ``resets`` voice leading begins anew, so that a section that
    returns returns note for note."""
    notes: list[Note] = []
    previous: tuple[int, ...] = ()
    for bar, figure in enumerate(figures):
        if bar in resets:
            previous = ()
        for tick, duration, char in _events(figure or "", bar * BAR_TICKS[metre]):
            for start, length, chord in _split_at_changes(tick, duration, chord_at):
                tones = power_chord(chord, register[0]) if is_power else voicing(chord, previous, *register, size)
                previous = tones
                if char.isdigit():
                    octave, index = divmod(int(char), len(tones))
                    tones = (tones[index] + 12 * octave,)
                elif char == "L":
                    tones = tones[:1]
                elif char == "U":
                    tones = tones[1:]
                notes += [Note(start, length, p) for p in tones]
    return notes


def held_chords(chord_at: ChordAt, bars: Sequence[bool], metre: str, register: tuple[int, int], size: int, resets: Collection[int]) -> list[Note]:  # fmt: skip
    """A pad: each chord as long as it lasts, over the bar line where nothing changes but never over a reset."""
    return chords_part(
        ["A" + "." * (BAR_TICKS[metre] // 3 - 1) if b else None for b in bars], chord_at, metre, register, size, resets
    )


def bass_part(
    figures: Sequence[str | None], chord_at: ChordAt, metre: str, mode: str, bounds: tuple[int, int], rng: random.Random,
    resets: Collection[int] = (0,),
) -> list[Note]:  # fmt: skip
    """A bass line: roots near one another, fifths and octaves, walking steps, approaches to the next bar's root."""
    low, high = bounds
    centre = low + min(10, (high - low) / 2)
    notes: list[Note] = []
    previous = centre
    total = BAR_TICKS[metre]
    for bar, figure in enumerate(figures):
        if bar in resets:
            previous = centre
        for tick, duration, char in _events(figure or "", bar * total):
            for start, length, chord in _split_at_changes(tick, duration, chord_at):
                root = nearest({chord.root}, 0.4 * previous + 0.6 * centre, low, high)
                fifth = (
                    chord.root + (7 if 7 in QUALITIES[chord.quality] or 6 not in QUALITIES[chord.quality] else 6)
                ) % 12
                following = chord_at((bar + 1) * total)
                goal = nearest({following.root}, 0.4 * root + 0.6 * centre, low, high)
                if char in "Rr" or start != tick:
                    pitch = root
                elif char == "8":
                    pitch = root + 12 if root + 12 <= high + 3 else root
                elif char in "5d":
                    pitch = nearest({fifth}, root + (6 if char == "5" else -5), low, high)
                elif char == "3":
                    pitch = nearest({(chord.root + QUALITIES[chord.quality][1]) % 12}, root + 4, low, high)
                elif char == "a":
                    scale = scale_on(chord, mode)
                    near = [p for p in (goal - 1, goal + 1, goal - 2, goal + 2) if low <= p <= high]
                    inside = [p for p in near if p % 12 in scale] or near
                    pitch = min(inside, key=lambda p: abs(p - previous) + (3 if p == previous else 0))
                else:
                    direction = 1 if goal >= previous else -1
                    scale = scale_on(chord, mode)
                    steps = [
                        p
                        for p in range(int(previous) - 5, int(previous) + 6)
                        if p != previous and p % 12 in scale and low <= p <= high
                    ]
                    weights = [
                        (3.0 if p % 12 in chord_tones(chord) else 1.0)
                        * (2.0 if (p - previous) * direction > 0 else 0.7)
                        for p in steps
                    ]
                    pitch = rng.choices(steps, weights)[0] if steps else root
                notes.append(Note(start, length, pitch))
                previous = pitch
    return notes


def drums_part(
    grooves: Sequence[str | None],
    fill_bars: dict[int, str],
    crash_bars: Collection[int],
    metre: str,
    end_bar: int | None = None,
) -> list[Note]:
    """Hits last until the next one (drums do not hold). A fill replaces the last 24 ticks of its bar, a crash the
    first hat; ``end_bar`` has one stroke only."""
    total = BAR_TICKS[metre]
    at: dict[int, set[str]] = {}
    for bar, groove in enumerate(grooves):
        start = bar * total
        if bar == end_bar:
            if groove:
                at[start] = {"K", "X"} if any(x in groove for x in ("S:", "C:", "O:")) else {groove[0]}
            continue
        if groove is None:
            continue
        hits = drum_hits(groove)
        fill = fill_bars.get(bar)
        if fill:
            hits = [(s, d) for s, d in hits if s * 3 < total - 24] + [
                (s + (total - 24) // 3, d) for s, d in drum_hits(fill)
            ]
        for s, letter in hits:
            at.setdefault(start + s * 3, set()).add(letter)
        if bar in crash_bars:
            at.setdefault(start, set()).difference_update("HDO")
            at[start].add("X")
    ticks = sorted(at)
    notes = []
    for index, tick in enumerate(ticks):
        bar_end = (tick // total + 1) * total
        following = min(ticks[index + 1] if index + 1 < len(ticks) else bar_end, bar_end)
        length = min(following - tick, BEAT_TICKS[metre] * 2)
        notes += [Note(tick, length, key) for key in sorted(DRUMS[letter] for letter in at[tick])]
    return notes


def fill_for(kind: str, rng: random.Random) -> str:
    return rng.choice(FILLS[kind])
