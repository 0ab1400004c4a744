"""Melodies: motifs with a rhythm and a contour, repeated, sequenced and varied into phrases that end in cadences.

Works relative to the tonic (pitch class 0) on the grid of music_score. Knows genres only as manners of singing.

    melody(plan_line(8, manner, rng), chords, frame, manner, rng) -> notes of eight bars
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipelines.recipes.music_score import BAR_TICKS, BEAT_TICKS, Chord, Note
from pipelines.recipes.music_theory import chord_tones, nearest, scale_on, stable, step

ChordAt = Callable[[int], Chord]
#: Rhythms of a half bar, a beat and a compound beat, in ticks; negative numbers are rests.
_CELLS: dict[int, tuple[tuple[int, ...], ...]] = {
    24: ((24,), (18, 6), (12, 12), (6, 18), (12, 6, 6), (6, 6, 12), (6, 12, 6), (9, 3, 12), (-6, 6, 12), (-12, 12), (-12, 6, 6), (6, 6, 6, 6),
         (9, 3, 6, 6), (6, 3, 3, 12), (-6, 6, 6, 6), (9, 9, 6), (6, 6, 3, 3, 6), (3, 3, 6, 6, 6), (3, 3, 3, 3, 12), (6, 3, 3, 6, 3, 3), (3, 3, 6, 3, 3, 6)),
    12: ((12,), (6, 6), (9, 3), (3, 3, 6), (6, 3, 3), (-6, 6), (3, 6, 3)),
    18: ((18,), (12, 6), (6, 12), (6, 6, 6), (9, 3, 6), (-6, 6, 6), (-12, 6), (6, 6, 3, 3), (3, 3, 6, 6)),
}  # fmt: skip
_FRAMES = {"4/4": ((24, 24),), "2/4": ((24,),), "3/4": ((24, 12), (12, 24), (24, 12)), "6/8": ((18, 18),)}
_SYNCOPATED = {(6, 18), (6, 12, 6), (-6, 6, 12), (9, 9, 6), (-6, 6, 6, 6), (-6, 6), (3, 6, 3), (6, 12), (-6, 6, 6)}
#: Contours in scale steps from the first note; longer motifs go on in the same spirit.
_CONTOURS: dict[str, tuple[tuple[int, ...], ...]] = {
    "arch": ((0, 1, 2, 1, 0, -1), (0, 2, 3, 2, 1, 0), (0, 1, 3, 2, 1, 0)), "rise": ((0, 1, 2, 3, 4, 5), (0, 2, 3, 4, 5, 7), (0, 1, 2, 4, 5, 6)),
    "fall": ((0, -1, -2, -3, -4, -5), (0, -1, -3, -4, -5, -7), (2, 1, 0, -1, -2, -3)), "turn": ((0, 1, 0, -1, 0, 1), (0, -1, 0, 1, 2, 1), (0, 1, 0, 2, 1, 0)),
    "zigzag": ((0, 2, 1, 3, 2, 4), (0, -2, -1, -3, -2, -4), (0, 2, -1, 1, -2, 0)), "repeat": ((0, 0, 0, 1, 0, -1), (0, 0, 1, 1, 2, 1), (0, 0, -1, 0, 0, 2)),
    "arpeggio": ((0, 2, 4, 7, 4, 2), (0, 2, 4, 2, 0, -3), (0, -3, 0, 2, 4, 2), (4, 2, 0, 2, 4, 7)), "leap": ((0, 4, 3, 2, 1, 0), (0, 5, 4, 3, 2, 1), (0, -3, -2, -1, 0, 1), (0, 3, 2, 1, 0, -1)),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Manner:
    """``notes``: a quarter note's worth, from sparse to dense. The rest are chances, 1.0 being neutral for cells."""

    notes: tuple[float, float, float]
    contours: Mapping[str, float]
    syncopation: float = 0.5
    sixteenths: float = 0.3
    rests: float = 0.3
    dotted: float = 1.0
    push: float = 0.0  # chance that a downbeat comes an eighth early
    chromatic: float = 0.0  # chance of a chromatic approach from below
    plans: tuple[str, ...] = ("abac", "aabc", "abab", "aaba")
    is_ostinato: bool = False  # repeats its pitches over changing chords


