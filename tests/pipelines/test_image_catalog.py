"""The image models of the catalogue: every block is whole, and what is fetched is what is loaded."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from pipelines import catalog, device, image_plan
from pipelines.catalog import CatalogError, Model
from pipelines.device import GIB, TIERS, Gpu, Hardware, Request
from pipelines.text_to_image import SCHEDULERS, TASK, Defaults, ImageParams


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Model]:
    """The blocks of the image task, those included that wait behind ``#:`` for the embedded model."""
    text = (catalog.ASSETS / "catalog.toml").read_text(encoding="utf-8")
    file = tmp_path_factory.mktemp("catalog") / "catalog.toml"
    file.write_text(re.sub(r"(?m)^#: ?", "", text), encoding="utf-8")
    return [m for m in catalog.read(file) if m.task == TASK]


def test_there_is_a_tiny_one_for_any_machine_and_a_better_one_for_every_larger_card(models: list[Model]) -> None:
    best = []
    for tier, size in TIERS.items():
        gpu = (Gpu("card", int(size / 0.9), int(size / 0.9), (8, 0)),) if tier != "cpu" else ()
        compute = device.pick(Request(), Hardware(cuda=gpu, ram_free_bytes=2 * GIB))
        best.append(max((m.rank for m in models if catalog.fits(m, compute)), default=-1))
    assert best[0] == 0
    assert best[0] < best[1] < best[2] < best[3] <= best[4]


def test_every_block_says_what_it_is_and_how_it_is_best_used(models: list[Model]) -> None:
    assert [m.id for m in models] == [
        "pixie", "sd-turbo", "sd-1.5", "sdxl", "sdxl-turbo", "sdxl-lightning", "flux2-klein-4b", "z-image-turbo",
    ]  # fmt: skip
    for m in models:
        assert m.summary.endswith(".")
        assert m.license_url.startswith("https://")
        assert m.context > 0
        ImageParams(width=m.width, height=m.height, num_inference_steps=m.num_inference_steps)
        assert m.guidance_scale >= 0
        assert m.scheduler in ("", *SCHEDULERS)
        assert Defaults.of(m).num_inference_steps == m.num_inference_steps
        assert m.non_commercial == bool(re.search("non-?commercial", m.license, re.IGNORECASE))
        if m.source == "hub":
            assert re.fullmatch("[0-9a-f]{40}", m.revision)
            assert m.download_mb > 0
        if m.lora_repo:
            assert re.fullmatch("[0-9a-f]{40}", m.lora_revision)


def test_only_one_precision_of_a_repository_is_fetched(models: list[Model]) -> None:
    files = [
        "model_index.json", "unet/config.json", "tokenizer/merges.txt",
        "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
        "sd_xl_base_1.0.safetensors", "unet/diffusion_pytorch_model.bin", "vae/model.onnx",
    ]  # fmt: skip
    by_id = {m.id: m for m in models}

    def fetched(name: str) -> list[str]:
        return [f for f in files if any(fnmatch(f, pattern) for pattern in catalog.file_patterns(by_id[name]))]

    assert fetched("sdxl") == [*files[:3], "unet/diffusion_pytorch_model.fp16.safetensors"]
    assert "sd_xl_base_1.0.safetensors" not in fetched("flux2-klein-4b")
    for m in models:
        assert bool(m.variant) == (m.variant in m.files and m.variant != "")
    assert catalog.file_patterns(by_id["pixie"]) == catalog.LOADED


@pytest.mark.parametrize("gib", [8, 16, 24, 80])
def test_a_block_that_fits_a_card_also_has_a_plan_for_it(models: list[Model], gib: int) -> None:
    size = gib * GIB
    compute = device.pick(Request(), Hardware(cuda=(Gpu("card", size, int(size * 0.98), (8, 0)),)))
    for m in models:
        if catalog.fits(m, compute):
            plan = image_plan.make(m, ImageParams(), compute)
            assert plan.is_enough, (m.id, plan)
            assert (plan.width, plan.height) == (m.width, m.height)


def block(**changes: Any) -> str:
    values = {"id": "m", "task": TASK, "title": "M", "summary": "x.", "source": "hub", "license": "x", "repo": "a/b"}
    lines = [f"{k} = {v!r}".replace("'", '"') for k, v in (values | changes).items()]
    return "\n".join(["[[model]]", *lines])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"lora_repo": "a/b"}, "lora_repo and lora_file go together"),
        ({"lora_file": "x.safetensors"}, "lora_repo and lora_file go together"),
        ({"lora_repo": "../x", "lora_file": "x"}, "lora_repo must be owner/name"),
        ({"width": -64}, "width must not be negative"),
        ({"num_inference_steps": 2.5}, "num_inference_steps must be int"),
        ({"guidance_scale": "x"}, "guidance_scale must be float"),
    ],
)
def test_a_wrong_field_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    (tmp_path / "own.toml").write_text(block(**changes))
    with pytest.raises(CatalogError, match=complaint):
        catalog.read(tmp_path / "own.toml")


def test_guidance_may_be_written_as_a_whole_number(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(block(guidance_scale=7))
    assert catalog.read(tmp_path / "own.toml")[0].guidance_scale == 7


def test_a_model_with_a_lora_is_present_only_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "own.toml").write_text(
        block(revision="a" * 40, lora_repo="c/d", lora_file="x.safetensors", lora_revision="b" * 40)
    )
    [model] = catalog.read(tmp_path / "own.toml")
    base = tmp_path / "models--a--b" / "snapshots" / ("a" * 40)
    base.mkdir(parents=True)
    for name in ("model_index.json", "x.safetensors"):
        (base / name).write_text("{}")
    assert not catalog.is_present(model)
    lora = tmp_path / "models--c--d" / "snapshots" / ("b" * 40)
    lora.mkdir(parents=True)
    (lora / "x.safetensors").write_text("")
    assert catalog.is_present(model)
