"""The instruments the composer writes for: General MIDI program, comfortable range, what people call them.

BY_NAME["flute"].words
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Instrument:
    name: str
    program: int
    low: int  # sounding MIDI pitches of a comfortable melody
    high: int
    words: tuple[str, ...]  # the last word of four or more is kept from training prompts
    is_short: bool = False  # plucked or struck: does not hold


_TABLE = (
    ("piano", 0, 52, 88, "piano", "grand piano", "acoustic piano", "pianoforte"),
    ("electric piano", 4, 50, 84, "electric piano", "rhodes", "e-piano", "fender rhodes"),
    ("harpsichord", 6, 52, 84, "harpsichord", "cembalo"),
    ("celesta", 8, 64, 96, "celesta", "celeste"),
    ("glockenspiel", 9, 67, 96, "glockenspiel", "bells"),
    ("music box", 10, 62, 94, "music box", "musical box"),
    ("vibraphone", 11, 55, 84, "vibraphone", "vibes"),
    ("marimba", 12, 50, 84, "marimba", "xylophone"),
    ("organ", 19, 48, 84, "organ", "church organ", "pipe organ", "cathedral organ"),
    ("hammond", 16, 50, 82, "hammond", "hammond organ", "drawbar organ"),
    ("accordion", 21, 55, 86, "accordion", "squeezebox", "concertina"),
    ("harmonica", 22, 60, 86, "harmonica", "blues harp"),
    ("nylon guitar", 24, 50, 79, "nylon guitar", "classical guitar", "spanish guitar", "nylon-string guitar"),
    ("acoustic guitar", 25, 50, 79, "acoustic guitar", "guitar", "steel guitar", "folk guitar"),
    ("jazz guitar", 26, 50, 79, "jazz guitar", "mellow guitar"),
    ("clean guitar", 27, 50, 80, "clean guitar", "clean electric guitar"),
    ("electric guitar", 29, 50, 84, "electric guitar", "overdriven guitar", "e-guitar"),
    ("distorted guitar", 30, 50, 84, "distorted guitar", "distortion guitar", "heavy guitar", "fuzz guitar"),
    ("acoustic bass", 32, 28, 52, "double bass", "acoustic bass", "upright bass", "string bass"),
    ("bass guitar", 33, 28, 52, "bass guitar", "electric bass", "bass"),
    ("fretless bass", 35, 28, 52, "fretless bass"),
    ("synth bass", 38, 26, 52, "synth bass", "acid bass", "bass synth"),
    ("sub bass", 39, 26, 50, "sub bass", "deep synth bass"),
    ("violin", 40, 57, 93, "violin", "solo violin"),
    (
        "viola",
        41,
        50,
        82,
        "viola",
    ),
    ("cello", 42, 38, 70, "cello", "violoncello", "solo cello"),
    ("pizzicato", 45, 45, 84, "pizzicato strings", "plucked strings", "pizzicato"),
    ("harp", 46, 45, 88, "harp", "concert harp"),
    ("strings", 48, 43, 86, "strings", "string ensemble", "string section", "orchestral strings"),
    ("slow strings", 49, 43, 84, "slow strings", "soft strings", "violins"),
    (
        "synth strings",
        50,
        43,
        84,
        "synth strings",
    ),
    ("choir", 52, 48, 80, "choir", "voices", "chorus", "choral voices"),
    ("trumpet", 56, 55, 84, "trumpet", "cornet"),
    (
        "muted trumpet",
        59,
        55,
        82,
        "muted trumpet",
    ),
    (
        "trombone",
        57,
        42,
        70,
        "trombone",
    ),
    ("tuba", 58, 28, 52, "tuba", "sousaphone"),
    ("french horn", 60, 46, 77, "french horn", "horn", "horns"),
    ("brass", 61, 46, 80, "brass", "brass section", "brass ensemble"),
    ("soprano sax", 64, 57, 86, "soprano sax", "soprano saxophone"),
    ("alto sax", 65, 52, 81, "alto sax", "saxophone", "sax", "alto saxophone"),
    ("tenor sax", 66, 46, 76, "tenor sax", "tenor saxophone"),
    (
        "oboe",
        68,
        59,
        88,
        "oboe",
    ),
    (
        "bassoon",
        70,
        36,
        68,
        "bassoon",
    ),
    (
        "clarinet",
        71,
        52,
        86,
        "clarinet",
    ),
    (
        "piccolo",
        72,
        72,
        98,
        "piccolo",
    ),
    ("flute", 73, 60, 93, "flute", "concert flute"),
    ("recorder", 74, 62, 91, "recorder", "wooden flute"),
    ("pan flute", 75, 62, 88, "pan flute", "panpipes"),
    ("whistle", 78, 67, 93, "tin whistle", "whistle", "penny whistle", "irish whistle"),
    (
        "ocarina",
        79,
        62,
        88,
        "ocarina",
    ),
    ("square lead", 80, 55, 91, "square lead", "square wave", "pulse wave", "8-bit lead"),
    ("saw lead", 81, 50, 88, "saw lead", "synth lead", "lead synth", "sawtooth lead"),
    ("warm pad", 89, 45, 80, "warm pad", "synth pad", "pad", "analog pad"),
    ("choir pad", 91, 48, 79, "choir pad", "vocal pad"),
    ("halo pad", 94, 48, 80, "halo pad", "airy pad"),
    ("sweep pad", 95, 45, 79, "sweep pad", "evolving pad"),
    ("synth", 90, 50, 84, "synth", "polysynth", "synthesizer", "synthesiser"),
    (
        "banjo",
        105,
        50,
        81,
        "banjo",
    ),
    ("bagpipe", 109, 60, 82, "bagpipe", "bagpipes"),
    ("fiddle", 110, 55, 91, "fiddle", "folk violin"),
    ("kalimba", 108, 57, 88, "kalimba", "thumb piano"),
    ("steel drum", 114, 55, 84, "steel drum", "steelpan"),
)
_SHORT = {
    "piano", "electric piano", "harpsichord", "celesta", "glockenspiel", "music box", "vibraphone", "marimba", "nylon guitar",
    "acoustic guitar", "jazz guitar", "clean guitar", "pizzicato", "harp", "banjo", "kalimba", "steel drum",
}  # fmt: skip
INSTRUMENTS = tuple(Instrument(n, p, lo, hi, tuple(words), n in _SHORT) for n, p, lo, hi, *words in _TABLE)
BY_NAME = {i.name: i for i in INSTRUMENTS}
BY_PROGRAM = {i.program: i for i in INSTRUMENTS}
