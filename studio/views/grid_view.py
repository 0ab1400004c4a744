"""The grid: two settings crossed, one picture per cell, each appearing when it is done; a click takes its settings.

Wraps ``assets/web/grid_view.js``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from studio.views.token_view import WEB

EMPTY: dict[str, Any] = {"x": {"title": "", "values": []}, "y": {"title": "", "values": []}, "cells": {}, "status": ""}


def payload(
    x: tuple[str, Sequence[str]], y: tuple[str, Sequence[str]], cells: Mapping[tuple[int, int], str], status: str
) -> dict[str, Any]:
    """``x`` and ``y``: title and the values in words; ``cells``: (column, row) to a picture's address."""
    return {
        "x": {"title": x[0], "values": list(x[1])},
        "y": {"title": y[0], "values": list(y[1])},
        "cells": {f"{column},{row}": source for (column, row), source in cells.items()},
        "status": status,
    }


def build(elem_id: str) -> gr.HTML:
    """The component. Its ``select`` event carries ``{"x": column, "y": row}`` of the picture that was clicked."""
    return gr.HTML(
        value=EMPTY,
        html_template='<div class="grid-view" aria-label="Grid of pictures"></div>',
        css_template=(WEB / "grid_view.css").read_text(encoding="utf-8"),
        js_on_load=(WEB / "grid_view.js").read_text(encoding="utf-8"),
        elem_id=elem_id,
    )
