"""The teacher of the embedded composer: keys, bars, instruments, ranges, tokens, prompts, sound."""

from __future__ import annotations

import collections
import random
from pathlib import Path

import pytest

from pipelines.recipes import music_prompts, music_render, music_teacher, music_tokens
from pipelines.recipes.music_form import plan_form
from pipelines.recipes.music_genres import GENRES, MOODS
from pipelines.recipes.music_instruments import BY_NAME, INSTRUMENTS
from pipelines.recipes.music_patterns import BASSES, FIGURES, FILLS, GROOVES
from pipelines.recipes.music_score import BAR_TICKS, DRUMS, Header, Note, Score, Track, chord_spans
from pipelines.recipes.music_spec import Spec, complete, is_held_out
from pipelines.recipes.music_teacher import compose, outer_parallels
from pipelines.recipes.music_theory import MODES, QUALITIES, chord_tones, find_key, key_agrees, roman, scale_on

PIECES_PER_MODE = 200


def _piece(seed: str, **wanted: object) -> tuple[Spec, Score]:
    rng = random.Random(seed)
    spec = complete(rng, **wanted)
    return spec, compose(spec, rng)


@pytest.fixture(scope="module")
def pieces() -> dict[str, list[tuple[Spec, Score]]]:
    return {mode: [_piece(f"{mode} {i}", mode=mode) for i in range(PIECES_PER_MODE)] for mode in MODES}


@pytest.mark.parametrize("mode", MODES)
def test_a_key_finder_hears_the_key_that_was_asked_for(mode: str, pieces: dict[str, list[tuple[Spec, Score]]]) -> None:
    heard = [key_agrees(score.pitched(), spec.tonic, mode) for spec, score in pieces[mode]]
    assert sum(heard) >= 0.95 * PIECES_PER_MODE


def test_the_key_finder_knows_plain_scales() -> None:
    for tonic in range(12):
        tune = [
            Note(i * 12, 24 if p in (0, 7) else 12, 60 + tonic + p)
            for i, p in enumerate((0, 2, 4, 5, 7, 9, 11, 0, 4, 7))
        ]
        assert find_key(tune) == (tonic, "major")
        tune = [
            Note(i * 12, 24 if p in (0, 7) else 12, 60 + tonic + p)
            for i, p in enumerate((0, 2, 3, 5, 7, 8, 11, 0, 3, 7))
        ]
        assert find_key(tune) == (tonic, "minor")


def test_metre_tempo_bars_and_instruments_are_as_asked_and_notes_are_in_range(
    pieces: dict[str, list[tuple[Spec, Score]]],
) -> None:
    for spec, score in (p for many in pieces.values() for p in many):
        assert (score.header.metre, score.header.bars, score.header.tempo_bpm) == (
            spec.metre,
            spec.bars,
            spec.tempo_bpm,
        )
        assert len(score.bars) == spec.bars
        roles = dict(spec.instruments)
        tracks = {t.role: t for t in score.tracks}
        assert set(tracks) <= set(roles)
        assert {"lead", "chords", "bass"} <= set(tracks)
        assert ("drums" in roles) == ("drums" in tracks) or spec.bars < 8
        for role, track in tracks.items():
            assert role == "drums" or track.program == BY_NAME[roles[role]].program
            assert all(n.start >= 0 and n.duration > 0 and n.start + n.duration <= score.end_tick for n in track.notes)
            if role == "drums":
                assert {n.pitch for n in track.notes} <= set(DRUMS.values())
            elif role == "lead":
                instrument = BY_NAME[roles[role]]
                assert spec.genre == "chorale" or all(instrument.low <= n.pitch <= instrument.high for n in track.notes)
            else:
                assert all(24 <= n.pitch <= 100 for n in track.notes)
        last = max(n.start + n.duration for t in score.tracks if t.role != "drums" for n in t.notes)
        assert last == score.end_tick
        assert score.bars[-1].chords[-1].root == 0


def test_notes_belong_to_their_chords_or_scales(pieces: dict[str, list[tuple[Spec, Score]]]) -> None:
    inside = total = 0
    for spec, score in (p for many in pieces.values() for p in many[:40]):
        for note in score.pitched():
            chord, tone = score.chord_at(note.start), (note.pitch - spec.tonic) % 12
            inside += tone in chord_tones(chord) or tone in scale_on(chord, spec.mode) or tone in MODES[spec.mode]
            total += 1
    assert inside > 0.98 * total


