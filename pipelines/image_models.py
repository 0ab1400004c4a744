"""What differs between the classes of diffusers' image pipelines: schedulers, siblings, latents, decoding.

Stable Diffusion, SDXL, FLUX.2-klein and Z-Image are known; ``image_local`` treats them all alike through these
functions. Nothing here keeps anything: every run gets a pipeline object and a scheduler of its own, over shared weights.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipelines.errors import InvalidParams
from pipelines.text_to_image import SCHEDULERS

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

SUPPORTED = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "Flux2KleinPipeline", "ZImagePipeline")
#: Pixels a side that a preview has for each latent.
PREVIEW_PIXELS = 4
#: Models made for this many steps or fewer need the last one to start at the highest noise ("trailing").
FEW_STEPS = 8
LONGEST_PREVIEW_SIDE = 256


def kind(pipe: Any) -> str:
    """ "sd", "sdxl", "flux2" or "zimage"."""
    name = type(pipe).__name__
    if name.startswith("StableDiffusionXL"):
        return "sdxl"
    return "flux2" if name.startswith("Flux2") else "zimage" if name.startswith("ZImage") else "sd"


def denoiser(pipe: Any) -> Any:
    """The network that removes the noise."""
    return pipe.unet if kind(pipe) in ("sd", "sdxl") else pipe.transformer


def side_multiple(pipe: Any) -> int:
    """Sides in px must be a multiple of this."""
    return int(pipe.vae_scale_factor) * (2 if kind(pipe) in ("flux2", "zimage") else 1)


def modules(pipe: Any) -> list[Any]:
    """The networks of a pipeline."""
    import torch

    return [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]


# --- schedulers -------------------------------------------------------------------------------------------


def is_flow(pipe: Any) -> bool:
    """Whether the model was trained by flow matching: it predicts the way from picture to noise."""
    config = pipe.scheduler.config
    return type(pipe.scheduler).__name__.startswith("FlowMatch") or bool(config.get("use_flow_sigmas", False))


def schedulers(pipe: Any) -> list[str]:
    """The names of ``SCHEDULERS`` that this model can use."""
    if not is_flow(pipe):
        return [name for name, one in SCHEDULERS.items() if one.is_noise]
    names = [name for name, one in SCHEDULERS.items() if one.is_flow]
    # Z-Image hands a list of sigmas to the scheduler: DPM++ takes none, UniPC no list (diffusers 0.42).
    return [name for name in names if name not in ("dpmpp_2m", "unipc") or kind(pipe) != "zimage"]


def make_scheduler(pipe: Any, name: str, *, is_few_steps: bool) -> Any:
    """A scheduler of its own for one run, from the model's configuration. Raises InvalidParams for one that cannot."""
    import diffusers

    known = schedulers(pipe)
    if name not in ("auto", *known):
        raise InvalidParams(
            f"This model cannot use the scheduler {name}.", f"Choose auto or one of: {', '.join(known)}."
        )
    own, config = type(pipe.scheduler), dict(pipe.scheduler.config)
    if name == "auto":
        return own.from_config(config)
    if is_flow(pipe):
        return _flow_scheduler(pipe, name, config)
    options: dict[str, Any] = {"timestep_spacing": "trailing"} if is_few_steps else {}
    dpm = {"algorithm_type": "dpmsolver++", "solver_order": 2, "final_sigmas_type": "zero", "use_karras_sigmas": False}
    classes: dict[str, tuple[Any, dict[str, Any]]] = {
        "euler": (diffusers.EulerDiscreteScheduler, {"use_karras_sigmas": False}),
        "euler_ancestral": (diffusers.EulerAncestralDiscreteScheduler, {}),
        "dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, dpm),
        "dpmpp_2m_karras": (diffusers.DPMSolverMultistepScheduler, dpm | {"use_karras_sigmas": True}),
        "ddim": (diffusers.DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False}),
        "unipc": (diffusers.UniPCMultistepScheduler, {"final_sigmas_type": "zero", "use_karras_sigmas": False}),
        "lcm": (diffusers.LCMScheduler, {"clip_sample": False}),
    }
    cls, extra = classes[name]
    return cls.from_config(config, **(options | extra))


