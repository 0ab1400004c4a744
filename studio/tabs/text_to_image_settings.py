"""Between the image tab's controls and ``ImageParams``, by name: shapes, seed, start image, mask, LoRAs, and back.

Everything that comes from the page is checked here or by ``ImageParams``; uploads are decoded by ``pictures`` only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines import pictures
from pipelines.catalog import Model
from pipelines.errors import InvalidParams
from pipelines.picture_records import PictureSettings
from pipelines.text_to_image import MOST_LORAS, SCHEDULERS, Defaults, ImageParams, Lora, like
from studio.runtime import Studio

OWN = "own"
#: Width to height, both ways round.
SHAPES = (
    ("The model's own", OWN), ("Square 1:1", "1:1"), ("Landscape 4:3", "4:3"), ("Landscape 3:2", "3:2"),
    ("Wide 16:9", "16:9"), ("Portrait 3:4", "3:4"), ("Portrait 2:3", "2:3"), ("Tall 9:16", "9:16"),
)  # fmt: skip
NEW_SEED, KEEP_SEED = "new", "keep"
_SHAPE = re.compile(r"\s*(\d{1,4})\s*(:|x|\u00d7)\s*(\d{1,4})\s*")


def size_of(shape: Any, own: Defaults) -> tuple[int, int]:
    """Width and height in px for a shape: the model's own (0, 0), a ratio like 4:3, or a size like 640x480.

    Raises InvalidParams for anything else.
    """
    if shape in (OWN, None, ""):
        return 0, 0
    found = _SHAPE.fullmatch(shape) if isinstance(shape, str) else None
    if found is None:
        raise InvalidParams("The shape must be a ratio such as 4:3 or a size such as 640x480.")
    width, height = int(found[1]), int(found[3])
    if found[2] != ":":
        return width, height
    if not width or not height:
        raise InvalidParams("The shape must be a ratio such as 4:3, without zeros.")
    return like(width / height, own.width * own.height)


def swapped(shape: Any) -> Any:
    """Landscape to portrait and back."""
    found = _SHAPE.fullmatch(shape) if isinstance(shape, str) else None
    return f"{found[3]}{found[2]}{found[1]}" if found else shape


def shape_choices(shape: str = OWN) -> list[tuple[str, str]]:
    """What the shape picker offers, with a size of its own where the current one is none of the usual."""
    known = [value for _, value in SHAPES]
    return list(SHAPES) if shape in known else [*SHAPES, (shape.replace("x", " x "), shape)]


@dataclass(frozen=True)
class Uploads:
    """What the page sent as files: addresses on this machine that the upload handler made, or bytes."""

    background: bytes | str | None = None
    layers: tuple[bytes | str, ...] = ()
    loras: tuple[str, ...] = ()
    lora_weights: tuple[Any, ...] = ()


def uploads(editor: Any, lora_files: Any, lora_weights: Sequence[Any]) -> Uploads:
    """The raw values of the editor and the LoRA files."""
    editor = editor if isinstance(editor, Mapping) else {}
    files = tuple(lora_files) if isinstance(lora_files, (list, tuple)) else ()
    layers = tuple(layer for layer in editor.get("layers") or () if layer)
    return Uploads(editor.get("background"), layers, files, tuple(lora_weights))


def read_mask(layers: Sequence[bytes | str], size: tuple[int, int]) -> Any:
    """What was painted over the start image, white is repainted; None when nothing was."""
    from PIL import ImageChops

    mask = None
    for layer in layers[:4]:
        painted = pictures.open_mask(layer)
        painted = painted if painted.size == size else painted.resize(size)
        mask = painted if mask is None else ImageChops.lighter(mask, painted)
    return mask if mask is not None and mask.getbbox() else None


def read_loras(files: Sequence[str], weights: Sequence[Any]) -> tuple[Lora, ...]:
    """Raises InvalidParams for too many or a wrong weight."""
    if len(files) > MOST_LORAS:
        raise InvalidParams(f"{len(files)} LoRAs were given; at most {MOST_LORAS} work together.")
    return tuple(Lora(str(file), weight) for file, weight in zip(files, weights, strict=False))


def params_of(
    values: Mapping[str, Any], shape: Any, seed_mode: Any, sent: Uploads, model: Model, studio: Studio, session: str
) -> ImageParams:
    """The settings on the page as checked params with a seed drawn. Decodes uploads. Raises InvalidParams."""
    if not str(values.get("prompt") or "").strip():
        raise InvalidParams("There is no prompt yet.", "Type one, click an example, or compose one.")
    width, height = size_of(shape, Defaults.of(model))
    image = mask = None
    if sent.background:
        image = pictures.open_image(sent.background)
        mask = read_mask(sent.layers, image.size)
    params = ImageParams.from_mapping(
        {
            **values,
            "width": width,
            "height": height,
            "seed": values.get("seed") if seed_mode == KEEP_SEED else -1,
            "init_image": image,
            "mask_image": mask,
            "loras": read_loras(sent.loras, sent.lora_weights),
        }
    )
    return check_limits(params, studio, session).seeded()


def check_limits(params: ImageParams, studio: Studio, session: str) -> ImageParams:
    """``params`` unchanged. Raises InvalidParams where an attendee asks for more than the presenter allows."""
    limits = studio.limits
    if studio.has_limits(session):
        for name, most in (("num_inference_steps", limits.max_inference_steps), ("num_images", limits.max_images)):
            if getattr(params, name) > most:
                raise InvalidParams(f"{name} must be at most {most} here, not {getattr(params, name)}.")
    return params


def again(params: ImageParams, *, seed: int | None = None) -> ImageParams:
    """The same settings with another seed (None: a new one)."""
    return replace(params, seed=-1 if seed is None else seed).seeded()


# --- from a picture's record back to the controls ---------------------------------------------------------


def control_values(found: PictureSettings, studio: Studio, session: str) -> tuple[dict[str, Any], list[str]]:
    """Values by name for the controls ("shape", "seed_mode" and "model" among them), and remarks in words."""
    values: dict[str, Any] = {}
    remarks = list(found.ignored)
    for name in ("prompt", "negative_prompt", "num_inference_steps", "guidance_scale", "seed", "strength"):
        if getattr(found, name) is not None:
            values[name] = getattr(found, name)
    if found.seed is not None:
        values["seed_mode"] = KEEP_SEED
    if found.scheduler is not None:
        values["scheduler"] = found.scheduler if found.scheduler in SCHEDULERS else "auto"
    if found.width and found.height:
        values["shape"] = f"{found.width}x{found.height}"
    limit = studio.limits.max_inference_steps
    if studio.has_limits(session) and values.get("num_inference_steps", 0) > limit:
        remarks.append(f"steps: {values['num_inference_steps']} were used, {limit} are allowed here")
        values["num_inference_steps"] = limit
    model = studio.models.get(found.model or "")
    ready = studio.ready
    default = ready.choices.get("text-to-image") if ready else None
    if found.model and (default is None or found.model != default.model.id):
        if model is None:
            remarks.append(f"model {found.model}: not known here")
        elif studio.has_limits(session):
            remarks.append(f"model {model.title}: only the presenter may choose another model")
        else:
            values["model"] = model.id
    for name, weight in found.loras:
        remarks.append(f"LoRA {name} (weight {weight:g}): add its file under LoRAs")
    return values, remarks


def record_values(params: ImageParams) -> dict[str, Any]:
    """Values by name for the controls that show the settings of a picture of this session."""
    values = {
        name: getattr(params, name)
        for name in ("prompt", "negative_prompt", "num_inference_steps", "guidance_scale", "scheduler", "seed", "strength")
    }  # fmt: skip
    shape = f"{params.width}x{params.height}" if params.width and params.height else OWN
    return values | {"shape": shape, "seed_mode": KEEP_SEED}
