"""The embedded image model's parts, all standard diffusers and transformers classes, and the folder that ships.

A Stable-Diffusion-type pipeline small enough for two cores: AutoencoderKL (128 px to 16 x 16 x 16), a CLIP-type
text encoder with a tokenizer of its own, a UNet2DConditionModel trained on v-prediction, DPM-Solver++. Knows no
scenes and no training.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PIXELS = 128
LATENT_CHANNELS, LATENT_SIDE = 16, 16
MOST_TOKENS = 40
STEPS, GUIDANCE = 12, 3.0


@dataclass(frozen=True)
class Size:
    """The one dial: everything that scales with the machine."""

    subjects: str
    autoencoder: tuple[int, ...]
    text_width: int
    text_layers: int
    vocabulary: int
    unet: tuple[int, ...]
    layers_per_block: int
    scenes: int  # pictures in the pool
    autoencoder_batch: int
    batch: int


SIZES = {
    "smoke": Size("small", (8, 8, 16, 16), 32, 1, 400, (32, 32, 64), 1, 48, 4, 8),
    "small": Size("small", (16, 32, 64, 96), 160, 2, 1600, (128, 160, 160), 1, 40_000, 8, 32),
    "large": Size("large", (16, 32, 64, 96), 160, 3, 3000, (128, 160, 160), 1, 400_000, 64, 512),
}


def build_autoencoder(size: Size) -> Any:
    """AutoencoderKL with three halvings and no attention: 3 x 128 x 128 to 16 x 16 x 16."""
    from diffusers import AutoencoderKL

    stages = len(size.autoencoder)
    return AutoencoderKL(
        block_out_channels=size.autoencoder,
        down_block_types=("DownEncoderBlock2D",) * stages,
        up_block_types=("UpDecoderBlock2D",) * stages,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=PIXELS,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def train_tokenizer(captions: Iterable[str], vocabulary: int) -> Any:
    """A lower-casing BPE tokenizer over whole words and their pieces, in CLIP's format (start and end marks)."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<|unknown|>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|pad|>", "<|start|>", "<|end|>", "<|unknown|>"],
        end_of_word_suffix="</w>",
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyz0123456789.,-'!?"),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="<|start|> $A <|end|>",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("<|start|>", "<|end|>")],
    )
    from tokenizers import decoders

    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")  # type: ignore[assignment]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        bos_token="<|start|>",
        eos_token="<|end|>",
        unk_token="<|unknown|>",
        model_max_length=MOST_TOKENS,
        clean_up_tokenization_spaces=False,
    )


def build_text_encoder(size: Size, tokenizer: Any) -> Any:
    """CLIPTextModel for ``tokenizer``."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.text_width,
        intermediate_size=size.text_width * 4,
        num_hidden_layers=size.text_layers,
        num_attention_heads=max(1, size.text_width // 32),
        max_position_embeddings=MOST_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        projection_dim=size.text_width,
    )
    return CLIPTextModel(config)


def build_unet(size: Size) -> Any:
    """UNet2DConditionModel over 16 x 16 latents: attention to the words at 16 x 16 and 8 x 8, none at 4 x 4."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=size.unet,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        layers_per_block=size.layers_per_block,
        cross_attention_dim=size.text_width,
        attention_head_dim=4,  # heads, whatever the parameter is called
        norm_num_groups=16,
    )


def scheduler_config() -> dict[str, Any]:
    """The noise schedule: cosine, down to no signal at all, so that dark and bright pictures both come out right."""
    return {
        "num_train_timesteps": 1000,
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "steps_offset": 1,  # StableDiffusionPipeline insists; trailing spacing does not use it
    }


def training_schedule() -> Any:
    """The DDPM schedule with ``add_noise`` and ``get_velocity`` for training."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(**scheduler_config(), clip_sample=False)


def pipeline(autoencoder: Any, text_encoder: Any, tokenizer: Any, unet: Any) -> Any:
    """The whole as a StableDiffusionPipeline."""
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    pipe = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DPMSolverMultistepScheduler(**scheduler_config(), algorithm_type="dpmsolver++", solver_order=2),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)  # type: ignore[attr-defined]
    return pipe


def size_bytes(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*.safetensors"))
