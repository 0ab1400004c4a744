"""The image tab's components, laid out: prompt and Paint, the stage, the settings, what lies folded beneath.

On a phone the order of the source is the order on the screen. Knows no handler.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from pipelines.image_noising import NoiseParams
from pipelines.params import specs
from pipelines.text_to_image import LONGEST_PROMPT, MOST_LORAS, TASK, ImageParams
from studio.controls import Controls, control
from studio.folds import fold
from studio.model_cards import model_choices
from studio.runtime import DEFAULT_MODEL, Studio
from studio.tabs.text_to_image_cards import scheduler_choices
from studio.tabs.text_to_image_grid import AXES, axis_choices
from studio.tabs.text_to_image_results import Shown
from studio.tabs.text_to_image_settings import KEEP_SEED, NEW_SEED, OWN, shape_choices
from studio.tabs.text_to_image_words import ANY, COUNTS, LONGEST_WISH, words
from studio.views import film_view, grid_view, stage_view, start_editor, word_view


class Layout:
    """Every component of the tab, by name."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.controls = Controls(ImageParams, "image")
        self.store = gr.BrowserState(None, storage_key="studio-image", secret=studio.browser_secret())
        self.shown = gr.State(Shown(), time_to_live=3600)
        self.cells = gr.State({}, time_to_live=3600)
        self._lay_out_prompt()
        with gr.Row(elem_classes="stage-row"):
            with gr.Column(scale=7, min_width=320):
                self._lay_out_stage()
            with gr.Column(scale=4, min_width=300):
                self._lay_out_settings()
        self._lay_out_inside()
        self._lay_out_grid()

    def _lay_out_prompt(self) -> None:
        known = words()
        with gr.Row(elem_classes="paint-bar", elem_id="image-bar"):
            self.prompt = gr.Textbox(
                show_label=False, label="Your prompt", placeholder="Describe a picture, for instance: a fox in the snow",
                lines=1, max_lines=5, max_length=LONGEST_PROMPT, elem_id="image-prompt", scale=6, min_width=280,
            )  # fmt: skip
            self.paint = gr.Button("Paint", variant="primary", elem_id="image-paint", scale=0, min_width=110)
            self.stop = gr.Button("Stop", variant="stop", elem_id="image-stop", scale=0, min_width=110, visible=False)
            self.surprise = gr.Button("Surprise me", elem_id="image-surprise", scale=0, min_width=140)
        self.plan = gr.HTML(elem_id="image-plan")
        self.error = gr.HTML(elem_id="image-error", elem_classes="quiet")
        self.notice = gr.HTML(elem_id="image-notice", elem_classes="quiet")
        self.examples = gr.Dataset(
            components=[self.prompt], samples=[[one] for one in known.examples], type="values", show_label=False,
            label="Examples", elem_id="image-examples", samples_per_page=20, layout="gallery",
        )  # fmt: skip
        with fold("No idea what to type? Compose a prompt", "image-composer"):
            with gr.Row(elem_classes="in-view"):
                self.count = gr.Dropdown(list(COUNTS), value=COUNTS[0], label="How many", min_width=90, scale=1)
                self.subject = gr.Dropdown(
                    sorted(known.subjects), value=None, label="Subject", allow_custom_value=True, min_width=140, scale=2,
                    elem_id="image-subject",
                )  # fmt: skip
                self.beside = gr.Dropdown(
                    [("nothing", ANY), *((one, one) for one in sorted(known.subjects))], value=ANY, label="Next to a",
                    min_width=120, scale=2,
                )  # fmt: skip
                self.background = gr.Dropdown(
                    [("any", ANY), *known.backgrounds], value=ANY, label="Where", min_width=150, scale=2,
                    elem_id="image-background",
                )  # fmt: skip
                self.style = gr.Dropdown(
                    [("plain", ANY), *((one, one) for one in known.styles)], value=ANY, label="Style", min_width=120, scale=2,
                )  # fmt: skip
            with gr.Row(elem_classes="in-view"):
                self.wish = gr.Textbox(
                    label="Or in a few words", placeholder="fox, winter", max_length=LONGEST_WISH, elem_id="image-wish",
                    scale=4, min_width=180,
                )  # fmt: skip
                self.write = gr.Button("Write my prompt", elem_id="image-write", scale=0, min_width=160)

    def _lay_out_stage(self) -> None:
        self.stage = stage_view.build("image-stage")
        self.gallery = gr.Gallery(
            show_label=False, label="Your pictures", elem_id="image-gallery", columns=4, height="min(52vh, 470px)",
            object_fit="contain", preview=True, buttons=["download", "fullscreen"], interactive=False, visible=False,
        )  # fmt: skip
        self.numbers = gr.HTML(elem_id="image-numbers")
        with gr.Row(visible=False, elem_classes="picture-actions") as self.actions:
            small: dict[str, Any] = {"size": "sm", "min_width": 110}
            self.vary = gr.Button("Vary", elem_id="image-vary", **small)
            self.again = gr.Button("Do it again exactly", elem_id="image-again", **small)
            self.guidances = gr.Button("Same seed, other guidance", elem_id="image-guidances", **small)
            self.use_start = gr.Button("Use as start image", elem_id="image-use-start", **small)
            self.take = gr.Button("Take its settings", elem_id="image-take", **small)

    def _lay_out_settings(self) -> None:
        components = self.controls.components
        with gr.Row(elem_classes="in-view"):
            self.shape = gr.Dropdown(
                shape_choices(), value=OWN, label="Shape", allow_custom_value=True, elem_id="image-shape", scale=3,
                min_width=150,
            )  # fmt: skip
            self.swap = gr.Button("Swap sides", elem_id="image-swap", scale=0, min_width=130)
        self.controls.add("num_inference_steps", "guidance_scale")
        self.model = gr.Dropdown(
            model_choices(self.studio, TASK), value=DEFAULT_MODEL, label="Model", elem_id="image-model",
            interactive=not self.studio.sessions.is_locked,
        )  # fmt: skip
        self.model_info = gr.HTML(elem_id="image-model-info")
        with fold("More", "image-more"):
            self.controls.add("num_images")
            components["scheduler"] = gr.Dropdown(
                scheduler_choices(), value="auto", label="Scheduler", elem_id="image-scheduler",
                info="Which path is taken from noise to picture.",
            )  # fmt: skip
            self.seed_mode = gr.Radio(
                [("New each time", NEW_SEED), ("Keep", KEEP_SEED)],
                value=NEW_SEED,
                label="Seed",
                elem_id="image-seed-mode",
            )
            self.controls.add("seed", "negative_prompt")
            self.lora_files = gr.File(
                label=f"LoRAs: up to {MOST_LORAS} safetensors files", file_count="multiple", elem_id="image-loras",
                height=150,
            )  # fmt: skip
            self.lora_weights = [
                gr.Slider(-2, 2, value=1, step=0.05, label="Weight", visible=False, elem_id=f"image-lora-{i}")
                for i in range(MOST_LORAS)
            ]
            self.reset = gr.Button("Reset all settings", size="sm", elem_id="image-reset")
        with fold("Start from a picture, or bring its settings back", "image-start"):
            gr.HTML(
                '<p class="model-line">A picture made here or by A1111 brings its settings back; any other becomes the '
                "start image. Over the start image, paint white what shall change; unpainted, all of it changes.</p>"
            )
            self.drop = gr.File(
                label="Drop a picture",
                file_count="single", elem_id="image-drop", height=150,
            )  # fmt: skip
            with gr.Row():
                self.start_file = gr.UploadButton("Choose a start image", size="sm", elem_id="image-start-file")
                self.start_none = gr.Button("Without", size="sm", elem_id="image-start-none")
            self.editor = start_editor.build("image-editor")
            self.controls.add("strength")

    def _lay_out_inside(self) -> None:
        with fold("See inside: from noise to picture", "image-inside"):
            gr.HTML('<h3 class="inside-title">Every step</h3>')
            self.film = film_view.build("image-film")
            gr.HTML('<h3 class="inside-title">Every word</h3>')
            self.words = word_view.build("image-words")
            gr.HTML(
                '<h3 class="inside-title">Into the noise</h3><p class="model-line">How training looks from inside: noise is '
                "laid over the picture, and the model guesses in a single step what is under it. Move the slider.</p>"
            )
            self.noise = control("level", specs(NoiseParams)["level"], "image-noise")
            self.noise_error = gr.HTML(elem_id="image-noise-error", elem_classes="quiet")
            self.noise_pair = gr.HTML(elem_id="image-noise-pair")
            self.controls.components["is_traced"] = gr.Checkbox(
                value=True, label="Record what See inside shows", elem_id="image-is_traced",
                info="Word maps and the two halves of guidance; costs a little time.",
            )  # fmt: skip

    def _lay_out_grid(self) -> None:
        x, y = "num_inference_steps", "guidance_scale"
        with fold("Compare: two settings crossed", "image-compare"):
            with gr.Row(elem_classes="in-view"):
                self.x = gr.Dropdown(
                    axis_choices(may_be_nothing=False), value=x, label="Across", elem_id="image-x", min_width=150
                )
                self.x_values = gr.Textbox(
                    AXES[x].values, label="Values across", elem_id="image-x-values", min_width=150
                )
                self.y = gr.Dropdown(
                    axis_choices(may_be_nothing=True), value=y, label="Down", elem_id="image-y", min_width=150
                )
                self.y_values = gr.Textbox("1, 3, 6", label="Values down", elem_id="image-y-values", min_width=150)
                self.paint_grid = gr.Button("Paint the grid", elem_id="image-paint-grid", scale=0, min_width=140)
            self.grid = grid_view.build("image-grid")

    @property
    def everything(self) -> set[Any]:
        """What a run reads, as a set, so that the handler gets it by name."""
        return {
            self.prompt, self.model, self.shape, self.seed_mode, self.editor, self.lora_files, *self.lora_weights,
            self.shown, self.cells, self.x, self.x_values, self.y, self.y_values, self.store, self.noise, self.wish,
            *self.controls.inputs,
        }  # fmt: skip
