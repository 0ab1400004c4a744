"""One call of a diffusers pipeline inside a run: its scheduler, its noise, its steps, and what is seen of them.

The call runs in the thread of ``stepwise``; after each denoising step it shows a preview and stands still. Knows the
weights only as long as it has its turn.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines import image_loras, image_models, image_plan
from pipelines.events import CancelToken, Event, Preview, Progress
from pipelines.stepwise import Hands
from pipelines.text_to_image import ImageParams, StepView, WordMap

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from pipelines.image_local import LocalImage

PAINTING = "Painting"


@dataclass
class Run:
    """One run's own things."""

    params: ImageParams
    cancel: CancelToken
    plan: image_plan.Plan
    task: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    adapters: tuple[image_loras.Adapter, ...] = ()
    steps: list[StepView] = field(default_factory=list)
    shown: Progress = Progress("Reading the prompt")
    started: float = field(default_factory=time.monotonic)
    first_step: float = 0.0
    has_filtered: bool = False


class Batch:
    """Some pictures of a run, denoised together in one pipeline call."""

    def __init__(
        self,
        backend: LocalImage,
        shared: Any,
        run: Run,
        hands: Hands[Event],
        seeds: tuple[int, ...],
        *,
        done_before: int,
        is_first: bool,
    ) -> None:
        import torch

        self.backend, self.run, self.hands, self.seeds = backend, run, hands, seeds
        self._is_first = is_first
        self._done_before = done_before
        params, model = run.params, backend.model
        is_few = 0 < model.num_inference_steps <= image_models.FEW_STEPS
        scheduler = image_models.make_scheduler(shared, params.scheduler, is_few_steps=is_few)
        self.watched = image_models.Watched(scheduler)
        self.pipe = image_models.for_run(shared, scheduler, run.task, model.title)
        # On the CPU whatever the device, so that a seed gives the same noise everywhere.
        self._generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        self._inside = _Inside(self.pipe, params) if params.is_traced and is_first else None
        self.words: tuple[WordMap, ...] = ()

    def denoise(self) -> torch.Tensor:
        """Latents as the autoencoder knows them, one row per seed."""
        params = self.run.params
        self._resume()
        images: dict[str, Any] = {}
        if params.init_image is not None:
            size = (params.width, params.height)
            images["image"] = _fitted(params.init_image, size)
            if params.mask_image is not None:
                images["mask_image"] = _fitted(params.mask_image, size)
        options = image_models.accepted(
            self.pipe,
            prompt=params.prompt,
            negative_prompt=params.negative_prompt or None,
            width=params.width,
            height=params.height,
            num_inference_steps=params.num_inference_steps,
            guidance_scale=params.guidance_scale,
            num_images_per_prompt=len(self.seeds),
            generator=self._generators,
            strength=params.strength,
            callback_on_step_end=self._on_step,
            output_type="latent",
            **images,
        )
        output = self.pipe(**options, return_dict=False)[0]
        if self._inside is not None:
            self.words = self._inside.words(params.prompt)
        return image_models.finished_latents(self.pipe, output, params.width, params.height)

    def _on_step(self, pipe: Any, i: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """After each denoising step: show it, and stand still until the next one is asked for."""
        run = self.run
        run.cancel.check()
        now = time.monotonic()
        steps_each = int(pipe.num_timesteps)
        batches = -(-run.params.num_images // run.plan.batch_size)
        done, total = i + 1 + self._done_before // run.plan.batch_size * steps_each, steps_each * batches
        if not run.first_step:
            run.first_step = now
        # The first step also reads the prompt and warms the device up, so it is no measure for the others.
        each = (now - run.first_step) / (done - 1) if done > 1 else now - run.started
        view = self._view(i + 1, steps_each)
        run.steps.append(view)
        run.shown = Progress(PAINTING, done, total, each * (total - done))
        if done > 1:
            self._measure(each)
        self.hand_over([run.shown, Preview(view, done)])
        return tensors

    def _measure(self, each: float) -> None:
        """Keep how long one step takes, for the next prediction."""
        params, own = self.run.params, self.backend.defaults
        share = params.width * params.height * len(self.seeds) / (own.width * own.height)
        passes = (2 if params.guidance_scale > 1 else 1) / (2 if own.guidance_scale > 1 else 1)
        self.backend.seconds_per_step = each / (share * passes)

    def _view(self, step: int, total: int) -> StepView:
        params = self.run.params
        guess = self.watched.guess
        assert guess is not None  # the scheduler has just made a step
        previews = self.backend.previews

        def small(latents: torch.Tensor) -> tuple[Image, ...]:
            plain = image_models.plain_latents(self.pipe, latents, params.width, params.height)
            return previews(self.pipe, plain)

        halves = self._inside.guidance(small) if self._inside is not None else None
        return StepView(small(guess), step, total, self.watched.level, halves)

    def hand_over(self, events: list[Event]) -> None:
        """Give the model away between two steps, taking what only this run wants off it."""
        if self._inside is not None:
            self._inside.pause()
        for event in events[:-1]:
            self.hands.show(event)
        self.hands.over(events[-1])
        self.run.cancel.check()
        self._resume()

    def _resume(self) -> None:
        self.backend.take_stage(self.run)
        if self._inside is not None:
            self._inside.resume()

    def close(self) -> None:
        if self._inside is not None:
            self._inside.pause()


class _Inside:
    """What "See inside" shows of a run. Its recorders watch the network only while this run has its turn."""

    def __init__(self, pipe: Any, params: ImageParams) -> None:
        from pipelines import image_inside

        self._made = image_inside
        self._pipe = pipe
        self._network = image_models.denoiser(pipe)
        self._is_guided = image_inside.uses_guidance(pipe, params.guidance_scale)
        self._attention: Any = None
        self._halves: Any = None
        self._sum: Any = None
        self._count = 0

    def resume(self) -> None:
        """A step begins: a recorder starts afresh when it is entered, so each step has its own."""
        self.pause()
        self._attention = self._made.AttentionRecorder(self._network, self._is_guided).__enter__()
        self._halves = self._made.GuidanceRecorder(self._network, self._pipe.scheduler, self._is_guided).__enter__()

    def guidance(self, decode: Any) -> tuple[Image, Image] | None:
        """The step's two halves, as pictures."""
        return self._made.guidance_views(self._pipe, self._halves.latest, decode)  # type: ignore[no-any-return]

    def pause(self) -> None:
        """A step has ended: take its attention in and leave the network alone."""
        if self._attention is None:
            return
        self._attention.__exit__(None, None, None)
        self._halves.__exit__(None, None, None)
        found = self._attention.probabilities()
        if found is not None:
            self._sum = found if self._sum is None else self._sum + found
            self._count += 1
        self._attention = None

    def words(self, prompt: str) -> tuple[WordMap, ...]:
        """A map per word of the prompt, averaged over the steps."""
        self.pause()
        if self._sum is None:
            return ()
        mean = self._sum / self._count

        class Averaged(self._made.AttentionRecorder):  # type: ignore[misc, name-defined]
            def probabilities(self) -> Any:
                return mean

        recorder = Averaged(self._network, self._is_guided)
        return tuple(WordMap(heat.word, heat.map) for heat in recorder.words(self._pipe.tokenizer, prompt))


def _fitted(image: Image, size: tuple[int, int]) -> Image:
    """The picture at exactly ``size``, its sides cropped evenly where the proportions differ."""
    from PIL import ImageOps

    return image if image.size == size else ImageOps.fit(image, size)
