"""Scores as rows of words and back: a compact relative of REMI. Exact for every score on the grid; knows no model.

From REMI (Huang and Yang 2020): bar tokens, a metrical grid, chord and tempo tokens. From REMI-z (Ou et al. 2024): within
a bar one track after the other. From Compound Word (Hsiao et al. 2021): pitch and duration are one word. From printed
music: a note begins where the one before it ends (rests are written), a dynamic stands at the bar, a bar like an earlier
one of its track is a repeat sign, ties cross bar lines. Pitches are written as if the tonic were C, the key stands in the
head: what is learnt in one key holds in all. MidiTok 3.1's REMI (programs, 12 positions a beat) needs 97 tokens a bar for
100 of the teacher's pieces, 75 without velocities, this 18: MidiTok spends four or five a note.

    <genre:waltz> <mood:calm> <metre:3/4> <key:D> <mode:minor> <tempo:90> <swing:50> <density:medium> <bars:16>
    <lead> <i40> <legato> <chords> <i0> <bass> <i32>                     the head: tracks and their programs
    <bar:1> <sec:A> <dyn:3> <c:0.m> <lead> <n72.12> <n74.24> <chords> <r.12> <+60> <+63> <n67.12> <x.12> <bass> <n36.36>
    <bar:2> <c:7.> <lead> ... <chords=1> ...                                       ``=1``: as one bar before
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from pipelines.recipes.music_genres import DENSITIES, GENRES, MOODS
from pipelines.recipes.music_score import (
    BAR_TICKS,
    DRUMS,
    ROLES,
    TEMPO_HIGH,
    TEMPO_LOW,
    TEMPO_STEP,
    Bar,
    Chord,
    Header,
    Note,
    Score,
    Track,
)
from pipelines.recipes.music_theory import KEY_NAMES, MODES, QUALITIES

LOWEST, HIGHEST = 20, 104  # pitches as written in C; sounding ones are up to six semitones away
DURATIONS = (1, 2, 3, 4, 6, 8, 9, 12, 15, 18, 21, 24, 30, 36, 42, 48)
REPEATS = (1, 2, 3, 4, 6, 8, 12, 16, 20, 24)
MAX_BARS = 64
SWINGS = ("50", "54s", "57s", "60s", "60", "63", "66")
ARTICULATIONS = ("legato", "staccato")
END = "<end>"
_DRUM_LETTER = {key: letter for letter, key in DRUMS.items()}
#: Keys of General MIDI that the kit does not have sound as a neighbour.
_DRUM_NEIGHBOUR = {
    35: 36,
    43: 41,
    47: 48,
    52: 49,
    55: 49,
    57: 49,
    59: 51,
    54: 54,
    62: 63,
    65: 63,
    66: 64,
    69: 70,
    82: 70,
    80: 81,
}


@lru_cache(maxsize=1)
def vocabulary() -> tuple[str, ...]:
    """Every music token, in a fixed order: 2,543."""
    out = [f"<genre:{g}>" for g in GENRES] + [f"<mood:{m}>" for m in MOODS] + [f"<metre:{m}>" for m in BAR_TICKS]
    out += [f"<key:{k}>" for k in KEY_NAMES] + [f"<mode:{m}>" for m in MODES]
    out += [f"<tempo:{t}>" for t in range(TEMPO_LOW, TEMPO_HIGH + 1, TEMPO_STEP)] + [f"<swing:{s}>" for s in SWINGS]
    out += [f"<density:{d}>" for d in DENSITIES] + [f"<bars:{n}>" for n in range(1, MAX_BARS + 1)]
    out += [f"<i{n}>" for n in range(128)] + [f"<{a}>" for a in ARTICULATIONS]
    out += [f"<bar:{n}>" for n in range(1, MAX_BARS + 1)] + [f"<sec:{s}>" for s in "IABCE"]
    out += [f"<dyn:{d}>" for d in range(1, 7)] + ["<rit>", "<v>", END]
    out += [f"<c:{r}.{q}>" for r in range(12) for q in QUALITIES]
    out += [f"<{r}>" for r in ROLES] + [f"<{r}={n}>" for r in ROLES for n in REPEATS]
    out += [f"<{w}.{d}>" for w in ("r", "tie", "x") for d in DURATIONS]
    out += [f"<+{p}>" for p in range(LOWEST, HIGHEST)] + [
        f"<n{p}.{d}>" for p in range(LOWEST, HIGHEST) for d in DURATIONS
    ]
    out += [f"<+{k}>" for k in DRUMS] + [f"<n{k}.{d}>" for k in DRUMS for d in DURATIONS]
    return tuple(out)


def key_shift(tonic: int) -> int:
    """Semitones from the written C to the key's tonic: -5 to 6."""
    return tonic if tonic <= 6 else tonic - 12


