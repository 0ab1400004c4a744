"""What a run will take, before it starts: memory and seconds, and what to give up when memory does not suffice.

Pure arithmetic over a catalogue block, settings and a device; imports no torch, looks at no machine.

    plan = image_plan.make(model, params, compute, seconds_per_step=0.2)
    print(plan.memory_bytes, plan.seconds, *plan.notes)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.catalog import Model, fits, weight_bytes
from pipelines.device import GIB, Compute
from pipelines.text_to_image import SMALLEST_SIDE, Defaults, ImageParams, resolve

#: Of what a model needs besides its weights at its own size, the share that denoising one guided picture takes;
#: decoding it takes all of it (a decoder works on full-size pixels in hundreds of channels).
DENOISING_SHARE = 0.5
#: With CPU offload one part at a time is on the device; the denoiser is the largest, about this share of all.
LARGEST_PART = 0.7
TILE_PIXELS = 512 * 512
#: Where the catalogue says nothing about work memory: bytes per pixel for decoding in 16 bit. The last block of a
#: decoder like Stable Diffusion's holds 256 channels at full size; ten such tensors, workspace included.
WORK_BYTES_PER_PIXEL = 5_120


@dataclass(frozen=True)
class Plan:
    """How a run will be done. ``seconds`` is None while nothing was measured; ``notes`` say in words what was given up."""

    memory_bytes: int
    budget_bytes: int
    seconds: float | None
    width: int
    height: int
    batch_size: int
    is_tiled: bool = False
    is_offloaded: bool = False
    smaller_model: str = ""
    notes: tuple[str, ...] = ()

    @property
    def is_enough(self) -> bool:
        """Whether the device's memory is predicted to suffice."""
        return self.memory_bytes <= self.budget_bytes


@dataclass(frozen=True)
class _Way:
    """One way to do the run."""

    width: int
    height: int
    batch_size: int
    is_tiled: bool = False
    is_offloaded: bool = False


def _weights(model: Model, compute: Compute) -> int:
    """Bytes of the weights once loaded. What is downloaded is in 16 bit, the small embedded model aside."""
    wide = compute.dtype == "float32" and model.source == "hub"
    return weight_bytes(model) * (2 if wide else 1)


def _memory(model: Model, way: _Way, compute: Compute, is_guided: bool, weights: int) -> int:
    """Predicted peak in bytes: what stays loaded, and the larger of denoising a batch and decoding one picture."""
    own = Defaults.of(model)
    own_pixels = own.width * own.height
    wide = 2 if compute.dtype == "float32" and model.source == "hub" else 1
    work = model.memory_bytes - weights // wide
    if work <= 0:
        work = WORK_BYTES_PER_PIXEL * own_pixels
    scale = work * wide / own_pixels
    pixels = way.width * way.height
    decoding = scale * (min(pixels, TILE_PIXELS) if way.is_tiled else pixels)
    denoising = scale * DENOISING_SHARE * pixels * way.batch_size * (1.0 if is_guided else 0.5)
    resident = weights * (LARGEST_PART if way.is_offloaded else 1.0)
    return int(resident + max(decoding, denoising))


def _shrunk(width: int, height: int) -> tuple[int, int]:
    """Three quarters of each side, in the multiples of 16 that every model can paint."""
    smaller = [max(SMALLEST_SIDE, int(side * 0.75) // 16 * 16) for side in (width, height)]
    return smaller[0], smaller[1]


def make(
    model: Model,
    params: ImageParams,
    compute: Compute,
    *,
    seconds_per_step: float | None = None,
    loaded_bytes: int | None = None,
    others: Iterable[Model] = (),
) -> Plan:
    """How ``params`` will be run on ``compute``, and what was given up to make it fit.

    The ladder: a smaller batch (same pictures, one after the other), decoding in tiles, parts of the model waiting
    in the computer's memory (accelerators only), a smaller picture; if even that is too much, a smaller model is named.

    Args:
        seconds_per_step: measured so far, for one picture of the model's own size with its own guidance.
        loaded_bytes: the weights as loaded, where that is known better than from the catalogue.
        others: models to choose a smaller one from.
    """
    own = Defaults.of(model)
    params = resolve(params, own)
    weights = loaded_bytes if loaded_bytes is not None else _weights(model, compute)
    is_guided = params.guidance_scale > 1
    budget = compute.memory_budget_bytes
    way = _Way(params.width, params.height, params.num_images)

    def need(candidate: _Way) -> int:
        return _memory(model, candidate, compute, is_guided, weights)

    while need(way) > budget and way.batch_size > 1:
        way = _Way(way.width, way.height, (way.batch_size + 1) // 2)
    if need(way) > budget and way.width * way.height > TILE_PIXELS:
        tiled = _Way(way.width, way.height, way.batch_size, True)
        way = tiled if need(tiled) < need(way) else way
    if need(way) > budget and compute.device != "cpu":
        way = _Way(way.width, way.height, way.batch_size, way.is_tiled, True)
    full_size = way
    while need(way) > budget and min(way.width, way.height) > SMALLEST_SIDE * 2:
        width, height = _shrunk(way.width, way.height)
        way = _Way(width, height, way.batch_size, way.is_tiled and width * height > TILE_PIXELS, way.is_offloaded)
    if need(way) > budget:
        way = full_size  # a smaller picture would not have helped
    notes = _notes(params, way)
    smaller = ""
    if need(way) > budget:
        smaller = _smaller_model(model, compute, others)
        notes.append(
            f"{model.title} needs about {need(way) / GIB:.1f} GB and {compute.name} offers {budget / GIB:.1f} GB: it may fail."
            + (f" The next smaller model that fits is {smaller}." if smaller else "")
        )
    seconds = None
    if seconds_per_step is not None:
        share = way.width * way.height / (own.width * own.height)
        passes = (2 if is_guided else 1) / (2 if own.guidance_scale > 1 else 1)
        steps = params.num_inference_steps
        if params.init_image is not None:
            steps = max(1, int(steps * params.strength))
        seconds = seconds_per_step * share * passes * steps * params.num_images
    return Plan(
        need(way), budget, seconds, way.width, way.height, way.batch_size, way.is_tiled, way.is_offloaded, smaller,
        tuple(notes),
    )  # fmt: skip


def _notes(params: ImageParams, way: _Way) -> list[str]:
    """What differs from what was asked for, in words."""
    notes = []
    if way.batch_size < params.num_images:
        at_once = "one at a time" if way.batch_size == 1 else f"{way.batch_size} at a time"
        notes.append(f"The {params.num_images} pictures are painted {at_once}, as memory is short.")
    if way.is_tiled:
        notes.append("The picture is decoded in tiles, which takes less memory and a little longer.")
    if way.is_offloaded:
        notes.append("Parts of the model wait in the computer's memory, so every picture takes longer.")
    if (way.width, way.height) != (params.width, params.height):
        asked = f"{params.width} x {params.height}"
        notes.append(f"The picture is {way.width} x {way.height} px instead of {asked}, as memory is short.")
    return notes


def _smaller_model(model: Model, compute: Compute, others: Iterable[Model]) -> str:
    """The id of the best model of the same task that needs less memory and fits, or nothing."""
    candidates = [m for m in others if m.task == model.task and not m.is_remote and m.memory_mb < model.memory_mb]
    candidates = [m for m in candidates if fits(m, compute)]
    return max(candidates, key=lambda m: m.rank).id if candidates else ""