MANNERS = {
    "lyrical": Manner(notes=(0.5, 0.85, 1.35), contours={"arch": 3, "rise": 2, "fall": 2, "turn": 2, "leap": 2, "arpeggio": 1}, syncopation=0.1, sixteenths=0.05, rests=0.1),
    "laidback": Manner(notes=(0.5, 0.8, 1.3), contours={"turn": 2, "arch": 2, "fall": 2, "leap": 1, "repeat": 1, "zigzag": 1}, syncopation=2.5, sixteenths=0.25, rests=1.6, push=0.35, chromatic=0.06),
    "bebop": Manner(notes=(0.8, 1.3, 1.75), contours={"zigzag": 3, "arpeggio": 3, "fall": 2, "rise": 1, "arch": 2, "turn": 2}, syncopation=1.8, sixteenths=0.1, rests=1.2, push=0.4, chromatic=0.28, dotted=0.2),
    "riff": Manner(notes=(1.0, 1.6, 2.1), contours={"repeat": 3, "zigzag": 2, "turn": 2, "arpeggio": 2}, syncopation=2.0, sixteenths=1.6, rests=1.0, plans=("abab", "aaab", "abac", "aaaa"), is_ostinato=True),
    "running": Manner(notes=(1.3, 1.75, 2.0), contours={"arpeggio": 3, "turn": 2, "fall": 2, "rise": 2, "arch": 2, "zigzag": 2}, syncopation=0.05, sixteenths=0.15, rests=0.02, dotted=0.4),
    "hook": Manner(notes=(1.0, 1.5, 2.1), contours={"arpeggio": 4, "leap": 2, "rise": 1, "zigzag": 2, "repeat": 1, "arch": 1}, syncopation=1.3, sixteenths=0.7, rests=0.6, push=0.1),
    "hymn": Manner(notes=(0.7, 1.0, 1.1), contours={"arch": 3, "turn": 2, "rise": 1, "fall": 1}, syncopation=0, sixteenths=0, rests=0),
    "theme": Manner(notes=(0.4, 0.65, 1.1), contours={"rise": 3, "leap": 3, "arch": 2, "arpeggio": 1, "fall": 1}, syncopation=0.15, sixteenths=0.1, rests=0.1, dotted=2.0, plans=("abac", "aabc", "abab")),
    "riffy": Manner(notes=(0.8, 1.3, 1.8), contours={"repeat": 3, "turn": 2, "fall": 2, "leap": 1, "arch": 1, "zigzag": 1}, syncopation=1.4, sixteenths=0.35, rests=0.6, push=0.2),
    "floating": Manner(notes=(0.25, 0.4, 0.7), contours={"leap": 2, "arpeggio": 2, "fall": 2, "rise": 1, "arch": 1}, syncopation=0.4, sixteenths=0, rests=1.2, plans=("abac", "abab", "abcb")),
    "fanfare": Manner(notes=(0.9, 1.3, 1.7), contours={"arpeggio": 4, "repeat": 3, "rise": 2, "arch": 1}, syncopation=0.05, sixteenths=0.5, rests=0.15, dotted=3.0),
}  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """Where a melody lives: metre, mode, range (relative to the tonic) and how wildly it moves."""

    metre: str
    mode: str
    low: int
    high: int
    centre: float
    density: str
    leap: float = 1.0
    tempo_bpm: int = 100


@dataclass(frozen=True)
class Motif:
    rhythm: tuple[int, ...]
    contour: tuple[int, ...]