def _pieces(duration: int) -> list[int]:
    """A duration as a sum of those that have a word, longest first."""
    out = []
    while duration > 0:
        out.append(max(d for d in DURATIONS if d <= duration))
        duration -= out[-1]
    return out


# --- writing --------------------------------------------------------------------------------------------------
def _voices(track: Track) -> list[list[tuple[int, int, tuple[int, ...]]]]:
    """Notes with one start and one end are one event; events are dealt to as few voices as do not overlap."""
    groups: dict[tuple[int, int], list[int]] = {}
    for note in track.notes:
        groups.setdefault((note.start, note.duration), []).append(note.pitch)
    voices: list[list[tuple[int, int, tuple[int, ...]]]] = []
    for (start, duration), pitches in sorted(groups.items(), key=lambda g: (g[0][0], -g[0][1])):
        for voice in voices:
            if voice[-1][0] + voice[-1][1] <= start:
                break
        else:
            voice = []
            voices.append(voice)
        voice.append((start, duration, tuple(sorted(set(pitches)))))
    return voices


def _name(pitch: int, role: str, shift: int) -> str:
    if role == "drums":
        return _DRUM_LETTER.get(pitch) or _DRUM_LETTER.get(_DRUM_NEIGHBOUR.get(pitch, 42), "H")
    written = pitch - shift
    while written < LOWEST:
        written += 12
    while written >= HIGHEST:
        written -= 12
    return str(written)


def _voice_bar(
    voice: Sequence[tuple[int, int, tuple[int, ...]]], begin: int, end: int, role: str, shift: int
) -> list[str]:
    out: list[str] = []
    cursor = begin
    last: tuple[int, ...] = ()
    for start, duration, pitches in voice:
        if start >= end or start + duration <= begin:
            continue
        here, until = max(start, begin), min(start + duration, end)
        out += [f"<r.{d}>" for d in _pieces(here - cursor)]
        parts = _pieces(until - here)
        if start >= begin:
            if pitches == last and len(pitches) > 1:
                out.append(f"<x.{parts[0]}>")
            else:
                names = [_name(p, role, shift) for p in pitches]
                out += [f"<+{n}>" for n in names[:-1]] + [f"<n{names[-1]}.{parts[0]}>"]
            parts = parts[1:]
            last = pitches
        else:
            last = ()
        out += [f"<tie.{d}>" for d in parts]
        cursor = until
    return out


def head_tokens(score: Score) -> list[str]:
    head = score.header
    swing = f"{head.swing}{'s' if head.swing_unit == 3 and head.swing != 50 else ''}"
    out = [f"<genre:{head.genre}>", f"<mood:{head.mood}>", f"<metre:{head.metre}>", f"<key:{KEY_NAMES[head.tonic]}>",
           f"<mode:{head.mode}>", f"<tempo:{head.tempo_bpm}>", f"<swing:{swing}>", f"<density:{head.density}>", f"<bars:{head.bars}>"]  # fmt: skip
    for track in score.tracks:
        out += [f"<{track.role}>"] + ([f"<i{track.program}>"] if track.role != "drums" else [])
        out += [f"<{track.articulation}>"] if track.articulation in ARTICULATIONS else []
    return out


