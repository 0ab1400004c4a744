"""The image tab's grid: which settings can be crossed, their values as typed, and the params of every cell.

Knows no component; drawing is ``studio.views.grid_view``.

    plan(params, "num_inference_steps", "4, 8", "guidance_scale", "1, 3").cells[(0, 1)].guidance_scale  # 3.0
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pipelines.errors import InvalidParams
from pipelines.params import clean_text
from pipelines.text_to_image import SCHEDULERS, ImageParams

MOST_PER_SIDE = 5
NOTHING = "nothing"


@dataclass(frozen=True)
class Axis:
    """A setting that can be varied, and the values offered to begin with."""

    title: str
    values: str


AXES = {
    "num_inference_steps": Axis("Steps", "2, 4, 8, 12"),
    "guidance_scale": Axis("Guidance", "1, 2, 3, 5, 8"),
    "seed": Axis("Seed", "1, 2, 3, 4"),
    "scheduler": Axis("Scheduler", "auto, euler, dpmpp_2m, unipc"),
    "strength": Axis("Strength (needs a start image)", "0.3, 0.5, 0.7, 0.9"),
    "lora_weight": Axis("LoRA strength (needs a LoRA)", "0, 0.5, 1, 1.5"),
}


def axis_choices(*, may_be_nothing: bool) -> list[tuple[str, str]]:
    nothing = [("Nothing: one row", NOTHING)] if may_be_nothing else []
    return [(axis.title, name) for name, axis in AXES.items()] + nothing


@dataclass(frozen=True)
class Grid:
    """``cells``: (column, row) to params, in the order in which they are painted."""

    x: tuple[str, tuple[str, ...]]
    y: tuple[str, tuple[str, ...]]
    cells: dict[tuple[int, int], ImageParams]


def _values(name: str, typed: Any) -> list[str]:
    if name == NOTHING:
        return [""]
    if name not in AXES:
        raise InvalidParams("Choose which setting the grid varies.")
    title = AXES[name].title
    values = [part.strip() for part in clean_text(typed, f"The values of {title}", 200).split(",")]
    values = list(dict.fromkeys(value for value in values if value))
    if not 1 <= len(values) <= MOST_PER_SIDE:
        raise InvalidParams(f"{title} takes 1 to {MOST_PER_SIDE} values with commas between them, not {len(values)}.")
    return values


def _with(params: ImageParams, name: str, value: str) -> ImageParams:
    """``params`` with one setting changed. Raises InvalidParams."""
    if name == NOTHING:
        return params
    if name == "scheduler":
        titles = {s.title.lower(): key for key, s in SCHEDULERS.items()}
        return replace(params, scheduler=titles.get(value.lower(), value))
    if name == "lora_weight":
        if not params.loras:
            raise InvalidParams("LoRA strength cannot be varied without a LoRA.", "Add one, or vary something else.")
        try:
            return replace(params, loras=tuple(replace(lora, weight=float(value)) for lora in params.loras))
        except ValueError as error:
            raise InvalidParams(f"A LoRA's weight must be a number from -2 to 2, not {value[:20]!r}.") from error
    if name == "strength" and params.init_image is None:
        raise InvalidParams("Strength cannot be varied without a start image.", "Add one, or vary something else.")
    # As text: the params class says in words what is no number.
    return replace(params, **{name: value})


def plan(params: ImageParams, x: Any, x_values: Any, y: Any, y_values: Any) -> Grid:
    """All cells, checked before the first is painted; one picture each, not traced. Raises InvalidParams."""
    x, y = str(x), str(y)
    if x == y:
        raise InvalidParams("The grid needs two different settings.")
    if x == NOTHING:
        raise InvalidParams("Choose which setting the grid varies.")
    across, down = _values(x, x_values), _values(y, y_values)
    params = replace(params, num_images=1, is_traced=False)
    cells = {
        (column, row): _with(_with(params, x, across[column]), y, down[row]).seeded()
        for row in range(len(down))
        for column in range(len(across))
    }
    down_title = AXES[y].title if y in AXES else ""
    return Grid((AXES[x].title, tuple(across)), (down_title, tuple(down)), cells)
