"""The tabs of the studio, one line each: a new tab is a new pipeline file, a new tab file and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from studio.runtime import Studio
from studio.tabs import chat, text_to_image


@dataclass(frozen=True)
class Tab:
    """``build`` lays out and wires the tab inside the page that is being built."""

    id: str
    title: str
    build: Callable[[Studio, gr.Blocks], None]


TABS = (
    Tab("chat", "Chat", chat.build),
    Tab("image", "Text to image", text_to_image.build),
)
