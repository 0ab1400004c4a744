"""Settings of a picture: what is accepted, what is said otherwise, and what "the model's own" comes to."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from PIL import Image

from pipelines.catalog import Model
from pipelines.errors import InvalidParams
from pipelines.params import LARGEST_SEED
from pipelines.text_to_image import (
    LONGEST_PROMPT,
    MOST_LORAS,
    SCHEDULERS,
    SETTINGS,
    Defaults,
    ImageParams,
    Lora,
    like,
    resolve,
)

NUMBERS = [
    "width", "height", "num_inference_steps", "guidance_scale", "seed", "num_images", "strength",
]  # fmt: skip
NO_NUMBER: list[Any] = [
    float("nan"), float("inf"), float("-inf"), 1e308, -1e308, "abc", "", None, [], [1], {}, True, False, -2, 10**400,
]  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", NO_NUMBER, ids=lambda v: str(v)[:12])
def test_what_is_no_number_in_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidParams, match=f"^{name} must be a (whole )?number") as refusal:
        ImageParams.from_mapping({"prompt": "a fox", name: value})
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
@pytest.mark.parametrize("value", [None, 5, 1.5, True, ["a"], b"bytes", {}])
def test_a_prompt_that_is_no_text_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidParams, match=f"^{name} must be text"):
        ImageParams.from_mapping({name: value})


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
@pytest.mark.parametrize("length", [LONGEST_PROMPT + 1, 10_000_000])
def test_a_giant_prompt_is_refused_with_both_numbers(name: str, length: int) -> None:
    with pytest.raises(InvalidParams, match=f"{name} has {length:,} characters; at most 2,000"):
        ImageParams.from_mapping({name: "a" * length})
    assert len(ImageParams(prompt="a" * LONGEST_PROMPT).prompt) == LONGEST_PROMPT


def test_invisible_characters_are_removed_from_a_prompt_and_broken_ones_refused() -> None:
    assert ImageParams(prompt="a\u202e fox\x00<script>").prompt == "a fox<script>"
    with pytest.raises(InvalidParams, match="prompt holds broken characters"):
        ImageParams(prompt="\ud800")


@pytest.mark.parametrize(
    ("value", "nearest"), [(65, 64), (1, 64), (63, 64), (511, 512), (1018, 1016), (1021, 1024), (2047, 2048), (8, 64)]
)
@pytest.mark.parametrize("name", ["width", "height"])
def test_a_side_that_is_no_multiple_is_refused_with_the_nearest_that_is(name: str, value: int, nearest: int) -> None:
    with pytest.raises(InvalidParams) as refusal:
        ImageParams.from_mapping({name: value})
    assert refusal.value.message == f"{name} must be a multiple of 8 px from 64 to 2048, not {value}."
    assert refusal.value.hint == f"The nearest is {nearest}."
    assert getattr(ImageParams.from_mapping({name: nearest}), name) == nearest


@pytest.mark.parametrize("value", [-0.5, -0.01])
def test_guidance_between_the_models_own_and_off_is_refused(value: float) -> None:
    with pytest.raises(InvalidParams, match="guidance_scale must be from 0 to 30, or -1"):
        ImageParams(guidance_scale=value)


@pytest.mark.parametrize("value", ["heun", "", None, 5, ["euler"], "EULER"])
def test_an_unknown_scheduler_is_refused_with_those_known(value: Any) -> None:
    with pytest.raises(InvalidParams, match="scheduler must be one of auto, euler,"):
        ImageParams.from_mapping({"scheduler": value})


def test_every_scheduler_says_in_one_sentence_what_it_is_good_for() -> None:
    assert all(one.title and one.help.endswith(".") and one.help.count(". ") == 0 for one in SCHEDULERS.values())
    assert all(one.is_noise or one.is_flow for one in SCHEDULERS.values())


def test_settings_cannot_change_after_they_were_checked() -> None:
    with pytest.raises(FrozenInstanceError):
        ImageParams().seed = 3  # type: ignore[misc]


def test_an_unknown_setting_is_refused_by_name() -> None:
    with pytest.raises(InvalidParams, match="Unknown setting: steps"):
        ImageParams.from_mapping({"steps": 5})


def test_the_record_holds_every_setting_and_no_picture() -> None:
    record = ImageParams(prompt="a fox", init_image=Image.new("RGB", (64, 64))).record()
    assert set(record) == set(SETTINGS)
    assert "init_image" not in record


# --- seeds ------------------------------------------------------------------------------------------------


def test_no_seed_means_a_new_one_each_time_and_a_given_one_is_kept() -> None:
    drawn = {ImageParams().seeded().seed for _ in range(5)}
    assert len(drawn) > 1
    assert min(drawn) >= 0
    assert ImageParams(seed=0).seeded().seed == 0


def test_the_seeds_of_a_batch_count_up_and_past_the_last_go_on_from_zero() -> None:
    assert ImageParams(seed=7, num_images=3).seeds == (7, 8, 9)
    assert ImageParams(seed=LARGEST_SEED, num_images=2).seeds == (LARGEST_SEED, 0)


# --- pictures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["photo.png", b"\x89PNG", 5, [[0]], {"path": "/etc/passwd"}])
@pytest.mark.parametrize("name", ["init_image", "mask_image"])
def test_what_is_no_decoded_picture_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidParams, match=f"{name} must be a picture"):
        ImageParams.from_mapping({name: value})


def test_pictures_come_in_the_mode_that_the_models_take() -> None:
    params = ImageParams(init_image=Image.new("RGBA", (80, 64)), mask_image=Image.new("RGB", (80, 64)))
    assert (params.init_image.mode, params.mask_image.mode) == ("RGB", "L")


def test_a_mask_without_a_start_image_is_refused() -> None:
    with pytest.raises(InvalidParams, match="A mask needs a start image"):
        ImageParams(mask_image=Image.new("L", (64, 64)))


# --- LoRAs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 2.01, -2.01, 1e308, "1", None, True, [1], 10**400])
def test_a_lora_weight_that_is_no_number_from_minus_two_to_two_is_refused(weight: Any) -> None:
    with pytest.raises(InvalidParams, match="A LoRA's weight must be a number from -2 to 2"):
        Lora("style.safetensors", weight)


@pytest.mark.parametrize("path", ["", " ", "a\x00b", "a\nb\x07", None, 5, b"x", "x" * 1001, "\ud800"])
def test_a_lora_path_that_is_none_is_refused(path: Any) -> None:
    with pytest.raises(InvalidParams, match="A LoRA's path"):
        Lora(path)


@pytest.mark.parametrize("loras", ["style.safetensors", None, 5, [5], [None], ["a"], [{"path": "a", "x": 1}], {"a": 1}])
def test_what_is_no_list_of_loras_is_refused(loras: Any) -> None:
    with pytest.raises(InvalidParams):
        ImageParams.from_mapping({"loras": loras})


def test_loras_come_as_mappings_from_a_browser_and_at_most_four() -> None:
    params = ImageParams.from_mapping({"loras": [{"path": "a", "weight": 1}, Lora("b", -0.5)]})
    assert params.loras == (Lora("a", 1.0), Lora("b", -0.5))
    with pytest.raises(InvalidParams, match="5 LoRAs were given; at most 4"):
        ImageParams(loras=(Lora("a"),) * (MOST_LORAS + 1))


@pytest.mark.parametrize(
    ("written", "lora"),
    [
        ("style.safetensors", Lora("style.safetensors")),
        ("a/style.safetensors:0.8", Lora("a/style.safetensors", 0.8)),
        ("style:-1", Lora("style", -1.0)),
        (r"C:\loras\style.safetensors", Lora(r"C:\loras\style.safetensors")),
        (r"C:\loras\style.safetensors:1.5", Lora(r"C:\loras\style.safetensors", 1.5)),
    ],
)
def test_a_lora_is_written_as_path_and_weight(written: str, lora: Lora) -> None:
    assert Lora.parse(written) == lora


@pytest.mark.parametrize("written", ["style:9", "style:nan", "style:inf", ":0.5:"])
def test_a_lora_written_with_an_impossible_weight_is_refused(written: str) -> None:
    if written == ":0.5:":
        assert Lora.parse(written).weight == 1.0
    else:
        with pytest.raises(InvalidParams, match="weight"):
            Lora.parse(written)


# --- the model's own --------------------------------------------------------------------------------------

MODEL = Model(
    id="m", task="text-to-image", title="M", summary="x.", source="local", license="x", path="m",
    width=768, num_inference_steps=4, guidance_scale=0.0, scheduler="euler",
)  # fmt: skip


def test_zero_and_minus_one_become_the_models_own() -> None:
    found = resolve(ImageParams(seed=3), Defaults.of(MODEL))
    assert (found.width, found.height, found.num_inference_steps) == (768, 768, 4)
    assert (found.guidance_scale, found.scheduler, found.seed) == (0.0, "euler", 3)


def test_what_was_asked_for_is_kept() -> None:
    asked = ImageParams(
        width=64, height=128, num_inference_steps=9, guidance_scale=2.0, scheduler="ddim", seed=1, prompt="a fox"
    )
    assert resolve(asked, Defaults.of(MODEL)) == asked


def test_a_model_of_which_nothing_is_known_is_treated_as_stable_diffusion() -> None:
    bare = replace(MODEL, width=0, num_inference_steps=0, guidance_scale=-1.0, scheduler="")
    assert Defaults.of(bare) == Defaults(512, 512, 25, 7.0, "auto")


@pytest.mark.parametrize("size", [(400, 200), (200, 400), (64, 64), (2000, 100)])
def test_a_start_image_keeps_its_proportions_at_about_the_models_own_pixels(size: tuple[int, int]) -> None:
    found = resolve(ImageParams(init_image=Image.new("RGB", size)), Defaults(512, 512))
    aspect = min(max(size[0] / size[1], 0.25), 4)
    assert found.width / found.height == pytest.approx(aspect, rel=0.1)
    assert found.width * found.height == pytest.approx(512 * 512, rel=0.1)
    assert found.width % 16 == found.height % 16 == 0


def test_proportions_stay_inside_what_can_be_painted() -> None:
    assert like(1e9, 64 * 64) == (128, 64)
    assert max(like(4, 2048 * 2048)) == 2048
