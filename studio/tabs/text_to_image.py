"""The image tab: paint, watch the picture come out of the noise, and see what each word and step did.

Wires; the components are ``text_to_image_layout``, what takes time ``text_to_image_runs``, the work itself
``pipelines.text_to_image``. This file holds the quick handlers: settings in, settings out, which picture is on show.
"""

from __future__ import annotations

import asyncio
from typing import Any

import gradio as gr

from pipelines import pictures
from pipelines.catalog import Model
from pipelines.errors import StudioError
from pipelines.text_to_image import LONGEST_PROMPT, MOST_LORAS, SCHEDULERS, TASK, Defaults, ImageParams
from studio import bridge
from studio.model_cards import model_line
from studio.runtime import DEFAULT_MODEL, Studio
from studio.tabs.text_to_image_cards import fitting_schedulers, plan_line, plan_of, scheduler_choices
from studio.tabs.text_to_image_grid import AXES
from studio.tabs.text_to_image_results import Shown, examples
from studio.tabs.text_to_image_runs import Runs, Update
from studio.tabs.text_to_image_settings import (
    KEEP_SEED,
    NEW_SEED,
    OWN,
    control_values,
    record_values,
    shape_choices,
    size_of,
    swapped,
)
from studio.tabs.text_to_image_words import sentence, surprise, words
from studio.views import stage_view, start_editor


