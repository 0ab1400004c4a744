"""A picture put under noise at will, and the model's one-step guess of what is under it, as a job like any other.

A second kind of work for a loaded image model: the same weights, taken in turns with the pictures being painted.
Knows no page; the arithmetic is ``pipelines.image_noise``.

    backend = weights.drain(Loader()(model, CancelToken()))
    *_, done = backend.run(NoiseParams(image=picture, level=0.6, prompt="a fox"), CancelToken())
    done.artifact.noisy, done.artifact.guess
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines import device, text_to_image
from pipelines.catalog import Model
from pipelines.errors import InvalidParams
from pipelines.events import CancelToken, Done, Event, Progress
from pipelines.params import LARGEST_SEED, Params, integer, number, text
from pipelines.shelf import Backend

if TYPE_CHECKING:
    from pipelines.image_local import LocalImage
    from pipelines.image_noise import Noised


@dataclass(frozen=True, kw_only=True)
class NoiseParams(Params):
    """A picture and how much noise is put on it."""

    level: float = number(
        0.5,
        minimum=0.0,
        maximum=1.0,
        step=0.05,
        label="Noise",
        help="Share of noise: 0 is the picture, 1 is nothing but noise.",
    )
    seed: int = integer(0, minimum=0, maximum=LARGEST_SEED, help="The same seed is the same noise at every level.")
    prompt: str = text("", max_length=text_to_image.LONGEST_PROMPT, help="What the model is told the picture shows.")
    image: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "image", text_to_image.clean_image(self.image, "image", "RGB"))
        if self.image is None:
            raise InvalidParams("There is no picture to put under noise.", "Paint one first.")


@dataclass
class ImageBackend:
    """A loaded image model that paints (``ImageParams``) and puts pictures under noise (``NoiseParams``)."""

    painter: LocalImage
    memory_bytes: int

    def run(self, params: Any, cancel: CancelToken) -> Iterator[Event]:
        """What ``LocalImage.run`` yields, or for noise ``Progress`` and ``Done`` with a ``Noised``."""
        if isinstance(params, NoiseParams):
            return self._noise(params, cancel)
        return self.painter.run(params, cancel)

    def _noise(self, params: NoiseParams, cancel: CancelToken) -> Iterator[Event]:
        from pipelines.image_noise import noised

        shown = Progress("Adding noise")
        started = time.monotonic()

        def work(pipe: Any) -> Noised:
            cancel.check()
            return noised(pipe, params.image, params.level, params.seed, params.prompt)

        yield shown
        result = yield from self.painter.lend(work, shown)
        record = {"level": params.level, "seed": params.seed, "seconds": round(time.monotonic() - started, 3)}
        yield Done(result, record)

    def close(self) -> None:
        self.painter.close()


@dataclass(frozen=True)
class Loader:
    """Opens image models for both kinds of job; as ``text_to_image.Loader``."""

    request: device.Request = device.Request()
    may_download: bool = False

    def __call__(self, model: Model, cancel: CancelToken) -> Generator[Event, None, Backend]:
        from pipelines.image_local import LocalImage

        painter = yield from LocalImage.open(model, self.request, cancel, may_download=self.may_download)
        return ImageBackend(painter, painter.memory_bytes)
