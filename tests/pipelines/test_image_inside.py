"""What "See inside" shows is what the network did: word maps, halves of guidance, noise; and watching changes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pipelines.errors import InvalidParams
from pipelines.image_inside import (
    AttentionRecorder,
    GuidanceRecorder,
    Halves,
    can_noise,
    decode_latents,
    guidance_views,
    noised,
    uses_guidance,
    word_tokens,
)
from pipelines.image_noise import _mix_for_level, mix_at

PROMPT = "a red fox on a beach"
SIDE = 128


# --- tiny pipelines with random weights -------------------------------------------------------------------


def make_tokenizer() -> Any:
    """CLIP's own class and layout, 32 places, with an alphabet and two merges: "fox" is one token, "red" three."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "fo", "fox</w>", "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=[("f", "o"), ("fo", "x</w>")],
        model_max_length=32,
    )


def text_config(tokenizer: Any) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
        projection_dim=32,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def make_autoencoder() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        shift_factor=0.1,
        scaling_factor=0.7,
    ).eval()


def make_unet(**changes: Any) -> Any:
    from diffusers import UNet2DConditionModel

    values: dict[str, Any] = {
        "sample_size": SIDE // 8,
        "block_out_channels": (16, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "attention_head_dim": 4,
        "cross_attention_dim": 32,
    }
    return UNet2DConditionModel(**(values | changes)).eval()


def make_scheduler(name: str = "DDIMScheduler", **changes: Any) -> Any:
    import diffusers

    values: dict[str, Any] = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
    }
    return getattr(diffusers, name)(**(values | changes))


