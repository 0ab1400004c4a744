"""What a diffusion model does while it paints: where each word acted, what guidance adds, what noise hides.

::

    is_guided = uses_guidance(pipe, guidance_scale)
    with (
        AttentionRecorder(pipe.unet, is_guided) as attention,
        GuidanceRecorder(pipe.unet, pipe.scheduler, is_guided) as guidance,
    ):
        pipe(prompt, ..., callback_on_step_end=on_step)  # on_step: guidance_views(pipe, guidance.latest)
    maps = attention.words(pipe.tokenizer, prompt)
    noisy, guess = noised(pipe, picture, 0.6, seed=1, prompt=prompt)

Recorders only read: their hooks never touch a processor, a weight or an activation, so the picture is the same
to the last bit, with a LoRA, an IP adapter or attention slicing too. They watch the network, not the run: nobody
else may use it meanwhile, and it must not be compiled (a compiled network may skip hooks). One recorder per pipeline
call; entering it again starts afresh. UNets (SD 1.x, 2.x, SDXL) only: transformers mix words and picture in one
sequence, and for them ``is_supported`` is False and nothing is recorded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.image_noise import Noised, can_noise, clean_guess, decode_latents, is_flow, is_unet, mix_at, noised

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL.Image import Image

__all__ = [
    "AttentionRecorder",
    "GuidanceRecorder",
    "Halves",
    "Noised",
    "WordHeat",
    "can_noise",
    "decode_latents",
    "guidance_views",
    "noised",
    "uses_guidance",
    "word_tokens",
]

# Attention probabilities held at once, as float32: 64 MB.
CHUNK_ELEMENTS = 16 * 1024**2
# A run of letters and digits, apostrophes and hyphens inside it included.
WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")


def uses_guidance(pipe: Any, guidance_scale: float) -> bool:
    """Whether the pipeline will run each step twice, the diffusers rule: not at 1 or less, nor where it is distilled in."""
    network = getattr(pipe, "unet", None)
    return guidance_scale > 1 and network is not None and network.config.time_cond_proj_dim is None


class _Recorder:
    """Hooks that are there inside the with-block and gone after it, whatever happens in it."""

    def __init__(self) -> None:
        self._handles: list[Any] = []

    def _detach(self) -> None:
        while self._handles:
            self._handles.pop().remove()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._detach()


# --- words ------------------------------------------------------------------------------------------------


class WordHeat(NamedTuple):
    """A word of the prompt and where it acted."""

    word: str
    map: np.ndarray  # float32 [height, width], 0..1


class AttentionRecorder(_Recorder):
    """Sums up the cross-attention of the first picture while a UNet paints.

    Beside each cross-attention layer the probabilities are computed a second time from the layer's own query and
    key projections, for one picture of the batch (its half with the prompt). One float32 tensor
    [pixels, tokens] per layer is all that is kept.
    """

    def __init__(self, network: Any, is_guided: bool) -> None:
        """``network``: the pipeline's unet or transformer; ``is_guided``: see ``uses_guidance``."""
        super().__init__()
        self._network = network
        self._is_guided = is_guided
        self._layers = _cross_attention(network) if is_unet(network) else {}
        self.is_supported = bool(self._layers)
        self._size = (0, 0)  # of the latents: height, width
        self._sums: dict[str, torch.Tensor] = {}
        self._calls: dict[str, int] = {}

    def __enter__(self) -> AttentionRecorder:
        self._detach()
        self._sums.clear()
        self._calls.clear()
        if self.is_supported:
            self._handles.append(self._network.register_forward_pre_hook(self._see_sample, with_kwargs=True))
            for name, layer in self._layers.items():
                self._handles.append(layer.register_forward_pre_hook(self._see_layer(name), with_kwargs=True))
        return self

    def _see_sample(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sample = args[0] if args else kwargs["sample"]
        self._size = (int(sample.shape[-2]), int(sample.shape[-1]))

    def _see_layer(self, name: str) -> Callable[..., None]:
        def hook(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            text = args[1] if len(args) > 1 else kwargs.get("encoder_hidden_states")
            if isinstance(text, tuple):  # with an IP adapter: the text, then the pictures
                text = text[0]
            if text is None:
                return
            mask = args[2] if len(args) > 2 else kwargs.get("attention_mask")
            row = hidden.shape[0] // 2 if self._is_guided else 0
            found = _probabilities(layer, hidden[row : row + 1], text[row : row + 1], _row(mask, row))
            old = self._sums.get(name)
            if old is None or old.shape != found.shape:
                self._sums[name], self._calls[name] = found, 1
            else:
                self._sums[name], self._calls[name] = old.add_(found), self._calls[name] + 1

        return hook

    def probabilities(self) -> np.ndarray | None:
        """float32 [tokens, height, width]: how each place divided its attention among the prompt's tokens.

        Averaged over heads, layers and steps, on the grid of the finest layer; sums to 1 over the tokens, start and
        padding included. None when nothing was recorded or the numbers are not finite.
        """
        import torch
        from torch.nn import functional

        grids = []
        for name, total in self._sums.items():
            size = _layer_size(self._size, total.shape[0])
            if size is not None:
                mean = (total / self._calls[name]).T.reshape(1, -1, *size)
                grids.append(mean.float().cpu())
        if not grids:
            return None
        finest = max((grid.shape[-2:] for grid in grids), key=math.prod)
        average = torch.zeros(1, grids[0].shape[1], *finest)
        for grid in grids:
            average += functional.interpolate(grid, size=finest, mode="bilinear") / len(grids)
        if not bool(average.isfinite().all()):
            return None
        found: np.ndarray = average[0].numpy()
        return found

    def words(self, tokenizer: Any, prompt: str) -> tuple[WordHeat, ...]:
        """A heat map for each word of the prompt, in its order; () when nothing was recorded.

        The tokens of a word are added up. Each map starts at 0 where the word got least attention; its top is the square
        root of the attention it moved (most minus least) over that of the word that moved most, so that words that
        acted nowhere in particular stay pale instead of being blown up to noise. What the model did not read, as
        the prompt is too long, is left out.
        """
        import numpy as np

        shares = self.probabilities()
        if shares is None:
            return ()
        found = [
            (word, shares[[i for i in places if i < len(shares)]].sum(axis=0))
            for word, places in word_tokens(tokenizer, prompt)
            if places[0] < len(shares)
        ]
        widest = max((float(np.ptp(heat)) for _, heat in found), default=0.0)
        maps = []
        for word, heat in found:
            moved = float(np.ptp(heat))
            # Rounding makes a little relief on a flat map; it is not to be seen.
            is_flat = moved <= 1e-6 * max(float(heat.max()), 1e-12)
            scale = 0.0 if is_flat else 1 / math.sqrt(moved * widest)
            maps.append(WordHeat(word, np.clip((heat - heat.min()) * scale, 0, 1).astype(np.float32)))
        return tuple(maps)


def word_tokens(tokenizer: Any, prompt: str) -> list[tuple[str, list[int]]]:
    """(word, places of its tokens in what the text encoder reads), start, end and padding left out.

    Empty for the rare tokenizer that cannot tell which characters a token stands for.
    """
    if not getattr(tokenizer, "is_fast", False):
        return []
    # As the diffusers pipelines call it, so that the places agree.
    read = tokenizer(
        prompt,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
    )
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    spans = [
        (place, start, end)
        for place, ((start, end), mark, token) in enumerate(
            zip(read["offset_mapping"], read["special_tokens_mask"], read["input_ids"], strict=True)
        )
        if end > start and not mark and token not in special
    ]
    found = []
    for match in WORD.finditer(prompt):
        places = [place for place, start, end in spans if start < match.end() and end > match.start()]
        if places:
            found.append((match.group(), places))
    return found


def _cross_attention(network: Any) -> dict[str, Any]:
    """The layers that read the prompt alone, by name."""
    from diffusers.models.attention_processor import Attention

    return {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, Attention) and layer.is_cross_attention and layer.added_kv_proj_dim is None
    }


def _row(mask: Any, row: int) -> Any:
    return mask[row : row + 1] if mask is not None and mask.shape[0] > 1 else mask


def _probabilities(layer: Any, hidden: torch.Tensor, text: torch.Tensor, mask: Any) -> torch.Tensor:
    """float32 [pixels, tokens], averaged over heads, for hidden [1, pixels, channels] and text [1, tokens, channels].

    As diffusers' AttnProcessor2_0 does it, in float32: SDPA accumulates in it too.
    """
    import torch

    with torch.no_grad():
        if hidden.ndim == 4:
            hidden = hidden.flatten(2).transpose(1, 2)
        if layer.group_norm is not None:
            hidden = layer.group_norm(hidden.transpose(1, 2)).transpose(1, 2)
        if layer.norm_cross:
            text = layer.norm_encoder_hidden_states(text)
        query = layer.to_q(hidden)[0].unflatten(-1, (layer.heads, -1)).transpose(0, 1)  # [heads, pixels, channels]
        key = layer.to_k(text)[0].unflatten(-1, (layer.heads, -1)).transpose(0, 1)  # [heads, tokens, channels]
        if layer.norm_q is not None:
            query = layer.norm_q(query)
        if layer.norm_k is not None:
            key = layer.norm_k(key)
        transposed = key.float().transpose(1, 2)
        pixels = max(1, CHUNK_ELEMENTS // (layer.heads * key.shape[1]))
        parts = []
        for part in query.split(pixels, dim=1):
            scores = part.float() @ transposed * layer.scale
            if mask is not None:
                scores = scores + mask  # [1, 1, tokens]: 0 where it may look, -10000 where not
            parts.append(scores.softmax(dim=-1).mean(dim=0))
        return torch.cat(parts)


def _layer_size(latents: tuple[int, int], pixels: int) -> tuple[int, int] | None:
    """(height, width) of a layer with so many pixels: the UNet halves the latents, rounding up, again and again."""
    height, width = latents
    while height * width > pixels:
        height, width = (height + 1) // 2, (width + 1) // 2
    return (height, width) if height * width == pixels else None


# --- the two halves of guidance ---------------------------------------------------------------------------


class Halves(NamedTuple):
    """The clean latents of the first picture that one step predicts, float32 [1, channels, height, width] each."""

    without_prompt: torch.Tensor
    with_prompt: torch.Tensor

    def guided(self, guidance_scale: float) -> torch.Tensor:
        """What this step would predict at another guidance scale; every prediction type is linear in the output."""
        return self.without_prompt + guidance_scale * (self.with_prompt - self.without_prompt)


class GuidanceRecorder(_Recorder):
    """Keeps the two halves of the latest step. Read ``latest`` in ``callback_on_step_end``: it is that step's.

    ``latest`` stays None without guidance, before the first step and where ``is_supported`` is False.
    """

    def __init__(self, network: Any, scheduler: Any, is_guided: bool) -> None:
        super().__init__()
        self._network, self._scheduler = network, scheduler
        has_schedule = hasattr(scheduler, "alphas_cumprod") or is_flow(scheduler)
        self.is_supported = is_guided and is_unet(network) and has_schedule
        self.latest: Halves | None = None

    def __enter__(self) -> GuidanceRecorder:
        self._detach()
        self.latest = None
        if self.is_supported:
            self._handles.append(self._network.register_forward_hook(self._see_output, with_kwargs=True))
        return self

    def _see_output(self, network: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        import torch

        sample = args[0] if args else kwargs["sample"]
        timestep = args[1] if len(args) > 1 else kwargs["timestep"]
        predicted = output[0]  # of a tuple and of a UNet2DConditionOutput
        row, channels = predicted.shape[0] // 2, predicted.shape[1]
        with torch.no_grad():
            mix = mix_at(self._scheduler, timestep)
            # An inpainting network reads mask and masked picture behind the latents.
            halves = [
                clean_guess(self._scheduler, sample[i : i + 1, :channels], predicted[i : i + 1], mix) for i in (0, row)
            ]
        self.latest = Halves(*halves)


def guidance_views(
    pipe: Any, halves: Halves | None, decode: Callable[[torch.Tensor], Sequence[Image]] | None = None
) -> tuple[Image, Image] | None:
    """The step's prediction without the prompt and with it, as pictures; None for None.

    ``decode`` turns latents [2, channels, height, width] into pictures, for a preview decoder that is quicker than the
    pipeline's own autoencoder.
    """
    import torch

    if halves is None:
        return None
    latents = torch.cat([halves.without_prompt, halves.with_prompt])
    without_prompt, with_prompt = decode(latents) if decode is not None else decode_latents(pipe, latents)
    return without_prompt, with_prompt
