"""The teacher of the embedded composer: writes a piece for a spec - form, harmony, melody, accompaniment, ending.

A program, not a model, and no music but its own: nothing is quoted. Everything comes from the generator handed in.

    python -m pipelines.recipes.music_teacher /tmp/pieces 12      # WAV, MIDI and prompt of twelve pieces
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipelines.recipes import music_arrange as arrange
from pipelines.recipes.music_chorale import Voicing, four_parts, parallels
from pipelines.recipes.music_form import STARTS, Section, plan_form, section_chords
from pipelines.recipes.music_genres import GENRES, MOODS
from pipelines.recipes.music_instruments import BY_NAME
from pipelines.recipes.music_melody import MANNERS, ChordAt, Frame, Manner, Motif, counter_line, melody, plan_line, vary
from pipelines.recipes.music_patterns import BASSES, FIGURES, GROOVES, pick
from pipelines.recipes.music_score import (
    BAR_TICKS,
    BEAT_TICKS,
    ROLES,
    Bar,
    Chord,
    Header,
    Note,
    Score,
    Track,
    chord_spans,
)
from pipelines.recipes.music_spec import Spec, complete, draw
from pipelines.recipes.music_theory import key_agrees, progression, roman, scale_on, step

_NEXT_DENSITY = {"sparse": "medium", "medium": "dense", "dense": "dense"}
_LESS_DENSITY = {"sparse": "sparse", "medium": "sparse", "dense": "medium"}


class Writer:
    """One piece in the making, relative to the tonic; ``shift`` brings it into its key."""

    def __init__(self, spec: Spec, rng: random.Random) -> None:
        self.spec, self.rng = spec, rng
        self.genre, self.mood = GENRES[spec.genre], MOODS[spec.mood]
        self.shift = spec.tonic if spec.tonic <= 6 else spec.tonic - 12
        self.total = BAR_TICKS[spec.metre]
        self.roles = dict(spec.instruments)
        self.sections: list[Section] = plan_form(spec.bars, self.genre.intro, rng)
        self.starts = [sum(s.bars for s in self.sections[:i]) for i in range(len(self.sections))]
        self.chords = self._harmony()
        self._spans = {n: chord_spans(spec.metre, n) for n in (1, 2, 3, 4)}

    def chord_at(self, tick: int) -> Chord:
        bar, inside = divmod(tick, self.total)
        if bar >= len(self.chords):
            return self.chords[0][0]
        chords = self.chords[bar]
        if len(chords) == 1:
            return chords[0]
        for chord, (start, end) in zip(chords, self._spans[len(chords)], strict=True):
            if start <= inside < end:
                return chord
        return chords[-1]

    def _harmony(self) -> list[tuple[Chord, ...]]:
        known: dict[str, list[list[str]]] = {}
        out: list[tuple[Chord, ...]] = []
        intro_source = next(s for s in self.sections if s.label != "I")
        for section in self.sections:
            label = "A" if section.label == "I" else section.label
            if label not in known:
                known[label] = section_chords(
                    self.spec,
                    self.genre,
                    replace(section, label=label, bars=max(section.bars, intro_source.bars), is_last=False),
                    self.rng,
                )
            bars = known[label][: section.bars] if section.label == "I" else list(known[label])
            if section.is_last:
                ending = section_chords(self.spec, self.genre, section, self.rng)
                bars[-2:] = ending[-2:] if self.genre.loop_share < 0.9 else [*bars[-2:-1], ending[-1]]
            out += [tuple(roman(c) for c in bar) for bar in bars]
        return out

    def bounds(self, role: str, width: int = 19) -> tuple[int, int, float]:
        """Range (relative pitches) and centre of a role's melody, in the instrument's comfortable middle."""
        instrument = BY_NAME[self.roles[role]]
        low, high = instrument.low, instrument.high
        if role == "lead":
            centre = min(max(low + 0.45 * (high - low) + self.mood.register, low + 6), high - 6)
            centre = min(max(centre, min(67, high - 7)), 82) if low < 67 and high > 72 else centre
        else:
            centre = min(max(59.0, low + 5), high - 5)
        low, high = max(low, round(centre) - width // 2), min(high, round(centre) + width // 2 + 1)
        return low - self.shift, high - self.shift, centre - self.shift

    def frame(self, role: str, section: Section) -> Frame:
        low, high, centre = self.bounds(role)
        density = self.spec.density
        if section.label == "B" and self.rng.random() < 0.4:
            density = self.rng.choice((_NEXT_DENSITY[density], _LESS_DENSITY[density]))
            centre += self.rng.choice((-2, 3))
        return Frame(self.spec.metre, self.spec.mode, low, high, centre, density, self.mood.leap, self.spec.tempo_bpm)

    def at(self, bar: int) -> ChordAt:
        """Chords as heard from this bar on."""
        return lambda tick: self.chord_at(tick + bar * self.total)

    def manner(self) -> Manner:
        """The genre's manner of singing, bent by the mood."""
        usual, mood = MANNERS[self.genre.manner], self.mood
        contours = {
            k: usual.contours.get(k, 0.3) * mood.contours.get(k, 1.0) for k in {*usual.contours, *mood.contours}
        }
        dotted, syncopation, rests = mood.rhythm
        return replace(
            usual,
            contours=dict(sorted(contours.items())),
            dotted=usual.dotted * dotted,
            syncopation=usual.syncopation * syncopation,
            rests=usual.rests * rests,
        )

    def lead_and_counter(self) -> tuple[list[Note], list[Note]]:
        manner, motifs, told = self.manner(), dict[str, Motif](), dict[str, tuple[list[Note], str, Frame]]()
        kind = self.rng.choice(("thirds", "guide", "guide", "answer"))
        second_from = self.rng.choice((0, 1, 1))
        lead: list[Note] = []
        counter: list[Note] = []
        for index, (section, start) in enumerate(zip(self.sections, self.starts, strict=True)):
            if section.label == "I":
                continue
            at = self.at(start)
            notes, plan, frame = self._tell(section, at, manner, motifs, told)
            told.setdefault(section.label, (notes, plan, frame))
            if "counter" in self.roles and (index >= second_from or len(self.sections) == 1):
                low, high, centre = self.bounds("counter")
                if centre + 3 > frame.centre:
                    down = 12 if low - 12 + self.shift >= BY_NAME[self.roles["counter"]].low else 0
                    low, high, centre = low - down, high - down, centre - down
                below = replace(frame, low=low, high=high, centre=centre)
                counter += [
                    n._replace(start=n.start + start * self.total)
                    for n in counter_line(kind, notes, at, below, section.bars * self.total, self.rng)
                ]
            lowest, highest = (
                BY_NAME[self.roles["lead"]].low - self.shift,
                BY_NAME[self.roles["lead"]].high - self.shift,
            )
            inside = [n.pitch + (12 if n.pitch < lowest else -12 if n.pitch > highest else 0) for n in notes]
            lead += [Note(n.start + start * self.total, n.duration, p) for n, p in zip(notes, inside, strict=True)]
        if lead and lead[0].start < 0:
            lead[0] = Note(0, lead[0].duration + lead[0].start, lead[0].pitch)
        return lead, _clipped(counter)

    def _tell(self, section: Section, at: ChordAt, manner: Manner, motifs: dict[str, Motif], told: dict[str, tuple[list[Note], str, Frame]]) -> tuple[list[Note], str, Frame]:  # fmt: skip
        """A section's melody: new, or told again as it was, or varied; the last close always on the tonic."""
        if section.label in told:
            notes, plan, frame = told[section.label]
            if self.rng.random() < 0.35 and not manner.is_ostinato:
                notes = vary(notes, at, frame, self.rng)
        else:
            frame = self.frame("lead", section)
            taken = (
                {k: v for k, v in motifs.items() if k == "a" and self.rng.random() < 0.45}
                if section.label != "A"
                else motifs
            )
            plan = plan_line(section.bars, manner, self.rng)
            notes = melody(plan, at, frame, manner, self.rng, taken)
        if section.is_last:
            cut = max(0, section.bars - 2) * self.total
            head = [n for n in notes if n.start < cut]
            short = 2 if section.bars > 1 else 1
            tail = melody(
                plan[-short:-1] + "D",
                lambda tick: at(tick + cut),
                replace(frame, centre=head[-1].pitch if head else frame.centre),
                manner,
                self.rng,
                dict(motifs),
                final=True,
            )
            tail = [n._replace(start=max(n.start, 0) + cut) for n in tail]
            head = [n._replace(duration=min(n.duration, tail[0].start - n.start)) if tail else n for n in head]
            notes = head + tail
        return notes, plan, frame

    def chorale(self) -> dict[str, list[Note]]:
        """Four voices in beats; phrases that come back are the same, passing notes fill thirds."""
        beat, per_bar = BEAT_TICKS[self.spec.metre], self.total // BEAT_TICKS[self.spec.metre]
        known: dict[str, tuple[list[tuple[Chord, ...]], list[Voicing]]] = {}
        voices: dict[str, list[Note]] = {role: [] for role in ("bass", "chords", "counter", "lead")}
        rows: list[tuple[Chord, ...]] = []
        for section in self.sections:
            key = section.label + ("!" if section.is_last else "")
            if key not in known:
                beats = section.bars * per_bar - (per_bar - 1)  # the last bar is one chord
                share = {"sparse": 0.35, "medium": 0.75, "dense": 1.0}[self.spec.density]
                count = max(4, round(beats * share)) if beats > 4 else beats
                cadence = (
                    "authentic"
                    if section.is_last or self.rng.random() < 0.4
                    else self.rng.choice(("half", "authentic", "plagal"))
                )
                start = None if section.label != "B" else self.rng.choice(STARTS[self.spec.mode])
                names = progression(self.rng, self.spec.mode, count, cadence, start)
                row = [roman(c if c != "V" or self.rng.random() > 0.3 else "V7") for c in names]
                while len(row) < beats:  # sparse: chords that last, never the last but one alone
                    index = self.rng.randrange(len(row) - 1)
                    row.insert(index, row[index])
                spread = [*row, *[row[-1]] * (per_bar - 1)]
                parts = four_parts(row, self.rng, self.shift, final=section.is_last)
                parts += [parts[-1]] * (per_bar - 1)
                known[key] = ([tuple(spread[i : i + per_bar]) for i in range(0, len(spread), per_bar)], parts)
            bars, parts = known[key]
            begin = len(rows) * self.total
            for index, role in enumerate(voices):
                line = [Note(begin + i * beat, beat, v[index]) for i, v in enumerate(parts)]
                voices[role] += _joined(line, self.total, role in ("lead", "bass"))
            rows += [_merged(bar) for bar in bars]
        self.chords = rows
        for role in voices:
            voices[role] = self._passing(voices[role], {"sparse": 0.1, "medium": 0.25, "dense": 0.5}[self.spec.density])
        return voices

    def _passing(self, line: list[Note], chance: float) -> list[Note]:
        """Eighths between notes a third apart; the draw depends on the place in the phrase, so repeats stay repeats."""
        out: list[Note] = []
        for note, after in zip(line, [*line[1:], None], strict=True):
            scale = scale_on(self.chord_at(note.start), self.spec.mode)
            gap = after.pitch - note.pitch if after else 0
            draw_of = random.Random(f"{note.pitch} {gap} {note.start % (4 * self.total)} {self.chords[0]}").random()
            if after and abs(gap) in (3, 4) and note.duration == 12 and draw_of < chance:
                between = step(note.pitch, 1 if gap > 0 else -1, scale)
                out += [Note(note.start, 6, note.pitch), Note(note.start + 6, 6, between)]
            else:
                out.append(note)
        return out

    def _density_of(self, index: int) -> str:
        """Sections differ: introductions are thin, the last but one or the last is the fullest."""
        density = self.spec.density
        if self.sections[index].label == "I":
            return _LESS_DENSITY[density]
        return density

    def accompany(self) -> dict[str, list[Note]]:
        spec, genre, rng = self.spec, self.genre, self.rng
        figure_name, bass_name = draw(rng, genre.figures), draw(rng, genre.basses)
        chosen: dict[str, tuple[str, str, str]] = {}
        rows: dict[str, list[str | None]] = {"chords": [], "bass": [], "drums": []}
        pad: list[bool] = []
        fills: dict[int, str] = {}
        crashes: set[int] = set()
        first_drums = 0 if spec.genre == "techno" or len(self.sections) < 3 else rng.choice((0, 0, 1))
        thin_intro = rng.choice(("chords", "bass", "both"))
        for index, (section, start) in enumerate(zip(self.sections, self.starts, strict=True)):
            label, density = section.label, self._density_of(index)
            if label not in chosen:
                if label in "BC" and rng.random() < 0.35:
                    figure_name = draw(rng, genre.figures)
                chosen[label] = (pick(FIGURES, figure_name, spec.metre, density, rng), pick(BASSES, bass_name, spec.metre, density, rng),
                                 pick(GROOVES, genre.groove or "plain", spec.metre, density, rng))  # fmt: skip
            figure, bass, groove = chosen[label]
            is_intro = label == "I"
            rows["chords"] += [figure if not is_intro or thin_intro != "bass" else None] * section.bars
            rows["bass"] += [
                bass if not is_intro or thin_intro != "chords" or "drums" not in self.roles else None
            ] * section.bars
            rows["drums"] += [groove if index >= first_drums else None] * section.bars
            pad += [not is_intro or rng.random() < 0.5] * section.bars
            kind = (
                genre.fills
                if spec.mood not in ("calm", "sad", "dreamy", "romantic") or genre.fills in ("hand", "drum")
                else "soft"
            )
            if not section.is_last and section.bars >= 4 and index >= first_drums and rng.random() < 0.8:
                fills[start + section.bars - 1] = arrange.fill_for(kind, rng)
            if index and kind in ("hard", "club", "drum") and index >= first_drums:
                crashes.add(start)
        end = spec.bars - 1
        whole = "." * (self.total // 3 - 1)
        rows["chords"][end], rows["bass"][end] = "A" + whole, "R" + whole
        resets = set(self.starts) | {end} if self.spec.bars > 4 else {0}
        out = {}
        is_power = genre.groove == "rock" and figure_name == "power" and "guitar" in self.roles["chords"]
        low, high = self._chord_register(is_power)
        out["chords"] = arrange.chords_part(
            rows["chords"], self.chord_at, spec.metre, (low, high), genre.voices, resets, is_power
        )
        instrument = BY_NAME[self.roles["bass"]]
        low = min(max(instrument.low, 28), 38) - self.shift  # a lead synth or strings as a bass go down there too
        out["bass"] = arrange.bass_part(
            rows["bass"], self.chord_at, spec.metre, spec.mode, (low, low + 22), rng, resets
        )
        if "pad" in self.roles:
            out["pad"] = arrange.held_chords(
                self.chord_at, pad, spec.metre, (55 - self.shift, 72 - self.shift), 3, resets
            )
        if "drums" in self.roles:
            out["drums"] = arrange.drums_part(rows["drums"], fills, crashes, spec.metre, end)
        return out

    def _chord_register(self, is_power: bool) -> tuple[int, int]:
        low, high = self.genre.chord_register
        instrument = BY_NAME[self.roles["chords"]]
        move = max(-5, min(5, round(self.mood.register * 0.5)))
        low, high = low + move, high + move
        under = round(self.bounds("lead")[2] + self.shift) - 2 - high  # the melody stays on top where there is room
        if under < 0 and "lead" in self.roles:
            low, high = low + max(under, -7), high + max(under, -7)
        if low < instrument.low - 5:
            low, high = instrument.low - 5, instrument.low - 5 + (high - low)
        return (low if not is_power else max(40, low - 7)) - self.shift, min(
            high, max(instrument.high, low + 15)
        ) - self.shift

    # --- the whole ---------------------------------------------------------------------------------------------
    def bars(self) -> tuple[Bar, ...]:
        quiet, loud = self.mood.dynamic
        slows = self.rng.random() < self.genre.slows * self.mood.slow and self.spec.genre != "techno"
        last, out = len(self.sections) - 1, list[Bar]()
        for index, section in enumerate(self.sections):
            share = (
                0.0
                if section.label == "I"
                else 0.4
                if index == 0
                else 1.0
                if index == last
                else 0.7
                if section.label == "A"
                else self.rng.choice((0.2, 0.9))
            )
            dynamic = quiet + round((loud - quiet) * share)
            for bar in range(section.bars):
                place = len(out)
                ends = place == self.spec.bars - 2 if self.spec.bars > 3 else place == self.spec.bars - 1
                fade = max(1, dynamic - 1) if slows and place == self.spec.bars - 1 else dynamic
                out.append(Bar(self.chords[place], fade, section.label if bar == 0 else "", slows and ends))
        return tuple(out)

    def score(self) -> Score:
        spec = self.spec
        if self.genre.manner == "hymn":
            parts = self.chorale()
            if "drums" in self.roles or "pad" in self.roles:
                extra = self.accompany()
                parts |= {role: extra[role] for role in ("drums", "pad") if role in extra}
        else:
            lead, counter = self.lead_and_counter()
            parts = {"lead": lead, "counter": counter, **self.accompany()}
        articulation = self.mood.articulation or self.genre.articulation
        tracks = []
        for role in ROLES:
            if role not in self.roles or not parts.get(role):
                continue
            shift = 0 if role == "drums" else self.shift
            notes = tuple(sorted(n._replace(pitch=n.pitch + shift) for n in parts[role] if n.duration > 0))
            program = 0 if role == "drums" else BY_NAME[self.roles[role]].program
            manner = "normal" if role in ("drums", "pad") or spec.genre == "chorale" else articulation
            tracks.append(Track(role, program, notes, manner))
        swing = self.rng.choice(self.genre.swing) if spec.metre != "6/8" else 50
        header = Header(genre=spec.genre, mood=spec.mood, tonic=spec.tonic, mode=spec.mode, metre=spec.metre, tempo_bpm=spec.tempo_bpm, bars=spec.bars,
                        density=spec.density, swing=swing, swing_unit=6 if swing == 50 else self.genre.swing_unit)  # fmt: skip
        return Score(header, tuple(tracks), self.bars())


def _merged(bar: Sequence[Chord]) -> tuple[Chord, ...]:
    """Chords of the beats of a bar, joined where the score's spans can say it."""
    if len(set(bar)) == 1:
        return (bar[0],)
    if len(bar) == 4 and bar[0] == bar[1] and bar[2] == bar[3]:
        return (bar[0], bar[2])
    if len(bar) == 4 and bar[0] == bar[1]:
        return (bar[0], bar[2], bar[3])
    if len(bar) == 3 and bar[0] == bar[1]:
        return (bar[0], bar[2])
    return tuple(bar)


def _joined(line: Sequence[Note], total: int, is_outer: bool) -> list[Note]:
    """Repeated beats on one pitch become longer notes within the bar; outer voices keep theirs on the first beat."""
    out: list[Note] = []
    for note in line:
        if (
            out
            and out[-1].pitch == note.pitch
            and note.start % total
            and out[-1].start + out[-1].duration == note.start
        ):
            out[-1] = out[-1]._replace(duration=out[-1].duration + note.duration)
        else:
            out.append(note)
    return out


def _clipped(line: list[Note]) -> list[Note]:
    """One voice: no note outlasts the beginning of the next."""
    line = sorted(line)
    return [n._replace(duration=min(n.duration, m.start - n.start)) if m else n for n, m in zip(line, [*line[1:], None], strict=False) if not m or m.start > n.start]  # fmt: skip


def compose(spec: Spec, rng: random.Random, attempts: int = 8) -> Score:
    """A piece for the spec. The same generator state writes the same piece.

    The teacher listens to what it wrote: if a key finder does not hear the key asked for, or the outer voices of a
    chorale move in parallel fifths or octaves, it writes another (one piece in seven)."""
    for _ in range(attempts):
        score = Writer(spec, random.Random(rng.getrandbits(64))).score()
        if key_agrees(score.pitched(), spec.tonic, spec.mode) and not (
            spec.genre == "chorale" and outer_parallels(score)
        ):
            break
    return score


def outer_parallels(score: Score) -> int:
    """Parallel fifths and octaves between the highest and the lowest track, wherever one of them begins a note."""
    lines = [t.notes for t in (score.track("lead"), score.track("bass")) if t]
    sounding = [{tick: n.pitch for n in line for tick in range(n.start, n.start + n.duration, 3)} for line in lines]
    ticks = sorted({n.start for line in lines for n in line} & set(sounding[0]) & set(sounding[-1]))
    return parallels([sounding[0][t] for t in ticks], [sounding[-1][t] for t in ticks])


def main() -> None:
    from pipelines.recipes import music_prompts, music_render

    folder, count = Path(sys.argv[1] if len(sys.argv) > 1 else "pieces"), int(sys.argv[2]) if len(sys.argv) > 2 else 12
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    folder.mkdir(parents=True, exist_ok=True)
    names = list(GENRES)
    for index in range(count):
        rng = random.Random(f"{seed} {index}")
        spec = complete(rng, genre=names[index % len(names)])
        score = compose(spec, rng)
        prompt = music_prompts.prompt(spec, rng)
        stem = folder / f"{index + 1:02d}-{spec.genre}-{spec.mood}"
        music_render.write_wav(score, stem.with_suffix(".wav"))
        music_render.write_midi(score, stem.with_suffix(".mid"))
        stem.with_suffix(".txt").write_text(prompt + "\n", encoding="utf-8")
        print(f"{stem.name}: {prompt}")


if __name__ == "__main__":
    main()
