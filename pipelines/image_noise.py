"""Noise and the picture under it: how much of each a step has, what the network's answer means, noise at will.

::

    noisy, guess = noised(pipe, picture, 0.6, seed=1, prompt="a fox")
    mix_at(pipe.scheduler, timestep).level  # 0 (no noise) .. 1 (nothing else), for any scheduler

Reads the pipeline's scheduler and never sets it. For denoisers that are UNets (SD 1.x, 2.x, SDXL), with epsilon,
v, sample and flow predictions, on variance preserving, sigma and flow-matching schedules.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.errors import InvalidParams

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


def is_unet(network: Any) -> bool:
    """Whether this is a denoiser that words and guidance can be read from."""
    from diffusers import UNet2DConditionModel

    return isinstance(getattr(network, "_orig_mod", network), UNet2DConditionModel)


class Mix(NamedTuple):
    """What the denoiser's input is made of: ``picture`` * clean latents + ``noise`` * unit noise."""

    picture: float
    noise: float

    @property
    def level(self) -> float:
        """0 (no noise) .. 1 (nothing else). In flow matching this is sigma; elsewhere the same balance of the two."""
        return self.noise / (self.picture + self.noise)


def is_flow(scheduler: Any) -> bool:
    """Whether noise comes in along a straight line: (1 - sigma) * picture + sigma * noise."""
    if getattr(scheduler.config, "use_flow_sigmas", False):
        return True
    return hasattr(scheduler, "sigmas") and not hasattr(scheduler, "alphas_cumprod") and not _is_edm(scheduler)


def _is_edm(scheduler: Any) -> bool:
    return getattr(scheduler.config, "sigma_data", None) is not None


def mix_at(scheduler: Any, timestep: Any) -> Mix:
    """How much noise the denoiser's input has at a timestep of the current run (a number or a one-element tensor).

    Read from the scheduler's sigmas where it has them, as Karras and flow schedules are not in ``alphas_cumprod``.
    The schedulers of the sigma kind hand the network input that they scaled to the variance preserving mix.
    """
    import torch

    wanted = float(torch.as_tensor(timestep).flatten()[0])
    sigma = _current_sigma(scheduler, wanted)
    if is_flow(scheduler):
        sigma = wanted / scheduler.config.num_train_timesteps if sigma is None else sigma
        return Mix(1 - sigma, sigma)
    if sigma is not None:
        return Mix(1 / math.hypot(1, sigma), sigma / math.hypot(1, sigma))
    table = scheduler.alphas_cumprod
    kept = float(table[min(max(round(wanted), 0), len(table) - 1)])
    return Mix(math.sqrt(kept), math.sqrt(1 - kept))


def _current_sigma(scheduler: Any, timestep: float) -> float | None:
    """The sigma of this step, or None when the scheduler keeps none or runs no such timestep."""
    sigmas, timesteps = getattr(scheduler, "sigmas", None), getattr(scheduler, "timesteps", None)
    if sigmas is None or timesteps is None or len(sigmas) < len(timesteps):
        return None
    # Timesteps are rounded and so may repeat, sigmas do not: the step counter decides where it fits.
    index = getattr(scheduler, "step_index", None)
    if index is None or index >= len(timesteps) or abs(float(timesteps[index]) - timestep) > 1e-3:
        matches = (abs(timesteps.float() - timestep) < 1e-3).nonzero()
        if not len(matches):
            return None
        index = int(matches[0])
    return float(sigmas[index])


def clean_guess(scheduler: Any, sample: torch.Tensor, output: torch.Tensor, mix: Mix) -> torch.Tensor:
    """The clean latents that the network's output for ``sample`` (its own input, of this mix) stands for, float32."""
    sample, output = sample.float(), output.float()
    kind = getattr(scheduler.config, "prediction_type", "flow_prediction")
    if kind == "epsilon":
        return (sample - mix.noise * output) / max(mix.picture, 1e-3)
    if kind == "v_prediction":  # Salimans and Ho, 2022, appendix D
        return mix.picture * sample - mix.noise * output
    if kind in ("sample", "original_sample"):
        return output
    if kind == "flow_prediction":
        return sample - mix.noise * output
    raise ValueError(f"prediction_type {kind!r} is none that diffusers has")


# --- forward noising --------------------------------------------------------------------------------------


class Noised(NamedTuple):
    """A picture under noise, and what the model takes it for in one step."""

    noisy: Image
    guess: Image


def can_noise(pipe: Any) -> bool:
    """Whether ``noised`` can be shown with this pipeline: a UNet that reads nothing but latents, a usual schedule."""
    network = getattr(pipe, "unet", None)
    return (
        network is not None
        and is_unet(network)
        and network.config.in_channels == pipe.vae.config.latent_channels
        and (hasattr(pipe.scheduler, "alphas_cumprod") or is_flow(pipe.scheduler))
    )


