"""Backgrounds for the composed training scenes: plain colours, gradients, stripes and drawn settings.

Every background has the words that name it and a painter that makes it anew each time from a seeded generator, at
twice the wanted size so that edges come out smooth. Knows no subjects.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

Colour = tuple[int, int, int]
COLOURS: dict[str, Colour] = {
    "white": (250, 250, 250), "black": (22, 22, 26), "grey": (150, 152, 156), "red": (214, 52, 48), "orange": (243, 146, 40),
    "yellow": (250, 218, 72), "green": (86, 176, 84), "turquoise": (64, 196, 190), "blue": (66, 122, 222), "purple": (142, 84, 190),
    "pink": (246, 156, 190), "brown": (134, 92, 62),
}  # fmt: skip
SAID = {"grey": ("grey", "gray"), "turquoise": ("turquoise", "teal", "cyan"), "purple": ("purple", "violet")}
SCENE_WORDS: dict[str, tuple[str, ...]] = {
    "beach": ("on the beach", "at the beach", "on a beach", "by the sea", "on the sand", "on a sandy beach"),
    "night": ("at night", "under a night sky", "in front of a night sky", "under the stars", "in the night"),
    "meadow": (
        "on a meadow",
        "in a meadow",
        "in the grass",
        "on a green field",
        "in a field of flowers",
        "on the grass",
    ),
    "snow": ("in the snow", "in winter", "on snow", "in a snowy landscape", "on a snowy day"),
    "city": ("in the city", "in a city", "in front of a city skyline", "downtown", "in front of skyscrapers"),
    "underwater": ("underwater", "under water", "under the sea", "in the ocean", "at the bottom of the sea"),
    "stage": ("on a stage", "on stage", "in the spotlight", "in a theatre", "on a theater stage"),
    "space": ("in space", "in outer space", "among the stars and planets", "in the galaxy", "in the universe"),
}
SCENES = tuple(SCENE_WORDS)
#: How many paintings of a setting there are; painting takes longer than all the rest of a scene.
VARIANTS = 64


@dataclass(frozen=True)
class Background:
    """``kind`` is plain, gradient, stripes or scene; ``name`` tells it from others of its kind."""

    kind: str
    name: str
    colours: tuple[str, ...] = ()

    def phrase(self, rng: random.Random) -> str:
        """The words for it at the end of a caption."""
        return re.sub(r"\ba (?=orange)", "an ", self._phrase(rng))

    def _phrase(self, rng: random.Random) -> str:
        said = [rng.choice(SAID.get(c, (c,))) for c in self.colours]
        if self.kind == "plain":
            return rng.choice(("on a {0} background", "on a {0} background", "on {0}", "in front of a {0} background",
                               "with a {0} background", "against a {0} background", "{0} background")).format(*said)  # fmt: skip
        if self.kind == "gradient":
            return rng.choice(("on a gradient from {0} to {1}", "on a {0} to {1} gradient", "on a {0} and {1} gradient background",
                               "with a gradient background from {0} to {1}")).format(*said)  # fmt: skip
        if self.kind == "stripes":
            return rng.choice(("on {0} and {1} stripes", "on a {0} and {1} striped background", "in front of {0} and {1} stripes",
                               "with {0} and {1} stripes behind")).format(*said)  # fmt: skip
        return rng.choice(SCENE_WORDS[self.name])

    def paint(self, size: int, rng: random.Random) -> Any:
        """A picture of it, RGB ``size`` x ``size``; settings come in ``VARIANTS`` paintings each."""
        return _painted(self, size, rng.randrange(VARIANTS)).copy()


@lru_cache(maxsize=8 * VARIANTS)
def _painted(background: Background, size: int, variant: int) -> Any:
    from PIL import Image

    rng = random.Random(f"{background} {variant}")
    if background.kind != "scene":
        image = Image.new("RGB", (size, size))
        _PAINTERS[background.kind](image, background.colours, rng)
        return image
    image = Image.new("RGB", (2 * size, 2 * size))
    _PAINTERS[background.name](image, background.colours, rng)
    return image.resize((size, size), Image.Resampling.BOX)


def plain(colour: str) -> Background:
    return Background("plain", colour, (colour,))


def every_kind() -> tuple[Background, ...]:
    """One of each plain colour and setting: what the evaluation's classifier tells apart, with gradients and stripes."""
    return (*map(plain, COLOURS), *(Background("scene", s) for s in SCENES))