def test_no_two_pieces_are_alike_and_the_same_seed_gives_the_same_piece(
    pieces: dict[str, list[tuple[Spec, Score]]],
) -> None:
    tunes = collections.Counter(
        tuple(s.track("lead").notes[:24]) for many in pieces.values() for _, s in many if s.track("lead")
    )
    long_tunes = [t for t in tunes if len(t) == 24]
    assert len(long_tunes) > 600
    assert all(tunes[t] == 1 for t in long_tunes)
    assert _piece("dorian 5", mode="dorian") == pieces["dorian"][5]
    assert _piece("again", genre="chorale", bars=4) == _piece("again", genre="chorale", bars=4)


def test_longer_pieces_come_back_to_what_they_said(pieces: dict[str, list[tuple[Spec, Score]]]) -> None:
    """Self-similarity: of the bars from the fifth on, most of the melody has been heard four or more bars before."""
    shares = []
    for _, score in (p for many in pieces.values() for p in many[:40]):
        bars = [frozenset((n.pitch, n.start % score.bar_ticks) for n in score.track("lead").notes if n.start // score.bar_ticks == b)
                for b in range(score.header.bars)]  # fmt: skip
        if score.header.bars >= 16 and score.header.genre != "chorale":
            again = [
                max(len(bars[i] & b) / max(1, len(bars[i] | b)) for b in bars[: i - 3]) for i in range(4, len(bars))
            ]
            shares.append(sum(again) / len(again))
    assert 0.45 < sum(shares) / len(shares) < 0.9


def test_tokens_say_the_score_exactly_and_stay_short(pieces: dict[str, list[tuple[Spec, Score]]]) -> None:
    words = set(music_tokens.vocabulary())
    assert len(words) == len(music_tokens.vocabulary())
    ten_seconds = []
    for _, score in (p for many in pieces.values() for p in many):
        tokens = music_tokens.encode(score)
        assert set(tokens) <= words
        assert music_tokens.decode(tokens) == score
        assert len(tokens) <= 1000
        if score.duration_s >= 10:
            ten_seconds.append(20 + (len(tokens) - 20) * 10 / score.duration_s)
    assert sum(n <= 250 for n in ten_seconds) >= 0.98 * len(ten_seconds)


def test_tokens_hold_overlapping_voices_ties_and_any_grid_position() -> None:
    rng = random.Random(3)
    for _ in range(40):
        notes = sorted(
            {Note(s, rng.randint(1, min(120, 192 - s)), rng.randint(40, 80)) for s in rng.sample(range(190), 40)}
        )
        clean = [
            n
            for i, n in enumerate(notes)
            if not any(
                m.pitch == n.pitch and m.start < n.start + n.duration and n.start < m.start + m.duration
                for m in notes[:i]
            )
        ]
        header = Header(genre="jazz", mood="sad", tonic=10, mode="minor", metre="4/4", tempo_bpm=100, bars=4)
        plain = _piece("x", genre="jazz", bars=4, metre="4/4")[1]
        score = Score(header, (Track("chords", 4, tuple(clean), "staccato"),), plain.bars[:4])
        assert music_tokens.decode(music_tokens.encode(score)) == score


def test_nonsense_tokens_are_passed_over() -> None:
    rng = random.Random(4)
    words = [*music_tokens.vocabulary(), "hello", "<n60>", "<", ""]
    for _ in range(60):
        score = music_tokens.decode(rng.choices(words, k=200))
        assert all(n.duration > 0 and n.start + n.duration <= score.end_tick for t in score.tracks for n in t.notes)


def test_outer_voices_of_chorales_have_no_parallel_fifths_or_octaves() -> None:
    clean = [not outer_parallels(_piece(f"bach {i}", genre="chorale", bars=8)[1]) for i in range(40)]
    assert sum(clean) >= 0.95 * len(clean)


@pytest.mark.parametrize(("genre", "mood"), [*zip(GENRES, [*MOODS, "calm", "happy"], strict=True)])
def test_every_genre_and_mood_sounds(genre: str, mood: str) -> None:
    import numpy as np
    import pyloudnorm

    _, score = _piece(f"sound {genre}", genre=genre, mood=mood, bars=4)
    sound = music_render.render(score)
    assert sound.dtype == np.float32
    assert sound.shape[1] == 2
    assert len(sound) > (score.duration_s - 0.1) * music_render.SAMPLE_RATE_HZ
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() <= 10 ** (-1 / 20) + 1e-6
    assert abs(pyloudnorm.Meter(music_render.SAMPLE_RATE_HZ).integrated_loudness(sound) + 16) < 1
    assert np.abs(sound[-441:]).max() < 0.01  # it ends softly


def test_every_instrument_the_composer_writes_for_can_be_played() -> None:
    import numpy as np

    header = Header(genre="jazz", mood="sad", tonic=0, mode="minor", metre="2/4", tempo_bpm=200, bars=1)
    bar = _piece("x", genre="jazz", bars=4)[1].bars[0]
    for instrument in INSTRUMENTS:
        notes = (
            Note(0, 6, instrument.low),
            Note(6, 6, (instrument.low + instrument.high) // 2),
            Note(12, 6, instrument.high),
        )
        sound = music_render.stem(
            Score(header, (Track("lead", instrument.program, notes),), (bar,)), Track("lead", instrument.program, notes)
        )
        assert 0.005 < np.abs(sound).max() < 3, instrument.name


@pytest.mark.parametrize(
    "name", ["piano", "nylon guitar", "accordion", "vibraphone", "flute", "fiddle", "strings", "bass guitar"]
)
def test_the_synthesiser_plays_in_tune(name: str) -> None:
    """symusic 0.5.9 did not: with this SoundFont its piano was up to 27 semitones off."""
    import numpy as np

    instrument = BY_NAME[name]
    key = (instrument.low + instrument.high) // 2
    wanted = 440 * 2 ** ((key - 69) / 12)
    sound = music_render.synthesise([(0.0, 1.0, key, 90)], instrument.program, False).mean(axis=1)[2205:40000]
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 1 << 18))
    hertz = np.arange(len(spectrum)) * music_render.SAMPLE_RATE_HZ / (1 << 18)
    near = (hertz > wanted * 0.8) & (hertz < wanted * 1.25)
    heard = hertz[near][np.argmax(spectrum[near])]
    assert abs(1200 * np.log2(heard / wanted)) < 25
    assert spectrum[near].max() > 0.1 * spectrum.max()


