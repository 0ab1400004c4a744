"""What a piece is to be: genre, mood, key, metre, tempo, instruments, density and length, chosen or completed.

Held out: 15 % of the genre x mood x lead combinations, which training never hears.

    complete(random.Random(1), genre="waltz", mood="calm", tonic=2, mode="minor")
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.recipes.music_genres import DENSITIES, GENRES, MOODS, Genre, Weights
from pipelines.recipes.music_instruments import BY_NAME
from pipelines.recipes.music_score import BAR_TICKS, TEMPO_HIGH, TEMPO_LOW, TEMPO_STEP
from pipelines.recipes.music_theory import MODES

COMBINATION_SHARE = 0.15
BARS = {4: 1.5, 6: 0.4, 8: 3.0, 10: 0.4, 12: 1.5, 14: 0.2, 16: 4.0, 18: 0.3, 20: 1.0, 24: 1.5, 28: 0.4, 32: 1.5}
_LEADS = tuple(n for n, i in BY_NAME.items() if i.high > 70 and "bass" not in n)
_BASSES = tuple(n for n, i in BY_NAME.items() if i.low < 37)
_COMPANIONS = ("piano", "strings", "organ", "acoustic guitar", "nylon guitar", "electric piano", "harp", "synth", "accordion", "choir", "brass", "vibraphone", "marimba", "warm pad")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A wish in full. ``instruments``: role -> name in music_instruments, or "drums"."""

    genre: str
    mood: str
    tonic: int
    mode: str
    metre: str
    tempo_bpm: int  # felt beats a minute
    bars: int
    density: str
    instruments: tuple[tuple[str, str], ...]

    @property
    def lead(self) -> str:
        return dict(self.instruments)["lead"]

    @property
    def is_held_out(self) -> bool:
        return is_held_out(self.genre, self.mood, self.lead)


def is_held_out(genre: str, mood: str, lead: str) -> bool:
    """A stable pseudo-random choice of combinations, the same on every machine and in every run."""
    digest = hashlib.sha256(f"{genre}|{mood}|{lead}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < COMBINATION_SHARE


def draw(rng: random.Random, weights: Mapping[Any, float]) -> Any:
    return rng.choices(list(weights), list(weights.values()))[0]


def _product(one: Weights, two: Weights) -> dict[str, float]:
    return {k: v * two.get(k, 1.0) for k, v in one.items()}


def _instruments(rng: random.Random, genre_name: str, genre: Genre, mood: str, density: str, wanted: Mapping[str, str]) -> dict[str, str]:  # fmt: skip
    feeling, out = MOODS[mood], {}
    usual = rng.random() < 0.8
    out["lead"] = wanted.get("lead") or (draw(rng, genre.leads) if usual else rng.choice(_LEADS))
    more = {"sparse": 0.6, "medium": 1.0, "dense": 1.5}[density]
    if "counter" in wanted or rng.random() < genre.counter_share * (1 if genre_name == "chorale" else more):
        names = genre.counters or dict.fromkeys(_COMPANIONS, 1.0)
        out["counter"] = wanted.get("counter") or draw(
            rng, {k: v for k, v in names.items() if k != out["lead"]} or names
        )
    out["chords"] = wanted.get("chords") or (
        draw(rng, genre.chords) if rng.random() < 0.88 else rng.choice(_COMPANIONS)
    )
    if "pad" in wanted or (genre.pads and rng.random() < (genre.pad_share + feeling.pad) * min(1.0, more)):
        out["pad"] = wanted.get("pad") or draw(rng, genre.pads)
    out["bass"] = wanted.get("bass") or (draw(rng, genre.basses_of) if rng.random() < 0.93 else rng.choice(_BASSES))
    if genre_name == "chorale" and not wanted and rng.random() < 0.75:  # one body of sound
        same = rng.choice(("organ", "choir", "strings"))
        out = dict.fromkeys(("lead", "counter", "chords", "bass"), same)
    chance = genre.drums_share * feeling.drums * (0.85 if density == "sparse" else 1)
    if "drums" in wanted or rng.random() < (
        max(0.93, chance) if genre.drums_share >= 1 and genre.groove else chance if genre.groove else 0.02
    ):
        out["drums"] = "drums"
    return out


def complete(rng: random.Random, *, held_out: bool | None = None, **wanted: Any) -> Spec:
    """A spec with everything that is not given chosen as the genre and mood suggest, now and then against their habit.

    ``wanted``: fields of Spec; ``instruments`` may be a mapping of some roles. ``held_out`` True or False asks for (or
    keeps out) combinations that training never hears. Raises KeyError for an unknown genre or mood."""
    for _ in range(500):
        genre_name = wanted.get("genre") or rng.choice(tuple(GENRES))
        mood = wanted.get("mood") or rng.choice(tuple(MOODS))
        genre, feeling = GENRES[genre_name], MOODS[mood]
        density = wanted.get("density") or draw(rng, dict(zip(DENSITIES, feeling.densities, strict=True)))
        weights = _product(genre.modes, feeling.modes) if rng.random() < 0.92 else dict.fromkeys(MODES, 1.0)
        metre = wanted.get("metre") or (
            draw(rng, genre.metres) if rng.random() < 0.94 else rng.choice(tuple(BAR_TICKS))
        )
        low, high = genre.tempo
        share = rng.uniform(*feeling.tempo) if rng.random() < 0.9 else rng.uniform(-0.25, 1.25)
        tempo = low + (high - low) * share
        if metre == "6/8" and "6/8" not in genre.metres:
            tempo *= 0.75
        tempo = wanted.get("tempo_bpm") or max(44, min(200, tempo))
        spec = Spec(
            genre=genre_name, mood=mood, tonic=wanted["tonic"] if "tonic" in wanted else rng.randrange(12), mode=wanted.get("mode") or draw(rng, weights),
            metre=metre, tempo_bpm=max(TEMPO_LOW, min(TEMPO_HIGH, round(tempo / TEMPO_STEP) * TEMPO_STEP)), bars=wanted.get("bars") or draw(rng, BARS), density=density,
            instruments=tuple(_instruments(rng, genre_name, genre, mood, density, dict(wanted.get("instruments", {}))).items()),
        )  # fmt: skip
        if held_out is None or spec.is_held_out == held_out:
            return spec
    raise ValueError(f"no such combination with held_out={held_out}: {wanted}")
