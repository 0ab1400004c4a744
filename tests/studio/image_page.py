"""A catalogue with a tiny image model, and a stand-in for the browser that calls the image tab's handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr

from studio.runtime import DEFAULT_MODEL
from studio.tabs.text_to_image import ImageTab
from studio.tabs.text_to_image_results import Shown
from studio.tabs.text_to_image_settings import NEW_SEED, OWN
from tests.tiny_image_models import stable_diffusion

IMAGE_BLOCK = """
[[model]]
id = "{id}"
task = "text-to-image"
title = "{title}"
summary = "Random weights."
source = "local"
path = "{path}"
license = "CC-BY-NC-4.0"
non_commercial = true
memory_mb = 20
width = 64
height = 64
num_inference_steps = {steps}
guidance_scale = 3.0
"""


def image_catalog(folder: Path, *, steps: int = 3) -> str:
    """``painter``: Stable Diffusion's class with a flow scheduler, random weights; ``other``: the same once more."""
    path = stable_diffusion(folder / "painter", is_flow=True)
    return "".join(
        IMAGE_BLOCK.format(id=name, title=name.title(), path=path, steps=steps) for name in ("painter", "other")
    )


class ImagePage:
    """One page of one person: remembers what the handlers show and sends it back, as a browser does."""

    def __init__(self, tab: ImageTab, session: str = "somebody") -> None:
        self.tab, self.request = tab, gr.Request(session_hash=session)
        components = tab.controls.components
        self.values: dict[Any, Any] = {component: component.value for component in tab.everything}
        self.values |= {
            tab.prompt: "", tab.model: DEFAULT_MODEL, tab.shape: OWN, tab.seed_mode: NEW_SEED, tab.editor: None,
            tab.lora_files: None, tab.shown: Shown(), tab.cells: {}, tab.store: None, tab.wish: "",
            components["num_inference_steps"]: 3, components["guidance_scale"]: 3.0,
        }  # fmt: skip
        self.visible: dict[Any, bool] = {tab.paint: True, tab.stop: False, tab.gallery: False, tab.actions: False}

    def set(self, **values: Any) -> None:
        """Change settings by name."""
        for name, value in values.items():
            component = self.tab.controls.components.get(name) or getattr(self.tab, name)
            self.values[component] = value

    def get(self, name: str) -> Any:
        return self.values[self.tab.controls.components.get(name) or getattr(self.tab, name)]

    def show(self, update: dict[Any, Any]) -> None:
        if not isinstance(update, dict) or "__type__" in update:  # nothing changes
            return
        for component, value in update.items():
            if isinstance(value, dict) and value.get("__type__") == "update":
                if "visible" in value:
                    self.visible[component] = value["visible"]
                if "value" in value:
                    self.values[component] = value["value"]
            else:
                self.values[component] = value

    async def run(self, steps: AsyncIterator[dict[Any, Any]]) -> list[dict[Any, Any]]:
        updates = []
        async for update in steps:
            updates.append(update)
            self.show(update)
        return updates

    async def paint(self, prompt: Any = "a fox on a blue background", **settings: Any) -> list[dict[Any, Any]]:
        self.set(prompt=prompt, **settings)
        return await self.run(self.tab.on_paint(dict(self.values), self.request))

    async def call(self, handler: Any) -> list[dict[Any, Any]]:
        """Press a button whose handler takes time."""
        return await self.run(handler(dict(self.values), self.request))

    @property
    def shown(self) -> Shown:
        found: Shown = self.values[self.tab.shown]
        return found

    @property
    def error(self) -> str:
        return str(self.values.get(self.tab.error) or "")

    @property
    def notice(self) -> str:
        return str(self.values.get(self.tab.notice) or "")

    @property
    def numbers(self) -> str:
        return str(self.values.get(self.tab.numbers) or "")