def _flow_scheduler(pipe: Any, name: str, config: dict[str, Any]) -> Any:
    """A scheduler for a flow-matching model. The UNet pipelines cannot drive FlowMatchEuler (it has no
    ``init_noise_sigma``), but DPM++ of order 1 over flow sigmas takes exactly its steps."""
    import diffusers

    if name in ("euler", "flow_euler"):
        if kind(pipe) in ("flux2", "zimage"):
            return diffusers.FlowMatchEulerDiscreteScheduler.from_config(config)
        order = 1
    else:
        order = 2
    shift = config.get("flow_shift", config.get("shift", 1.0))
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": shift, "solver_order": order}
    dynamic = bool(config.get("use_dynamic_shifting", False))
    flow |= {"use_dynamic_shifting": dynamic, "time_shift_type": "exponential"} if dynamic else {}
    if name == "unipc":
        return diffusers.UniPCMultistepScheduler.from_config(config, **flow)
    return diffusers.DPMSolverMultistepScheduler.from_config(
        config, **flow, algorithm_type="dpmsolver++", final_sigmas_type="zero"
    )


class NotFinite(Exception):
    """The network computed NaN or infinity."""


class Watched:
    """A run's scheduler, watched: what the model takes the finished picture for, and how much noise is left."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.guess: torch.Tensor | None = None
        self.level = 1.0
        self._step = scheduler.step
        functools.update_wrapper(self, scheduler.step)  # pipelines look at the signature of ``step``
        scheduler.step = self

    def __call__(self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, **options: Any) -> Any:
        if not bool(model_output.isfinite().all()):
            raise NotFinite
        options["return_dict"] = True
        result = self._step(model_output, timestep, sample, **options)
        self.guess = self._clean(result, model_output, timestep, sample)
        self.level = self._noise_left(timestep)
        return (result.prev_sample,)

    def _clean(self, result: Any, output: torch.Tensor, timestep: Any, sample: torch.Tensor) -> torch.Tensor:
        """The clean latents that this step predicts, as the scheduler itself computes them where it does."""
        for name in ("pred_original_sample", "denoised"):
            found = getattr(result, name, None)
            if found is not None:
                return found  # type: ignore[no-any-return]
        scheduler = self.scheduler
        if getattr(scheduler, "model_outputs", None):  # DPM++ and UniPC keep their predictions of the clean sample
            latest = scheduler.model_outputs[-1]
            if latest is not None:
                return latest  # type: ignore[no-any-return]
        if type(scheduler).__name__.startswith("FlowMatch"):
            return sample.float() - float(scheduler.sigmas[scheduler.step_index - 1]) * output.float()
        from pipelines.image_noise import clean_guess, mix_at

        return clean_guess(scheduler, sample, output, mix_at(scheduler, timestep))

    def _noise_left(self, timestep: Any) -> float:
        """1 (only noise) to 0 (none): noise / (picture + noise) after this step; in flow matching that is sigma."""
        scheduler = self.scheduler
        index = getattr(scheduler, "step_index", None)
        sigmas = getattr(scheduler, "sigmas", None)
        if index is not None and sigmas is not None:
            sigma = float(sigmas[min(index, len(sigmas) - 1)])
            is_flow = hasattr(scheduler.config, "use_flow_sigmas") and scheduler.config.use_flow_sigmas
            if is_flow or type(scheduler).__name__.startswith("FlowMatch"):
                return min(max(sigma, 0.0), 1.0)
            return sigma / (1 + sigma)
        steps = [float(t) for t in scheduler.timesteps]
        later = [t for t in steps if t < float(timestep)]
        if not later:
            return 0.0
        kept = float(scheduler.alphas_cumprod[round(max(later))])
        return math.sqrt(1 - kept) / (math.sqrt(kept) + math.sqrt(1 - kept))


# --- a run's own pipeline object --------------------------------------------------------------------------


def for_run(pipe: Any, scheduler: Any, task: str, title: str) -> Any:
    """A pipeline object over the same weights for one run of "text", "image" or "inpaint".

    Raises InvalidParams where the model cannot.
    """
    from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting, Flux2KleinInpaintPipeline

    if task == "text" or (task == "image" and kind(pipe) == "flux2"):
        own = copy.copy(pipe)  # FLUX.2 takes a start image as a reference, in the same class
    elif task == "inpaint" and kind(pipe) == "flux2":
        own = Flux2KleinInpaintPipeline(**pipe.components, is_distilled=pipe.config.is_distilled)
    else:
        auto = AutoPipelineForImage2Image if task == "image" else AutoPipelineForInpainting
        try:
            own = auto.from_pipe(pipe)
        except ValueError as error:
            what = "start from an image" if task == "image" else "repaint parts of an image"
            raise InvalidParams(f"{title} cannot {what}.", "Choose another model, or leave the image out.") from error
    own.scheduler = scheduler
    own.set_progress_bar_config(disable=True)
    return own


def accepted(pipe: Any, **options: Any) -> dict[str, Any]:
    """Those of ``options`` that the pipeline's call knows."""
    names = inspect.signature(pipe.__call__).parameters
    return {name: value for name, value in options.items() if name in names}