def test_a_piece_without_notes_is_said_to_be_silent() -> None:
    header = Header(genre="jazz", mood="sad", tonic=0, mode="minor", metre="4/4", tempo_bpm=100, bars=1)
    with pytest.raises(music_render.SilentMusic, match="no notes"):
        music_render.render(Score(header, (), ()))


def test_midi_files_say_tempo_metre_key_and_programs(tmp_path: Path) -> None:
    import symusic

    spec, score = _piece("midi", genre="waltz", metre="3/4", tonic=2, mode="minor", tempo_bpm=90, bars=8)
    music_render.write_midi(score, tmp_path / "w.mid")
    read = symusic.Score(tmp_path / "w.mid")
    assert round(read.tempos[0].qpm) == 90
    assert (read.time_signatures[0].numerator, read.time_signatures[0].denominator) == (3, 4)
    assert (read.key_signatures[0].key, read.key_signatures[0].tonality) == (-1, 1)
    assert {t.program for t in read.tracks if not t.is_drum} == {
        BY_NAME[i].program for r, i in spec.instruments if r != "drums"
    }
    assert sum(len(t.notes) for t in read.tracks) == sum(len(t.notes) for t in score.tracks)


def test_moods_change_what_is_heard() -> None:
    """Tempo, mode, loudness, register and the number of notes follow the mood within one genre."""

    def mean(mood: str, what: str) -> float:
        many = [_piece(f"{mood} {i}", genre="cinematic", mood=mood, bars=8) for i in range(25)]
        values = {
            "tempo": [s.tempo_bpm for s, _ in many], "loud": [sum(b.dynamic for b in p.bars) / len(p.bars) for _, p in many],
            "minor": [s.mode in ("minor", "phrygian", "dorian") for s, _ in many], "notes": [len(list(p.pitched())) / p.duration_s for _, p in many],
            "high": [sum(n.pitch for n in p.track("lead").notes) / len(p.track("lead").notes) for _, p in many],
        }[what]  # fmt: skip
        return sum(values) / len(values)

    assert mean("energetic", "tempo") > mean("sad", "tempo") + 30
    assert mean("epic", "loud") > mean("calm", "loud") + 2
    assert mean("sad", "minor") > mean("happy", "minor") + 0.5
    assert mean("energetic", "notes") > 1.5 * mean("calm", "notes")
    assert mean("dreamy", "high") > mean("dark", "high") + 3


