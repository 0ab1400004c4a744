"""Text to image: a prompt in, pictures out, with a preview at every denoising step. Settings, results, command line.

The diffusion models themselves run in ``pipelines.image_local``; what a run will take is predicted by
``pipelines.image_plan``. Knows no page and no session.

    python -m pipelines.text_to_image "a fox on a blue background" --seed 1 --output fox.png
    python -m pipelines.text_to_image --file prompts.txt --output-dir out/ --json --lora style.safetensors:0.8
"""

from __future__ import annotations

import argparse
import itertools
import math
import re
import secrets
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import cli, device
from pipelines.catalog import Model
from pipelines.errors import InvalidParams, StudioError
from pipelines.events import CancelToken, Done, Event
from pipelines.params import LARGEST_SEED, Params, choice, clean_text, flag, integer, number, specs, text
from pipelines.shelf import Backend

if TYPE_CHECKING:
    from PIL.Image import Image

TASK = "text-to-image"
LONGEST_PROMPT = 2000  # characters
MOST_LORAS = 4
MOST_PIXELS_INPUT = 25_000_000
SMALLEST_SIDE, LARGEST_SIDE, SIDE_STEP = 64, 2048, 8


@dataclass(frozen=True)
class Scheduler:
    """One way to walk from noise to a picture. ``is_flow`` also works on flow-matching models (FLUX, Z-Image,
    the embedded one), ``is_noise`` on models that predict noise (Stable Diffusion)."""

    title: str
    help: str
    is_noise: bool = True
    is_flow: bool = False


#: What ``scheduler`` may be besides "auto", in the order in which the page offers them.
SCHEDULERS: dict[str, Scheduler] = {
    "euler": Scheduler(
        "Euler", "One plain step along the slope at a time; the standard to compare with.", is_flow=True
    ),
    "euler_ancestral": Scheduler(
        "Euler ancestral", "Adds fresh noise at every step: lively, and more steps give another picture."
    ),
    "dpmpp_2m": Scheduler(
        "DPM++ 2M", "Remembers the step before and bends accordingly; good from 15 to 25 steps.", is_flow=True
    ),
    "dpmpp_2m_karras": Scheduler(
        "DPM++ 2M Karras", "The same with small steps towards the end, where the details appear."
    ),
    "ddim": Scheduler("DDIM", "The first fast sampler: deterministic, steady, a good choice for image-to-image."),
    "unipc": Scheduler("UniPC", "Predicts and corrects; among the best with 8 to 12 steps.", is_flow=True),
    "lcm": Scheduler("LCM", "For models and LoRAs distilled to 2 to 8 steps (LCM); blurry on any other."),
    "flow_euler": Scheduler(
        "Flow Euler", "Straight steps for flow-matching models, which were trained on straight paths.", False, True
    ),
}


@dataclass(frozen=True)
class Lora:
    """A small addition to a model: a safetensors file, or a folder with one in it, and how strongly it acts."""

    path: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        path = clean_text(self.path, "A LoRA's path", 1000)
        if not path.strip() or path != self.path:
            raise InvalidParams("A LoRA's path must not be empty or hold control characters.")
        value = self.weight
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not -2 <= value <= 2:  # false for NaN too
            shown = f"{value:g}" if isinstance(value, float) else f"a {type(value).__name__}"
            raise InvalidParams(f"A LoRA's weight must be a number from -2 to 2, not {shown}.")
        object.__setattr__(self, "weight", float(value))

    @classmethod
    def parse(cls, written: str) -> Lora:
        """``PATH`` or ``PATH:WEIGHT``, as on the command line. A Windows drive's colon is not taken for one."""
        path, colon, weight = written.rpartition(":")
        try:
            return cls(path, float(weight)) if colon and path else cls(written)
        except ValueError:
            return cls(written)


