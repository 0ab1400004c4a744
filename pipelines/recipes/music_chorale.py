"""Four-part writing: voicings for a row of chords that move smoothly, without parallel fifths and octaves.

A beam search over all close and open voicings, by the textbook's rules: ranges, spacing, doubled roots, no crossing,
leading notes that rise, sevenths that fall, contrary motion of the outer voices.

    four_parts([roman("I"), roman("IV"), roman("V7"), roman("I")], random.Random(1))
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from itertools import product

from pipelines.recipes.music_score import Chord
from pipelines.recipes.music_theory import QUALITIES

Voicing = tuple[int, int, int, int]  # bass, tenor, alto, soprano
RANGES = ((40, 60), (48, 66), (55, 73), (60, 79))
BEAM = 6


@lru_cache(maxsize=4096)
def _voicings(chord: Chord, shift: int) -> tuple[tuple[float, Voicing], ...]:
    """All voicings in range (sounding ``shift`` above what is written), each with its static cost, best first."""
    tones = [(chord.root + i) % 12 for i in QUALITIES[chord.quality]]
    root, third = tones[0], tones[1]
    needed = set(tones) - ({(chord.root + 7) % 12} if len(tones) == 4 else set())
    out = []
    ranges = [range(low - shift, high - shift + 1) for low, high in RANGES]
    bass_tones = [p for p in ranges[0] if p % 12 in (root, third)]
    tenor, alto, soprano = ([p for p in r if p % 12 in tones] for r in ranges[1:])
    for b, t, a, s in product(bass_tones, tenor, alto, soprano):
        if not (b < t < a < s) or s - a > 12 or a - t > 12 or t - b > 19:
            continue
        classes = [p % 12 for p in (b, t, a, s)]
        if not needed <= set(classes):
            continue
        cost = 0.0 if b % 12 == root else 2.5
        cost += 3.0 * (classes.count(third) - 1)
        cost += 6.0 * (classes.count(11) - 1 if 11 in classes else 0)
        cost += 0.06 * abs(s + shift - 70) + 0.05 * abs(b + shift - 50) + 0.04 * abs(t + shift - 57)
        out.append((cost, (b, t, a, s)))
    out.sort()
    return tuple(out[:90])


@lru_cache(maxsize=600_000)
def _move(one: Voicing, two: Voicing) -> float:
    """How ill it is to go from one voicing to the next."""
    if one == two:
        return 1.5
    cost = 0.0
    for i in range(4):
        leap = abs(two[i] - one[i])
        cost += (
            leap * (0.45 if i in (1, 2) else 0.25)
            + (4.0 if leap > 7 and i else 0)
            + (6.0 if leap in (6, 10, 11) or leap > 12 else 0)
        )
        cost += (
            5.0 if one[i] % 12 == 11 and i == 3 and two[i] - one[i] not in (0, 1) and 0 in (p % 12 for p in two) else 0
        )
        for j in range(i + 1, 4):
            interval = (one[j] - one[i]) % 12
            if interval in (0, 7) and (two[j] - two[i]) % 12 == interval and one[i] != two[i]:
                cost += 40.0
    cost += 20.0 * sum(two[i] > one[i + 1] or two[i + 1] < one[i] for i in range(3))
    up, down = two[3] - one[3], two[0] - one[0]
    cost += 1.0 if up * down > 0 else -0.8 if up * down < 0 else 0
    cost += 12.0 if up * down > 0 and abs(up) > 2 and (two[3] - two[0]) % 12 in (0, 7) else 0  # hidden
    cost += 2.2 if up == 0 else 0
    return cost


def four_parts(chords: Sequence[Chord], rng: random.Random, shift: int = 0, final: bool = True) -> list[Voicing]:
    """One voicing a chord. ``final``: the last one has the root in the bass and the tonic (or its third) on top."""
    beam: list[tuple[float, tuple[Voicing, ...]]] = [(0.0, ())]
    wander = [rng.uniform(-5, 5) for _ in range(len(chords) // 4 + 2)]
    for index, chord in enumerate(chords):
        is_end = index == len(chords) - 1
        grown = []
        options = _voicings(chord, shift)
        if len(options) > 32:
            options = options[:14] + tuple(rng.sample(options[14:], 18))
        aim = 69 - shift + wander[index // 4] * (1 - index % 4 / 4) + wander[index // 4 + 1] * (index % 4 / 4)
        for static, voicing in options:
            local = static + 0.35 * abs(voicing[3] - aim) + rng.random() * 1.5
            if is_end and final:
                local += (
                    8.0 * (voicing[0] % 12 != chord.root)
                    + (0, 2.0, 5.0)[(voicing[3] % 12 != 0) + (voicing[3] % 12 == 7)]
                )
            for cost, path in beam:
                grown.append((cost + local + (_move(path[-1], voicing) if path else 0.0), (*path, voicing)))
        grown.sort(key=lambda g: g[0])
        beam = grown[:BEAM]
    return list(beam[0][1])


def parallels(upper: Sequence[int], lower: Sequence[int]) -> int:
    """Parallel fifths and octaves between two voices, counted where both move."""
    count = 0
    for (u, b), (v, c) in zip(zip(upper, lower, strict=True), list(zip(upper, lower, strict=True))[1:], strict=False):
        count += u != v and b != c and (u - b) % 12 in (0, 7) and (v - c) % 12 == (u - b) % 12
    return count
