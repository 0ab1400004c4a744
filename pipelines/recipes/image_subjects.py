"""The subjects that the embedded image model can draw: emoji artwork, the words for it, and what is held out.

Artwork: Noto Color Emoji (SIL Open Font License 1.1), rendered by Pillow at its only size; names by hand in
``image_data/subjects.toml``. Knows no scenes and no captions.

    python -m pipelines.recipes.image_subjects /tmp/subjects.png     # one picture of them all
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.errors import StudioError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DATA = Path(__file__).parent / "image_data" / "subjects.toml"
#: Where Debian's fonts-noto-color-emoji, Fedora's and Arch's packages put the font; STUDIO_EMOJI_FONT comes first.
FONTS = (
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf",
    "/usr/share/fonts/noto/NotoColorEmoji.ttf",
)
FONT_SIZE = 109  # the one size that the font's bitmaps have
_IRREGULAR = {"mouse": "mice", "die": "dice", "fish": "fish", "sheep": "sheep", "deer": "deer", "ox": "oxen", "child": "children",
              "octopus": "octopuses", "tooth": "teeth", "knife": "knives", "wolf": "wolves", "loaf": "loaves", "leaf": "leaves",
              "shrimp": "shrimps", "squid": "squids", "broccoli": "broccoli", "corn": "corn", "sushi": "sushi", "beer": "beers",
              "goose": "geese", "scarf": "scarves", "UFO": "UFOs", "TV": "TVs", "SUV": "SUVs", "bison": "bison"}  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """One emoji: ``id`` is its name in the `emoji` package, ``words`` what people call it, the usual word first."""

    id: str
    character: str
    group: str
    words: tuple[str, ...]

    @property
    def title(self) -> str:
        return bare(self.words[0])

    @property
    def is_held_out(self) -> bool:
        return self.group == "held_out"


def bare(word: str) -> str:
    """A word without the mark that it takes no article."""
    return word.lstrip("@")


def with_article(word: str) -> str:
    """``fox`` -> ``a fox``, ``@grapes`` -> ``grapes``."""
    if word.startswith("@"):
        return bare(word)
    vowel = re.match(r"[aeiou]", word, re.IGNORECASE) and not re.match(r"(uni|use|UFO|one)", word)
    return ("an " if vowel or word.startswith("SUV") else "a ") + word


def plural(word: str) -> str | None:
    """``slice of pizza`` -> ``slices of pizza``; None for what takes no number."""
    if word.startswith("@"):
        return None
    head, joint, tail = word.partition(" of ")
    if not joint:
        head, joint, tail = word.partition(" with ")
    first, space, last = head.rpartition(" ")
    if last in _IRREGULAR:
        many = _IRREGULAR[last]
    elif re.search(r"[^aeiou]y$", last):
        many = last[:-1] + "ies"
    else:
        many = last + ("es" if re.search(r"(s|x|z|ch|sh)$", last) else "s")
    return first + space + many + joint + tail


def _characters() -> dict[str, str]:
    import emoji

    table: dict[str, Any] = emoji.EMOJI_DATA
    return {v["en"].strip(":"): k for k, v in table.items() if v["status"] == emoji.STATUS["fully_qualified"]}


@cache
def load() -> tuple[Subject, ...]:
    """Every subject of the data file, those of training, the larger size's and the held-out ones."""
    characters = _characters()
    tables = tomllib.loads(DATA.read_text("utf-8"))
    return tuple(
        Subject(name, characters[name], group, tuple(w.strip() for w in words.split(",")))
        for group, entries in tables.items()
        for name, words in entries.items()
    )


@cache
def _font() -> Any:
    from PIL import ImageFont

    for path in (os.environ.get("STUDIO_EMOJI_FONT", ""), *FONTS):
        if path and Path(path).is_file():
            return ImageFont.truetype(path, FONT_SIZE)
    raise StudioError(
        "The font Noto Color Emoji is not installed; the scenes are drawn from it.",
        "Install fonts-noto-color-emoji, or set STUDIO_EMOJI_FONT to NotoColorEmoji.ttf.",
    )


def _has_clean_name(name: str) -> bool:
    words = name.replace("_", " ")
    is_sign = re.search(
        r"button|arrow|o’clock|thirty|square|circle|diamond|Japanese_|symbol|mark|flag|keycap|\d", words
    )
    return bool(re.fullmatch(r"[A-Za-z’\- ]+", words)) and not is_sign


def everything() -> tuple[Subject, ...]:
    """For the large size: those of the data file and every other single emoji whose name can be said."""
    known = load()
    taken = {s.id for s in known}
    others = [
        Subject(name, character, "other", (name.replace("_", " ").replace("’", "'"),))
        for name, character in sorted(_characters().items())
        if name not in taken and len(character.replace("\ufe0f", "")) == 1 and _has_clean_name(name)
    ]
    return (*known, *others)


@cache
def artwork(character: str) -> Any:
    """The emoji as an RGBA picture, cut to what is drawn: at most 136 x 128 px."""
    from PIL import Image, ImageDraw

    image = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(image).text((10, 10), character, font=_font(), embedded_color=True)
    box = image.getbbox()
    if box is None:
        raise StudioError(f"The font has no picture for {character!r}.")
    return image.crop(box)


def main() -> None:
    from PIL import Image

    subjects = load()
    columns = 24
    sheet = Image.new("RGB", (columns * 70, -(-len(subjects) // columns) * 70), "white")
    for i, subject in enumerate(subjects):
        picture = artwork(subject.character).copy()
        picture.thumbnail((64, 64))
        sheet.paste(picture, (i % columns * 70 + 3, i // columns * 70 + 3), picture)
    sheet.save(sys.argv[1] if len(sys.argv) > 1 else "subjects.png")
    print(f"{len(subjects)} subjects, {len(everything())} for the large size")


if __name__ == "__main__":
    main()
