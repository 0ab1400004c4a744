"""Scenes for the embedded image model: what is where before which background in which style, drawn and captioned.

Composed anew each time from a seeded generator, so that no picture comes twice. Held out: 40 subjects altogether
and 15 % of the subject x background x style combinations. Knows no model.

    python -m pipelines.recipes.image_scenes /tmp/scenes.png     # a sheet of random training scenes with captions
"""

from __future__ import annotations

import hashlib
import random
import sys
from dataclasses import dataclass, replace
from typing import Any

from pipelines.recipes import image_backgrounds, image_styles, image_subjects
from pipelines.recipes.image_backgrounds import Background
from pipelines.recipes.image_subjects import Subject, bare, plural, with_article

COMBINATION_SHARE = 0.15
NUMBERS = {1: "one", 2: "two", 3: "three"}
#: Where the middle of the (first) subject stands, in shares of the width and height.
PLACES = {"left": (0.27, 0.55), "right": (0.73, 0.55), "above": (0.5, 0.28), "below": (0.5, 0.74)}
PLACE_WORDS = {
    "left": ("on the left", "on the left side", "at the left"), "right": ("on the right", "on the right side", "at the right"),
    "above": ("at the top", "in the upper half", "near the top"), "below": ("at the bottom", "in the lower half", "near the bottom"),
}  # fmt: skip
SIZE_WORDS = {"small": ("small", "tiny", "little"), "large": ("large", "big", "huge")}
RELATIONS = {
    "beside": ("{a} next to {b}", "{a} and {b}", "{a} beside {b}", "{a} with {b}", "{a} near {b}"),
    "left": ("{a} left of {b}", "{a} to the left of {b}", "{a} on the left and {b} on the right"),
    "right": ("{a} right of {b}", "{a} to the right of {b}", "{a} on the right and {b} on the left"),
    "above": ("{a} above {b}", "{a} over {b}", "{a} on top of {b}"),
    "below": ("{a} below {b}", "{a} under {b}", "{a} beneath {b}"),
}
_PREFIXES = ("a picture of ", "an image of ", "draw ", "show me ", "paint ", "a nice ", "a cute ", "a beautiful ")
_STYLE_WEIGHTS = {"flat": 0.5, "pixel": 0.1, "sketch": 0.1, "silhouette": 0.1, "neon": 0.1, "watercolour": 0.1}


@dataclass(frozen=True)
class Scene:
    """What a picture shows. ``other`` is the second subject of a pair, standing as ``relation`` says."""

    subject: Subject
    background: Background
    style: str = "flat"
    count: int = 1
    size: str = ""  # "", small, large
    place: str = ""  # "", left, right, above, below
    other: Subject | None = None
    relation: str = ""

    @property
    def is_held_out(self) -> bool:
        """True for a combination that training never shows."""
        parts = (self.subject.id, self.background.kind, self.background.name, self.style)
        digest = hashlib.sha256("|".join(parts).encode()).digest()
        return int.from_bytes(digest[:4], "big") / 2**32 < COMBINATION_SHARE


def _spots(scene: Scene) -> list[tuple[Subject, float, float, float]]:
    """(subject, middle x, middle y, longest side), each a share of the picture."""
    if scene.other:
        first, second = {
            "left": ((0.28, 0.56), (0.72, 0.56)), "right": ((0.72, 0.56), (0.28, 0.56)),
            "above": ((0.5, 0.28), (0.5, 0.74)), "below": ((0.5, 0.74), (0.5, 0.28)), "beside": ((0.28, 0.56), (0.72, 0.56)),
        }[scene.relation]  # fmt: skip
        return [(scene.subject, *first, 0.43), (scene.other, *second, 0.43)]
    size = {"small": 0.3, "large": 0.88, "": 0.64}[scene.size]
    if scene.count == 2:
        return [(scene.subject, x, 0.56, min(size, 0.43)) for x in (0.28, 0.72)]
    if scene.count == 3:
        return [(scene.subject, x, y, min(size, 0.36)) for x, y in ((0.26, 0.68), (0.5, 0.3), (0.74, 0.68))]
    if scene.place:
        x, y = PLACES[scene.place]
        return [(scene.subject, x, y, min(size, 0.46))]
    return [(scene.subject, 0.5, 0.54 if scene.size != "large" else 0.5, size)]


def draw(scene: Scene, rng: random.Random, size: int = 128) -> Any:
    """The scene as an RGB picture of ``size`` x ``size`` px."""
    from PIL import Image

    background = scene.background.paint(size, rng)
    layer = Image.new("RGBA", (size, size))
    mirrored = rng.random() < 0.25
    for subject, x, y, longest in _spots(scene):
        art = image_subjects.artwork(subject.character)
        side = size * longest * rng.uniform(0.93, 1.05)
        scale = side / max(art.size)
        art = art.resize(
            (max(1, round(art.width * scale)), max(1, round(art.height * scale))), Image.Resampling.LANCZOS
        )
        if mirrored and not scene.other:
            art = art.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        left = round(size * (x + rng.uniform(-0.02, 0.02)) - art.width / 2)
        top = round(size * (y + rng.uniform(-0.02, 0.02)) - art.height / 2)
        layer.alpha_composite(art, (max(0, min(size - art.width, left)), max(0, min(size - art.height, top))))
    return image_styles.apply(scene.style, background, layer, rng)


