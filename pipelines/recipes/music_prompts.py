"""Words for a spec: from ``calm waltz`` to whole sentences, saying any part of what the piece is to be.

Held out: the last phrasing of every list of four or more (words and sentence patterns), which only tests see.

    python -m pipelines.recipes.music_prompts 10
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from typing import Any

from pipelines.recipes.music_instruments import BY_NAME
from pipelines.recipes.music_score import BAR_TICKS, BEAT_TICKS
from pipelines.recipes.music_spec import Spec

GENRE_WORDS: dict[str, tuple[str, ...]] = {
    "lofi": ("lo-fi beat", "lofi", "lo-fi", "lo fi hip hop", "lofi hip-hop track", "chillhop", "study beat", "lo-fi tune", "lofi study music"),
    "waltz": ("waltz", "Viennese waltz", "waltz tune", "ballroom waltz", "valse", "waltz for a ball"),
    "jazz": ("jazz", "jazz tune", "jazz standard", "swing tune", "piece of jazz", "jazz track", "bebop tune", "jazz combo piece", "swinging jazz number"),
    "techno": ("techno", "techno track", "club track", "rave track", "electronic dance track", "techno loop", "EDM", "club banger"),
    "jig": ("folk jig", "jig", "Irish jig", "folk dance", "celtic jig", "folk tune", "irish folk tune", "celtic dance tune"),
    "chiptune": ("chiptune", "8-bit tune", "chiptune track", "video game music", "8-bit music", "retro game tune", "arcade music", "NES soundtrack"),
    "chorale": ("chorale", "hymn", "four-part chorale", "Bach chorale", "church hymn", "choral piece", "chorale in four voices"),
    "cinematic": ("cinematic piece", "film score", "movie soundtrack", "cinematic music", "cinematic theme", "orchestral score", "trailer music", "film theme", "score for a film"),
    "bossa": ("bossa nova", "bossa", "bossa nova tune", "Brazilian bossa nova", "bossa nova song", "latin lounge tune", "bossa nova groove"),
    "rock": ("rock", "rock song", "rock track", "rock tune", "rock riff", "hard rock", "rock piece", "rock anthem"),
    "ambient": ("ambient", "ambient piece", "ambient music", "ambient soundscape", "ambient track", "drone piece", "atmospheric soundscape"),
    "march": ("march", "military march", "marching band piece", "parade march", "march tune", "marching song", "brass band march"),
}  # fmt: skip
MOOD_WORDS: dict[str, tuple[str, ...]] = {
    "calm": ("calm", "peaceful", "relaxing", "gentle", "quiet", "soothing", "relaxed", "tranquil", "serene"),
    "happy": ("happy", "cheerful", "joyful", "sunny", "upbeat", "bright", "merry", "good-humoured", "feel-good"),
    "sad": ("sad", "melancholic", "sorrowful", "mournful", "melancholy", "gloomy", "tearful", "wistful", "heartbroken"),
    "epic": ("epic", "heroic", "grand", "triumphant", "majestic", "powerful", "glorious", "monumental"),
    "tense": ("tense", "suspenseful", "nervous", "anxious", "thrilling", "uneasy", "restless", "nail-biting"),
    "dreamy": ("dreamy", "ethereal", "floating", "hazy", "magical", "otherworldly", "dream-like", "weightless"),
    "playful": ("playful", "funny", "quirky", "cheeky", "whimsical", "silly", "light-hearted", "mischievous"),
    "dark": ("dark", "sinister", "ominous", "spooky", "brooding", "menacing", "eerie", "creepy"),
    "romantic": ("romantic", "tender", "loving", "passionate", "warm", "intimate", "heartfelt", "amorous"),
    "energetic": ("energetic", "driving", "lively", "powerful and fast", "dynamic", "vigorous", "high-energy", "full of energy"),
}  # fmt: skip
#: Pictures that mean a mood without its word.
SCENES: dict[str, tuple[str, ...]] = {
    "calm": ("for a quiet evening", "for falling asleep", "like a lake at dawn", "for reading a book", "for meditation", "for a lazy sunday"),
    "happy": ("for a birthday party", "like a day in spring", "for a summer picnic", "like sunshine", "for a wedding", "like children on holiday"),
    "sad": ("for a rainy day", "about a lost friend", "like a farewell", "about missing someone", "for an empty house", "for a funeral"),
    "epic": ("for a great battle", "for the final scene", "like an army on the move", "for a hero's return", "about conquering a mountain", "for the end credits"),
    "tense": ("for a chase", "before the storm", "for a thriller", "when something is behind the door", "like a ticking clock", "for a bank robbery"),
    "dreamy": ("like floating in space", "under the stars", "for an underwater scene", "like a fairy tale", "in the clouds", "like a snowfall at night"),
    "playful": ("for a cartoon", "for kittens at play", "for a circus", "like a puppet show", "for a clumsy robot", "for a silly walk"),
    "dark": ("for a haunted house", "in an old crypt", "for a horror film", "for the villain", "in a forest at midnight", "like a nightmare"),
    "romantic": ("for a candlelight dinner", "about first love", "for two lovers", "for a walk by the river in Paris", "for our anniversary", "for a slow dance"),
    "energetic": ("for a workout", "for a car race", "for running", "to wake up to", "for a sports video", "for jumping around"),
}  # fmt: skip
_TEMPO_WORDS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (62, ("very slow", "largo", "extremely slow", "grave", "at a crawl")), (80, ("slow", "adagio", "slow-paced", "lento", "slow tempo", "unhurried")),
    (104, ("moderate", "andante", "medium tempo", "mid-tempo", "moderately paced")), (126, ("fairly fast", "moderately fast", "allegretto", "brisk", "at a brisk pace")),
    (152, ("fast", "allegro", "quick", "fast-paced", "up-tempo", "rapid")), (999, ("very fast", "presto", "extremely fast", "furious", "breakneck")),
)  # fmt: skip
_DENSITY_WORDS = {
    "sparse": ("sparse", "minimal", "few notes", "with lots of space", "simple", "minimalistic", "bare", "stripped-down"),
    "medium": ("medium density", "balanced", "not too busy", "moderately full"), "dense": ("dense", "busy", "full of notes", "rich", "many notes", "with a full arrangement", "intricate", "packed with notes"),
}  # fmt: skip
_METRE_WORDS = {
    "2/4": ("in 2/4", "in two-four time", "2/4 time", "2/4 metre", "2/4 meter", "in duple time"), "3/4": ("in 3/4", "in three-four time", "3/4 time", "in triple time", "3/4 meter", "in three"),
    "4/4": ("in 4/4", "in four-four time", "4/4 time", "common time", "4/4 meter", "in four"), "6/8": ("in 6/8", "in six-eight time", "6/8 time", "6/8 metre", "6/8 meter", "in compound time"),
}  # fmt: skip
_TONICS = (("C",), ("Db", "C#", "D flat", "C sharp", "D-flat", "C-sharp"), ("D",), ("Eb", "D#", "E flat", "E-flat"), ("E",), ("F",),
           ("F#", "Gb", "F sharp", "G flat", "F-sharp"), ("G",), ("Ab", "G#", "A flat", "G sharp", "A-flat"), ("A",), ("Bb", "A#", "B flat", "B-flat"), ("B",))  # fmt: skip
_NOUNS = (
    "piece",
    "tune",
    "song",
    "track",
    "piece of music",
    "melody",
    "composition",
    "music",
    "soundtrack",
    "bit of music",
    "number",
)
_COMMANDS = (
    "write ",
    "compose ",
    "play ",
    "make ",
    "give me ",
    "create ",
    "I want ",
    "please write ",
    "can you make ",
    "generate ",
    "could you play me ",
    "I'd like to hear ",
)
_LEAD_FORMS = (
    "with {i} lead",
    "with {a} as the lead",
    "lead {i}",
    "{i} playing the melody",
    "with a {i} melody",
    "led by {a}",
    "{i} melody",
    "melody on {i}",
    "where the {i} sings the tune",
)
_FOR_FORMS = ("for {l}", "with {l}", "on {l}", "for {l}", "played by {l}", "featuring {l}", "scored for {l}")
_DRUMS_ON = ("with drums", "and drums", "with percussion", "with a drum kit", "with a beat", "plus drums")
_DRUMS_OFF = ("without drums", "no drums", "no percussion", "drumless", "without percussion", "leave out the drums")
#: Words that mean nothing to the composer and must do no harm.
_NOISE = ("for my friend Anna", "please", "thanks!", "as good as you can", "like in my childhood", "something new", "for a video about {x}", "inspired by {x}", "about {x}", "called \"{x}\"",
          "hello there", "for my cat", "with soul", "no vocals", "high quality", "masterpiece", "for tomorrow's show", "that my grandmother would like")  # fmt: skip
_THINGS = (
    "otters",
    "the sea",
    "tax returns",
    "Lisbon",
    "robots",
    "coffee",
    "a train",
    "old maps",
    "penguins",
    "winter",
    "my garden",
    "Saturn",
    "bicycles",
    "grandpa",
    "neon lights",
    "bread",
    "dragons",
    "statistics",
)


def choose(words: Sequence[str], rng: random.Random, held_out: bool = False) -> str:
    """A phrasing: the last of four or more belongs to the tests, the first is the commonest."""
    if len(words) < 4:
        return rng.choice(words)
    if held_out:
        return words[-1]
    return words[0] if rng.random() < 0.3 else rng.choice(words[:-1])


def tempo_word(bpm: int, rng: random.Random, held_out: bool = False) -> str:
    return choose(next(words for limit, words in _TEMPO_WORDS if bpm < limit), rng, held_out)


def key_phrase(tonic: int, mode: str, rng: random.Random) -> str:
    """``in D minor``, ``in the key of F sharp major``, ``D dorian``, ``key of C``."""
    name = rng.choice(_TONICS[tonic])
    draw = rng.random()
    if mode == "major" and draw < 0.12:
        return rng.choice((f"in the key of {name}", f"key of {name}", f"key: {name}"))
    if mode in ("major", "minor") and draw < 0.2 and len(name) < 3:
        return f"in {name}m" if mode == "minor" else f"in {name} maj"
    if draw < 0.25:
        name = name.lower() if mode != "major" else name
    return rng.choice(("in {k}", "in {k}", "in {k}", "in the key of {k}", "{k}", "key: {k}")).format(k=f"{name} {mode}")


def _article(phrase: str) -> str:
    return (
        phrase
        if phrase.endswith("s") and not phrase.endswith(("ss", "bass"))
        else ("an " if phrase[0].lower() in "aeiou" else "a ") + phrase
    )


def _length(spec: Spec, rng: random.Random) -> str:
    seconds = spec.bars * BAR_TICKS[spec.metre] / BEAT_TICKS[spec.metre] * 60 / spec.tempo_bpm
    words = (
        ("very short", "a few bars")
        if spec.bars <= 4
        else ("short", "brief")
        if spec.bars <= 8
        else ("long", "extended")
        if spec.bars >= 24
        else ("of medium length", "not too long")
    )
    return rng.choice((f"{spec.bars} bars", f"{spec.bars} bars", f"{spec.bars} measures long", f"{spec.bars} bars long", f"about {max(5, round(seconds / 5) * 5)} seconds",
                       rng.choice(words), rng.choice(words), f"{spec.bars}-bar"))  # fmt: skip


def _instruments(spec: Spec, rng: random.Random, held_out: bool) -> list[str]:
    """Phrases for the instruments: the lead, a list of some, drums or none."""
    roles = dict(spec.instruments)
    named = {r: choose(BY_NAME[i].words, rng, held_out) for r, i in roles.items() if r != "drums"}
    out = []
    draw = rng.random()
    if draw < 0.4:
        form = choose(_LEAD_FORMS, rng, held_out)
        out.append(form.format(i=named["lead"], a=_article(named["lead"])))
        if rng.random() < 0.35:
            other = rng.choice([r for r in named if r != "lead"])
            out.append(
                rng.choice(
                    (
                        "accompanied by {i}",
                        "with {i} accompaniment",
                        "over {i}",
                        "and {i}",
                        "with {i} in the background",
                    )
                ).format(i=named[other])
            )
    else:
        others = [r for r in named if r != "lead" and BY_NAME[roles[r]].words != BY_NAME[roles["lead"]].words]
        names = [named["lead"]] + [named[r] for r in rng.sample(others, min(len(others), rng.choice((0, 0, 1, 1, 2))))]
        names = list(dict.fromkeys(names))
        listed = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
        if len(names) == 1 and rng.random() < 0.15:
            listed = f"solo {listed}"
        elif len(names) == 1 and rng.random() < 0.2:
            listed = _article(listed)
        out.append(choose(_FOR_FORMS, rng, held_out).format(l=listed))
    if rng.random() < (0.2 if "drums" in roles else 0.1):
        out.append(choose(_DRUMS_ON if "drums" in roles else _DRUMS_OFF, rng, held_out))
    return out


def _noise(rng: random.Random) -> str:
    return rng.choice(_NOISE).format(x=rng.choice(_THINGS)).strip()


def describe(spec: Spec, rng: random.Random, says: dict[str, bool], held_out: bool = False) -> str:
    """One phrasing that says the parts named in ``says``: genre, mood, key, tempo, metre, instruments, density, length, noise."""
    before: list[str] = []
    after: list[str] = []
    noun = choose(GENRE_WORDS[spec.genre], rng, held_out) if says.get("genre") else choose(_NOUNS, rng, held_out)
    if says.get("mood"):
        if rng.random() < 0.14:
            after.append(choose(SCENES[spec.mood], rng, held_out))
        else:
            before.append(choose(MOOD_WORDS[spec.mood], rng, held_out))
    if says.get("tempo"):
        if rng.random() < 0.62:
            number = spec.tempo_bpm + rng.choice((0, 0, 0, 1, -1))
            after.append(
                rng.choice(
                    (
                        "at {n} bpm",
                        "{n} bpm",
                        "at {n} BPM",
                        "{n} BPM",
                        "tempo {n}",
                        "at {n} beats per minute",
                        "{n}bpm",
                        "around {n} bpm",
                    )
                ).format(n=number)
            )
        else:
            (before if rng.random() < 0.6 else after).append(tempo_word(spec.tempo_bpm, rng, held_out))
    if says.get("density"):
        word = choose(_DENSITY_WORDS[spec.density], rng, held_out)
        (after if " " in word or rng.random() < 0.3 else before).append(word)
    if says.get("key"):
        after.append(key_phrase(spec.tonic, spec.mode, rng))
    if says.get("metre"):
        after.append(choose(_METRE_WORDS[spec.metre], rng, held_out))
    if says.get("instruments"):
        after += _instruments(spec, rng, held_out)
    if says.get("length"):
        text = _length(spec, rng)
        (
            before if text in ("short", "brief", "long", "very short", "extended") or text.endswith("-bar") else after
        ).append(text)
    if says.get("noise"):
        after.append(_noise(rng))
    rng.shuffle(before)
    if rng.random() < 0.45:
        rng.shuffle(after)
    return _sentence(before, noun, after, says.get("genre", False), rng, held_out)


def _sentence(
    before: list[str], noun: str, after: list[str], has_genre: bool, rng: random.Random, held_out: bool
) -> str:
    """Puts the parts together: a noun phrase, a wish, a row of keywords, or telegraphic."""
    draw = rng.random()
    if draw < 0.2 and len(before) + len(after) > 1:  # keywords
        words = before + ([noun] if has_genre or rng.random() < 0.3 else []) + after
        rng.shuffle(words)
        text = rng.choice((", ", ", ", " / ", ", ", " ")).join(words)
    else:
        phrase = (
            " ".join([rng.choice((", ", " ", " and ")).join(before), noun]).strip()
            if len(before) > 1
            else " ".join([*before, noun])
        )
        bare = noun.split()[-1] in (
            "music",
            "jazz",
            "techno",
            "rock",
            "EDM",
            "lofi",
            "lo-fi",
            "chillhop",
            "bossa",
            "ambient",
        )
        head = phrase if draw < 0.45 or bare else ("an " if phrase[0].lower() in "aeiou8" else "a ") + phrase
        if draw > 0.8:
            command = choose(_COMMANDS, rng, held_out)
            head = command + head
        gap = rng.choice((" ", " ", ", "))
        text = head
        for part in after:
            text += (
                gap
                if part.split()[0]
                in (
                    "in",
                    "for",
                    "with",
                    "on",
                    "at",
                    "featuring",
                    "played",
                    "led",
                    "like",
                    "about",
                    "and",
                    "without",
                    "over",
                    "accompanied",
                )
                else ", "
            ) + part
    style = rng.random()
    if style < 0.3:
        return text.lower()
    if style < 0.45:
        return text[:1].upper() + text[1:] + rng.choice((".", ".", "!", ""))
    return text


#: How often a prompt says each part.
SHARES = {
    "genre": 0.85,
    "mood": 0.75,
    "key": 0.5,
    "tempo": 0.5,
    "metre": 0.15,
    "instruments": 0.6,
    "density": 0.15,
    "length": 0.2,
    "noise": 0.12,
}


def prompt(spec: Spec, rng: random.Random, *, held_out: bool = False, **says: Any) -> str:
    """A random phrasing of a random subset of the spec; ``says`` fixes parts (``key=True``). ``held_out``: in words that
    training never uses."""
    parts = {name: says.get(name, rng.random() < share) for name, share in SHARES.items()}
    if not (parts["genre"] or parts["mood"] or parts["instruments"]):
        parts[rng.choice([p for p in ("genre", "mood") if p not in says] or ["genre"])] = True
    return describe(spec, rng, parts, held_out)


def main() -> None:
    from pipelines.recipes.music_spec import complete

    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 10):
        spec = complete(rng, held_out=False)
        print(
            prompt(spec, rng),
            "   |",
            spec.genre,
            spec.mood,
            spec.tonic,
            spec.mode,
            spec.metre,
            spec.tempo_bpm,
            spec.bars,
        )


if __name__ == "__main__":
    main()