def test_held_out_combinations_and_phrasings_stay_out_of_training() -> None:
    rng = random.Random(8)
    specs = [complete(rng, held_out=False) for _ in range(400)]
    assert not any(s.is_held_out for s in specs)
    assert all(complete(rng, held_out=True).is_held_out for _ in range(30))
    share = [is_held_out(g, m, i.name) for g in GENRES for m in MOODS for i in INSTRUMENTS]
    assert 0.13 < sum(share) / len(share) < 0.17
    training = " | ".join(music_prompts.prompt(s, rng, noise=False) for s in specs * 3).lower()
    for words in (
        *music_prompts.GENRE_WORDS.values(),
        *music_prompts.MOOD_WORDS.values(),
        *music_prompts.SCENES.values(),
    ):
        assert len(words) >= 4
        assert words[-1].lower() not in training, words[-1]
    tests = [music_prompts.prompt(s, rng, held_out=True, genre=True, mood=True).lower() for s in specs[:60]]
    assert sum(music_prompts.GENRE_WORDS[s.genre][-1].lower() in t for s, t in zip(specs, tests, strict=False)) == 60


def test_prompts_say_what_they_are_told_to_say() -> None:
    rng = random.Random(9)
    spec = complete(rng, genre="waltz", mood="calm", tonic=2, mode="minor", tempo_bpm=90, instruments={"lead": "piano"})
    every = {music_prompts.prompt(spec, rng) for _ in range(300)}
    assert len(every) > 290
    for _ in range(50):
        text = music_prompts.prompt(spec, rng, key=True, mood=False, noise=False)
        assert "D minor" in text or "d minor" in text.lower() or "dm" in text.lower()


def test_patterns_fit_their_metres_and_names() -> None:
    for table in (FIGURES, BASSES):
        for figures in table.values():
            assert all(len(f) * 3 == BAR_TICKS[m] for m, many in figures.items() for f in many)
    for grooves in GROOVES.values():
        for metre, many in grooves.items():
            assert all(len(line[2:]) * 3 == BAR_TICKS[metre] and line[0] in DRUMS for g in many for line in g.split())
    assert all(len(line[2:]) == 8 for many in FILLS.values() for fill in many for line in fill.split())
    for genre in GENRES.values():
        assert set(genre.figures) <= set(FIGURES)
        assert set(genre.basses) <= set(BASSES)
        assert {*genre.leads, *genre.chords, *genre.basses_of, *genre.pads, *genre.counters} <= set(BY_NAME)
        for loop in (loop for many in genre.loops.values() for loop in many):
            assert all(roman(n).quality in QUALITIES for n in loop.split())


@pytest.mark.parametrize("bars", range(1, 65))
def test_forms_fill_any_number_of_bars(bars: int) -> None:
    rng = random.Random(bars)
    for _ in range(5):
        plan = plan_form(bars, 0.5, rng)
        assert sum(s.bars for s in plan) == bars
        assert plan[-1].is_last
        assert plan[-1].label != "I"
    for metre in BAR_TICKS:
        for count in (1, 2, 3, 4):
            spans = chord_spans(metre, count)
            assert len(spans) == count
            assert spans[-1][1] == BAR_TICKS[metre]


def test_command_writes_sound_midi_and_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["music_teacher", str(tmp_path / "out"), "1"])
    music_teacher.main()
    assert {p.suffix for p in (tmp_path / "out").iterdir()} == {".wav", ".mid", ".txt"}
    assert "lofi" in capsys.readouterr().out
