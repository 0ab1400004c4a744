"""Scores as sound and as MIDI files: one synthesiser pass a track, levelled, panned, a room around it, -16 LUFS.

The synthesiser is TinySoundFont (package tinysoundfont, MIT) with the SoundFont inside the pretty_midi package (TimGM6mb
by Tim Brechbill, GPL-2.0; the sound made with it is free). Not symusic's own synthesiser: 0.5.9 plays this SoundFont's
piano, guitars, accordion, vibraphone and fiddle 1 to 27 semitones off (its issue 55) and its whistle blows up to 1e19.
symusic reads and writes the MIDI files. Loudness by pyloudnorm (ITU-R BS.1770).

    audio = render(score)            # float32, (samples, 2), 44,100 Hz
"""

from __future__ import annotations

import importlib
import random
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipelines.recipes.music_score import BAR_TICKS, BEAT_TICKS, DRUMS, TICKS, Score, Track, velocity

SAMPLE_RATE_HZ = 44_100
LOUDNESS_LUFS, PEAK_DBFS = -16.0, -1.05  # a little under -1, so that 16-bit rounding stays there too
TICKS_PER_QUARTER = 480
TAIL_S = 1.8
#: Level of a role in the mix (dB) and its place from left (-1) to right (1).
LEVELS_DB = {"lead": -1.5, "counter": -5.0, "chords": -5.0, "pad": -9.5, "bass": -2.0, "drums": -2.0}
#: What a genre puts forward or back.
TRIMS_DB = {"techno": {"drums": 5.0, "bass": 3.0, "lead": -2.0}, "rock": {"drums": 3.0, "chords": 2.0, "bass": 1.0}, "lofi": {"drums": 2.0, "lead": -1.0, "chords": 1.0},
            "chorale": {"lead": -2.0, "bass": 1.0}, "ambient": {"pad": 3.0, "lead": -1.0, "bass": -2.5}, "jazz": {"drums": 5.0, "chords": 3.0}, "cinematic": {"pad": 2.0, "bass": -2.5}, "jig": {"chords": 2.0}, "march": {"drums": 1.0, "chords": 2.0}}  # fmt: skip
PANS = {"lead": 0.08, "counter": -0.4, "chords": 0.32, "pad": -0.15, "bass": 0.0, "drums": -0.05}
#: Room by genre: seconds to decay by 60 dB, share of the reverberated sound.
ROOMS = {"chorale": (2.4, 0.34), "cinematic": (2.2, 0.3), "ambient": (3.2, 0.42), "waltz": (1.4, 0.2), "march": (1.3, 0.17), "lofi": (0.9, 0.14),
         "jazz": (0.9, 0.14), "bossa": (1.0, 0.15), "jig": (0.8, 0.12), "rock": (0.8, 0.1), "techno": (0.9, 0.1), "chiptune": (0.5, 0.05)}  # fmt: skip
_GATES = {"legato": 1.0, "normal": 0.92, "staccato": 0.6}


class SilentMusic(ValueError):
    """The piece has no notes, or the rendered sound is silent or not finite."""


# --- time -----------------------------------------------------------------------------------------------------
def swung(tick: int, swing: int, unit: int) -> float:
    """Where a tick sounds when the second of two units stands at ``swing`` per cent of both."""
    pair, inside = divmod(tick, 2 * unit)
    middle = 2 * unit * swing / 100
    return pair * 2 * unit + (
        inside * middle / unit if inside <= unit else middle + (inside - unit) * (2 * unit - middle) / unit
    )


def tempo_map(score: Score) -> list[tuple[int, float]]:
    """(tick, quarter notes a minute): the written tempo, then from the bar that slows down beat by beat to 62 %."""
    head, beat = score.header, BEAT_TICKS[score.header.metre]
    quarters = head.tempo_bpm * beat / TICKS
    out = [(0, quarters)]
    begin = next((i for i, b in enumerate(score.bars) if b.slows), None)
    if begin is not None:
        beats = range(begin * BAR_TICKS[head.metre], score.end_tick, beat)
        out += [(t, quarters * (1 - 0.38 * (i + 1) / len(beats))) for i, t in enumerate(beats)]
    return out