def choose(rng: random.Random) -> Background:
    """A random background: 42 % plain, 40 % settings, 9 % gradients, 9 % stripes."""
    draw = rng.random()
    if draw < 0.42:
        return plain(rng.choice(tuple(COLOURS)))
    if draw < 0.82:
        return Background("scene", rng.choice(SCENES))
    first, second = rng.sample(tuple(COLOURS), 2)
    kind = "gradient" if draw < 0.91 else "stripes"
    return Background(kind, kind, (first, second))


# --- painters: each fills an RGB image of any square size ---------------------------------------------------------
def _shift(colour: Colour, rng: random.Random, by: int = 10) -> Colour:
    light = rng.randint(-by, by)
    r, g, b = (max(0, min(255, c + light + rng.randint(-by // 3, by // 3))) for c in colour)
    return r, g, b


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    r, g, b = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return r, g, b


def _gradient(image: Any, top: Colour, bottom: Colour, start: float = 0.0, end: float = 1.0, turn: float = 0.0) -> None:
    """Fill from ``top`` to ``bottom`` between the heights ``start`` and ``end`` (shares), turned by radians."""
    import numpy as np
    from PIL import Image

    w, h = image.size
    y, x = np.mgrid[0:h, 0:w] / max(w, h)
    along = (y - 0.5) * math.cos(turn) + (x - 0.5) * math.sin(turn)
    along = np.clip((along + 0.5 - start) / max(1e-6, end - start), 0, 1)[..., None]
    pixels = np.array(top) * (1 - along) + np.array(bottom) * along
    image.paste(Image.fromarray(pixels.astype("uint8")))


def _draw(image: Any) -> Any:
    from PIL import ImageDraw

    return ImageDraw.Draw(image, "RGBA")


def _plain(image: Any, colours: tuple[str, ...], rng: random.Random) -> None:
    image.paste(_shift(COLOURS[colours[0]], rng, 6), (0, 0, *image.size))


def _two_colours(image: Any, colours: tuple[str, ...], rng: random.Random) -> None:
    turn = rng.choice((0.0, 0.0, math.pi / 2, math.pi / 4))
    top, bottom = (_shift(COLOURS[c], rng, 6) for c in colours)
    _gradient(image, top, bottom, start=0.1, end=0.9, turn=turn)


def _stripes(image: Any, colours: tuple[str, ...], rng: random.Random) -> None:
    import numpy as np
    from PIL import Image

    w, h = image.size
    turn, width = rng.choice((0.0, math.pi / 2, math.pi / 4)), rng.choice((0.08, 0.11, 0.14))
    y, x = np.mgrid[0:h, 0:w] / w
    odd = (np.floor((y * math.cos(turn) + x * math.sin(turn)) / width + rng.random()) % 2 == 1)[..., None]
    first, second = (np.array(_shift(COLOURS[c], rng, 6)) for c in colours)
    image.paste(Image.fromarray(np.where(odd, first, second).astype("uint8")))


def _stars(image: Any, rng: random.Random, count: int, lowest: float = 1.0) -> None:
    draw, s = _draw(image), image.size[0]
    for _ in range(count):
        x, y, r = rng.random() * s, rng.random() * s * lowest, s * rng.choice((0.004, 0.006, 0.006, 0.01))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, rng.randint(200, 255), 255))


def _hill(image: Any, rng: random.Random, height: float, colour: Colour, wave: float = 0.03) -> None:
    """Ground from the bottom up to about ``height`` (share from the top)."""
    s, phase, length = image.size[0], rng.random() * 6.3, rng.uniform(0.5, 1.2)
    top = [(x, s * (height + wave * math.sin(phase + x / s / length * 6.3))) for x in range(0, s + 8, 8)]
    _draw(image).polygon([*top, (s, s), (0, s)], fill=colour)


def _cloud(image: Any, rng: random.Random, x: float, y: float, size: float, alpha: int = 235) -> None:
    draw, s = _draw(image), image.size[0]
    for dx, dy, r in ((-0.6, 0.1, 0.45), (0, -0.15, 0.6), (0.6, 0.1, 0.45), (0.1, 0.2, 0.5)):
        cx, cy, cr = s * (x + dx * size), s * (y + dy * size), s * r * size
        draw.ellipse((cx - cr, cy - cr * 0.8, cx + cr, cy + cr * 0.8), fill=(255, 255, 255, alpha))


def _beach(image: Any, colours: tuple[str, ...], rng: random.Random) -> None:
    s, horizon = image.size[0], rng.uniform(0.36, 0.46)
    _gradient(image, _shift((112, 196, 246), rng), (206, 238, 252), 0.0, horizon)
    draw = _draw(image)
    draw.rectangle((0, s * horizon, s, s), fill=_shift((38, 142, 202), rng))
    for i in range(3):
        y = s * (horizon + 0.05 + 0.06 * i)
        draw.line(
            (rng.random() * s * 0.3, y, s * rng.uniform(0.5, 1.0), y), fill=(140, 206, 236), width=max(1, s // 90)
        )
    shore = horizon + rng.uniform(0.17, 0.24)
    _hill(image, rng, shore, (250, 246, 236), 0.015)
    _hill(image, rng, shore + 0.025, _shift((240, 212, 150), rng), 0.015)
    if rng.random() < 0.7:
        x, r = s * rng.choice((0.14, 0.86)), s * 0.075
        draw.ellipse((x - r, s * 0.05, x + r, s * 0.05 + 2 * r), fill=(255, 226, 92))


def _night(image: Any, colours: tuple[str, ...], rng: random.Random) -> None:
    s = image.size[0]
    _gradient(image, _shift((14, 18, 56), rng, 6), _shift((52, 60, 122), rng))
    _stars(image, rng, rng.randint(22, 34), 0.85)
    _hill(image, rng, rng.uniform(0.84, 0.9), (20, 26, 48))
    x, y, r = s * rng.choice((0.14, 0.86)), s * 0.14, s * 0.08
    draw = _draw(image)
    draw.ellipse((x - r, y - r, x + r, y + r), fill=(250, 244, 208))
    draw.ellipse((x - r * 0.45, y - r * 1.1, x + r * 1.45, y + r * 0.8), fill=(20, 25, 66))


def _meadow(image: Any, colours: tuple[str, ...], rng: random.Random) -> None:
    s, horizon = image.size[0], rng.uniform(0.42, 0.55)
    _gradient(image, _shift((120, 198, 248), rng), (224, 244, 254), 0.0, horizon)
    for _ in range(rng.randint(1, 2)):
        _cloud(image, rng, rng.choice((0.16, 0.84)), rng.uniform(0.08, 0.2), 0.11)
    _hill(image, rng, horizon, _shift((130, 200, 96), rng), 0.04)
    _hill(image, rng, horizon + 0.12, _shift((98, 178, 72), rng), 0.03)
    draw = _draw(image)
    for _ in range(rng.randint(8, 16)):
        x, y, r = rng.random() * s, s * rng.uniform(horizon + 0.2, 0.98), s * 0.013
        colour = rng.choice(((255, 255, 255), (255, 224, 90), (246, 130, 170)))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)


def _snow(image: Any, colours: tuple[str, ...], rng: random.Random) -> None:
    s, horizon = image.size[0], rng.uniform(0.5, 0.6)
    _gradient(image, _shift((164, 198, 228), rng), (226, 238, 248), 0.0, horizon)
    draw = _draw(image)
    for _ in range(rng.randint(2, 4)):
        x, h = rng.choice((rng.uniform(0.02, 0.24), rng.uniform(0.76, 0.98))), rng.uniform(0.14, 0.22)
        base = horizon + 0.04
        for i in range(3):
            top, half = base - h + h * 0.28 * i, 0.035 + 0.02 * i
            points = [(x, top), (x - half, top + h * 0.42), (x + half, top + h * 0.42)]
            draw.polygon([(s * a, s * b) for a, b in points], fill=(72, 122, 112))
    _hill(image, rng, horizon, (246, 250, 254))
    _hill(image, rng, horizon + 0.18, (232, 240, 250))
    for _ in range(rng.randint(30, 46)):
        x, y, r = rng.random() * s, rng.random() * s, s * rng.choice((0.006, 0.009, 0.012))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255))


