"""A part of the page that is folded away until somebody opens it, and that is there all the same.

Unlike ``gr.Accordion``, which makes its children when it is first opened: Gradio 6.31 then shows them with the last
update they got, and where that update left them alone, all earlier ones are lost. ``assets/web/studio.js`` folds.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr


@contextmanager
def fold(title: str, elem_id: str) -> Iterator[None]:
    """What is laid out inside can be folded away under ``title``."""
    head = f'<button type="button" class="fold-head" aria-expanded="false">{html.escape(title)}</button>'
    with gr.Column(elem_id=elem_id, elem_classes="fold"):
        gr.HTML(head, js_on_load=None)
        with gr.Column(elem_classes="fold-body"):
            yield
