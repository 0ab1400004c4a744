"""The word map: a click on a word of the prompt shows which part of the picture it steered.

Wraps ``assets/web/word_view.js``; the maps are cross-attention averaged over steps (``pipelines.image_inside``).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import gradio as gr

from pipelines.text_to_image import WordMap
from studio.views.picture_data import data_uri
from studio.views.token_view import WEB

EMPTY: dict[str, Any] = {"picture": "", "words": [], "note": ""}
MOST_WORDS = 60


def payload(picture: Any, words: Iterable[WordMap]) -> dict[str, Any]:
    """The picture and one map per word, as bytes 0..255 row by row."""
    shown = []
    for one in list(words)[:MOST_WORDS]:
        height, width = one.map.shape
        grey = (one.map.clip(0, 1) * 255).round().astype("uint8").tobytes()
        shown.append({"word": one.word, "w": width, "h": height, "map": base64.b64encode(grey).decode("ascii")})
    return {"picture": data_uri(picture, longest=512), "words": shown, "note": ""}


def nothing(note: str) -> dict[str, Any]:
    """No maps, and why."""
    return {"picture": "", "words": [], "note": note}


def build(elem_id: str) -> gr.HTML:
    """The component."""
    return gr.HTML(
        value=EMPTY,
        html_template='<div class="word-view" aria-label="Where each word acted"></div>',
        css_template=(WEB / "word_view.css").read_text(encoding="utf-8"),
        js_on_load=(WEB / "word_view.js").read_text(encoding="utf-8"),
        elem_id=elem_id,
    )