def make_rhythm(frame: Frame, manner: Manner, rng: random.Random) -> tuple[int, ...]:
    """A bar of durations, near the manner's number of notes; in fast music fewer, in slow music more."""
    level = manner.notes[("sparse", "medium", "dense").index(frame.density)]
    quick = frame.tempo_bpm * (1.4 if frame.metre == "6/8" else 1.0)
    level *= min(1.25, max(0.72, (115 / quick) ** 0.5))
    out: list[int] = []
    for span in rng.choice(_FRAMES[frame.metre]):
        wanted = level * span / 12
        weights = []
        for cell in _CELLS[span]:
            weight: float = 2.718 ** (-1.1 * abs(sum(d > 0 for d in cell) - wanted))
            weight *= manner.syncopation if cell in _SYNCOPATED else 1
            weight *= manner.sixteenths if cell.count(3) > 1 else manner.dotted if 9 in cell else 1
            weight *= manner.rests if min(cell) < 0 else 1
            weights.append(weight)
        out += rng.choices(_CELLS[span], weights)[0] if sum(weights) else (span,)
    return tuple(out)


def make_motif(frame: Frame, manner: Manner, rng: random.Random) -> Motif:
    rhythm = make_rhythm(frame, manner, rng)
    if all(d < 0 for d in rhythm):
        rhythm = (BAR_TICKS[frame.metre],)
    weights = {k: w * (frame.leap if k in ("leap", "arpeggio", "zigzag") else 1) for k, w in manner.contours.items()}
    kind = rng.choices(list(weights), list(weights.values()))[0]
    shape = list(rng.choice(_CONTOURS[kind]))
    count = sum(d > 0 for d in rhythm)
    while len(shape) < count:
        shape += [shape[-1] + rng.choice((-1, 1, -1, 1, -2)) - (1 if shape[-1] > 4 else -1 if shape[-1] < -4 else 0)]
    return Motif(rhythm, tuple(shape[:count]))


