"""The stage of the image tab: what it can draw before the first picture, and the picture growing while it is painted.

Wraps ``assets/web/stage_view.js``. Everything is put in as text or as a picture, never as markup.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from pipelines.text_to_image import StepView
from studio.bridge import View
from studio.views.picture_data import data_uri
from studio.views.token_view import WEB

HIDDEN: dict[str, Any] = {"phase": "hidden"}


def welcome(title: str, lines: list[str], made: list[dict[str, str]]) -> dict[str, Any]:
    """Before the first picture. ``made``: pictures of this model from earlier, {src, text} each."""
    return {"phase": "empty", "title": title, "lines": lines, "made": made}


def working(view: View, note: str = "") -> dict[str, Any]:
    """While a job waits or paints: the latest preview, progress and time left. Encodes pictures: not for an event loop."""
    step = view.preview if isinstance(view.preview, StepView) else None
    progress = view.progress
    return {
        "phase": "working",
        "status": view.status + (f" ({note})" if note else ""),
        "step": progress.step if progress else 0,
        "total": progress.total if progress else 0,
        "images": [data_uri(image) for image in step.images] if step else [],
    }


def build(elem_id: str) -> gr.HTML:
    """The component. Its ``select`` event carries ``{"made": index}`` when somebody clicks an earlier picture."""
    return gr.HTML(
        value=HIDDEN,
        html_template='<div class="stage-view"></div>',
        css_template=(WEB / "stage_view.css").read_text(encoding="utf-8"),
        js_on_load=(WEB / "stage_view.js").read_text(encoding="utf-8"),
        elem_id=elem_id,
    )
