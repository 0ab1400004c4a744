"""What a piece is on paper: notes on a grid of 12 ticks a quarter, in tracks with roles, over chords named bar by bar.

Pitches are MIDI numbers and sound as written; chords are named relative to the tonic. There are no velocities in a
score: as in print, dynamics stand at the bar, and ``velocity`` says how loud that makes a note. Knows neither tokens,
nor files, nor how a piece is invented.

    Score(Header(genre="waltz", tonic=2, mode="minor", metre="3/4", tempo_bpm=90, bars=16), tracks, bars).end_tick
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

TICKS = 12  # per quarter note: sixteenths are 3, eighth triplets 4
BAR_TICKS = {"2/4": 24, "3/4": 36, "4/4": 48, "6/8": 36}
#: The beat one taps one's foot to. The tempo in BPM counts these beats: dotted quarters in 6/8.
BEAT_TICKS = {"2/4": 12, "3/4": 12, "4/4": 12, "6/8": 18}
ROLES = ("lead", "counter", "chords", "pad", "bass", "drums")
TEMPO_LOW, TEMPO_HIGH, TEMPO_STEP = 40, 208, 2
#: Drum kit: one letter per voice, General MIDI key. ``g`` is the ghost note of the snare (written 40, sounds as a soft 38).
DRUMS = {
    "K": 36, "S": 38, "g": 40, "R": 37, "C": 39, "H": 42, "P": 44, "O": 46, "D": 51, "B": 53, "X": 49, "F": 41,
    "T": 45, "M": 48, "W": 50, "A": 70, "N": 54, "Y": 56, "U": 63, "V": 64, "Z": 75, "I": 81,
}  # fmt: skip


class Note(NamedTuple):
    start: int  # ticks from the beginning of the piece
    duration: int  # ticks
    pitch: int  # MIDI number, or General MIDI drum key


class Chord(NamedTuple):
    root: int  # semitones above the tonic, 0 to 11
    quality: str  # a key of music_theory.QUALITIES


@dataclass(frozen=True)
class Track:
    role: str
    program: int  # General MIDI, 0 to 127; drums: 0
    notes: tuple[Note, ...]  # by start, then pitch
    articulation: str = "normal"  # legato, normal, staccato


@dataclass(frozen=True)
class Bar:
    """Chords share the bar as ``chord_spans`` says. ``dynamic``: 1 (pp) to 6 (ff). ``slows``: a ritardando starts here
    and lasts to the end. ``section``: the letter of the part that starts here, or nothing."""

    chords: tuple[Chord, ...]
    dynamic: int = 4
    section: str = ""
    slows: bool = False


@dataclass(frozen=True, kw_only=True)
class Header:
    genre: str
    mood: str
    tonic: int  # pitch class, C = 0
    mode: str
    metre: str
    tempo_bpm: int  # felt beats a minute
    bars: int
    density: str = "medium"
    swing: int = 50  # where the second of two eighths (sixteenths for lo-fi) stands, per cent: 50 straight, 66 triplets
    swing_unit: int = 6


@dataclass(frozen=True)
class Score:
    header: Header
    tracks: tuple[Track, ...]
    bars: tuple[Bar, ...] = field(default=())

    @property
    def bar_ticks(self) -> int:
        return BAR_TICKS[self.header.metre]

    @property
    def end_tick(self) -> int:
        return self.header.bars * self.bar_ticks

    @property
    def duration_s(self) -> float:
        """Seconds at the written tempo, without the ritardando."""
        return self.end_tick / BEAT_TICKS[self.header.metre] * 60 / self.header.tempo_bpm

    def track(self, role: str) -> Track | None:
        return next((t for t in self.tracks if t.role == role), None)

    def pitched(self) -> Iterator[Note]:
        """All notes that are not drums."""
        for track in self.tracks:
            if track.role != "drums":
                yield from track.notes

    def chord_at(self, tick: int) -> Chord:
        bar = min(tick // self.bar_ticks, len(self.bars) - 1)
        inside = tick - bar * self.bar_ticks
        chords = self.bars[bar].chords
        for chord, (start, end) in zip(chords, chord_spans(self.header.metre, len(chords)), strict=True):
            if start <= inside < end:
                return chord
        return chords[-1]


def chord_spans(metre: str, count: int) -> tuple[tuple[int, int], ...]:
    """Start and end ticks of ``count`` chords (1 to 4) within a bar: even where beats allow it, else longer first."""
    if count == 4 and BAR_TICKS[metre] == 36:
        edges = (0, 9, 18, 27, 36)  # only imported music: four chords in a bar of three
        return tuple(zip(edges, edges[1:], strict=False))
    total, beat = BAR_TICKS[metre], BEAT_TICKS[metre] if metre != "6/8" or count < 3 else 6
    beats = total // beat
    sizes = [beats // count * beat] * count if count <= beats else [total // count] * count
    left = total - sum(sizes)
    sizes[0] += left
    starts = [sum(sizes[:i]) for i in range(count + 1)]
    return tuple(zip(starts, starts[1:], strict=False))


_ROLE_LEVEL = {"lead": 14, "counter": 0, "chords": -4, "pad": -10, "bass": 4, "drums": 0}


def velocity(role: str, dynamic: int, tick_in_bar: int, metre: str, pitch: int = 0) -> int:
    """MIDI velocity of a note: the bar's dynamic, the role's place in the mix, a weight on the beats."""
    beat = BEAT_TICKS[metre]
    accent = 8 if tick_in_bar == 0 else 3 if tick_in_bar % beat == 0 else -4 if tick_in_bar % 6 == 0 else -9
    if role == "drums":
        accent = accent * 2 if pitch in (42, 44, 46, 51, 70) else accent // 2
        accent -= 45 if pitch == DRUMS["g"] else 0
    return max(12, min(124, 36 + 11 * dynamic + _ROLE_LEVEL[role] + accent))