def plan_line(bars: int, manner: Manner, rng: random.Random) -> str:
    """Which motif each bar takes: ``abacabad`` for eight bars; capital ``C`` and ``D`` are the half and full close."""
    plan = rng.choice(manner.plans)
    if bars <= 4:
        return (plan[: bars - 1] + "D")[-bars:]
    first, second = plan[:3] + "C", (plan if rng.random() < 0.7 else rng.choice(manner.plans))[:3] + "D"
    line = first + second if bars <= 8 else (first + second) * (bars // 8 + 1)
    return line[: bars - 1] + "D"


def _close(frame: Frame, is_full: bool, motif: Motif, rng: random.Random) -> Motif:
    """A bar that comes to rest: the beginning of a motif, then a long note (and air before what follows)."""
    total, beat = BAR_TICKS[frame.metre], BEAT_TICKS[frame.metre]
    lead_in = 0 if rng.random() < 0.35 or total <= 24 else beat if total != 48 else rng.choice((12, 24))
    rhythm, used = [], 0
    for duration in motif.rhythm:
        if used + abs(duration) > lead_in:
            break
        rhythm.append(duration)
        used += abs(duration)
    rest = beat if not is_full and total - used > beat and rng.random() < 0.4 else 0
    rhythm += [total - used - rest] + ([-rest] if rest else [])
    count = sum(d > 0 for d in rhythm)
    return Motif(tuple(rhythm), tuple(range(count - 1, -1, -1)) if rng.random() < 0.7 else (-1,) * (count - 1) + (0,))


def melody(
    plan: str,
    chord_at: ChordAt,
    frame: Frame,
    manner: Manner,
    rng: random.Random,
    motifs: dict[str, Motif] | None = None,
    final: bool = False,
) -> list[Note]:
    """One section's melody, from tick 0. ``motifs`` is filled, so that a later section may take its motifs up again;
    ``final``: the last note is the tonic and lasts a whole bar."""
    motifs = {} if motifs is None else motifs
    total = BAR_TICKS[frame.metre]
    starts: dict[str, tuple[int, Chord, list[int]]] = {}
    notes: list[Note] = []
    previous = round(frame.centre)
    for bar, letter in enumerate(plan):
        if letter not in motifs and letter not in "CD":
            motifs[letter] = make_motif(frame, manner, rng)
        is_last = bar == len(plan) - 1
        if letter in "CD":
            motif = _close(frame, letter == "D", motifs.get("a") or make_motif(frame, manner, rng), rng)
            if final and is_last:
                motif = Motif((total,), (0,))
        else:
            motif = motifs[letter]
        chord = chord_at(bar * total)
        arch = frame.centre + 3.5 * (1 - abs(2 * bar / max(1, len(plan) - 1) - 1) * 1.3)
        if letter in starts and (manner.is_ostinato or starts[letter][1] == chord) and letter not in "CD":
            pitches: list[int] | None = starts[letter][2]
            scale = scale_on(chord, frame.mode)
            if manner.is_ostinato and pitches and not all(p % 12 in scale for p in pitches):
                pitches = None
            first = starts[letter][0]
        else:
            pitches, first = None, stable(chord_tones(chord), (starts[letter][0] if letter in starts else 0.55 * previous + 0.45 * arch) - motif.contour[0] * 0.6, frame.low, frame.high)  # fmt: skip
        placed = _place(motif, bar * total, first, pitches, chord_at, frame, previous)
        if letter in "CD" and placed:
            last = placed[-1]
            ending = chord_at(last.start)
            wanted = (
                {0}
                if (letter == "D" and 0 in chord_tones(ending))
                else {ending.root} | (chord_tones(ending) if not final else set())
            )
            fixed = nearest(wanted, placed[-2].pitch if len(placed) > 1 else previous, frame.low, frame.high)
            placed[-1] = last._replace(pitch=fixed)
        if letter not in starts and letter not in "CD":
            starts[letter] = (first, chord, [n.pitch for n in placed])
        notes += placed
        previous = placed[-1].pitch if placed else previous
    return _polish(notes, chord_at, frame, manner, rng, total)


def _place(motif: Motif, start: int, first: int, pitches: Sequence[int] | None, chord_at: ChordAt, frame: Frame, previous: int) -> list[Note]:  # fmt: skip
    beat, tick, index = BEAT_TICKS[frame.metre], start, 0
    out: list[Note] = []
    for duration in motif.rhythm:
        if duration < 0:
            tick -= duration
            continue
        chord = chord_at(tick)
        scale = scale_on(chord, frame.mode)
        if pitches is not None:
            pitch = pitches[index]
        else:
            pitch = step(first, motif.contour[index] - motif.contour[0], scale)
            while pitch > frame.high:
                pitch -= 12
            while pitch < frame.low:
                pitch += 12
        tones = chord_tones(chord)
        is_strong = (tick - start) % (2 * beat if frame.metre == "4/4" else beat * 4) == 0 or duration >= 12
        leapt = abs(pitch - (out[-1].pitch if out else previous)) > 4
        if pitches is None and pitch % 12 not in tones and (is_strong or leapt):
            bias = 0.3 if index and motif.contour[index] > motif.contour[index - 1] else -0.3
            pitch = (stable if duration >= 12 else nearest)(tones, pitch + bias, frame.low, frame.high)
        elif pitch % 12 not in scale:
            pitch = nearest(scale, pitch, frame.low, frame.high)
        out.append(Note(tick, duration, pitch))
        tick += duration
        index += 1
    return out


def _polish(notes: list[Note], chord_at: ChordAt, frame: Frame, manner: Manner, rng: random.Random, total: int) -> list[Note]:  # fmt: skip
    """Tames leaps, loosens notes that stick, resolves what hangs, adds chromatic approaches and pushes."""
    out: list[Note] = []
    for i, note in enumerate(notes):
        before = out[-1].pitch if out else note.pitch
        pitch = note.pitch
        if abs(pitch - before) > 9 and not manner.is_ostinato:
            moved = pitch + (-12 if pitch > before else 12)
            pitch = moved if frame.low <= moved <= frame.high else pitch
        if len(out) > 2 and out[-1].pitch == out[-2].pitch == out[-3].pitch == pitch and not manner.is_ostinato:
            pitch = nearest(chord_tones(chord_at(note.start)) - {pitch % 12}, pitch, frame.low, frame.high)
        after = notes[i + 1].pitch if i + 1 < len(notes) else pitch
        if (
            pitch % 12 not in chord_tones(chord_at(note.start))
            and abs(after - pitch) > 2
            and not manner.is_ostinato
            and note.duration >= 6
        ):
            pitch = nearest(chord_tones(chord_at(note.start)), pitch, frame.low, frame.high)
        if (
            note.duration == 6
            and after != pitch
            and rng.random() < manner.chromatic
            and note.start % 12 == 6
            and abs(after - 1 - pitch) < 5
        ):
            pitch = after - 1
        out.append(note._replace(pitch=pitch))
    for i in range(1, len(out)):
        note, before_note = out[i], out[i - 1]
        is_free = before_note.start + before_note.duration == note.start and before_note.duration in (9, 12, 18, 24)
        if note.start % total == 0 and is_free and note.duration >= 6 and rng.random() < manner.push:
            out[i - 1] = before_note._replace(duration=before_note.duration - 6)
            out[i] = Note(note.start - 6, note.duration + 6, note.pitch)
    return out


def vary(notes: Sequence[Note], chord_at: ChordAt, frame: Frame, rng: random.Random) -> list[Note]:
    """The same melody told again: some long notes get a neighbour or a passing note, some pairs are joined."""
    out: list[Note] = []
    for i, note in enumerate(notes):
        scale = scale_on(chord_at(note.start), frame.mode)
        after = notes[i + 1].pitch if i + 1 < len(notes) else note.pitch
        if note.duration in (12, 24) and rng.random() < 0.3 and i + 1 < len(notes):
            half = note.duration // 2
            between = step(note.pitch, 1 if after >= note.pitch else -1, scale)
            if frame.low <= between <= frame.high and abs(between - after) <= 4:
                out += [Note(note.start, half, note.pitch), Note(note.start + half, half, between)]
                continue
        out.append(note)
    return out


def counter_line(
    kind: str, lead: Sequence[Note], chord_at: ChordAt, frame: Frame, end: int, rng: random.Random
) -> list[Note]:
    """A second voice: ``thirds`` (with the lead, a third or sixth below), ``guide`` (long chord tones that move by step),
    ``answer`` (speaks when the lead holds or rests)."""
    beat, total = BEAT_TICKS[frame.metre], BAR_TICKS[frame.metre]
    out: list[Note] = []
    if kind == "thirds":
        for note in lead:
            tones, scale = chord_tones(chord_at(note.start)), scale_on(chord_at(note.start), frame.mode)
            options = [step(note.pitch, -2, scale), step(note.pitch, -3, scale), step(note.pitch, -5, scale)]
            pitch = next((p for p in options if p % 12 in tones), options[0])
            out.append(note._replace(pitch=pitch))
        return [n for n in out if frame.low <= n.pitch <= frame.high]
    if kind == "guide":
        previous = frame.centre
        for tick in range(0, end, total):
            chord = chord_at(tick)
            guides = sorted(chord_tones(chord) - {chord.root}) or [chord.root]
            pitch = nearest(guides, previous + rng.choice((-1, 0, 1)), frame.low, frame.high)
            if out and out[-1].pitch == pitch and out[-1].duration == total:
                out[-1] = out[-1]._replace(duration=2 * total)
            else:
                out.append(Note(tick, total, pitch))
            previous = pitch
        return out
    silent = [(n.start + beat, n.start + n.duration) for n in lead if n.duration >= 2 * beat or n.duration >= 24]
    silent += [
        (a.start + a.duration, b.start)
        for a, b in zip(lead, lead[1:], strict=False)
        if b.start - a.start - a.duration >= beat
    ]
    previous_pitch = round(frame.centre)
    for start, stop in sorted(silent):
        for tick in range(start, min(stop, start + 24), 6):
            scale = scale_on(chord_at(tick), frame.mode)
            is_first = tick == start
            pitch = nearest(chord_tones(chord_at(tick)), previous_pitch, frame.low, frame.high) if is_first else step(previous_pitch, rng.choice((1, 1, -1)), scale)  # fmt: skip
            if frame.low <= pitch <= frame.high and (not out or tick >= out[-1].start + out[-1].duration):
                out.append(Note(tick, 6, pitch))
                previous_pitch = pitch
    return out
