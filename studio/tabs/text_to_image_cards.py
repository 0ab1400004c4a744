"""What the image tab says about a run, a plan and a sampler, as small pieces of HTML with everything foreign escaped.

Knows no component and no handler.
"""

from __future__ import annotations

import html
from typing import Any

from pipelines import image_plan
from pipelines.catalog import Model
from pipelines.device import GIB, Compute
from pipelines.errors import StudioError
from pipelines.text_to_image import SCHEDULERS, Defaults, ImageParams
from studio import bridge


def numbers_line(record: dict[str, Any], model_title: str) -> str:
    """Seconds, steps, seed and the rest, small, under the picture, with the mark that it was generated."""
    if not record:
        return ""
    count = record.get("num_images", 1)
    steps = record["num_inference_steps"]
    parts = [
        f"{record['seconds']:.1f} s",
        f"{count} pictures" if count > 1 else "",
        f"{record['width']} x {record['height']} px",
        f"{steps} steps",
        f"guidance {record['guidance_scale']:g}",
        html.escape(scheduler_title(record["scheduler"])),
        f"strength {record['strength']:g}" if "strength" in record else "",
        *(html.escape(f"LoRA {one['name']} x {one['weight']:g}") for one in record.get("loras", ())),
        f'seed <button type="button" class="copy" data-copy="{int(record["seed"])}">{int(record["seed"])}</button>',
        html.escape(model_title),
        '<span class="badge">AI-generated</span>',
    ]
    return '<div class="numbers" aria-live="polite">' + " \u00b7 ".join(part for part in parts if part) + "</div>"


def scheduler_title(name: str) -> str:
    return SCHEDULERS[name].title if name in SCHEDULERS else "the model's own scheduler"


def scheduler_choices(names: tuple[str, ...] = tuple(SCHEDULERS)) -> list[tuple[str, str]]:
    """(label, name): the label says what each is good for."""
    return [("The model's own", "auto"), *((f"{SCHEDULERS[n].title}: {SCHEDULERS[n].help}", n) for n in names)]


def fitting_schedulers(model: Model) -> tuple[str, ...]:
    """Those that a model of this kind can use, as far as the catalogue tells: all, or those for flow matching."""
    name = Defaults.of(model).scheduler
    is_flow = name in SCHEDULERS and SCHEDULERS[name].is_flow and not SCHEDULERS[name].is_noise
    return tuple(n for n, s in SCHEDULERS.items() if s.is_flow) if is_flow else tuple(SCHEDULERS)


def plan_of(
    model: Model, params: ImageParams, compute: Compute, seconds_per_step: float | None
) -> image_plan.Plan | None:
    """What a run will take, or None where the numbers cannot be planned with."""
    try:
        return image_plan.make(model, params, compute, seconds_per_step=seconds_per_step)
    except StudioError:
        return None


def plan_line(plan: image_plan.Plan | None) -> str:
    """Predicted seconds and memory, before the click."""
    if plan is None:
        return ""
    time = bridge.seconds(plan.seconds) if plan.seconds is not None else ""
    memory = f"{max(plan.memory_bytes / GIB, 0.1):.1f} of {plan.budget_bytes / GIB:.1f} GB"
    notes = "".join(f"<br>{html.escape(note)}" for note in plan.notes)
    return '<div class="numbers plan">' + " \u00b7 ".join(part for part in (time, memory) if part) + notes + "</div>"


def pair(images: tuple[str, str], captions: tuple[str, str]) -> str:
    """Two pictures side by side; ``images`` are addresses made here."""
    figures = "".join(
        f'<figure><img src="{src}" alt="{html.escape(caption)}"><figcaption>{html.escape(caption)}</figcaption></figure>'
        for src, caption in zip(images, captions, strict=True)
    )
    return f'<div class="picture-pair">{figures}</div>'