def to_symusic(score: Score, roles: tuple[str, ...] | None = None) -> Any:
    """The score as a symusic Score (480 ticks a quarter), with swing, dynamics and articulation played out. ``roles``: only these tracks."""
    symusic: Any = importlib.import_module("symusic")

    head, scale = score.header, TICKS_PER_QUARTER // TICKS
    out = symusic.Score(TICKS_PER_QUARTER)
    tempi = tempo_map(score)
    for tick, quarters in tempi:
        out.tempos.append(symusic.Tempo(tick * scale, quarters))
    numerator, denominator = (int(n) for n in head.metre.split("/"))
    out.time_signatures.append(symusic.TimeSignature(0, numerator, denominator))
    is_minor = head.mode in ("minor", "dorian", "phrygian")
    fifths = ((head.tonic + (3 if is_minor else 0)) * 7 + 5) % 12 - 5
    out.key_signatures.append(symusic.KeySignature(0, fifths, int(is_minor)))
    for track in score.tracks:
        if roles is not None and track.role not in roles:
            continue
        written = symusic.Track(track.role, track.program, track.role == "drums")
        gate = _GATES[track.articulation]
        for note in track.notes:
            start = round(swung(note.start, head.swing, head.swing_unit) * scale)
            stop = swung(note.start + note.duration, head.swing, head.swing_unit) * scale
            bar = min(note.start // score.bar_ticks, len(score.bars) - 1)
            is_last = note.start + note.duration >= score.end_tick
            length = max(20, round((stop - start) * (1.0 if is_last else gate)))
            loud = velocity(track.role, score.bars[bar].dynamic, note.start % score.bar_ticks, head.metre, note.pitch)
            loud += random.Random(f"{track.role}{note}").randint(-4, 4)  # no hand is a machine; the same in every run
            key = 38 if track.role == "drums" and note.pitch == DRUMS["g"] else note.pitch
            written.notes.append(symusic.Note(start, length, key, max(8, min(127, loud))))
        out.tracks.append(written)
    return out


def write_midi(score: Score, path: Path) -> None:
    to_symusic(score).dump_midi(str(path))


# --- sound ----------------------------------------------------------------------------------------------------
def soundfont() -> Path:
    import pretty_midi

    return Path(pretty_midi.__file__).with_name("TimGM6mb.sf2")


def synthesise(events: list[tuple[float, float, int, int]], program: int, is_drum: bool, tail_s: float = TAIL_S) -> Any:
    """(start s, end s, key, velocity) -> float32 (samples, 2), ringing out for ``tail_s``. A synthesiser of its own each
    time (the SoundFont loads in some 20 ms), so that calls from several threads do not meet."""
    import numpy as np

    tinysoundfont: Any = importlib.import_module("tinysoundfont")
    synth = tinysoundfont.Synth(samplerate=SAMPLE_RATE_HZ, gain=0)
    font = synth.sfload(str(soundfont()))
    synth.program_select(0, font, 128 if is_drum else 0, program, is_drum)
    changes = sorted(
        [(round(e[1] * SAMPLE_RATE_HZ), 0, e[2], 0) for e in events]
        + [(round(e[0] * SAMPLE_RATE_HZ), 1, e[2], e[3]) for e in events]
    )
    length = (changes[-1][0] if changes else 0) + int(tail_s * SAMPLE_RATE_HZ)
    out, now = np.zeros((length, 2), np.float32), 0
    for at, is_on, key, loud in [*changes, (length, 0, 0, 0)]:
        if at > now:
            out[now:at] = np.frombuffer(synth.generate(at - now), np.float32).reshape(-1, 2)
            now = at
        if is_on:
            synth.noteon(0, key, loud)
        else:
            synth.noteoff(0, key)
    return out


@lru_cache(maxsize=512)
def _program_gain(program: int, register: int, is_drum: bool) -> float:
    """What makes one program as loud as another: the RMS of a short scale around this register, K-weighted roughly by
    its loudest half."""
    import numpy as np

    keys = (36, 42, 38, 42) * 2 if is_drum else [register + i for i in (0, 4, 7, 2, 5, 9, 4, 0)]
    sound = synthesise([(i * 0.25, i * 0.25 + 0.25, key, 90) for i, key in enumerate(keys)], program, is_drum, 0.1).T
    blocks = sound[:, : sound.shape[1] // 2205 * 2205].reshape(2, -1, 2205)
    power = np.sort((blocks**2).mean(axis=(0, 2)))
    level = float(np.sqrt(power[len(power) // 2 :].mean()))
    return 0.05 / max(level, 1e-4)


def stem(score: Score, track: Track) -> Any:
    """One track as it stands in the mix: float32 (samples, 2), levelled by role, panned, dry.

    Raises SilentMusic where the synthesiser returns samples that are not finite or far beyond any sound."""
    import numpy as np

    written = to_symusic(score, (track.role,)).to("second").tracks[0]
    events = [(n.start, n.start + n.duration, n.pitch, n.velocity) for n in written.notes]
    sound = synthesise(events, track.program, track.role == "drums")
    if not np.isfinite(sound).all() or float(np.abs(sound).max()) > 50:
        raise SilentMusic(f"the synthesiser cannot play program {track.program}: its samples run away")
    pitches = sorted(n.pitch for n in track.notes)
    register = max(28, min(88, pitches[len(pitches) // 2] // 6 * 6 - 4))
    gain = _program_gain(track.program, 60 if track.role == "drums" else register, track.role == "drums")
    voices = len(track.notes) / max(1, len({n.start for n in track.notes}))
    level = LEVELS_DB[track.role] + TRIMS_DB.get(score.header.genre, {}).get(track.role, 0.0)
    gain *= 10 ** (level / 20) / (voices**0.5 if track.role != "drums" else 1.0)
    angle = (PANS[track.role] + 1) * np.pi / 4
    middle = sound.mean(axis=1, keepdims=True) * 0.6 + sound * 0.4
    return (middle * gain * 1.414 * np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)).astype(np.float32)


@lru_cache(maxsize=8)
def _room(decay_s: float) -> Any:
    """A stereo impulse response: noise that dies away and darkens (no recording, so no licence)."""
    import numpy as np

    rng = np.random.default_rng(7)
    count = int(decay_s * SAMPLE_RATE_HZ)
    noise = rng.standard_normal((count, 2)) * np.exp(-6.9 * np.linspace(0, 1, count))[:, None]
    smooth = np.array([0.06, 0.24, 0.4, 0.24, 0.06])
    noise = np.stack([np.convolve(noise[:, c], smooth, "same") for c in (0, 1)], axis=1)
    noise[: int(0.012 * SAMPLE_RATE_HZ)] = 0  # the direct sound comes first
    return (noise / np.sqrt((noise**2).sum(axis=0))).astype(np.float32)


def limited(sound: Any, ceiling: float) -> Any:
    """Peaks above ``ceiling`` are turned down for some 30 ms around them, without a step in the gain."""
    import numpy as np

    block = 220
    count = -(-len(sound) // block)
    padded = np.zeros((count * block, 2), dtype=np.float32)
    padded[: len(sound)] = sound
    peaks = np.abs(padded).reshape(count, -1).max(axis=1)
    gain = np.minimum(1.0, ceiling / np.maximum(peaks, 1e-9))
    if gain.min() >= 1.0:
        return sound
    reach = 4
    widened = np.lib.stride_tricks.sliding_window_view(np.pad(gain, 2 * reach, mode="edge"), 2 * reach + 1).min(axis=1)
    smooth = np.convolve(widened, np.ones(2 * reach + 1) / (2 * reach + 1), "valid")
    curve = np.interp(np.arange(len(sound)), np.arange(count) * block + block / 2, smooth[:count])
    out = sound * curve[:, None].astype(np.float32)
    return out * min(1.0, ceiling / max(float(np.abs(out).max()), 1e-9))


def mix(stems: dict[str, Any], genre: str = "", fade_s: float = 1.2) -> Any:
    """Stems (role -> samples) -> the finished sound: room, fade, -16 LUFS, peaks under -1 dBFS.

    Raises SilentMusic if there is nothing to hear or a sample is not finite."""
    import numpy as np
    import pyloudnorm
    from scipy.signal import oaconvolve

    if not stems:
        raise SilentMusic("there are no notes to play")
    length = max(len(s) for s in stems.values())
    dry, send = np.zeros((length, 2), np.float32), np.zeros((length, 2), np.float32)
    for role, sound in stems.items():
        dry[: len(sound)] += sound
        send[: len(sound)] += sound * {"bass": 0.15, "drums": 0.5, "lead": 1.0}.get(role, 1.1)
    decay, share = ROOMS.get(genre, (1.2, 0.16))
    wet = oaconvolve(send, _room(decay), axes=0)[:length].astype(np.float32)
    sound = dry + wet * share
    if not np.isfinite(sound).all():
        raise SilentMusic("the synthesiser returned numbers that are not finite")
    fade = min(length, int(fade_s * SAMPLE_RATE_HZ))
    sound[length - fade :] *= (np.cos(np.linspace(0, np.pi, fade)) * 0.5 + 0.5)[:, None].astype(np.float32)
    if float(np.abs(sound).max()) < 1e-5:
        raise SilentMusic("the sound is silent")
    meter, ceiling = pyloudnorm.Meter(SAMPLE_RATE_HZ), 10 ** (PEAK_DBFS / 20)
    for _ in range(2):  # the limiter takes a little loudness: once more
        loudness = meter.integrated_loudness(sound) if length > 0.5 * SAMPLE_RATE_HZ else -30.0
        if not np.isfinite(loudness):
            raise SilentMusic("the sound is silent")
        sound = limited(sound * np.float32(10 ** ((LOUDNESS_LUFS - loudness) / 20)), ceiling)
    return sound.astype(np.float32)


def render(score: Score) -> Any:
    """The finished sound, float32 (samples, 2) at 44,100 Hz. Raises SilentMusic for a piece without notes."""
    return mix({t.role: stem(score, t) for t in score.tracks if t.notes}, score.header.genre)


def write_wav(score: Score, path: Path) -> None:
    import soundfile

    soundfile.write(path, render(score), SAMPLE_RATE_HZ, subtype="PCM_16")
