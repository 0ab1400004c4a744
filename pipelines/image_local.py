"""Text to image with a diffusion model in this process, through diffusers' own pipeline classes.

A pipeline call is one long function; ``stepwise`` makes it a generator, so that one ``next`` is one denoising step:
it shows a preview, stops at once and lets other jobs in between. Weights are shared, all else (pipeline object,
scheduler, random generators, LoRAs) belongs to one run. Knows no page, no queue.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines import catalog, device, image_loras, image_models, image_plan, weights
from pipelines.catalog import Model
from pipelines.errors import InvalidParams, ModelCorrupt, ModelUnavailable, StudioError
from pipelines.events import CancelToken, Done, Event, Notice, Progress
from pipelines.image_batch import Batch, Run
from pipelines.stepwise import Hands, stepwise
from pipelines.text_to_image import (
    Defaults,
    ImageParams,
    ImageResult,
    Picture,
    WordMap,
    check_side,
    resolve,
)

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

R = TypeVar("R")
FINISHING = "Finishing"


@functools.cache
def versions() -> dict[str, str]:
    """Of the libraries that decide what a seed gives. Looked up once, as it takes 3 ms."""
    found = {}
    for name in ("diffusers", "transformers", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a vendored copy has no metadata
            found[name] = "unknown"
    return found


class _Black(Exception):
    """A finished picture is entirely black, which half precision does when it overflows."""


class LocalImage:
    """A loaded image model. Build with ``open``."""

    def __init__(self, model: Model, pipe: Any, compute: device.Compute, *, is_offloaded: bool = False) -> None:
        self.model, self.compute = model, compute
        self._pipe = pipe
        self._is_offloaded = is_offloaded
        self._turn = threading.Lock()
        self._on_stage: str = ""  # the run whose LoRAs act now
        self.previews = image_models.Previews()
        self.memory_bytes = sum(
            t.numel() * t.element_size()
            for network in image_models.modules(pipe)
            for t in (*network.parameters(), *network.buffers())
        )
        self.schedulers = image_models.schedulers(pipe)
        self.defaults = self._own_defaults()
        #: Seconds of one step of one picture of the model's own size with its own guidance, once measured.
        self.seconds_per_step: float | None = None

    def _own_defaults(self) -> Defaults:
        """The catalogue's, and for a folder of which it says nothing the size that the network was made for."""
        own = Defaults.of(self.model)
        config = image_models.denoiser(self._pipe).config
        size = config.get("sample_size") if not self.model.width else None
        if isinstance(size, int):
            side = size * int(self._pipe.vae_scale_factor)
            return replace(own, width=side, height=side)
        return own

    # --- loading -----------------------------------------------------------------------------------------

    @classmethod
    def open(
        cls, model: Model, request: device.Request, cancel: CancelToken, *, may_download: bool = False
    ) -> Generator[Event, None, LocalImage]:
        """Find, verify and load a model, yielding progress.

        Raises a child of ModelUnavailable, or DeviceUnavailable for an explicit request that cannot be met.
        """
        folder = yield from weights.locate(model, cancel, may_download=may_download)
        lora = yield from cls._locate_lora(model, cancel, may_download=may_download)
        loading = Progress(f"Loading {model.title}")
        yield loading

        def load() -> LocalImage:
            hardware = device.probe()
            size = sum(f.stat().st_size for f in folder.rglob("*.safetensors"))
            compute = device.for_model(device.pick(request, hardware), request, hardware, size)
            return cls.load(model, folder, compute, lora)

        return (yield from weights.in_thread(load, lambda: loading, cancel))

    @staticmethod
    def _locate_lora(model: Model, cancel: CancelToken, *, may_download: bool) -> Generator[Event, None, Path | None]:
        """The LoRA that makes a few-step model of a base model, where the catalogue names one."""
        if not model.lora_repo:
            return None
        found = catalog.cached_lora(model)
        if found is None and may_download:
            from huggingface_hub import hf_hub_download

            def fetch() -> Path:
                return Path(hf_hub_download(model.lora_repo, model.lora_file, revision=model.lora_revision or None))

            label = f"Downloading {model.lora_file}"
            try:
                found = yield from weights.in_thread(fetch, lambda: Progress(label), cancel)
            except (OSError, ValueError) as error:
                raise catalog.missing(model) from error
        if found is None:
            raise catalog.missing(model)
        return found

    @classmethod
    def load(cls, model: Model, folder: Path, compute: device.Compute, lora: Path | None = None) -> LocalImage:
        """The model in ``folder`` on the device, offloaded where its weights alone nearly fill it."""
        import torch
        from diffusers import DiffusionPipeline
        from diffusers.utils.logging import disable_progress_bar
        from safetensors import SafetensorError
        from transformers.utils.logging import disable_progress_bar as disable_transformers_bar

        disable_progress_bar()
        disable_transformers_bar()
        options: dict[str, Any] = {"variant": model.variant} if model.variant else {}
        try:
            pipe: Any = DiffusionPipeline.from_pretrained(
                folder,
                dtype=getattr(torch, compute.dtype),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                **options,
            )
        except ImportError as error:
            raise ModelUnavailable(
                f"{model.title} needs a package that is not installed: {_first_line(error, folder)}",
                "Install it, or choose another model.",
            ) from error
        except (SafetensorError, KeyError, ValueError, OSError, RuntimeError, AttributeError, TypeError) as error:
            if device.is_out_of_memory(error):
                raise
            raise ModelCorrupt(
                f"{model.title} cannot be loaded: {_first_line(error, folder)}", "Fetch or restore its files."
            ) from error
        if type(pipe).__name__ not in image_models.SUPPORTED:
            raise ModelUnavailable(
                f"{model.title} is a {type(pipe).__name__}, which this studio does not paint with.",
                f"It does with: {', '.join(image_models.SUPPORTED)}.",
            )
        if lora is not None:
            pipe.load_lora_weights(str(lora.parent), weight_name=lora.name, local_files_only=True)
            pipe.fuse_lora()
            pipe.unload_lora_weights()
        pipe.set_progress_bar_config(disable=True)
        plan = image_plan.make(model, ImageParams(), compute)
        if plan.is_offloaded:
            pipe.enable_model_cpu_offload(device=compute.device)
        else:
            pipe.to(compute.device)
        for network in image_models.modules(pipe):
            network.requires_grad_(False).eval()
        return cls(model, pipe, compute, is_offloaded=plan.is_offloaded)

    # --- running -----------------------------------------------------------------------------------------

    def settle(self, params: ImageParams) -> ImageParams:
        """The settings with this model's own values filled in. Raises InvalidParams for what it cannot do."""
        params = resolve(params, self.defaults)
        multiple = image_models.side_multiple(self._pipe)
        check_side(params.width, "width", multiple)
        check_side(params.height, "height", multiple)
        if params.scheduler not in ("auto", *self.schedulers):
            raise InvalidParams(
                f"{self.model.title} cannot use the scheduler {params.scheduler}.",
                f"Choose auto or one of: {', '.join(self.schedulers)}.",
            )
        if params.init_image is not None and int(params.num_inference_steps * params.strength) < 1:
            raise InvalidParams(
                f"strength {params.strength:g} of {params.num_inference_steps} steps leaves none to do.",
                f"Raise it to {1 / params.num_inference_steps:.2f} or more.",
            )
        return params

    def plan(self, params: ImageParams) -> image_plan.Plan:
        """What these settings will take on this device."""
        return image_plan.make(
            self.model,
            self.settle(params),
            self.compute,
            seconds_per_step=self.seconds_per_step,
            loaded_bytes=self.memory_bytes,
        )

    def run(self, params: ImageParams, cancel: CancelToken) -> Iterator[Event]:
        """Paint, one ``Preview`` per denoising step.

        Yields ``Notice``, ``Progress``, ``Preview`` with a ``StepView``, then ``Done`` with an ``ImageResult``.
        Raises InvalidParams, Cancelled, TimedOut; StudioError when the model computes no valid numbers.
        """
        params = self.settle(params)
        plan = self.plan(params)
        for note in plan.notes:
            yield Notice(note)
        params = replace(params, width=plan.width, height=plan.height)
        for note in self._unused(params):
            yield Notice(note)
        task = "inpaint" if params.mask_image is not None else "image" if params.init_image is not None else "text"
        run = Run(params, cancel, plan, task)
        cancel.check()
        yield run.shown

        def work(hands: Hands[Event]) -> ImageResult:
            try:
                return self._paint_safely(run, hands)
            finally:
                self._leave_stage(run)

        result = yield from stepwise(work, self._turn, lambda: run.shown)
        if run.has_filtered:
            yield Notice("The model's own safety filter blacked a picture out. Another seed may pass it.")
        record = dict(result.pictures[0].record)
        if len(result.pictures) > 1:
            record["seeds"] = [picture.seed for picture in result.pictures]
        record["num_images"] = len(result.pictures)
        if self.seconds_per_step is not None:
            record["seconds_per_step"] = round(self.seconds_per_step, 4)  # what ``image_plan`` predicts the next from
        yield Done(result, record)

    def lend(self, work: Callable[[Any], R], shown: Event) -> Generator[Event, None, R]:
        """Run ``work`` with the diffusers pipeline in one turn, with no LoRA acting, yielding ``shown`` meanwhile.

        For what else a loaded model can do. The work must leave the weights and the scheduler as they are.
        """

        def alone(hands: Hands[Event]) -> R:
            image_loras.activate(self._pipe, ())
            self._on_stage = ""  # a run that waits between two steps takes its own back
            return work(self._pipe)

        return (yield from stepwise(alone, self._turn, lambda: shown))

    def _unused(self, params: ImageParams) -> Iterator[str]:
        """What was asked for and this model does not look at."""
        what = image_models.kind(self._pipe)
        if params.negative_prompt.strip() and (
            what == "flux2" or params.guidance_scale <= (0 if what == "zimage" else 1)
        ):
            why = "this model takes none" if what == "flux2" else "it needs guidance above 1"
            yield f"The negative prompt was not used: {why}."
        if params.guidance_scale > 1 and self._pipe.config.get("is_distilled", False):
            yield f"{self.model.title} has guidance built in; the setting was not used."
        if what == "flux2" and params.init_image is not None and params.mask_image is None:
            yield f"{self.model.title} reads the start image as a reference; strength was not used."
        tokenizer = getattr(self._pipe, "tokenizer", None)
        if tokenizer is not None and what in ("sd", "sdxl"):
            room = tokenizer.model_max_length
            length = len(tokenizer(params.prompt, truncation=False, verbose=False)["input_ids"])
            if length > room:
                yield f"The prompt is {length} tokens long; {self.model.title} reads {room} and left out the end."

    # --- inside the worker thread ------------------------------------------------------------------------

    def _paint_safely(self, run: Run, hands: Hands[Event]) -> ImageResult:
        """Paint; where half precision broke down, once more in float32."""
        try:
            if run.params.loras:
                self._on_stage = ""  # loading, even in vain, changes which LoRAs act
                run.adapters = image_loras.load(self._pipe, run.params.loras, run.id)
            return self._paint(run, hands, may_be_black=self.compute.dtype == "float32")
        except (image_models.NotFinite, _Black) as error:
            problem = "no valid numbers" if isinstance(error, image_models.NotFinite) else "a black picture"
        # Outside the except block, so that the traceback no longer holds the first attempt's tensors.
        if self.compute.dtype == "float32":
            raise StudioError(
                f"{self.model.title} computed {problem}.", "Try another scheduler, a lower guidance or another size."
            )
        hands.show(Notice(f"{self.model.title} computed {problem} in {self.compute.dtype}; trying again in float32."))
        run.steps.clear()
        # Keeps its turn until it is done: the shared weights are wider than the other runs expect.
        alone = Hands.__new__(Hands)
        alone.over = alone.show = hands.show
        with image_models.in_float32(image_models.modules(self._pipe)):
            try:
                return self._paint(run, alone, may_be_black=True)
            except image_models.NotFinite as error:
                raise StudioError(
                    f"{self.model.title} computed no valid numbers, in float32 neither.",
                    "Its files may be damaged: fetch them again, or choose another model.",
                ) from error

    def _paint(self, run: Run, hands: Hands[Event], *, may_be_black: bool) -> ImageResult:
        """All pictures of a run, as many at once as the plan allows."""
        params = run.params
        run.started, run.first_step = time.monotonic(), 0.0
        pictures: list[tuple[int, Image]] = []
        words: tuple[WordMap, ...] = ()
        for begin in range(0, params.num_images, run.plan.batch_size):
            seeds = params.seeds[begin : begin + run.plan.batch_size]
            batch = Batch(self, self._pipe, run, hands, seeds, done_before=begin, is_first=begin == 0)
            latents = batch.denoise()
            words = words or batch.words
            for i, seed in enumerate(seeds):
                run.cancel.check()
                pictures.append((seed, self._finish(run, batch.pipe, latents[i : i + 1], may_be_black=may_be_black)))
                if len(pictures) < params.num_images:
                    run.shown = Progress(FINISHING, len(pictures), params.num_images)
                    batch.hand_over([run.shown])
            batch.close()
        seconds = round(time.monotonic() - run.started, 3)
        finished = tuple(Picture(image, seed, self._record(run, seed, seconds)) for seed, image in pictures)
        return ImageResult(finished, tuple(run.steps), words, " ".join(run.plan.notes))

    def _finish(self, run: Run, pipe: Any, latents: torch.Tensor, *, may_be_black: bool) -> Image:
        """One picture from its latents, alone: decoding is what takes most memory."""
        pixels = image_models.decode(pipe, latents, is_tiled=run.plan.is_tiled)
        if not bool(pixels.isfinite().all()):
            raise image_models.NotFinite
        if not may_be_black and float(pixels.max()) <= -0.99:
            raise _Black
        if getattr(pipe, "safety_checker", None) is not None:
            filtered, flags = pipe.run_safety_checker(pixels.clone(), pipe._execution_device, pipe.unet.dtype)
            if flags and flags[0]:
                run.has_filtered = True
                pixels = filtered * 0 - 1
        return image_models.to_images(pixels)[0]

    def take_stage(self, run: Run) -> None:
        """Let this run's LoRAs act, and nobody else's; with the turn held."""
        if self._on_stage != run.id:
            image_loras.activate(self._pipe, run.adapters)
            self._on_stage = run.id

    def _leave_stage(self, run: Run) -> None:
        """Remove what this run brought; with the turn held."""
        image_loras.unload(self._pipe, run.adapters)
        if run.adapters or self._on_stage == run.id:
            self._on_stage = ""
        if self._is_offloaded:
            self._pipe.maybe_free_model_hooks()

    def _record(self, run: Run, seed: int, seconds: float) -> dict[str, Any]:
        params = run.params
        record: dict[str, Any] = {
            "prompt": params.prompt,
            "negative_prompt": params.negative_prompt,
            "seed": seed,
            "width": params.width,
            "height": params.height,
            "num_inference_steps": params.num_inference_steps,
            "guidance_scale": params.guidance_scale,
            "scheduler": params.scheduler,
        }
        if params.init_image is not None:
            record["strength"] = params.strength
        return record | {
            "loras": [adapter.record() for adapter in run.adapters],
            "model": self.model.id,
            "revision": self.model.revision,
            "device": self.compute.device,
            "dtype": self.compute.dtype,
            "seconds": seconds,
            "versions": dict(versions()),
            "generated": "AI-generated",
        }

    def close(self) -> None:
        """Drop the weights; the engine returns the memory to the device."""
        self._pipe = None


def _first_line(error: Exception, folder: Path) -> str:
    """The start of a library's message, without the path on this machine."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].replace(str(folder), folder.name)[:200]