def make_pipeline() -> Any:
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextModel

    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    pipe: Any = StableDiffusionPipeline(
        vae=make_autoencoder(),
        text_encoder=CLIPTextModel(text_config(tokenizer)).eval(),
        tokenizer=tokenizer,
        unet=make_unet(),
        scheduler=make_scheduler(clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make_xl_pipeline() -> Any:
    from diffusers import StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    pipe: Any = StableDiffusionXLPipeline(
        vae=make_autoencoder(),
        text_encoder=CLIPTextModel(text_config(tokenizer)).eval(),
        text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer)).eval(),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=make_unet(
            cross_attention_dim=64,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 32,
            transformer_layers_per_block=(1, 2),
            use_linear_projection=True,
        ),
        scheduler=make_scheduler("EulerDiscreteScheduler"),
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def made() -> Any:
    return make_pipeline()


@pytest.fixture
def pipe(made: Any) -> Iterator[Any]:
    """One pipeline for all; its scheduler, which a test may change, is put back."""
    scheduler = made.scheduler
    yield made
    made.scheduler = scheduler


@pytest.fixture(scope="module")
def xl() -> Any:
    return make_xl_pipeline()


def paint(pipe: Any, **settings: Any) -> np.ndarray:
    """Pixels [pictures, height, width, 3]; picture i is seeded with i, as the backend does it."""
    values: dict[str, Any] = {
        "prompt": PROMPT,
        "num_inference_steps": 3,
        "guidance_scale": 3.0,
        "width": SIDE,
        "height": SIDE,
        "output_type": "np",
    } | settings
    count = values.get("num_images_per_prompt", 1)
    generators = [torch.Generator().manual_seed(i) for i in range(count)]
    return np.asarray(pipe(generator=generators, **values).images)


def record(pipe: Any, is_guided: bool = True, **settings: Any) -> AttentionRecorder:
    with AttentionRecorder(pipe.unet, is_guided) as recorder:
        paint(pipe, **settings)
    return recorder


def probabilities(pipe: Any, is_guided: bool = True, **settings: Any) -> np.ndarray:
    found = record(pipe, is_guided, **settings).probabilities()
    assert found is not None
    return found


def cross_layers(network: Any) -> list[Any]:
    return [module for name, module in network.named_modules() if name.endswith("attn2")]


def hooks(network: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


# --- watching changes nothing -----------------------------------------------------------------------------


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_watched_picture_is_the_same_to_the_last_bit(pipe: Any, guidance_scale: float) -> None:
    plain = paint(pipe, guidance_scale=guidance_scale)
    is_guided = uses_guidance(pipe, guidance_scale)
    with AttentionRecorder(pipe.unet, is_guided), GuidanceRecorder(pipe.unet, pipe.scheduler, is_guided):
        watched = paint(pipe, guidance_scale=guidance_scale)
    assert np.array_equal(plain, watched)


def test_nothing_of_a_recorder_outlives_its_block(pipe: Any) -> None:
    before, processors = hooks(pipe.unet), dict(pipe.unet.attn_processors)
    with AttentionRecorder(pipe.unet, True), GuidanceRecorder(pipe.unet, pipe.scheduler, True):
        assert hooks(pipe.unet) > before
        paint(pipe)
    assert hooks(pipe.unet) == before
    assert all(pipe.unet.attn_processors[name] is processor for name, processor in processors.items())


def test_an_exception_inside_passes_through_and_leaves_nothing_behind(pipe: Any) -> None:
    before, processors = hooks(pipe.unet), dict(pipe.unet.attn_processors)

    def stop(*_: Any) -> dict[str, Any]:
        raise KeyError("stopped")

    with (
        pytest.raises(KeyError, match="stopped"),
        AttentionRecorder(pipe.unet, True) as attention,
        GuidanceRecorder(pipe.unet, pipe.scheduler, True),
    ):
        paint(pipe, callback_on_step_end=stop)
    assert hooks(pipe.unet) == before
    assert all(pipe.unet.attn_processors[name] is processor for name, processor in processors.items())
    assert attention.words(pipe.tokenizer, PROMPT)  # of the one step that was done


def test_one_extra_query_of_one_picture_per_layer_and_step_is_all_it_costs(pipe: Any) -> None:
    rows: list[int] = []
    layers = cross_layers(pipe.unet)
    handles = [layer.to_q.register_forward_hook(lambda _, args, __: rows.append(args[0].shape[0])) for layer in layers]
    try:
        with AttentionRecorder(pipe.unet, True):
            paint(pipe, num_images_per_prompt=2, num_inference_steps=3)
    finally:
        for handle in handles:
            handle.remove()
    assert sorted(rows) == [1] * len(layers) * 3 + [4] * len(layers) * 3


def test_memory_does_not_grow_with_steps_or_pictures(pipe: Any) -> None:
    def held(**settings: Any) -> int:
        return sum(total.numel() for total in record(pipe, **settings)._sums.values())

    assert held(num_inference_steps=1) == held(num_inference_steps=4, num_images_per_prompt=3) > 0


# --- the numbers are the network's own --------------------------------------------------------------------


def test_probabilities_are_those_of_the_plain_attention_processor(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.models.attention_processor import Attention, AttnProcessor

    original, seen = Attention.get_attention_scores, []

    def spy(self: Any, query: Any, key: Any, mask: Any = None) -> Any:
        scores = original(self, query, key, mask)
        if self.is_cross_attention:
            rows = scores.unflatten(0, (-1, self.heads)).mean(1)  # [batch, pixels, tokens]
            seen.append(rows[rows.shape[0] // 2])
        return scores

    recorded = probabilities(pipe, num_inference_steps=2)
    processors = dict(pipe.unet.attn_processors)
    monkeypatch.setattr(Attention, "get_attention_scores", spy)
    pipe.unet.set_attn_processor(AttnProcessor())
    try:
        paint(pipe, num_inference_steps=2)
    finally:
        pipe.unet.set_attn_processor(processors)
    assert len(seen) == 2 * len(cross_layers(pipe.unet))
    grids = []
    for scores in seen:
        side = int(scores.shape[0] ** 0.5)
        grid = scores.T.reshape(1, -1, side, side)
        grids.append(nn.functional.interpolate(grid, size=(16, 16), mode="bilinear")[0])
    assert np.allclose(recorded, torch.stack(grids).mean(0).numpy(), atol=1e-6)


def test_every_place_divides_one_whole_among_the_tokens(pipe: Any) -> None:
    found = probabilities(pipe)
    assert found.shape == (32, 16, 16)
    assert found.min() >= 0
    assert np.allclose(found.sum(axis=0), 1, atol=1e-5)


def test_grid_has_the_shape_of_a_picture_that_is_no_square(pipe: Any) -> None:
    # 13 x 21 latents: halved, both sides round up.
    assert probabilities(pipe, width=168, height=104).shape == (32, 13, 21)


def test_only_the_half_with_the_prompt_counts(pipe: Any) -> None:
    # In the first step, the half with the prompt reads what the unguided network reads.
    guided = probabilities(pipe, num_inference_steps=1, negative_prompt="fox fox fox")
    alone = probabilities(pipe, is_guided=False, num_inference_steps=1, guidance_scale=1.0)
    other = probabilities(pipe, is_guided=False, num_inference_steps=1, guidance_scale=1.0, prompt="fox fox fox")
    assert np.allclose(guided, alone, atol=1e-6)
    assert not np.allclose(guided, other, atol=1e-4)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_only_the_first_picture_of_a_batch_counts(pipe: Any, guidance_scale: float) -> None:
    settings: dict[str, Any] = {"is_guided": guidance_scale > 1, "guidance_scale": guidance_scale}
    alone = probabilities(pipe, **settings)
    assert np.allclose(probabilities(pipe, num_images_per_prompt=3, **settings), alone, atol=1e-5)


def test_entering_again_starts_afresh(pipe: Any) -> None:
    alone = probabilities(pipe)
    with AttentionRecorder(pipe.unet, True) as recorder:
        paint(pipe, prompt="fox")
    with recorder:
        paint(pipe)
    found = recorder.probabilities()
    assert found is not None
    assert np.array_equal(found, alone)


def test_attention_slicing_is_seen_through(pipe: Any) -> None:
    plain = probabilities(pipe)
    processors = dict(pipe.unet.attn_processors)
    pipe.enable_attention_slicing(1)
    try:
        assert np.allclose(probabilities(pipe), plain, atol=1e-5)
    finally:
        pipe.unet.set_attn_processor(processors)


def test_a_lora_is_in_the_maps_and_stays_in_place() -> None:
    from peft import LoraConfig

    pipe = make_pipeline()
    plain = probabilities(pipe, num_inference_steps=1)
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False))
    picture, processors = paint(pipe, num_inference_steps=1), dict(pipe.unet.attn_processors)
    with AttentionRecorder(pipe.unet, True) as recorder:
        assert np.array_equal(paint(pipe, num_inference_steps=1), picture)
    found = recorder.probabilities()
    assert found is not None
    assert not np.allclose(found, plain, atol=1e-4)
    assert all(pipe.unet.attn_processors[name] is processor for name, processor in processors.items())
    assert np.array_equal(paint(pipe, num_inference_steps=1), picture)


# --- words ------------------------------------------------------------------------------------------------


class Looking(nn.Module):
    """In the place of a query or key projection: a row of ones at the places that match, else zeros."""

    def __init__(self, channels: int, strength: float, matches: Any) -> None:
        super().__init__()
        self.channels, self.strength, self.matches = channels, strength, matches

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        at = self.matches(states.shape[1])
        return self.strength * at[None, :, None].float().expand(states.shape[0], -1, self.channels)


def look(pipe: Any, corner: tuple[float, float], tokens: list[int]) -> None:
    """Hand-sets every cross-attention to look from one quarter of a 2:1 picture at these tokens, else at all alike."""

    def in_corner(pixels: int) -> torch.Tensor:
        height = int((pixels / 2) ** 0.5)
        rows, columns = torch.arange(pixels) // (2 * height), torch.arange(pixels) % (2 * height)
        down, right = corner
        return ((rows >= height / 2) == bool(down)) & ((columns >= height) == bool(right))

    def is_wanted(places: int) -> torch.Tensor:
        return torch.tensor([i in tokens for i in range(places)])

    for layer in cross_layers(pipe.unet):
        channels = layer.to_q.out_features
        layer.to_q = Looking(channels, 3.0, in_corner)
        layer.to_k = Looking(channels, 1.0, is_wanted)


@pytest.mark.parametrize("corner", list(itertools.product((0, 1), (0, 1))))
def test_a_word_that_acts_in_one_corner_is_brightest_there(corner: tuple[int, int]) -> None:
    pipe = make_pipeline()
    look(pipe, corner, dict(word_tokens(pipe.tokenizer, PROMPT))["red"])
    words = dict(record(pipe, width=256, height=128).words(pipe.tokenizer, PROMPT))
    assert list(words) == ["a", "red", "fox", "on", "beach"]
    red = words["red"]
    assert (red.shape, red.dtype) == ((16, 32), np.float32)
    assert (red.min(), red.max()) == pytest.approx((0, 1))
    inside = np.zeros_like(red, dtype=bool)
    down, right = corner
    inside[8 * down : 8 * down + 8, 16 * right : 16 * right + 16] = True
    assert red[inside].mean() > 10 * red[~inside].mean()  # not 0, as the coarser layer is blurred over the edge
    assert inside[np.unravel_index(red.argmax(), red.shape)]
    # The others lose a little in that corner, equally.
    assert words["fox"].max() < 0.7
    assert words["fox"][inside].mean() < words["fox"][~inside].mean()


def test_words_that_act_nowhere_in_particular_are_blank() -> None:
    pipe = make_pipeline()
    for layer in cross_layers(pipe.unet):
        layer.to_q = Looking(layer.to_q.out_features, 0.0, lambda n: torch.ones(n))
    words = record(pipe).words(pipe.tokenizer, PROMPT)
    assert len(words) == 6
    assert all(word.map.max() == 0 for word in words)


def test_maps_are_0_to_1_and_the_strongest_word_reaches_it(pipe: Any) -> None:
    words = record(pipe).words(pipe.tokenizer, PROMPT)
    assert [word.word for word in words] == PROMPT.split()
    assert all(word.map.min() == 0 and word.map.max() <= 1 for word in words)
    assert max(word.map.max() for word in words) == pytest.approx(1)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a fox", [("a", [1]), ("fox", [2])]),
        ("red fox", [("red", [1, 2, 3]), ("fox", [4])]),
        ("  Red,FOX!! ", [("Red", [1, 2, 3]), ("FOX", [5])]),
        ("fox fox", [("fox", [1]), ("fox", [2])]),
        ("fox<|endoftext|>fox", [("fox", [1]), ("fox", [3])]),
        ("", []),
        ("!!! ...", []),
    ],
)
def test_words_are_found_among_their_tokens(prompt: str, words: list[tuple[str, list[int]]]) -> None:
    found = word_tokens(make_tokenizer(), prompt)
    assert [(word, places) for word, places in found if "endoftext" not in word] == words


def test_words_beyond_what_the_model_reads_are_left_out(pipe: Any) -> None:
    prompt = "fox " * 29 + "red beach"
    words = record(pipe, num_inference_steps=1, prompt=prompt).words(pipe.tokenizer, prompt)
    assert [word.word for word in words] == ["fox"] * 29 + ["red"]


@pytest.mark.parametrize("kind", ["WordLevel", "BPE"])
def test_words_are_found_by_a_fast_tokenizer_of_any_kind(kind: str) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "red": 4, "fox": 5}
    if kind == "WordLevel":
        backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
    else:  # byte level, with the space in front of a word as part of its first token
        for letter in sorted({*pre_tokenizers.ByteLevel.alphabet()}):
            vocabulary.setdefault(letter, len(vocabulary))
        backend = Tokenizer(models.BPE(vocabulary, [], unk_token="[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        model_max_length=16,
    )
    found = word_tokens(tokenizer, "red zebra fox")
    assert [word for word, _ in found] == ["red", "zebra", "fox"]
    places = [place for _, places in found for place in places]
    assert places[0] == 1  # after the start
    assert sorted(set(places)) == places  # in order, none twice
    if kind == "WordLevel":
        assert places == [1, 2, 3]  # the unknown word too: it is read, as unknown


def test_broken_numbers_show_nothing(pipe: Any) -> None:
    with AttentionRecorder(pipe.unet, False) as recorder, torch.no_grad():
        sample = torch.full((1, 4, 16, 16), float("nan"))
        pipe.unet(sample, 1, encoder_hidden_states=torch.zeros(1, 32, 32))
    assert recorder.words(pipe.tokenizer, PROMPT) == ()


# --- guidance ---------------------------------------------------------------------------------------------

SCHEDULES = [
    ("DDIMScheduler", {"prediction_type": "epsilon", "clip_sample": False}),
    ("DDIMScheduler", {"prediction_type": "v_prediction", "clip_sample": False}),
    ("DDIMScheduler", {"prediction_type": "sample", "clip_sample": False}),
    ("EulerDiscreteScheduler", {"prediction_type": "epsilon"}),
    ("EulerDiscreteScheduler", {"prediction_type": "v_prediction", "use_karras_sigmas": True}),
    ("EulerAncestralDiscreteScheduler", {"prediction_type": "epsilon"}),
    ("DPMSolverMultistepScheduler", {"prediction_type": "epsilon", "use_karras_sigmas": True}),
    ("DPMSolverMultistepScheduler", {"prediction_type": "v_prediction"}),
    ("DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True}),
    ("UniPCMultistepScheduler", {"prediction_type": "sample"}),
    ("UniPCMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 2.0}),
    ("UniPCMultistepScheduler", {"prediction_type": "epsilon", "use_karras_sigmas": True}),
]


@pytest.mark.parametrize(("name", "settings"), SCHEDULES)
@pytest.mark.parametrize("pictures", [1, 2])
def test_halves_mixed_are_what_the_scheduler_takes_the_picture_for(
    pipe: Any, monkeypatch: pytest.MonkeyPatch, name: str, settings: dict[str, Any], pictures: int
) -> None:
    pipe.scheduler = make_scheduler(name, **settings)
    step, theirs, ours = pipe.scheduler.step, [], []

    def spy(*args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        # Solvers of several steps keep their guesses, the others return them.
        theirs.append(result[1] if len(result) > 1 else pipe.scheduler.model_outputs[-1])
        return result

    monkeypatch.setattr(pipe.scheduler, "step", spy)

    def on_step(_: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        assert guidance.latest is not None
        ours.append(guidance.latest)
        return {}

    with GuidanceRecorder(pipe.unet, pipe.scheduler, True) as guidance:
        paint(pipe, guidance_scale=3.0, num_images_per_prompt=pictures, callback_on_step_end=on_step)
    assert len(ours) == len(theirs) == 3
    for halves, guess in zip(ours, theirs, strict=True):
        assert not torch.allclose(halves.without_prompt, halves.with_prompt, atol=1e-5)
        scale = float(guess.abs().max())
        assert torch.allclose(halves.guided(3.0), guess[:1].float(), atol=1e-4 * scale)


def test_halves_are_in_their_order(pipe: Any) -> None:
    with GuidanceRecorder(pipe.unet, pipe.scheduler, True) as guidance:
        paint(pipe, num_inference_steps=1, prompt="fox", negative_prompt="red beach")
        one = guidance.latest
        paint(pipe, num_inference_steps=1, prompt="red beach", negative_prompt="fox")
        other = guidance.latest
    assert one is not None
    assert other is not None
    assert torch.allclose(one.with_prompt, other.without_prompt, atol=1e-4)
    assert torch.allclose(one.without_prompt, other.with_prompt, atol=1e-4)
    assert torch.equal(one.guided(1), one.without_prompt + (one.with_prompt - one.without_prompt))
    assert torch.equal(one.guided(0), one.without_prompt)


def test_halves_become_pictures_by_the_autoencoder_or_a_quicker_decoder(pipe: Any) -> None:
    # Random weights hardly tell prompts apart, so two guesses that differ.
    halves = Halves(torch.full((1, 4, 16, 16), -3.0), torch.full((1, 4, 16, 16), 3.0))
    views = guidance_views(pipe, halves)
    assert views is not None
    assert np.abs(pixels(views[0]) - pixels(views[1])).max() > 5
    for view, latents in zip(views, halves, strict=True):
        assert view.size == (SIDE, SIDE)
        # Two pictures in one batch round otherwise than one alone.
        assert np.abs(pixels(view) - pixels(decode_latents(pipe, latents)[0])).max() <= 1
    sizes = guidance_views(pipe, halves, lambda latents: [Image.new("RGB", (1, len(latents) + i)) for i in range(2)])
    assert sizes is not None
    assert [view.size for view in sizes] == [(1, 2), (1, 3)]
    assert guidance_views(pipe, None) is None


def test_without_guidance_there_are_no_halves(pipe: Any) -> None:
    with GuidanceRecorder(pipe.unet, pipe.scheduler, uses_guidance(pipe, 1.0)) as guidance:
        paint(pipe, guidance_scale=1.0)
    assert not guidance.is_supported
    assert guidance.latest is None


@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 1.01, 7.5])
def test_guidance_is_on_when_diffusers_says_so(pipe: Any, guidance_scale: float) -> None:
    paint(pipe, guidance_scale=guidance_scale, num_inference_steps=1)
    assert uses_guidance(pipe, guidance_scale) == pipe.do_classifier_free_guidance


def test_inpainting_network_reads_more_channels_than_it_predicts(pipe: Any) -> None:
    network = make_unet(in_channels=9)
    scheduler = make_scheduler()
    scheduler.set_timesteps(2)
    with GuidanceRecorder(network, scheduler, True) as guidance, torch.no_grad():
        network(torch.randn(2, 9, 16, 16), scheduler.timesteps[0], encoder_hidden_states=torch.randn(2, 32, 32))
    assert guidance.latest is not None
    assert guidance.latest.with_prompt.shape == (1, 4, 16, 16)


# --- SDXL, and what cannot be seen into -------------------------------------------------------------------


def test_sdxl_is_seen_into_too(xl: Any) -> None:
    plain = paint(xl)
    with AttentionRecorder(xl.unet, True) as attention, GuidanceRecorder(xl.unet, xl.scheduler, True) as guidance:
        assert np.array_equal(paint(xl), plain)
    assert [word.word for word in attention.words(xl.tokenizer, PROMPT)] == PROMPT.split()
    assert guidance.latest is not None
    noisy, guess = noised(xl, photo(), 0.5, seed=1, prompt=PROMPT)
    assert noisy.size == guess.size == (SIDE, SIDE)
    assert pixels(noised(xl, photo(), 0.5, seed=1, prompt="fox").guess) != pytest.approx(pixels(guess), abs=0.5)


def test_a_transformer_is_honestly_unsupported() -> None:
    from diffusers import PixArtTransformer2DModel

    torch.manual_seed(0)
    network: Any = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        cross_attention_dim=16,
        caption_channels=16,
        sample_size=16,
        norm_num_groups=1,
    ).eval()
    before = hooks(network)
    with (
        AttentionRecorder(network, True) as attention,
        GuidanceRecorder(network, make_scheduler(), True) as guidance,
        torch.no_grad(),
    ):
        assert hooks(network) == before
        network(
            torch.randn(2, 4, 16, 16),
            encoder_hidden_states=torch.randn(2, 32, 16),
            timestep=torch.tensor([1, 1]),
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        )
    assert (attention.is_supported, guidance.is_supported) == (False, False)
    assert attention.words(make_tokenizer(), PROMPT) == ()
    assert attention.probabilities() is None
    assert guidance.latest is None


# --- noise ------------------------------------------------------------------------------------------------


def photo(seed: int = 0, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """Something with large shapes in it."""
    small = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(float)


def reconstruction(pipe: Any, image: Image.Image) -> Image.Image:
    with torch.no_grad():
        latents = pipe.vae.encode(pipe.image_processor.preprocess(image)).latent_dist.mode()
        decoded = pipe.vae.decode(latents).sample
    found: Image.Image = pipe.image_processor.postprocess(decoded, output_type="pil")[0]
    return found


NOISING = [
    ("DDIMScheduler", {"prediction_type": "epsilon"}),
    ("DDIMScheduler", {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}),
    ("DPMSolverMultistepScheduler", {"prediction_type": "v_prediction"}),
    ("UniPCMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True}),
    ("FlowMatchEulerDiscreteScheduler", {}),
]


def noising_scheduler(name: str, settings: dict[str, Any]) -> Any:
    import diffusers

    return diffusers.FlowMatchEulerDiscreteScheduler() if name.startswith("Flow") else make_scheduler(name, **settings)


@pytest.mark.parametrize(("name", "settings"), NOISING)
def test_noise_runs_from_the_picture_itself_to_nothing_of_it(pipe: Any, name: str, settings: dict[str, Any]) -> None:
    pipe.scheduler = noising_scheduler(name, settings)
    one, other = photo(1), photo(2)
    untouched = noised(pipe, one, 0.0, seed=3)
    assert np.abs(pixels(untouched.noisy) - pixels(reconstruction(pipe, one))).max() <= 1
    assert np.abs(pixels(untouched.guess) - pixels(untouched.noisy)).max() <= 1
    ends = noised(pipe, one, 1.0, seed=3), noised(pipe, other, 1.0, seed=3)
    assert np.array_equal(pixels(ends[0].noisy), pixels(ends[1].noisy))
    assert np.array_equal(pixels(ends[0].guess), pixels(ends[1].guess))
    assert not np.array_equal(pixels(ends[0].noisy), pixels(noised(pipe, one, 1.0, seed=4).noisy))
    middle = noised(pipe, one, 0.4, seed=3), noised(pipe, other, 0.4, seed=3)
    assert not np.array_equal(pixels(middle[0].noisy), pixels(middle[1].noisy))


def test_more_noise_is_further_from_the_picture(pipe: Any) -> None:
    picture = photo()
    start = pixels(noised(pipe, picture, 0.0, seed=1).noisy)
    away = [np.abs(pixels(noised(pipe, picture, t, seed=1).noisy) - start).mean() for t in (0.1, 0.4, 0.8)]
    assert 0 < away[0] < away[1] < away[2]


def test_guess_depends_on_the_prompt_and_noise_does_not(pipe: Any) -> None:
    fox = noised(pipe, photo(), 0.7, seed=1, prompt="fox")
    beach = noised(pipe, photo(), 0.7, seed=1, prompt="red beach")
    assert np.array_equal(pixels(fox.noisy), pixels(beach.noisy))
    assert not np.array_equal(pixels(fox.guess), pixels(beach.guess))


def test_a_perfect_denoiser_sees_through_any_noise(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the network's answer replaced by the noise that is really there, the guess is the picture again."""
    noise = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(5))
    monkeypatch.setattr(pipe.unet, "forward", lambda *args, **kwargs: (noise,))
    picture = photo()
    clean = pixels(reconstruction(pipe, picture))
    for t in (0.2, 0.5, 0.9):
        shown = noised(pipe, picture, t, seed=5)
        assert np.abs(pixels(shown.guess) - clean).max() <= 1
        assert np.abs(pixels(shown.noisy) - clean).mean() > 0.5


@pytest.mark.parametrize(("name", "settings"), NOISING)
def test_a_level_and_its_timestep_agree(name: str, settings: dict[str, Any]) -> None:
    scheduler = noising_scheduler(name, settings)
    scheduler.set_timesteps(20)
    levels = []
    for timestep in scheduler.timesteps:
        mix = mix_at(scheduler, timestep)
        again, found, _ = _mix_for_level(scheduler, mix.level)
        assert float(found) == pytest.approx(float(timestep), abs=1)
        assert tuple(again) == pytest.approx(tuple(mix), abs=1e-3)
        levels.append(mix.level)
    assert levels == sorted(levels, reverse=True)
    assert 1 >= levels[0] > 0.9
    assert 0.2 > levels[-1] >= 0


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_every_step_of_a_karras_run_has_its_own_level(pipe: Any, name: str) -> None:
    # Its rounded timesteps repeat at the low end, where the table of training steps would show the same level twice.
    pipe.scheduler = make_scheduler(name, use_karras_sigmas=True)
    levels: list[float] = []
    handle = pipe.unet.register_forward_hook(lambda _, args, __: levels.append(mix_at(pipe.scheduler, args[1]).level))
    try:
        paint(pipe, num_inference_steps=40)
    finally:
        handle.remove()
    assert len(set(levels)) == 40
    assert levels == sorted(levels, reverse=True)


@pytest.mark.parametrize("t", [-0.01, 1.01, float("nan"), float("inf"), float("-inf")])
def test_impossible_noise_level_is_refused(pipe: Any, t: float) -> None:
    with pytest.raises(InvalidParams, match="0 to 1"):
        noised(pipe, photo(), t, seed=1)


def test_a_network_that_needs_more_than_latents_is_refused(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_noise(pipe)
    monkeypatch.setattr(pipe, "unet", make_unet(in_channels=9))
    assert not can_noise(pipe)
    with pytest.raises(InvalidParams, match="how noise comes in"):
        noised(pipe, photo(), 0.5, seed=1)


@pytest.mark.parametrize("size", [(1, 1), (2000, 3), (7, 900), (640, 480), (SIDE, SIDE)])
def test_any_picture_is_fitted_to_what_the_model_can_paint(pipe: Any, size: tuple[int, int]) -> None:
    for mode in ("RGB", "L", "RGBA", "P"):
        shown = noised(pipe, photo(size=size).convert(mode), 0.3, seed=1)
        width, height = shown.noisy.size
        assert shown.guess.size == (width, height)
        assert width % 16 == height % 16 == 0
        assert 64 <= width <= 256
        assert 64 <= height <= 256
        assert (width >= height) == (size[0] >= size[1])


def test_the_pipeline_is_left_as_it_was(pipe: Any) -> None:
    pipe.scheduler.set_timesteps(5)
    before = pipe.scheduler.timesteps.clone(), dict(pipe.scheduler.config)
    plain = paint(pipe)
    pipe.scheduler.set_timesteps(5)
    noised(pipe, photo(), 0.5, seed=1)
    assert torch.equal(pipe.scheduler.timesteps, before[0])
    assert dict(pipe.scheduler.config) == before[1]
    assert np.array_equal(paint(pipe), plain)


def test_an_autoencoder_that_overflows_in_half_precision_works_in_full_and_goes_back(
    pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    decode = pipe.vae.decode
    monkeypatch.setattr(pipe.vae, "decode", lambda z, **kwargs: (seen.append(z.dtype), decode(z, **kwargs))[1])
    pipe.vae.register_to_config(force_upcast=True)
    pipe.vae.to(torch.float16)
    try:
        shown = noised(pipe, photo(), 0.2, seed=1)
        assert pipe.vae.dtype == torch.float16
    finally:
        pipe.vae.to(torch.float32)
    assert seen == [torch.float32]
    assert np.ptp(pixels(shown.noisy)) > 0