def encode(score: Score) -> list[str]:
    """The score's tokens, ``<end>`` included. Raises ValueError above 64 bars."""
    if score.header.bars > MAX_BARS:
        raise ValueError(f"at most {MAX_BARS} bars can be written, this piece has {score.header.bars}")
    shift, total = key_shift(score.header.tonic), score.bar_ticks
    voices = {t.role: _voices(t) for t in score.tracks}
    written: dict[str, list[list[str]]] = {t.role: [] for t in score.tracks}
    out, dynamic = head_tokens(score), 0
    for index, bar in enumerate(score.bars):
        out.append(f"<bar:{index + 1}>")
        out += [f"<sec:{bar.section}>"] if bar.section else []
        out += [f"<dyn:{bar.dynamic}>"] if bar.dynamic != dynamic else []
        dynamic = bar.dynamic
        out += ["<rit>"] if bar.slows else []
        out += [f"<c:{c.root}.{c.quality}>" for c in bar.chords]
        begin, end = index * total, (index + 1) * total
        for track in score.tracks:
            rows = [_voice_bar(v, begin, end, track.role, shift) for v in voices[track.role]]
            while rows and not rows[-1]:
                rows.pop()
            content = [t for i, row in enumerate(rows) for t in (["<v>"] if i else []) + row]
            earlier = written[track.role]
            if content:
                back = next((n for n in REPEATS if n <= index and earlier[index - n] == content), 0)
                out += [f"<{track.role}={back}>"] if back else [f"<{track.role}>", *content]
            earlier.append(content)
    return [*out, END]


