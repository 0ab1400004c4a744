"""The film strip: every denoising step of a run, with the noise that was left, growing live and scrubbed afterwards.

Beside each step the two halves of classifier-free guidance, and what another guidance would have mixed of them.
Wraps ``assets/web/film_view.js``.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from pipelines.text_to_image import StepView
from studio.views.picture_data import data_uri
from studio.views.token_view import WEB

EMPTY: dict[str, Any] = {"frames": [], "total": 0, "guidance": 0}


def frame(step: StepView, picture: int = 0) -> dict[str, Any]:
    """One step of one picture of the batch, as the script draws it. The guidance halves are the first picture's."""
    image = step.images[min(picture, len(step.images) - 1)]
    halves = step.guidance if picture == 0 else None
    return {
        "src": data_uri(image),
        "step": step.step,
        "sigma": round(min(max(step.sigma, 0.0), 1.0), 4),
        "without": data_uri(halves[0]) if halves else "",
        "with": data_uri(halves[1]) if halves else "",
    }


def payload(frames: list[dict[str, Any]], total: int, guidance_scale: float) -> dict[str, Any]:
    """Steps that a fast run handed over together are in the order of their numbers."""
    return {
        "frames": sorted(frames, key=lambda one: one["step"]),
        "total": total,
        "guidance": round(float(guidance_scale), 2),
    }


def build(elem_id: str) -> gr.HTML:
    """The component."""
    return gr.HTML(
        value=EMPTY,
        html_template='<div class="film-view" aria-label="Every denoising step"></div>',
        css_template=(WEB / "film_view.css").read_text(encoding="utf-8"),
        js_on_load=(WEB / "film_view.js").read_text(encoding="utf-8"),
        elem_id=elem_id,
    )
