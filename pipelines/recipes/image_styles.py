"""The six styles of the composed training scenes, each a classical filter over the picture and its parts.

A style gets the background and the subjects' layer apart, as a silhouette or a neon outline needs the shape.
Knows no captions.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

#: Words before ("a pixel art fox"), before with "of" ("a pencil sketch of a fox"), after ("..., in pixel art style").
STYLE_WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "flat": (("flat",), ("an illustration of", "a flat drawing of", "an emoji of", "a cartoon of"), ("flat style", "as an emoji")),
    "pixel": (
        ("pixel art", "pixelated", "8-bit"),
        ("pixel art of", "a pixel art picture of", "an 8-bit image of"),
        ("pixel art", "in pixel art style", "pixel art style", "8-bit style", "as pixel art", "in pixel style"),
    ),
    "sketch": (
        ("pencil sketch", "sketched"),
        ("a pencil sketch of", "a pencil drawing of", "a sketch of", "a black and white drawing of"),
        ("pencil sketch", "as a pencil sketch", "in pencil", "pencil drawing", "sketch style", "drawn with a pencil"),
    ),
    "silhouette": (
        ("silhouetted",),
        ("a silhouette of", "the silhouette of", "a black silhouette of", "the shadow of"),
        ("silhouette", "as a silhouette", "as a black silhouette", "in silhouette style"),
    ),
    "neon": (
        ("neon", "glowing neon"),
        ("a neon sign of", "neon art of", "a glowing neon picture of"),
        ("neon", "in neon style", "neon style", "as a neon sign", "neon lights", "glowing neon outlines"),
    ),
    "watercolour": (
        ("watercolour", "watercolor"),
        ("a watercolour painting of", "a watercolor painting of", "a watercolor of", "a painting of"),
        ("watercolour", "watercolor", "in watercolour", "watercolor style", "as a watercolor painting", "painted"),
    ),
}  # fmt: skip
STYLES = tuple(STYLE_WORDS)


def _over(background: Any, layer: Any) -> Any:
    image = background.copy()
    image.paste(layer, (0, 0), layer)
    return image


def _flat(background: Any, layer: Any, rng: random.Random) -> Any:
    return _over(background, layer)


def _pixel(background: Any, layer: Any, rng: random.Random) -> Any:
    from PIL import Image

    image = _over(background, layer)
    size = image.size
    small = image.resize((size[0] // 4, size[1] // 4), Image.Resampling.BOX)
    small = small.quantize(20, dither=Image.Dither.NONE).convert("RGB")
    return small.resize(size, Image.Resampling.NEAREST)


def _sketch(background: Any, layer: Any, rng: random.Random) -> Any:
    """Colour dodge of the grey picture with its blurred negative: strokes where the lightness changes."""
    import numpy as np
    from PIL import Image, ImageFilter, ImageOps

    grey = ImageOps.grayscale(_over(background, layer))
    blurred = np.asarray(ImageOps.invert(grey).filter(ImageFilter.GaussianBlur(2.6)), dtype=np.float32)
    values = np.asarray(grey, dtype=np.float32)
    dodge = np.clip(values * 255.0 / np.maximum(1.0, 255.0 - blurred), 0, 255)
    alpha = np.asarray(layer.getchannel("A"), dtype=np.float32) / 255.0
    shade = np.clip(values / 255.0, 0, 1) * 0.32 + 0.68  # the subject keeps some of its shading, the ground little
    paper = dodge * (shade * alpha + (1 - alpha) * (0.93 + 0.07 * values / 255.0))
    paper = np.clip((paper - 96) * 1.45 + 40, 18, 250)
    return Image.fromarray(np.stack([paper, paper * 0.99, paper * 0.97], -1).astype("uint8"))


def _silhouette(background: Any, layer: Any, rng: random.Random) -> Any:
    from PIL import Image, ImageStat

    lightness = ImageStat.Stat(background.convert("L")).mean[0]
    shade = (16, 16, 22) if lightness > 70 else (236, 236, 244)  # a black shape would vanish on a black ground
    image = background.copy()
    image.paste(Image.new("RGB", image.size, shade), (0, 0), layer.getchannel("A"))
    return image


def _neon(background: Any, layer: Any, rng: random.Random) -> Any:
    import numpy as np
    from PIL import Image, ImageChops, ImageFilter

    dark = Image.blend(Image.new("RGB", background.size, (8, 6, 22)), background, 0.24)
    alpha = layer.getchannel("A")
    outline = ImageChops.difference(alpha.filter(ImageFilter.MaxFilter(3)), alpha.filter(ImageFilter.MinFilter(3)))
    inner = _over(Image.new("RGB", layer.size, (0, 0, 0)), layer).filter(ImageFilter.GaussianBlur(0.8))
    pixels = np.asarray(inner, dtype=np.float32)
    edges = np.hypot(np.gradient(pixels, axis=0), np.gradient(pixels, axis=1)).max(-1)
    inside = np.asarray(alpha.filter(ImageFilter.MinFilter(3)), dtype=np.float32) / 255.0
    lines = np.maximum(np.asarray(outline, dtype=np.float32), np.clip(edges * 3.2 - 34, 0, 255) * inside)
    # Each line glows in the colour of what it bounds, as bright and as saturated as a tube.
    wide = layer.filter(ImageFilter.GaussianBlur(2.5))
    colour = (
        np.asarray(wide, dtype=np.float32)[..., :3] / np.maximum(1.0, np.asarray(wide, dtype=np.float32)[..., 3:]) * 255
    )
    colour = colour / np.maximum(30.0, colour.max(-1, keepdims=True)) * 255
    vivid = np.clip(colour + (colour - colour.mean(-1, keepdims=True)) * 0.9, 40, 255)
    tubes = Image.fromarray((vivid * lines[..., None] / 255.0).astype("uint8"))
    glow = tubes.filter(ImageFilter.GaussianBlur(3)).point(lambda v: min(255, round(v * 1.7)))
    return ImageChops.add(ImageChops.add(dark, glow), tubes)


def _watercolour(background: Any, layer: Any, rng: random.Random) -> Any:
    """Smooth washes with frayed, darker rims on rough paper."""
    import numpy as np
    from PIL import Image, ImageFilter

    image = _over(background, layer)
    size = image.size[0]
    noise = np.random.default_rng(rng.randrange(2**32))
    coarse = noise.standard_normal((2, 12, 12)).astype(np.float32)
    fields = [np.asarray(Image.fromarray(c).resize((size, size), Image.Resampling.BICUBIC)) for c in coarse]
    y, x = np.mgrid[0:size, 0:size]
    reach = size / 128
    rows = np.clip(y + fields[0] * reach, 0, size - 1).astype(int)
    columns = np.clip(x + fields[1] * reach, 0, size - 1).astype(int)
    frayed = Image.fromarray(np.asarray(image)[rows, columns])
    wash = frayed.filter(ImageFilter.MedianFilter(3)).filter(ImageFilter.GaussianBlur(0.5))
    values = np.asarray(wash, dtype=np.float32)
    grey = np.asarray(wash.convert("L").filter(ImageFilter.GaussianBlur(1.0)), dtype=np.float32)
    rims = np.hypot(*np.gradient(grey))[..., None]
    cloudy = np.asarray(
        Image.fromarray(noise.standard_normal((9, 9)).astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
    )
    grain = noise.standard_normal((size, size, 1)).astype(np.float32)
    light = 0.3 + 0.06 * cloudy[..., None]
    painted = values + (252 - values) * np.clip(light, 0.1, 0.6) - np.clip(rims, 0, 20) * 1.5 + grain * 1.5
    return Image.fromarray(np.clip(painted, 0, 255).astype("uint8"))


_FILTERS: dict[str, Callable[[Any, Any, random.Random], Any]] = {
    "flat": _flat, "pixel": _pixel, "sketch": _sketch, "silhouette": _silhouette, "neon": _neon, "watercolour": _watercolour,
}  # fmt: skip


def apply(style: str, background: Any, layer: Any, rng: random.Random) -> Any:
    """The scene in a style. ``background`` is RGB, ``layer`` RGBA of the same size with the subjects; returns RGB."""
    return _FILTERS[style](background, layer, rng)