# --- reading --------------------------------------------------------------------------------------------------
class Reader:
    """Reads tokens one at a time, forgivingly: what does not fit a bar or the grammar is left out.

    ``feed`` returns the number of the bar that has just been completed (0 for the first), or None."""

    def __init__(self) -> None:
        self.head: dict[str, str] = {}
        self.programs: dict[str, int] = {}
        self.articulations: dict[str, str] = {}
        self.bars: list[Bar] = []
        self.is_finished = False
        self._contents: list[dict[str, list[str]]] = []  # a bar: role -> words
        self._order: list[str] = []
        self._role = ""
        self._notes: dict[str, list[Note]] = {}
        self._voices: dict[str, list[list[int]]] = {}  # per role and voice: the indices of the last event's notes

    def feed(self, token: str) -> int | None:
        done = None
        word = token[1:-1]
        kind, _, value = word.partition(":")
        if token == END or kind == "bar":
            done = self._close_bar()
            self.is_finished = token == END
            if kind == "bar" and not self.is_finished:
                dynamic = self.bars[-1].dynamic if self.bars else 4
                self.bars.append(Bar((), dynamic))
                self._contents.append({})
            self._role = ""
        elif not self.bars:
            if word in ROLES:
                self._role = word
                if word not in self._order:
                    self._order.append(word)
            elif word.startswith("i") and word[1:].isdigit() and self._role:
                self.programs[self._role] = int(word[1:])
            elif word in ARTICULATIONS and self._role:
                self.articulations[self._role] = word
            elif value:
                self.head[kind] = value
        else:
            self._in_bar(word, kind, value)
        return done

    def _in_bar(self, word: str, kind: str, value: str) -> None:
        bar = self.bars[-1]
        if kind in ("sec", "dyn", "c") or word == "rit":
            if kind == "c":
                root, _, quality = value.partition(".")
                bar = replace(bar, chords=(*bar.chords, Chord(int(root), quality))[:4])
            elif kind == "dyn":
                bar = replace(bar, dynamic=int(value))
            else:
                bar = replace(bar, section=value or bar.section, slows=bar.slows or word == "rit")
            self.bars[-1] = bar
            return
        content = self._contents[-1]
        role, _, back = word.partition("=")
        if role in ROLES:
            self._role = role
            if role not in self._order:
                self._order.append(role)
            content[role] = []
            if back:
                source = self._contents[-1 - int(back)] if int(back) < len(self._contents) else {}
                content[role] = list(source.get(role, []))
                self._role = ""
        elif self._role:
            content[self._role].append(word)

    def _close_bar(self) -> int | None:
        if not self.bars or self.is_finished:
            return None
        index = len(self.bars) - 1
        for role, words in self._contents[-1].items():
            self._sound(role, words, index * self.bar_ticks)
        if not self.bars[-1].chords:
            self.bars[-1] = replace(self.bars[-1], chords=(self.bars[-2].chords[-1] if index else Chord(0, ""),))
        return index

    @property
    def bar_ticks(self) -> int:
        return BAR_TICKS.get(self.head.get("metre", "4/4"), 48)

    def _sound(self, role: str, words: Sequence[str], begin: int) -> None:
        notes, end = self._notes.setdefault(role, []), begin + self.bar_ticks
        voices = self._voices.setdefault(role, [])
        shift, cursor, voice, stack = key_shift(self._tonic), begin, 0, list[int]()
        last: tuple[int, ...] = ()
        for word in words:
            while len(voices) <= voice:
                voices.append([])
            if word == "v":
                voice, cursor, stack, last = voice + 1, begin, [], ()
                continue
            name, _, length = word.partition(".")
            duration = min(int(length), end - cursor) if length.isdigit() else 0
            if word.startswith("+"):
                stack += self._pitch(word[1:], role, shift)
            elif duration <= 0:
                stack = []
            elif name == "r":
                cursor += duration
            elif name == "tie":
                if voices[voice] and notes[voices[voice][-1]][0] + notes[voices[voice][-1]][1] == cursor:
                    for i in voices[voice]:
                        notes[i] = notes[i]._replace(duration=notes[i].duration + duration)
                cursor += duration
            elif name == "x" or name.startswith("n"):
                pitches = last if name == "x" else tuple(sorted({*stack, *self._pitch(name[1:], role, shift)}))
                voices[voice] = list(range(len(notes), len(notes) + len(pitches)))
                notes += [Note(cursor, duration, p) for p in pitches]
                last, stack = pitches, []
                cursor += duration

    @staticmethod
    def _pitch(name: str, role: str, shift: int) -> list[int]:
        if role == "drums":
            return [DRUMS[name]] if name in DRUMS else []
        return [int(name) + shift] if name.isdigit() else []

    @property
    def _tonic(self) -> int:
        name = self.head.get("key", "C")
        return KEY_NAMES.index(name) if name in KEY_NAMES else 0

    def score(self) -> Score:
        """What has been read so far (complete bars only)."""
        head = self.head
        swing = head.get("swing", "50")
        complete = len(self.bars) if self.is_finished else max(0, len(self.bars) - 1)
        header = Header(genre=head.get("genre", ""), mood=head.get("mood", ""), tonic=self._tonic, mode=head.get("mode", "major"), metre=head.get("metre", "4/4"),
                        tempo_bpm=int(head.get("tempo", "100")), bars=complete, density=head.get("density", "medium"),
                        swing=int(swing.rstrip("s")), swing_unit=3 if swing.endswith("s") else 6)  # fmt: skip
        tracks = [
            Track(
                r, self.programs.get(r, 0), tuple(sorted(self._notes.get(r, []))), self.articulations.get(r, "normal")
            )
            for r in self._order
        ]
        return Score(header, tuple(t for t in tracks if t.notes), tuple(self.bars[:complete]))


def decode(tokens: Iterable[str]) -> Score:
    """Tokens -> score. Never raises on nonsense: unknown and misplaced words are passed over."""
    reader = Reader()
    for token in tokens:
        reader.feed(token)
    if not reader.is_finished:
        reader.feed(END)
    return reader.score()