class ImageTab(Runs):
    """The tab's handlers and wiring. One instance per page build."""

    def __init__(self, studio: Studio, page: gr.Blocks) -> None:
        super().__init__(studio)
        self._wire(page)

    # --- wiring ------------------------------------------------------------------------------------------

    def _wire(self, page: gr.Blocks) -> None:
        c = self.controls.components
        running: dict[str, Any] = {
            "inputs": self.everything, "show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private",
            "trigger_mode": "once",
        }  # fmt: skip
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        result = [
            self.paint, self.stop, self.error, self.notice, self.gallery, self.stage, self.numbers, self.actions,
            self.film, self.words, self.shown, self.store, c["seed"],
        ]  # fmt: skip
        gridded = [self.paint, self.stop, self.error, self.notice, self.grid, self.cells]
        gr.on([self.paint.click, self.prompt.submit], self.on_paint, outputs=result, **running)
        self.vary.click(self.on_vary, outputs=result, **running)
        self.again.click(self.on_again_exactly, outputs=result, **running)
        self.paint_grid.click(self.on_grid, outputs=gridded, **running)
        self.guidances.click(self.on_guidances, outputs=gridded, **running)
        self.write.click(self.on_write, outputs=[self.write, self.prompt, self.notice, self.error], **running)
        self.noise.release(
            self.on_noise, outputs=[self.noise_pair, self.noise_error], **running | {"trigger_mode": "always_last"}
        )
        self.stop.click(self.on_image_stop, None, None, **quick)
        settings = [
            self.prompt, self.model, self.shape, self.seed_mode, self.model_info, self.plan, self.notice, self.error,
            self.editor, *c.values(),
        ]  # fmt: skip
        self.gallery.select(self.on_picture, [self.shown], [self.shown, self.numbers, self.film, self.words], **quick)
        self.take.click(self.on_take, [self.shown], settings, **quick)
        self.use_start.click(self.on_use_start, [self.shown], [self.editor, self.error], **quick)
        self.grid.select(
            self.on_cell, [self.cells, self.shown],
            [*settings, self.shown, self.gallery, self.stage, self.numbers, self.film, self.words, self.actions], **quick,
        )  # fmt: skip
        self.stage.select(self.on_made, [self.model], settings, **quick)
        self.drop.upload(self.on_drop, [self.drop], [*settings, self.drop], **quick)
        self.start_file.upload(self.on_start, [self.start_file], [self.editor, self.error], **quick)
        self.start_none.click(
            lambda: gr.update(value=None, visible=False), None, [self.editor], **quick | {"api_name": "on_no_start"}
        )
        self.lora_files.change(self.on_loras, [self.lora_files], self.lora_weights, **quick)
        composer = [self.count, self.subject, self.beside, self.background, self.style]
        gr.on([part.input for part in composer], self.on_compose, composer, [self.prompt], **quick)
        self.surprise.click(self.on_surprise, None, [*composer, self.prompt], **quick)
        self.examples.click(self.on_image_example, [self.examples], [self.prompt], **quick)
        self.swap.click(self.on_swap, [self.shape], [self.shape], **quick)
        c["seed"].input(lambda: KEEP_SEED, None, [self.seed_mode], **quick | {"api_name": "on_seed"})
        self.x.input(self.on_axis, [self.x], [self.x_values], **quick)
        self.y.input(self.on_axis, [self.y], [self.y_values], **quick | {"api_name": "on_axis_down"})
        fitted = [self.model_info, *c.values(), self.shape, self.seed_mode]
        self.model.input(self.on_image_model, [self.model], fitted, **quick)
        self.reset.click(self.on_image_model, [self.model], fitted, **quick | {"api_name": "on_image_reset"})
        planned = [self.model, self.shape, c["num_inference_steps"], c["guidance_scale"], c["num_images"]]
        gr.on([part.change for part in planned], self.on_plan, planned, [self.plan], **quick)
        page.load(self.on_image_load, [self.store], [*fitted, self.stage, self.prompt, self.plan, self.notice], **quick)

    # --- models and defaults -----------------------------------------------------------------------------

    def _known(self, wanted: Any) -> Model | None:
        """The model that a picker's value means, as far as it is known yet; nothing is decided here."""
        if wanted == DEFAULT_MODEL:
            choice = self.studio.ready.choices.get(TASK) if self.studio.ready else None
            return choice.model if choice else None
        found = self.studio.models.get(str(wanted))
        return found if found is not None and found.task == TASK else None

    def _fitted(self, model: Model | None) -> list[Any]:
        """What a model's choice changes: its line, and every setting at this model's own value."""
        specs = {name: spec.default for name, spec in self.controls._specs.items()}
        values: dict[str, Any] = {name: gr.update(value=specs[name]) for name in self.controls.components}
        line = '<p class="model-line">No image model.</p>'
        if model is not None:
            own = Defaults.of(model)
            line = model_line(model, words().knows if model.is_tiny else "")
            values["num_inference_steps"] = gr.update(value=own.num_inference_steps)
            values["guidance_scale"] = gr.update(value=own.guidance_scale)
            values["scheduler"] = gr.update(choices=scheduler_choices(fitting_schedulers(model)), value="auto")
        values["is_traced"] = gr.update(value=True)
        return [line, *values.values(), gr.update(choices=shape_choices(), value=OWN), NEW_SEED]

    def stage_at_rest(self, shown: Shown, model: Model | None) -> dict[str, Any]:
        if shown.pictures:
            return stage_view.HIDDEN
        model = model or self._known(DEFAULT_MODEL)
        if model is None:
            return stage_view.welcome("No picture can be painted here yet", [self._why_not()], [])
        lines = ["Type what the picture shows, or click one of the prompts above, then Paint."]
        if model.is_tiny:
            lines.append("A tiny model, trained by this project. " + words().knows)
        made = [{"src": one.source, "text": str(one.settings.prompt)} for one in examples(model)]
        return stage_view.welcome("Describe a picture", lines, made)

    def _why_not(self) -> str:
        """Why there is no image model, and what to do about it."""
        ready = self.studio.ready
        error = ready.missing.get(TASK) if ready else self.studio.failure
        return str(error or "There is no image model on this machine.")

    async def on_image_load(self, store: Any) -> list[Any]:
        """Once the hardware is known: the model, its own settings, what it made earlier, the prompt typed last."""
        await asyncio.to_thread(self.studio.is_ready.wait)
        model = self._known(DEFAULT_MODEL)
        stage = await asyncio.to_thread(self.stage_at_rest, Shown(), model)
        kept = store.get("prompt", "") if isinstance(store, dict) else ""
        prompt = gr.update()
        if isinstance(kept, str) and kept and len(kept) <= LONGEST_PROMPT:
            prompt = kept
        plan = self.on_plan(DEFAULT_MODEL, OWN, 0, -1, 1)
        notice = "" if model else bridge.notice_card([self._why_not()])
        return [*self._fitted(model), stage, prompt, plan, notice]

    def on_image_model(self, wanted: Any) -> list[Any]:
        return self._fitted(self._known(wanted))

    def on_plan(self, wanted: Any, shape: Any, steps: Any, guidance: Any, count: Any) -> str:
        """Predicted seconds and memory, before the click; nothing where the numbers make no sense yet."""
        model = self._known(wanted)
        if model is None or self.studio.ready is None:
            return ""
        try:
            width, height = size_of(shape, Defaults.of(model))
            params = ImageParams(
                width=width, height=height, num_inference_steps=steps, guidance_scale=guidance, num_images=count
            )
        except StudioError:
            return ""
        return plan_line(plan_of(model, params, self.studio.compute_for(model), self.pace.get(model.id)))

    # --- words -------------------------------------------------------------------------------------------

    def on_compose(self, *parts: Any) -> Any:
        said = sentence(*(str(part or "")[:100] for part in parts))
        return said or gr.update()

    def on_surprise(self) -> list[Any]:
        parts = surprise()
        return [*parts, sentence(*parts)]

    def on_image_example(self, sample: Any) -> Any:
        known = words().examples
        return sample[0] if isinstance(sample, list) and sample and sample[0] in known else gr.update()

    def on_swap(self, shape: Any) -> Any:
        other = swapped(shape)
        return gr.update(choices=shape_choices(str(other)), value=other)

    def on_axis(self, name: Any) -> Any:
        return AXES[name].values if name in AXES else gr.update(value="")

    def on_loras(self, files: Any) -> list[Any]:
        """A weight per file, with its name."""
        names = [str(file).replace("\\", "/").rpartition("/")[2] for file in files or []]
        return [
            gr.update(visible=i < len(names), label=f"Weight of {names[i][:60]}" if i < len(names) else "Weight")
            for i in range(MOST_LORAS)
        ]

    # --- pictures in, settings out -----------------------------------------------------------------------

    def _settings(self, values: dict[str, Any], remarks: list[str]) -> Update:
        """Updates of the controls for values by name."""
        update: Update = {self.notice: bridge.notice_card(remarks), self.error: ""}
        named = {"prompt": self.prompt, "seed_mode": self.seed_mode, **self.controls.components}
        for name, component in named.items():
            if name in values:
                update[component] = values[name]
        if "shape" in values:
            update[self.shape] = gr.update(choices=shape_choices(values["shape"]), value=values["shape"])
        if "model" in values:
            update[self.model] = values["model"]
            model = self._known(values["model"])
            update[self.model_info] = model_line(model) if model else ""
        return update

    def on_drop(self, file: Any, request: gr.Request) -> Update:
        """Any picture dropped onto the tab: its settings come back; one without settings becomes the start image."""
        session = request.session_hash or ""
        try:
            found = pictures.read_record(str(file), schedulers=tuple(SCHEDULERS)) if file else None
            if file and found is None:
                image = pictures.open_image(str(file))
                note = bridge.notice_card(["This picture carries no settings, so it is the start image now."])
                return self._started(image) | {self.drop: None, self.notice: note}
        except StudioError as error:
            return {self.error: bridge.error_card(error), self.drop: None}
        if found is None:
            return {self.drop: None}
        values, remarks = control_values(found, self.studio, session)
        names = ", ".join(name.replace("num_inference_steps", "steps").replace("_", " ") for name in values)
        return self._settings(values, [f"The picture's settings are back: {names}.", *remarks]) | {self.drop: None}

    def _started(self, image: Any) -> Update:
        return {self.editor: gr.update(value=start_editor.shown(image), visible=True), self.error: ""}

    def on_start(self, file: Any) -> Update:
        try:
            return self._started(pictures.open_image(str(file)))
        except StudioError as error:
            return {self.error: bridge.error_card(error)}

    def on_use_start(self, shown: Shown) -> Update:
        if shown.current is None:
            return gr.skip()
        return self.on_start(shown.current.path)

    def on_picture(self, shown: Shown, event: gr.SelectData) -> list[Any]:
        """Another picture of the gallery: its numbers, its steps, its words."""
        shown = shown.select(event.index)
        current = shown.current
        if current is None:
            return [shown, "", gr.update(), gr.update()]
        return [shown, self._numbers(shown), current.film, current.words]

    def on_take(self, shown: Shown) -> Update:
        """The controls as they were for the picture on show."""
        return self._settings(record_values(shown.current.params), []) if shown.current else gr.skip()

    def on_cell(self, cells: Any, shown: Shown, event: gr.EventData) -> Update:
        """A picture of the grid: onto the stage, its settings into the controls."""
        sent = event._data if isinstance(event._data, dict) else {}
        painted = cells.get(f"{sent.get('x')},{sent.get('y')}") if isinstance(cells, dict) else None
        if painted is None:
            return gr.skip()
        is_there = painted in shown.pictures
        shown = shown.select(shown.pictures.index(painted)) if is_there else shown.with_new([painted])
        return self._settings(record_values(painted.params), []) | {
            self.shown: shown,
            self.gallery: gr.update(value=shown.gallery, selected_index=shown.selected, visible=True),
            self.stage: stage_view.HIDDEN,
            self.numbers: self._numbers(shown),
            self.film: painted.film,
            self.words: painted.words,
            self.actions: gr.update(visible=True),
        }

    def on_made(self, wanted: Any, event: gr.EventData, request: gr.Request) -> Update:
        """A picture made earlier with this model: its settings, so that it can be painted again."""
        model = self._known(wanted)
        index = event._data.get("made") if isinstance(event._data, dict) else None
        made = examples(model) if model else []
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(made):
            return gr.skip()
        values, remarks = control_values(made[index].settings, self.studio, request.session_hash or "")
        return self._settings(values, remarks)


def build(studio: Studio, page: gr.Blocks) -> None:
    """Lay out and wire the image tab inside the page that is being built."""
    ImageTab(studio, page)