def _city(image: Any, colours: tuple[str, ...], rng: random.Random) -> None:
    s = image.size[0]
    _gradient(image, _shift((150, 196, 232), rng), (244, 226, 206), 0.0, 0.8)
    draw = _draw(image)
    for shade, low, high in (((158, 170, 192), 0.25, 0.5), ((104, 116, 144), 0.4, 0.62)):
        x = -rng.random() * 0.08
        while x < 1.0:
            w, top = rng.uniform(0.1, 0.17), rng.uniform(low, high)
            draw.rectangle((s * x, s * top, s * (x + w), s), fill=_shift(shade, rng, 12))
            for row in range(8):
                for column in range(2):
                    if rng.random() < 0.55:
                        left, up = x + w * (0.2 + 0.4 * column), top + 0.04 + 0.06 * row
                        draw.rectangle((s * left, s * up, s * (left + w * 0.2), s * (up + 0.025)), fill=(252, 232, 150))
            x += w + rng.choice((0.0, 0.01))
    draw.rectangle((0, s * 0.86, s, s), fill=(88, 90, 98))
    for i in range(5):
        draw.rectangle((s * (0.03 + 0.22 * i), s * 0.925, s * (0.13 + 0.22 * i), s * 0.94), fill=(236, 236, 236))


def _underwater(image: Any, colours: tuple[str, ...], rng: random.Random) -> None:
    s = image.size[0]
    _gradient(image, _shift((70, 186, 222), rng), _shift((12, 74, 140), rng))
    draw = _draw(image)
    for _ in range(3):
        x, w = rng.random(), rng.uniform(0.05, 0.1)
        draw.polygon(
            [(s * x, 0), (s * (x + w), 0), (s * (x + w + 0.18), s), (s * (x + 0.06), s)], fill=(255, 255, 255, 26)
        )
    _hill(image, rng, rng.uniform(0.86, 0.92), (206, 188, 138), 0.02)
    for _ in range(rng.randint(3, 6)):
        x, h = rng.choice((rng.uniform(0.02, 0.28), rng.uniform(0.72, 0.98))), rng.uniform(0.16, 0.32)
        stem = [(s * (x + 0.018 * math.sin(i * 1.3)), s * (0.95 - h * i / 6)) for i in range(7)]
        draw.line(stem, fill=(44, 132, 84), width=max(2, s // 45), joint="curve")
    for _ in range(rng.randint(7, 13)):
        x, y, r = rng.random() * s, rng.random() * s * 0.85, s * rng.uniform(0.008, 0.022)
        draw.ellipse((x - r, y - r, x + r, y + r), outline=(224, 246, 255), width=max(1, s // 120))


def _stage(image: Any, colours: tuple[str, ...], rng: random.Random) -> None:
    s, floor = image.size[0], rng.uniform(0.76, 0.82)
    image.paste((58, 20, 34), (0, 0, s, s))
    draw = _draw(image)
    folds = 14
    for i in range(folds):
        shade = 1.0 if i % 2 else 0.72
        red = (round(176 * shade), round(28 * shade), round(44 * shade))
        if i < 4 or i >= folds - 4:
            draw.rectangle((s * i / folds, 0, s * (i + 1) / folds, s * floor), fill=red)
    draw.rectangle((0, s * floor, s, s), fill=_shift((150, 100, 60), rng, 8))
    for i in range(1, 4):
        y = s * (floor + (1 - floor) * i / 4)
        draw.line((0, y, s, y), fill=(118, 76, 44), width=max(1, s // 110))
    lean = rng.uniform(-0.06, 0.06)
    draw.polygon(
        [(s * (0.47 + lean), 0), (s * (0.53 + lean), 0), (s * 0.82, s * 0.9), (s * 0.18, s * 0.9)],
        fill=(255, 246, 200, 74),
    )
    draw.ellipse((s * 0.18, s * 0.84, s * 0.82, s * 0.97), fill=(255, 244, 196, 110))


def _space(image: Any, colours: tuple[str, ...], rng: random.Random) -> None:
    s = image.size[0]
    _gradient(image, _shift((18, 10, 42), rng, 6), _shift((44, 18, 76), rng, 8), turn=rng.uniform(-1, 1))
    _stars(image, rng, rng.randint(36, 52))
    draw = _draw(image)
    for corner in rng.sample(((0.14, 0.16), (0.86, 0.16), (0.86, 0.84), (0.14, 0.84)), rng.randint(1, 2)):
        x, y, r = s * corner[0], s * corner[1], s * rng.uniform(0.06, 0.11)
        colour = rng.choice(((232, 140, 84), (110, 170, 226), (196, 120, 202), (120, 196, 160)))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        draw.chord((x - r, y - r, x + r, y + r), 20, 160, fill=_mix(colour, (20, 10, 40), 0.35))
        if rng.random() < 0.5:
            draw.ellipse(
                (x - 1.7 * r, y - 0.35 * r, x + 1.7 * r, y + 0.35 * r), outline=(236, 220, 190), width=max(2, s // 70)
            )


_PAINTERS: dict[str, Callable[[Any, tuple[str, ...], random.Random], None]] = {
    "plain": _plain, "gradient": _two_colours, "stripes": _stripes, "beach": _beach, "night": _night, "meadow": _meadow,
    "snow": _snow, "city": _city, "underwater": _underwater, "stage": _stage, "space": _space,
}  # fmt: skip
