"""Twelve genres and ten moods as tables: what a composer would say about each in a line or two.

GENRES["waltz"].metres, MOODS["sad"].modes
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Weights = Mapping[str, float]
DENSITIES = ("sparse", "medium", "dense")


@dataclass(frozen=True, kw_only=True)
class Genre:
    """``figures``, ``basses``, ``groove``, ``fills``: names in music_patterns. ``manner``: a name in music_melody.MANNERS.
    ``loops``: progressions by mode that go round, one chord a bar unless ``chord_bars`` says 2 (or 0.5: two a bar);
    ``loop_share``: how often one is taken instead of a functional progression."""

    metres: Weights
    tempo: tuple[int, int]  # felt beats a minute
    modes: Weights
    leads: Weights
    chords: Weights
    basses_of: Weights
    figures: Weights
    basses: Weights
    manner: str
    groove: str = ""  # "" has no drums
    drums_share: float = 1.0
    fills: str = "soft"
    pads: Weights = field(default_factory=dict)
    pad_share: float = 0.0
    counters: Weights = field(default_factory=dict)
    counter_share: float = 0.0
    swing: tuple[int, ...] = (50,)
    swing_unit: int = 6
    sevenths: float = 0.0
    ninths: float = 0.0
    loops: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    loop_share: float = 0.0
    chord_bars: Mapping[float, float] = field(default_factory=lambda: {1.0: 1.0})
    chord_register: tuple[int, int] = (52, 69)
    voices: int = 3
    slows: float = 0.3  # how often the end slows down
    intro: float = 0.4  # how often a longer piece has an introduction
    articulation: str = "normal"


_MINOR_LOOPS = ("i bVI bIII bVII", "i bVII bVI bVII", "i iv bVI V", "i bVI iv V", "i iv bVII bIII", "i bIII bVII bVI")
_MAJOR_LOOPS = ("I V vi IV", "I vi IV V", "vi IV I V", "I IV vi V", "I iii IV V", "I IV I V")
_DORIAN_LOOPS = ("i IV", "i bVII IV i", "i IV i bVII", "i ii i IV", "i IV i i")
_MIXO_LOOPS = ("I bVII IV I", "I bVII", "I bVII I IV", "I v bVII I", "I I bVII I")
_LYDIAN_LOOPS = ("I II", "I II I V", "I II I vi", "I I II I", "I iii II I")
_PHRYGIAN_LOOPS = ("i bII", "i bII i bVII", "i i bII i", "i bVI bII i", "i bII bIII bII")
_MODAL = {"dorian": _DORIAN_LOOPS, "mixolydian": _MIXO_LOOPS, "lydian": _LYDIAN_LOOPS, "phrygian": _PHRYGIAN_LOOPS}

GENRES: dict[str, Genre] = {
    "lofi": Genre(
        metres={"4/4": 1}, tempo=(66, 90), modes={"minor": 4, "dorian": 3, "major": 4, "lydian": 0.5}, swing=(54, 57, 60), swing_unit=3,
        leads={"electric piano": 3, "piano": 3, "vibraphone": 2, "jazz guitar": 2, "kalimba": 1, "music box": 1, "flute": 1, "muted trumpet": 1},
        chords={"electric piano": 4, "jazz guitar": 1.5, "piano": 2, "nylon guitar": 1}, basses_of={"bass guitar": 3, "fretless bass": 1, "acoustic bass": 2},
        pads={"warm pad": 2, "slow strings": 1}, pad_share=0.25, figures={"soft": 4, "stab": 1, "arpeggio": 1}, basses={"lofi": 1}, manner="laidback",
        groove="lofi", sevenths=1.0, ninths=0.35, loop_share=0.85, voices=4, slows=0.2, articulation="legato",
        loops={**_MODAL, "major": ("IVmaj7 V7 Imaj7 vi7", "ii7 V7 Imaj7 vi7", "Imaj7 vi7 ii7 V7", "Imaj7 iii7 IVmaj7 V7", "vi7 ii7 V7 Imaj7", "Imaj9 IVmaj7"),
               "minor": ("i7 iv7 bVII7 bIIImaj7", "i9 bVImaj7 iv7 V7", "iv7 bVII7 bIIImaj7 i7", "bVImaj7 V7 i7 i7", "i7 bVImaj7 bIIImaj7 bVII7")},
    ),
    "waltz": Genre(
        metres={"3/4": 1}, tempo=(84, 184), modes={"major": 5, "minor": 4, "lydian": 0.3, "dorian": 0.4}, figures={"oompah": 4, "arpeggio": 1},
        leads={"violin": 3, "piano": 3, "flute": 2, "accordion": 2, "clarinet": 2, "strings": 1, "music box": 1, "celesta": 0.7, "cello": 1, "oboe": 0.7},
        chords={"piano": 4, "strings": 2, "harp": 1, "accordion": 1, "pizzicato": 1, "acoustic guitar": 1}, basses_of={"acoustic bass": 3, "cello": 1, "pizzicato": 1},
        counters={"clarinet": 1, "viola": 1, "cello": 1, "french horn": 1}, counter_share=0.35, basses={"root": 1}, manner="lyrical", groove="waltz", drums_share=0.35,
        sevenths=0.15, slows=0.75,
    ),
    "jazz": Genre(
        metres={"4/4": 9, "3/4": 1}, tempo=(96, 200), modes={"major": 5, "minor": 3, "dorian": 3, "mixolydian": 1}, swing=(60, 63, 66),
        leads={"alto sax": 3, "tenor sax": 2, "trumpet": 2, "piano": 3, "vibraphone": 1, "jazz guitar": 2, "muted trumpet": 1, "clarinet": 1, "soprano sax": 1, "trombone": 0.7},
        chords={"piano": 5, "jazz guitar": 2, "hammond": 1, "electric piano": 1, "vibraphone": 0.5}, basses_of={"acoustic bass": 6, "fretless bass": 1},
        figures={"comp": 1}, basses={"walk": 1}, manner="bebop", groove="jazz", sevenths=1.0, ninths=0.25, loop_share=0.5, voices=4, slows=0.15,
        loops={**_MODAL, "major": ("Imaj7 VI7 ii7 V7", "ii7 V7 Imaj7 Imaj7", "Imaj7 vi7 ii7 V7", "iii7 VI7 ii7 V7", "Imaj7 IVmaj7 iii7 VI7 ii7 V7 I6 V7"),
               "minor": ("i7 iih7 V7 i7", "i7 bVImaj7 iih7 V7", "iv7 bVII7 bIIImaj7 bVImaj7 iih7 V7 i7 i7"), "dorian": ("i7 IV7", "i7 ii7 i7 IV7", "i7 i7 IV7 i7")},
    ),
    "techno": Genre(
        metres={"4/4": 1}, tempo=(120, 142), modes={"minor": 6, "phrygian": 2, "dorian": 2, "major": 0.6}, figures={"stab": 3, "pulse": 2, "chip": 1},
        leads={"saw lead": 4, "square lead": 2, "synth": 2, "marimba": 0.5, "organ": 0.3, "piano": 0.5}, chords={"synth": 3, "saw lead": 1, "synth strings": 1, "electric piano": 0.7},
        basses_of={"synth bass": 4, "sub bass": 2}, pads={"sweep pad": 1, "warm pad": 1, "halo pad": 1}, pad_share=0.35, basses={"techno": 1}, manner="riff",
        groove="techno", fills="club", loop_share=0.95, slows=0.0, intro=0.85, articulation="staccato", chord_bars={1.0: 1, 2.0: 2},
        loops={**_MODAL, "minor": ("i i bVI bVII", "i bVI", "i bVII", "i i iv i", "i bIII bVII bVI"), "major": ("I IV", "vi IV I V")},
    ),
    "jig": Genre(
        metres={"6/8": 9, "2/4": 1}, tempo=(92, 132), modes={"major": 5, "dorian": 3, "mixolydian": 3, "minor": 1}, figures={"oompah": 3, "strum": 2},
        leads={"fiddle": 4, "whistle": 4, "flute": 2, "accordion": 3, "banjo": 1, "bagpipe": 1, "recorder": 1, "harmonica": 0.5},
        chords={"acoustic guitar": 5, "accordion": 1.5, "banjo": 1, "harp": 1}, basses_of={"acoustic bass": 4, "cello": 1}, counters={"fiddle": 1, "flute": 1, "whistle": 1},
        counter_share=0.25, basses={"jig": 1}, manner="running", groove="jig", fills="hand", drums_share=0.75, slows=0.05, intro=0.15, chord_bars={1.0: 3, 0.5: 1},
        loops={"major": ("I I IV V", "I V I V", "I IV I V", "I I V V"), "dorian": ("i i bVII bVII", "i bVII i bVII", "i bVII bIII bVII"),
               "mixolydian": ("I I bVII bVII", "I bVII I bVII", "I IV bVII I"), "minor": ("i bVII i V", "i iv bVII V")}, loop_share=0.6,
    ),
    "chiptune": Genre(
        metres={"4/4": 8, "2/4": 1, "3/4": 1}, tempo=(116, 176), modes={"major": 5, "minor": 4, "mixolydian": 1, "lydian": 1, "dorian": 1},
        leads={"square lead": 6, "saw lead": 1.5, "ocarina": 0.5}, chords={"square lead": 3, "synth": 1, "saw lead": 1}, basses_of={"synth bass": 2, "sub bass": 1, "square lead": 1},
        counters={"square lead": 1}, counter_share=0.3, figures={"chip": 4, "pulse": 1}, basses={"chip": 1}, manner="hook", groove="chip", fills="hard", loop_share=0.6,
        loops={**_MODAL, "major": (*_MAJOR_LOOPS, "I bVII IV I", "IV V vi I"), "minor": (*_MINOR_LOOPS, "bVI bVII i i")}, slows=0.0, intro=0.3, articulation="staccato",
        chord_register=(55, 74),
    ),
    "chorale": Genre(
        metres={"4/4": 4, "3/4": 1}, tempo=(58, 92), modes={"major": 5, "minor": 5, "dorian": 0.6}, leads={"organ": 3, "choir": 4, "strings": 2, "brass": 1.5, "trumpet": 0.7, "oboe": 0.5},
        chords={"organ": 3, "choir": 3, "strings": 2, "trombone": 1}, basses_of={"organ": 2, "choir": 2, "bassoon": 1, "trombone": 1, "cello": 1},
        counters={"choir": 3, "organ": 2, "strings": 2}, counter_share=1.0, figures={"block": 1}, basses={"root": 1}, manner="hymn", slows=0.9, intro=0.0, articulation="legato",
    ),
    "cinematic": Genre(
        metres={"4/4": 5, "3/4": 1.5, "6/8": 2}, tempo=(60, 132), modes={"minor": 6, "major": 2, "lydian": 1.5, "dorian": 1, "phrygian": 1},
        leads={"strings": 3, "french horn": 3, "violin": 2, "cello": 2, "choir": 1.5, "brass": 2, "piano": 1.5, "trumpet": 1, "oboe": 1},
        chords={"strings": 5, "piano": 2, "brass": 1, "harp": 1}, basses_of={"cello": 3, "strings": 2, "acoustic bass": 2}, pads={"choir": 2, "slow strings": 2, "halo pad": 1}, pad_share=0.55,
        counters={"french horn": 2, "cello": 2, "viola": 1}, counter_share=0.4, figures={"pulse": 3, "block": 2, "arpeggio": 3}, basses={"root": 2, "drone": 1, "rock": 1},
        manner="theme", groove="cinematic", fills="drum", drums_share=0.7, loop_share=0.7, slows=0.6, intro=0.7, chord_register=(50, 67),
        loops={**_MODAL, "minor": (*_MINOR_LOOPS, "i bVI bIII iv", "i bII bVI V"), "major": (*_MAJOR_LOOPS, "I bVI bVII I", "I iii vi IV")},
    ),
    "bossa": Genre(
        metres={"4/4": 8, "2/4": 1}, tempo=(104, 148), modes={"major": 5, "minor": 4, "dorian": 1}, basses={"bossa": 1}, figures={"bossa": 1},
        leads={"nylon guitar": 2, "flute": 3, "alto sax": 2, "piano": 2, "vibraphone": 1, "tenor sax": 1.5, "trombone": 0.5, "clarinet": 0.7, "harmonica": 0.5},
        chords={"nylon guitar": 5, "piano": 1.5, "electric piano": 1.5}, basses_of={"acoustic bass": 3, "fretless bass": 1, "bass guitar": 1}, manner="laidback",
        groove="bossa", drums_share=0.9, sevenths=1.0, ninths=0.4, loop_share=0.65, voices=4, slows=0.15, pads={"slow strings": 1}, pad_share=0.15,
        loops={"major": ("Imaj7 Imaj7 ii7 V7", "Imaj7 II7 ii7 V7", "Imaj7 vi7 ii7 V7", "ii7 V7 iii7 VI7"), "minor": ("i7 i7 iih7 V7", "i7 iv7 iih7 V7", "i9 bVImaj7 iih7 V7"), "dorian": ("i7 IV7",)},
    ),
    "rock": Genre(
        metres={"4/4": 8, "6/8": 1}, tempo=(96, 168), modes={"minor": 4, "major": 3, "mixolydian": 3, "dorian": 2, "phrygian": 0.5}, figures={"power": 4, "strum": 1.5},
        leads={"electric guitar": 4, "distorted guitar": 3, "clean guitar": 1, "hammond": 1, "piano": 0.7, "saw lead": 0.5, "harmonica": 0.5},
        chords={"distorted guitar": 3, "electric guitar": 3, "clean guitar": 1, "acoustic guitar": 0.7, "hammond": 0.5}, basses_of={"bass guitar": 1}, basses={"rock": 1},
        manner="riffy", groove="rock", fills="hard", loop_share=0.85, slows=0.1, intro=0.5, chord_register=(45, 62),
        loops={**_MODAL, "minor": (*_MINOR_LOOPS, "i bVII bVI bVII", "i bIII iv bVI"), "major": (*_MAJOR_LOOPS, "I IV V IV", "I bVII IV I"), "mixolydian": ("I bVII IV I", "I bVII IV IV", "I IV bVII IV")},
    ),
    "ambient": Genre(
        metres={"4/4": 5, "3/4": 1, "6/8": 1.5}, tempo=(50, 80), modes={"major": 3, "lydian": 3, "minor": 3, "dorian": 2}, figures={"arpeggio": 3, "block": 2, "soft": 1},
        leads={"piano": 3, "flute": 1, "celesta": 1, "kalimba": 1, "halo pad": 1, "vibraphone": 1, "pan flute": 1, "choir": 1, "clean guitar": 1, "harp": 1},
        chords={"warm pad": 2, "harp": 1.5, "electric piano": 1.5, "synth": 1, "piano": 1, "vibraphone": 0.7}, basses_of={"sub bass": 1, "cello": 1, "fretless bass": 1, "slow strings": 1},
        pads={"halo pad": 2, "sweep pad": 2, "choir pad": 2, "slow strings": 1, "warm pad": 2}, pad_share=0.85, basses={"drone": 1}, manner="floating", groove="ambient",
        drums_share=0.2, sevenths=0.4, ninths=0.3, loop_share=0.7, chord_bars={2.0: 2, 1.0: 1}, slows=0.6, intro=0.6, articulation="legato", voices=4,
        loops={**_MODAL, "major": ("Imaj7 IVmaj7", "I iii IV I", "IVmaj7 I vi V", "I ii IV I"), "minor": ("i bVI bIII bVII", "i iv i bVI", "i bVImaj7")},
    ),
    "march": Genre(
        metres={"2/4": 4, "4/4": 3, "6/8": 2}, tempo=(96, 126), modes={"major": 7, "minor": 3, "mixolydian": 0.4}, figures={"oompah": 4, "block": 0.5}, basses={"march": 1},
        leads={"trumpet": 4, "brass": 2, "piccolo": 2, "clarinet": 1.5, "flute": 1, "trombone": 1, "french horn": 1, "whistle": 0.5},
        chords={"brass": 4, "french horn": 2, "trombone": 1, "piano": 0.7, "accordion": 0.5}, basses_of={"tuba": 4, "bassoon": 1, "acoustic bass": 1},
        counters={"trombone": 1, "clarinet": 1, "french horn": 1}, counter_share=0.35, manner="fanfare", groove="march", fills="hard", sevenths=0.1, slows=0.25, intro=0.4,
        articulation="staccato", chord_register=(52, 67),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Mood:
    """``tempo``: where in the genre's range, 0 to 1. ``modes`` multiply the genre's. ``register``: semitones. ``dynamic``: 1 to 6."""

    tempo: tuple[float, float]
    modes: Weights
    register: int
    densities: tuple[float, float, float]  # sparse, medium, dense
    dynamic: tuple[int, int]  # quietest and loudest section
    articulation: str = ""  # "" keeps the genre's
    drums: float = 1.0  # multiplies the chance of drums
    pad: float = 0.0  # adds to the chance of a pad
    leap: float = 1.0  # multiplies leaps and off-beat pushes
    slow: float = 1.0  # multiplies the chance of a ritardando
    colour: str = ""  # a chord the mood likes to borrow
    contours: Weights = field(default_factory=dict)  # multiply the manner's
    rhythm: tuple[float, float, float] = (1.0, 1.0, 1.0)  # multiply the manner's dotted notes, syncopation, rests


MOODS: dict[str, Mood] = {
    "calm": Mood((0.0, 0.35), {"major": 2, "lydian": 1.0, "minor": 0.5, "phrygian": 0.1}, -1, (5, 3, 0.3), (1, 2), "legato", 0.5, 0.2, 0.6, 2.0,
                 contours={"arch": 2, "turn": 2, "zigzag": 0.3, "leap": 0.4}, rhythm=(0.3, 0.4, 0.7)),
    "happy": Mood((0.5, 0.95), {"major": 5, "mixolydian": 2, "lydian": 1, "minor": 0.12, "dorian": 0.4, "phrygian": 0}, 3, (0.5, 4, 3), (4, 5), "", 1.2, 0, 1.1,
                 contours={"arpeggio": 2.5, "rise": 2, "fall": 0.6}, rhythm=(1.0, 1.0, 0.6)),
    "sad": Mood((0.0, 0.3), {"minor": 6, "major": 0.1, "dorian": 1, "mixolydian": 0.1, "lydian": 0.1}, -3, (4, 4, 0.4), (2, 3), "legato", 0.6, 0.1, 0.7, 2.0, "iv",
                 contours={"fall": 5, "rise": 0.2, "turn": 1.5}, rhythm=(1.0, 0.5, 1.0)),
    "epic": Mood((0.35, 0.85), {"minor": 3, "major": 1, "lydian": 1, "dorian": 1}, 0, (0.2, 3, 5), (4, 6), "", 1.5, 0.3, 1.2, 1.2, "bVI",
                 contours={"rise": 3, "leap": 2.5, "turn": 0.4}, rhythm=(4.0, 0.5, 0.3)),
    "tense": Mood((0.45, 0.95), {"phrygian": 6, "minor": 4, "major": 0.03, "dorian": 0.6, "lydian": 0.1, "mixolydian": 0.1}, -3, (1, 4, 4), (3, 6), "staccato", 1.2, 0.1, 0.8, 0.4, "bII",
                 contours={"repeat": 5, "turn": 2, "arpeggio": 0.3}, rhythm=(0.5, 1.5, 1.6)),
    "dreamy": Mood((0.05, 0.45), {"lydian": 6, "major": 2, "dorian": 1, "minor": 0.6, "phrygian": 0.1}, 5, (4, 4, 0.7), (2, 4), "legato", 0.4, 0.4, 1.0, 1.6, "iii",
                 contours={"arpeggio": 3, "leap": 2, "repeat": 0.2}, rhythm=(0.3, 1.3, 1.3)),
    "playful": Mood((0.55, 1.0), {"major": 4, "mixolydian": 2, "lydian": 1.5, "minor": 0.3, "phrygian": 0.05}, 4, (0.7, 4, 3), (3, 5), "staccato", 1.0, -0.3, 1.6, 0.4,
                 contours={"zigzag": 4, "leap": 2, "repeat": 1.5}, rhythm=(0.8, 1.3, 3.5)),
    "dark": Mood((0.0, 0.5), {"minor": 4, "phrygian": 5, "major": 0.03, "dorian": 0.5, "mixolydian": 0.05, "lydian": 0.02}, -7, (2, 4, 2), (3, 5), "", 1.0, 0.3, 0.7, 1.0, "bII",
                 contours={"turn": 3, "fall": 2.5, "repeat": 1.5, "arpeggio": 0.3}, rhythm=(1.0, 0.7, 1.2)),
    "romantic": Mood((0.1, 0.5), {"major": 3, "minor": 2, "lydian": 0.7, "phrygian": 0, "mixolydian": 0.2}, 1, (1.5, 5, 1.2), (3, 5), "legato", 0.5, 0.2, 1.4, 2.0, "iv",
                 contours={"leap": 4, "arch": 2.5, "repeat": 0.3}, rhythm=(2.0, 0.6, 0.3)),
    "energetic": Mood((0.7, 1.0), {"major": 1.5, "minor": 1.5, "mixolydian": 1.5, "dorian": 1.2}, 2, (0, 2, 6), (5, 6), "", 2.0, -0.1, 1.2, 0.1,
                 contours={"repeat": 2, "zigzag": 2, "arpeggio": 1.5}, rhythm=(0.6, 2.2, 0.6)),
}  # fmt: skip
