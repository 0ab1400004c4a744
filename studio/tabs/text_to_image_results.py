"""What a session has painted: pictures as files of its own, and what "See inside" shows of them. Lives in ``gr.State``.

Each picture is a PNG with its full record in a folder with a name nobody can guess, inside Gradio's cache, which
deletes it after an hour. Knows no component.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines import pictures
from pipelines.catalog import ASSETS, Model
from pipelines.errors import StudioError
from pipelines.picture_records import PictureSettings
from pipelines.text_to_image import ImageParams, ImageResult
from studio.views import film_view, word_view
from studio.views.picture_data import data_uri

MOST_KEPT = 12  # pictures of a session
MOST_EXAMPLES = 6


@dataclass(frozen=True)
class Painted:
    """One finished picture. ``params`` paint it again, alone."""

    path: str
    record: dict[str, Any]
    params: ImageParams
    film: dict[str, Any]
    words: dict[str, Any]

    @property
    def caption(self) -> str:
        return f"seed {self.record['seed']}, AI-generated"


@dataclass(frozen=True)
class Shown:
    """The session's pictures, newest first, and which of them the page talks about."""

    pictures: tuple[Painted, ...] = ()
    selected: int = 0

    @property
    def current(self) -> Painted | None:
        return self.pictures[self.selected] if self.selected < len(self.pictures) else None

    @property
    def gallery(self) -> list[tuple[str, str]]:
        return [(one.path, one.caption) for one in self.pictures]

    def with_new(self, new: Sequence[Painted]) -> Shown:
        return Shown((*new, *self.pictures)[:MOST_KEPT], 0)

    def select(self, index: Any) -> Shown:
        is_there = isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(self.pictures)
        return replace(self, selected=index) if is_there else self


def save(image: Any, record: dict[str, Any], cache: str) -> str:
    """Write a PNG with its record; returns its path. Raises StudioError when it cannot be written."""
    stem = re.sub(r"[^a-z0-9]+", "-", str(record.get("prompt", "")).lower()).strip("-")[:40] or "picture"
    folder = Path(cache) / secrets.token_hex(32)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise StudioError("The picture cannot be saved: the disk is full or read-only.", "Make room.") from error
    path = folder / f"{stem}-{record.get('seed', 0)}.png"
    pictures.save_png(image, record, path)
    return str(path)


def kept(result: ImageResult, params: ImageParams, cache: str) -> list[Painted]:
    """A run's pictures with their film strips. Encodes and writes: not for an event loop."""
    made = []
    for i, picture in enumerate(result.pictures):
        steps = _steps_of(result, i)
        film = film_view.payload(
            [film_view.frame(step, index) for step, index in steps],
            max((step.total for step, _ in steps), default=0),
            picture.record["guidance_scale"],
        )
        has_maps = i == 0 and result.words
        why = "Maps are kept of the first picture of a run." if i else _without_maps(params)
        words = word_view.payload(picture.image, result.words) if has_maps else word_view.nothing(why)
        alone = replace(params, seed=picture.seed, num_images=1)
        made.append(Painted(save(picture.image, picture.record, cache), picture.record, alone, film, words))
    return made


def _without_maps(params: ImageParams) -> str:
    if not params.is_traced:
        return "Nothing was recorded: switch on 'Record what See inside shows' and paint again."
    return "This model mixes words and picture in one sequence, so there are no maps per word."


def _steps_of(result: ImageResult, picture: int) -> list[tuple[Any, int]]:
    """The steps that picture was in, and its place there: a run short of memory paints its pictures in batches."""
    before = 0
    batches: list[list[Any]] = []
    for step in result.steps:
        if not batches or step.step <= batches[-1][-1].step:
            batches.append([])
        batches[-1].append(step)
    for batch in batches:
        size = len(batch[0].images)
        if picture < before + size:
            return [(step, picture - before) for step in batch]
        before += size
    return []


@dataclass(frozen=True)
class Example:
    """A picture that ships with the studio."""

    source: str
    settings: PictureSettings


def examples(model: Model) -> list[Example]:
    """Pictures made earlier with ``model``, from ``assets/examples/<id>``; what cannot be read is left out."""
    found = []
    folder = ASSETS / "examples" / model.id
    for path in sorted(folder.glob("*.png"))[:MOST_EXAMPLES] if re.fullmatch(r"[\w.-]+", model.id) else ():
        try:
            settings = pictures.read_record(path)
            if settings is not None and settings.prompt:
                found.append(Example(data_uri(pictures.open_image(path)), settings))
        except StudioError:
            continue
    return found