@dataclass(frozen=True, kw_only=True)
class ImageParams(Params):
    """A picture to paint. 0 (sizes, steps) and -1 (guidance) mean the model's own value; see ``resolve``."""

    prompt: str = text("", max_length=LONGEST_PROMPT, label="Prompt", help="What the picture shows.")
    negative_prompt: str = text(
        "",
        max_length=LONGEST_PROMPT,
        label="Negative prompt",
        help="What it should not show; works only where guidance is above 1.",
    )
    width: int = integer(
        0,
        minimum=0,
        maximum=LARGEST_SIDE,
        step=SIDE_STEP,
        unit="px",
        label="Width",
        help="Width of the picture, a multiple of 8; 0 is the model's own.",
    )
    height: int = integer(
        0,
        minimum=0,
        maximum=LARGEST_SIDE,
        step=SIDE_STEP,
        unit="px",
        label="Height",
        help="Height of the picture, a multiple of 8; 0 is the model's own.",
    )
    num_inference_steps: int = integer(
        0,
        minimum=0,
        maximum=150,
        unit="steps",
        label="Steps",
        help="In how many steps the noise is removed; 0 is the model's own.",
    )
    guidance_scale: float = number(
        -1.0,
        minimum=-1.0,
        maximum=30.0,
        step=0.5,
        label="Guidance",
        help="How strongly the prompt pulls: 1 is off, too much burns the colours; -1 is the model's own.",
    )
    scheduler: str = choice(
        "auto", ("auto", *SCHEDULERS), label="Scheduler", help="Which path is taken from noise to picture."
    )
    seed: int = integer(
        -1,
        minimum=-1,
        maximum=LARGEST_SEED,
        label="Seed",
        help="The noise to begin with: the same seed gives the same picture; -1 draws a new one and reports it.",
    )
    num_images: int = integer(
        1,
        minimum=1,
        maximum=8,
        unit="pictures",
        label="Pictures",
        help="How many at once; their seeds count up from the first one's.",
    )
    strength: float = number(
        0.6,
        minimum=0.0,
        maximum=1.0,
        step=0.05,
        label="Strength",
        help="With a start image: how much of it is painted anew; 0 keeps it, 1 forgets it.",
    )
    is_traced: bool = flag(False, label="Trace", help="Keep what 'See inside' shows: word maps and guidance halves.")
    init_image: Any = None
    mask_image: Any = None
    loras: tuple[Lora, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("width", "height"):
            check_side(getattr(self, name), name)
        if -1 < self.guidance_scale < 0:
            raise InvalidParams(
                f"guidance_scale must be from 0 to 30, or -1 for the model's own, not {self.guidance_scale:g}."
            )
        object.__setattr__(self, "init_image", clean_image(self.init_image, "init_image", "RGB"))
        object.__setattr__(self, "mask_image", clean_image(self.mask_image, "mask_image", "L"))
        if self.mask_image is not None and self.init_image is None:
            raise InvalidParams("A mask needs a start image whose parts it marks.", "Choose the start image first.")
        object.__setattr__(self, "loras", clean_loras(self.loras))

    def seeded(self) -> ImageParams:
        """The same settings with the seed that will really be used for the first picture."""
        return replace(self, seed=secrets.randbelow(2**31)) if self.seed < 0 else self

    @property
    def seeds(self) -> tuple[int, ...]:
        """One seed per picture, counting up; past the largest one they go on from 0."""
        return tuple((self.seed + i) % (LARGEST_SEED + 1) for i in range(self.num_images))


#: The settings that the command line and the page offer.
SETTINGS = tuple(specs(ImageParams))


def check_side(value: int, name: str, multiple: int = SIDE_STEP) -> None:
    """Raise InvalidParams unless ``value`` px is 0 or a side that can be painted, naming the nearest that can."""
    nearest = min(max(round(value / multiple) * multiple, SMALLEST_SIDE), LARGEST_SIDE)
    if value and value != nearest:
        raise InvalidParams(
            f"{name} must be a multiple of {multiple} px from {SMALLEST_SIDE} to {LARGEST_SIDE}, not {value}.",
            f"The nearest is {nearest}.",
        )


def clean_image(image: Any, name: str, mode: str) -> Image | None:
    """A picture that ``pictures.open_image`` decoded, in ``mode``. Raises InvalidParams for anything else."""
    if image is None:
        return None
    from PIL.Image import Image

    if not isinstance(image, Image):
        raise InvalidParams(f"{name} must be a picture, not {type(image).__name__}.")
    if not 0 < image.width * image.height <= MOST_PIXELS_INPUT:
        raise InvalidParams(f"{name} is {image.width} x {image.height} px; at most 25 megapixels are accepted.")
    return image if image.mode == mode else image.convert(mode)


def clean_loras(loras: Any) -> tuple[Lora, ...]:
    """LoRAs as sent by anybody: ``Lora`` or {path, weight} each. Raises InvalidParams for anything else."""
    if isinstance(loras, (str, bytes)) or not isinstance(loras, Sequence):
        raise InvalidParams("loras must be a list.")
    if len(loras) > MOST_LORAS:
        raise InvalidParams(f"{len(loras)} LoRAs were given; at most {MOST_LORAS} work together.")
    cleaned = []
    for lora in loras:
        if isinstance(lora, Mapping) and set(lora) <= {"path", "weight"}:
            lora = Lora(lora.get("path", ""), lora.get("weight", 1.0))
        if not isinstance(lora, Lora):
            raise InvalidParams("Each LoRA needs a path and a weight.")
        cleaned.append(lora)
    return tuple(cleaned)


@dataclass(frozen=True)
class Defaults:
    """What 0, -1 and "auto" mean for one model."""

    width: int = 512
    height: int = 512
    num_inference_steps: int = 25
    guidance_scale: float = 7.0
    scheduler: str = "auto"

    @classmethod
    def of(cls, model: Model) -> Defaults:
        """As the catalogue says; where it says nothing, what Stable Diffusion 1.5 likes."""
        own = cls()
        return cls(
            model.width or own.width,
            model.height or model.width or own.height,
            model.num_inference_steps or own.num_inference_steps,
            own.guidance_scale if model.guidance_scale < 0 else model.guidance_scale,
            model.scheduler or own.scheduler,
        )


def resolve(params: ImageParams, defaults: Defaults) -> ImageParams:
    """The settings with every "the model's own" replaced by what that is, and a seed drawn where none was given.

    A start image without a size given keeps its proportions: about as many pixels as the model's own.
    """
    width, height = params.width or defaults.width, params.height or defaults.height
    if params.init_image is not None and not params.width and not params.height:
        width, height = like(params.init_image.width / params.init_image.height, defaults.width * defaults.height)
    return replace(
        params.seeded(),
        width=width,
        height=height,
        num_inference_steps=params.num_inference_steps or defaults.num_inference_steps,
        guidance_scale=defaults.guidance_scale if params.guidance_scale < 0 else params.guidance_scale,
        scheduler=defaults.scheduler if params.scheduler == "auto" else params.scheduler,
    )


def like(aspect: float, pixels: int, multiple: int = 16) -> tuple[int, int]:
    """Width and height in px with about ``pixels`` in all and ``aspect`` = width / height, as multiples."""
    aspect = min(max(aspect, 1 / 4), 4.0)
    sides = (math.sqrt(pixels * aspect), math.sqrt(pixels / aspect))
    width, height = (min(max(round(s / multiple) * multiple, SMALLEST_SIDE), LARGEST_SIDE) for s in sides)
    return width, height


@dataclass(frozen=True)
class Picture:
    """One finished picture, RGB, with all that is needed to paint it again."""

    image: Image
    seed: int
    record: dict[str, Any]


@dataclass(frozen=True)
class StepView:
    """How far the pictures are after one denoising step: the model's guess of each finished picture.

    ``images`` are small (long side at most 256 px), one per picture of the batch; ``sigma`` is the share of noise
    left, 1 to 0; ``guidance`` is (without the prompt, with the prompt) of the first picture, when traced.
    """

    images: tuple[Image, ...]
    step: int
    total: int
    sigma: float
    guidance: tuple[Image, Image] | None = None


@dataclass(frozen=True)
class WordMap:
    """Which region of the first picture a word steered: ``map`` is a numpy float32 array [h, w] in 0..1."""

    word: str
    map: Any


@dataclass(frozen=True)
class ImageResult:
    """All pictures of a run, their steps, and when traced the word maps of the first picture."""

    pictures: tuple[Picture, ...]
    steps: tuple[StepView, ...] = ()
    words: tuple[WordMap, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Loader:
    """Opens image models: the engine calls it with a catalogue block, it yields progress, returns a backend."""

    request: device.Request = device.Request()
    may_download: bool = False

    def __call__(self, model: Model, cancel: CancelToken) -> Generator[Event, None, Backend]:
        from pipelines.image_local import LocalImage

        return (yield from LocalImage.open(model, self.request, cancel, may_download=self.may_download))


# --- command line -----------------------------------------------------------------------------------------


class _Files:
    """Where the command line puts its pictures."""

    def __init__(self, output: Path | None, folder: Path | None) -> None:
        self._output, self._folder = output, folder or Path(".")
        self._numbers = itertools.count(1)

    def save(self, done: Done) -> list[str]:
        """Write every picture of a result with its record; returns the paths."""
        from pipelines import pictures

        paths = []
        for i, picture in enumerate(done.artifact.pictures):
            path = self._name(i, picture)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StudioError(f"{path.parent} cannot be made: {error.strerror}.") from error
            pictures.save_png(picture.image, picture.record, path)
            paths.append(str(path))
        return paths

    def _name(self, i: int, picture: Picture) -> Path:
        if self._output is not None:
            return self._output if i == 0 else self._output.with_stem(f"{self._output.stem}-{i + 1}")
        words = re.sub(r"[^a-z0-9]+", "-", picture.record["prompt"].lower())[:40].strip("-") or "picture"
        return self._folder / f"{next(self._numbers):03d}-{words}-{picture.seed}.png"


def _parser() -> cli.Parser:
    parser = cli.Parser(description="Paint pictures.", prog="python -m pipelines.text_to_image")
    parser.add_argument("prompt", nargs="?", help="what the picture shows")
    cli.add_common_arguments(parser, ImageParams, hidden=("prompt", "is_traced"))
    parser.add_argument("--output", type=Path, help="the PNG to write; further pictures get -2, -3 and so on")
    parser.add_argument("--output-dir", type=Path, help="a folder for PNGs named by number, prompt and seed")
    parser.add_argument("--image", type=Path, help="a picture to start from, see --strength")
    parser.add_argument("--mask", type=Path, help="with --image: white parts are painted anew")
    parser.add_argument("--lora", action="append", default=[], metavar="PATH[:WEIGHT]", help="up to four times")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    if args.output and (args.output_dir or args.file):
        print("--output names one file; use --output-dir alone for --file.", file=sys.stderr)
        return 2
    files = _Files(args.output, args.output_dir)

    def params(prompt: str) -> ImageParams:
        return ImageParams(prompt=prompt, **_given(args))

    def record(prompt: str, done: Done) -> dict[str, Any]:
        return {**done.record, "files": files.save(done)}

    def show(prompt: str, done: Done) -> str:
        return "\n".join(files.save(done))

    return cli.run(
        args, TASK, Loader(device.Request(args.device, args.dtype), args.allow_downloads), params, record, show
    )


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags say, less the prompt. Raises InvalidParams."""
    from pipelines import pictures

    values = {name: getattr(args, name) for name in SETTINGS if hasattr(args, name) and name != "prompt"}
    values["loras"] = tuple(Lora.parse(written) for written in args.lora)
    if args.image:
        values["init_image"] = pictures.open_image(args.image)
    if args.mask:
        values["mask_image"] = pictures.open_mask(args.mask)
    return values


if __name__ == "__main__":
    sys.exit(main())
