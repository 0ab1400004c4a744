"""The start image with a mask painted over it: Gradio's image editor, handing its files over unopened.

Gradio's own component decodes whatever was sent before any handler sees it; here ``pipelines.pictures`` does that,
which refuses what is too large or no picture. Files come in through the upload button beside it, not through the editor.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.components.image_editor import EditorData


def _address(file: Any) -> bytes | str | None:
    return file if isinstance(file, bytes) or file is None else str(file.path)


def _unopened(editor: gr.ImageEditor, payload: EditorData | None) -> dict[str, Any] | None:
    """{background, layers}: addresses of uploaded files, or the bytes that the page's script sent."""
    if payload is None:
        return None
    sent: Any = payload
    if payload.id is not None:
        sent = editor.blob_storage.pop(payload.id, None)
        if sent is None:
            return None
    layers = [_address(layer) for layer in sent.layers or () if layer is not None]
    return {"background": _address(sent.background), "layers": layers}


def build(elem_id: str) -> gr.ImageEditor:
    """The component. Its value for a handler is what ``_unopened`` returns; to show a picture give it ``shown``."""
    editor = gr.ImageEditor(
        label="Start image",
        type="filepath", sources=(), transforms=(), layers=False, elem_id=elem_id, height=360, format="png",
        brush=gr.Brush(colors=["#ffffff"], color_mode="fixed", default_size=24), interactive=True, visible=False,
        buttons=[],
    )  # fmt: skip
    editor.preprocess = lambda payload: _unopened(editor, payload)  # type: ignore[method-assign]
    return editor


def shown(image: Any) -> dict[str, Any]:
    """A decoded picture as the editor's value, nothing painted on it."""
    return {"background": image, "layers": [], "composite": image}