def noised(pipe: Any, image: Image, t: float, seed: int, prompt: str = "") -> Noised:
    """The picture at noise level ``t`` (0 none .. 1 nothing else, see ``Mix.level``), and the model's one-step guess.

    The picture is fitted to about the model's own number of pixels, sides cropped to what the network can halve. The
    same seed is the same noise at every level. The guess is one pass of the network with ``prompt``, unguided. The
    pipeline's scheduler is read, never set. Raises InvalidParams for a level outside 0..1 or a pipeline that
    ``can_noise`` refuses.
    """
    import torch
    from PIL import ImageOps

    if not (math.isfinite(t) and 0 <= t <= 1):
        raise InvalidParams(f"The noise level is {t}; it must be 0 to 1.")
    if not can_noise(pipe):
        raise InvalidParams("This model cannot show how noise comes in.", "Choose a Stable Diffusion model.")
    width, height = _fitted_size(pipe, image.width, image.height)
    fitted = ImageOps.fit(image.convert("RGB"), (width, height))
    mix, timestep, guess_mix = _mix_for_level(pipe.scheduler, t)
    with torch.no_grad():
        clean = _encode(pipe, fitted)
        noise = torch.randn(clean.shape, generator=torch.Generator("cpu").manual_seed(seed)).to(clean)
        noisy = mix.picture * clean + mix.noise * noise
        sample = noisy.to(pipe.unet.dtype)
        output = pipe.unet(sample, timestep, return_dict=False, **_conditions(pipe, prompt, height, width))[0]
        guess = clean_guess(pipe.scheduler, noisy, output, guess_mix)
        views = decode_latents(pipe, torch.cat([noisy, guess]))
    pipe.maybe_free_model_hooks()
    return Noised(views[0], views[1])


def _mix_for_level(scheduler: Any, t: float) -> tuple[Mix, Any, Mix]:
    """The mix of a level, the timestep the model knows for it, and the mix to read its answer by.

    Most schedules end a little short of pure noise, and at pure noise a predicted noise says nothing about the
    picture: there the answer is read as at the schedule's own end, which is what sampling does.
    """
    import torch

    if is_flow(scheduler):
        mix = Mix(1 - t, t)
        return mix, torch.tensor(t * scheduler.config.num_train_timesteps), mix
    length = math.hypot(t, 1 - t)
    mix = Mix((1 - t) / length, t / length)
    table = scheduler.alphas_cumprod.double().cpu()
    levels = (1 - table).sqrt() / (table.sqrt() + (1 - table).sqrt())
    timestep = (levels - t).abs().argmin()
    last = math.sqrt(float(table[-1]))
    return mix, timestep, mix if mix.picture >= last else Mix(last, math.sqrt(1 - last**2))


def _fitted_size(pipe: Any, width: int, height: int) -> tuple[int, int]:
    """(width, height) in pixels, about the model's own area, at most 2:1 of its side, whole at the deepest layer."""
    size = pipe.unet.config.sample_size
    native = (size if isinstance(size, int) else math.sqrt(math.prod(size))) * pipe.vae_scale_factor
    multiple = pipe.vae_scale_factor * 2 ** (len(pipe.unet.config.block_out_channels) - 1)
    scale = native / math.sqrt(width * height)

    def side(length: int) -> int:
        wanted = min(max(length * scale, native / 2), native * 2)
        return int(max(1, round(wanted / multiple)) * multiple)

    return side(width), side(height)


@contextmanager
def _steady_autoencoder(pipe: Any) -> Iterator[Any]:
    """The autoencoder in a precision it can do: SDXL's overflows in float16 and says so in its config."""
    import torch

    must_upcast = pipe.vae.dtype == torch.float16 and getattr(pipe.vae.config, "force_upcast", False)
    if must_upcast:
        pipe.vae.to(dtype=torch.float32)
    try:
        yield pipe.vae
    finally:
        if must_upcast:
            pipe.vae.to(dtype=torch.float16)


def _encode(pipe: Any, image: Image) -> torch.Tensor:
    """float32 latents [1, channels, height, width]: the middle of the autoencoder's distribution, not a draw from it."""
    pixels = pipe.image_processor.preprocess(image)
    with _steady_autoencoder(pipe) as vae:
        latents = vae.encode(pixels.to(device=pipe._execution_device, dtype=vae.dtype)).latent_dist.mode().float()
    scaled: torch.Tensor = (latents - (vae.config.shift_factor or 0)) * vae.config.scaling_factor
    return scaled


def decode_latents(pipe: Any, latents: torch.Tensor) -> list[Image]:
    """Latents [batch, channels, height, width], as the pipeline's loop holds them, through the autoencoder."""
    import torch

    with _steady_autoencoder(pipe) as vae, torch.no_grad():
        plain = latents.float() / vae.config.scaling_factor + (vae.config.shift_factor or 0)
        pixels = vae.decode(plain.to(device=pipe._execution_device, dtype=vae.dtype), return_dict=False)[0]
    images: list[Image] = pipe.image_processor.postprocess(pixels.float(), output_type="pil")
    return images


def _conditions(pipe: Any, prompt: str, height: int, width: int) -> dict[str, Any]:
    """What the network reads beside the latents: the prompt, and for SDXL its summary and the size."""
    call: dict[str, Any] = {"device": pipe._execution_device, "num_images_per_prompt": 1}
    encoded = pipe.encode_prompt(prompt, do_classifier_free_guidance=False, **call)
    if getattr(pipe.unet.config, "addition_embed_type", None) != "text_time":
        return {"encoder_hidden_states": encoded[0]}
    text, _, summary, _ = encoded
    projected = pipe.text_encoder_2.config.projection_dim if pipe.text_encoder_2 is not None else summary.shape[-1]
    size = (height, width)
    ids = pipe._get_add_time_ids(size, (0, 0), size, dtype=text.dtype, text_encoder_projection_dim=projected)
    return {
        "encoder_hidden_states": text,
        "added_cond_kwargs": {"text_embeds": summary, "time_ids": ids.to(text.device)},
    }
