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
    task: str
    build: Callable[[Studio, gr.Blocks], None]


TABS = (
    Tab("chat", "Chat", "chat", chat.build),
    Tab("image", "Text to image", "text-to-image", text_to_image.build),
)


def tabs_of(studio: Studio) -> tuple[Tab, ...]:
    """The tabs for whose task the catalogue knows a model: a tab that can do nothing is not shown."""
    tasks = {model.task for model in studio.models.values()}
    return tuple(tab for tab in TABS if tab.task in tasks)