# --- latents to pictures ----------------------------------------------------------------------------------


def plain_latents(pipe: Any, latents: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """The loop's latents as the autoencoder knows them, [batch, channels, height/f, width/f]."""
    config = pipe.vae.config
    what = kind(pipe)
    if what == "flux2":
        rows, columns = (int(side) // (pipe.vae_scale_factor * 2) for side in (height, width))
        grid = latents.transpose(1, 2).unflatten(2, (rows, columns))
        norm = pipe.vae.bn
        mean = norm.running_mean.view(1, -1, 1, 1).to(grid)
        std = (norm.running_var.view(1, -1, 1, 1) + config.batch_norm_eps).sqrt().to(grid)
        return pipe._unpatchify_latents(grid * std + mean)  # type: ignore[no-any-return]
    if what == "zimage":
        shifted: torch.Tensor = latents / config.scaling_factor + config.shift_factor
        return shifted
    if what == "sdxl" and config.latents_mean is not None and config.latents_std is not None:
        mean = latents.new_tensor(config.latents_mean).view(1, -1, 1, 1)
        std = latents.new_tensor(config.latents_std).view(1, -1, 1, 1)
        restored: torch.Tensor = latents * (std / config.scaling_factor) + mean
        return restored
    scaled: torch.Tensor = latents / config.scaling_factor
    return scaled


def finished_latents(pipe: Any, output: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """What a pipeline called with ``output_type="latent"`` returned, as the autoencoder knows it."""
    return output if kind(pipe) == "flux2" else plain_latents(pipe, output, width, height)


def decode(pipe: Any, plain: torch.Tensor, *, is_tiled: bool = False) -> torch.Tensor:
    """Pixels [batch, 3, height, width] in -1..1, float32. SDXL's autoencoder is widened first, as it overflows in float16."""
    import torch

    vae = pipe.vae
    is_widened = kind(pipe) == "sdxl" and vae.dtype == torch.float16 and bool(vae.config.get("force_upcast", False))
    if is_tiled:
        vae.enable_tiling()
    try:
        with torch.no_grad(), in_float32([vae] if is_widened else []):
            pixels: torch.Tensor = vae.decode(plain.to(pipe._execution_device, vae.dtype), return_dict=False)[0]
            return pixels.float()
    finally:
        if is_tiled:
            vae.disable_tiling()


def to_images(pixels: torch.Tensor) -> list[Image]:
    """Pixels [batch, 3, height, width] in -1..1 as PIL pictures."""
    from PIL import Image

    # Rounded as diffusers' VaeImageProcessor does it, so that a picture is the same as the bare pipeline's.
    scaled = ((pixels / 2 + 0.5).clamp(0, 1) * 255).nan_to_num().round().byte()
    return [Image.fromarray(one) for one in scaled.permute(0, 2, 3, 1).cpu().numpy()]


class Previews:
    """Latents to small pictures by one matrix: each latent with its eight neighbours becomes 4 x 4 pixels.

    The matrix is fitted once, by least squares, to what this very autoencoder makes of colourful patterns. Measured
    on the embedded model, a preview is within 23 dB of the picture at half size and costs 1 % of decoding it; one
    colour per latent, the usual way (https://discuss.huggingface.co/t/decoding-latents-to-rgb-without-upscaling/23204),
    shows blobs, and the autoencoder at every step made a picture take 1.7 times as long.
    """

    def __init__(self) -> None:
        self._matrix: torch.Tensor | None = None

    def __call__(self, pipe: Any, plain: torch.Tensor) -> tuple[Image, ...]:
        """One picture per row of ``plain``, long side at most 256 px."""
        import torch
        from torch.nn.functional import pixel_shuffle

        if self._matrix is None:
            self._matrix = self._fit(pipe)
        with torch.no_grad():
            found = _with_neighbours(plain.float()) @ self._matrix.to(plain.device)
            found = found.view(len(plain), *plain.shape[2:], -1).permute(0, 3, 1, 2)
            images = to_images(pixel_shuffle(found, PREVIEW_PIXELS))
        return tuple(map(_small, images))

    @staticmethod
    def _fit(pipe: Any) -> torch.Tensor:
        """[9 * channels + 1, 48]: from the autoencoder's own latents of patterns to the patterns at reduced size."""
        import torch
        from torch.nn.functional import avg_pool2d, interpolate, pixel_unshuffle

        generator = torch.Generator("cpu").manual_seed(0)
        factor = 2 ** (len(pipe.vae.config.block_out_channels) - 1)
        side = 32 * factor
        patterns = ((4, "nearest"), (13, "nearest"), (27, "nearest"), (45, "nearest"), (6, "bicubic"), (16, "bicubic"))
        fields = [
            interpolate(torch.rand(1, 3, cells, cells, generator=generator), (side, side), mode=mode)
            for cells, mode in patterns
        ]
        pixels = (torch.cat(fields) * 2 - 1).clamp(-1, 1)
        vae = pipe.vae
        with torch.no_grad(), in_float32([vae] if vae.dtype == torch.float16 else []):
            # One at a time: all at once would need as many times the memory.
            rows = [
                vae.encode(one[None].to(pipe._execution_device, vae.dtype)).latent_dist.mode().float().cpu()
                for one in pixels
            ]
        known = _with_neighbours(torch.cat(rows)).double()
        # An autoencoder that shrinks less than a preview's pixels per latent is met halfway.
        reduced = avg_pool2d(pixels, factor // PREVIEW_PIXELS) if factor > PREVIEW_PIXELS else pixels
        if factor < PREVIEW_PIXELS:
            reduced = interpolate(pixels, scale_factor=PREVIEW_PIXELS / factor, mode="bilinear")
        wanted = pixel_unshuffle(reduced, PREVIEW_PIXELS).permute(0, 2, 3, 1).flatten(0, 2).double()
        ridge = 1e-4 * len(known) * torch.eye(known.shape[1], dtype=torch.double)
        matrix: torch.Tensor = torch.linalg.solve(known.T @ known + ridge, known.T @ wanted)
        return matrix.float()


def _with_neighbours(latents: torch.Tensor) -> torch.Tensor:
    """[n, c, h, w] to [n * h * w, 9 * c + 1]: every latent with those around it and a one."""
    import torch
    from torch.nn.functional import unfold

    around = unfold(latents, 3, padding=1).transpose(1, 2).flatten(0, 1)
    return torch.cat([around, torch.ones(len(around), 1, device=around.device)], 1)


def _small(image: Image) -> Image:
    """Long side exactly 256 px."""
    from PIL.Image import Resampling

    factor = LONGEST_PREVIEW_SIDE / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Resampling.BICUBIC)


# --- precision --------------------------------------------------------------------------------------------


@contextmanager
def in_float32(networks: Sequence[Any]) -> Iterator[None]:
    """Every floating tensor of the networks in float32 inside the block, and exactly as before after it."""
    import torch

    tensors = {id(t): t for network in networks for t in (*network.parameters(), *network.buffers())}
    before = [(t, t.data) for t in tensors.values() if t.is_floating_point() and t.dtype != torch.float32]
    try:
        for tensor, data in before:
            tensor.data = data.float()
        yield
    finally:
        for tensor, data in before:
            tensor.data = data
