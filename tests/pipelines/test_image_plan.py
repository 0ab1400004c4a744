"""The plan before the click: what a run will take, and in which order things are given up when memory is short."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from pipelines import image_plan
from pipelines.catalog import Model
from pipelines.device import GIB, Compute
from pipelines.image_plan import Plan
from pipelines.text_to_image import ImageParams

SDXL = Model(
    id="sdxl", task="text-to-image", title="SDXL", summary="x.", source="hub", license="x", repo="a/b",
    download_mb=7000, memory_mb=10500, width=1024, height=1024, num_inference_steps=30, guidance_scale=6.0,
    tier="16gb", rank=30,
)  # fmt: skip
SMALL = replace(SDXL, id="small", title="Small", download_mb=2600, memory_mb=4500, width=512, height=512, rank=20)
TINY = replace(
    SMALL, id="tiny", source="embedded", path="models/none", memory_mb=400, download_mb=0, tier="cpu", rank=0
)


def card(gib: float, **changes: Any) -> Compute:
    made = Compute("cuda:0", "bfloat16", "sdpa", int(gib * GIB), "80gb", "A card", "For a test.")
    return replace(made, **changes)


CPU = card(8, device="cpu", dtype="float32", name="CPU", tier="cpu")


def plan(compute: Compute, model: Model = SDXL, **settings: Any) -> Plan:
    return image_plan.make(model, ImageParams(**settings), compute, others=(SDXL, SMALL, TINY))


def test_with_enough_memory_nothing_is_given_up() -> None:
    found = plan(card(60), num_images=4, width=1536, height=1024)
    assert (found.width, found.height, found.batch_size) == (1536, 1024, 4)
    assert not found.is_tiled
    assert not found.is_offloaded
    assert found.notes == ()
    assert found.is_enough


def test_one_picture_of_the_models_own_size_takes_what_the_catalogue_says() -> None:
    assert plan(card(60)).memory_bytes == pytest.approx(SDXL.memory_bytes, rel=0.01)


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"width": 512, "height": 512}, {"width": 1024, "height": 1024}),
        ({"num_images": 3}, {"num_images": 4}),
        ({"num_images": 8, "guidance_scale": 0}, {"num_images": 8, "guidance_scale": 5}),
    ],
)
def test_more_pixels_pictures_or_guidance_take_more(less: dict[str, Any], more: dict[str, Any]) -> None:
    assert plan(card(100), **less).memory_bytes < plan(card(100), **more).memory_bytes


def test_single_precision_takes_twice_as_much() -> None:
    wide = plan(card(100, dtype="float32"))
    assert wide.memory_bytes == pytest.approx(2 * plan(card(100)).memory_bytes, rel=0.02)


def test_the_batch_is_the_first_to_go_and_all_pictures_still_come() -> None:
    found = plan(card(11), num_images=8)
    assert 1 <= found.batch_size < 8
    assert not found.is_tiled
    assert (found.width, found.height) == (1024, 1024)
    assert found.is_enough
    assert found.notes[0].startswith("The 8 pictures are painted")


def test_then_the_picture_is_decoded_in_tiles() -> None:
    found = plan(card(9.5))
    assert found.is_tiled
    assert not found.is_offloaded
    assert found.is_enough
    assert "tiles" in found.notes[-1]


def test_then_parts_of_the_model_wait_in_the_computers_memory() -> None:
    found = plan(card(6.5))
    assert found.is_offloaded
    assert (found.width, found.height) == (1024, 1024)
    assert found.is_enough
    assert "computer's memory" in found.notes[-1]


def test_a_cpu_has_nowhere_to_offload_to() -> None:
    assert not plan(CPU).is_offloaded


def test_then_the_picture_becomes_smaller_and_its_proportions_stay() -> None:
    found = plan(card(5.2), width=1536, height=768)
    assert found.is_enough
    assert found.width < 1536
    assert found.width / found.height == pytest.approx(2, rel=0.1)
    assert found.width % 16 == found.height % 16 == 0
    assert f"{found.width} x {found.height} px instead of 1536 x 768" in found.notes[-1]


def test_at_last_a_smaller_model_is_named_and_the_size_is_left_alone() -> None:
    found = plan(card(3, tier="80gb"), num_images=2)
    assert not found.is_enough
    assert (found.width, found.height) == (1024, 1024)
    assert found.smaller_model == "tiny"
    assert "SDXL needs about" in found.notes[-1]
    assert "The next smaller model that fits is tiny." in found.notes[-1]


def test_without_a_smaller_model_none_is_promised() -> None:
    found = image_plan.make(SDXL, ImageParams(), card(3))
    assert found.smaller_model == ""
    assert "smaller model" not in found.notes[-1]


def test_each_rung_is_reached_before_the_next_as_memory_shrinks() -> None:
    found = [plan(card(gib), num_images=4) for gib in (40, 11, 9, 6.5, 5)]
    rungs = [4 * (p.width < 1024) or 3 * p.is_offloaded or 2 * p.is_tiled or 1 * (p.batch_size < 4) for p in found]
    assert rungs == [0, 1, 2, 3, 4]
    for p in found:
        assert len(p.notes) == (p.batch_size < 4) + p.is_tiled + p.is_offloaded + (p.width < 1024)


def test_weights_that_are_loaded_count_as_measured() -> None:
    guessed = plan(card(60))
    measured = image_plan.make(SDXL, ImageParams(), card(60), loaded_bytes=20 * GIB)
    assert measured.memory_bytes > guessed.memory_bytes + 10 * GIB


def test_no_seconds_are_promised_before_any_were_measured() -> None:
    assert plan(card(60)).seconds is None


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({}, 30 * 0.1),
        ({"num_images": 4}, 4 * 30 * 0.1),
        ({"num_inference_steps": 10}, 1.0),
        ({"width": 512, "height": 512}, 30 * 0.1 / 4),
        ({"guidance_scale": 1.0}, 30 * 0.1 / 2),
        ({"init_image": Image.new("RGB", (1024, 1024)), "strength": 0.5, "width": 1024, "height": 1024}, 1.5),
    ],
)
def test_seconds_follow_steps_pictures_pixels_guidance_and_strength(settings: dict[str, Any], seconds: float) -> None:
    found = image_plan.make(SDXL, ImageParams(**settings), card(60), seconds_per_step=0.1)
    assert found.seconds == pytest.approx(seconds)


def test_a_plan_for_any_settings_and_any_memory_is_made() -> None:
    for gib in (0, 0.001, 1, 1000):
        for model in (SDXL, SMALL, TINY):
            for settings in ({"width": 64, "height": 64}, {"width": 2048, "height": 2048, "num_images": 8}):
                found = plan(card(gib), model, **settings)
                assert found.memory_bytes > 0
                assert 1 <= found.batch_size <= settings.get("num_images", 1)