# --- captions -------------------------------------------------------------------------------------------------
def _word(subject: Subject, rng: random.Random) -> str:
    return subject.words[0] if rng.random() < 0.6 else rng.choice(subject.words)


def _named(scene: Scene, rng: random.Random, adjective: str) -> str:
    """The subject with its number, size and article: ``three small foxes``."""
    word = _word(scene.subject, rng)
    described = f"{adjective} {bare(word)}".strip()
    if scene.count > 1:
        many = plural(described if not word.startswith("@") else word)
        number = NUMBERS[scene.count] if rng.random() < 0.85 else str(scene.count)
        return f"{number} {many or bare(word)}"
    if word.startswith("@"):
        return described
    draw = rng.random()
    if draw < 0.14:
        return described
    return f"the {described}" if draw < 0.2 else f"one {described}" if draw < 0.25 else with_article(described)


def caption(scene: Scene, rng: random.Random, *, is_full: bool = False) -> str:
    """One of many ways to ask for the scene. The style is always said unless it is flat, the background nine times of
    ten, or always if ``is_full``."""
    before, of, after = image_styles.STYLE_WORDS[scene.style]
    says_style = scene.style != "flat" or rng.random() < 0.12
    way = rng.choices(("before", "of", "after"), (0.3, 0.35, 0.35))[0] if says_style else ""
    adjectives = [rng.choice(SIZE_WORDS[scene.size])] if scene.size and scene.count == 1 and not scene.other else []
    adjectives += [rng.choice(before)] if way == "before" else []
    text = _named(scene, rng, " ".join(adjectives))
    if scene.other:
        text = rng.choice(RELATIONS[scene.relation]).format(a=text, b=with_article(_word(scene.other, rng)))
    if scene.place:
        text += " " + rng.choice(PLACE_WORDS[scene.place])
    if is_full or rng.random() < 0.9:
        text += rng.choice((" ", " ", " ", ", ")) + scene.background.phrase(rng)
    if way == "of":
        text = f"{rng.choice(of)} {text}"
    elif way == "after":
        text += rng.choice((", ", ", ", " ")) + rng.choice(after)
    elif not says_style and rng.random() < 0.12:
        prefix = rng.choice(_PREFIXES)
        text = prefix + (
            text.split(" ", 1)[1]
            if prefix.startswith("a ") and prefix.count(" ") == 2 and text.startswith(("a ", "an "))
            else text
        )
    draw = rng.random()
    return text.lower() if draw < 0.3 else text[:1].upper() + text[1:] + "." if draw < 0.4 else text


# --- choosing -------------------------------------------------------------------------------------------------
class Composer:
    """Random scenes of some subjects. ``held_out_combinations`` asks for those that training never shows."""

    def __init__(self, subjects: tuple[Subject, ...]) -> None:
        self.subjects = subjects
        self._countable = [s for s in subjects if plural(s.words[0])]

    def scene(self, rng: random.Random, *, held_out_combinations: bool = False) -> Scene:
        """72 % one subject (a third of them small, large or aside), 11 % two or three of it, 17 % pairs."""
        while True:
            style = rng.choices(list(_STYLE_WEIGHTS), list(_STYLE_WEIGHTS.values()))[0]
            scene = Scene(rng.choice(self.subjects), image_backgrounds.choose(rng), style)
            draw = rng.random()
            if draw < 0.17:
                other = rng.choice(self.subjects)
                relation = rng.choices(tuple(RELATIONS), (0.5, 0.15, 0.15, 0.1, 0.1))[0]
                if other.id != scene.subject.id:
                    scene = replace(scene, other=other, relation=relation)
            elif draw < 0.28:
                scene = replace(scene, subject=rng.choice(self._countable), count=rng.choice((2, 3)))
            elif draw < 0.42:
                scene = replace(scene, size=rng.choice(("small", "large")))
            elif draw < 0.52:
                scene = replace(scene, place=rng.choice(tuple(PLACES)), size=rng.choice(("", "", "small")))
            if scene.is_held_out == held_out_combinations:
                return scene


def training_subjects(size: str) -> tuple[Subject, ...]:
    """The subjects a model of this size learns: 260 popular ones ("small"), or all but the held-out ones ("large")."""
    if size == "large":
        return tuple(s for s in image_subjects.everything() if not s.is_held_out)
    return tuple(s for s in image_subjects.load() if s.group not in ("held_out", "more"))


def main() -> None:
    from PIL import Image, ImageDraw

    composer, rng = Composer(training_subjects("small")), random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    sheet = Image.new("RGB", (8 * 200, 6 * 166), "white")
    for i in range(48):
        scene = composer.scene(rng)
        left, top = i % 8 * 200, i // 8 * 166
        sheet.paste(draw(scene, rng), (left + 36, top))
        text = caption(scene, rng)
        ImageDraw.Draw(sheet).multiline_text(
            (left + 4, top + 130), "\n".join(text[j : j + 32] for j in range(0, 96, 32)), "black"
        )
    sheet.save(sys.argv[1] if len(sys.argv) > 1 else "scenes.png")


if __name__ == "__main__":
    main()
