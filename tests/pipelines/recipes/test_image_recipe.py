"""The embedded image model's recipe: its scenes, captions and held-out sets, and a training run of seconds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipelines.recipes import image_backgrounds, image_scenes, image_styles, image_subjects
from pipelines.recipes.image_scenes import Composer, Scene

needs_font = pytest.mark.skipif(
    not any(Path(f).is_file() for f in image_subjects.FONTS),
    reason="Noto Color Emoji is not installed: scenes cannot be drawn (apt-get install fonts-noto-color-emoji)",
)


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer(image_scenes.training_subjects("small"))


def test_forty_subjects_and_their_words_are_kept_from_training(composer: Composer) -> None:
    held_out = [s for s in image_subjects.load() if s.is_held_out]
    assert len(held_out) == 40
    for size in ("small", "large"):
        assert not {s.id for s in held_out} & {s.id for s in image_scenes.training_subjects(size)}
    assert len(composer.subjects) >= 250
    rng = random.Random(1)
    captions = " ".join(image_scenes.caption(composer.scene(rng), rng) for _ in range(3000)).lower()
    assert "raccoon" not in captions
    assert "hiking boot" not in captions


def test_held_out_combinations_never_come_in_training_and_are_about_fifteen_percent(composer: Composer) -> None:
    rng = random.Random(2)
    assert not any(composer.scene(rng).is_held_out for _ in range(2000))
    assert all(composer.scene(rng, held_out_combinations=True).is_held_out for _ in range(50))
    grounds = image_backgrounds.every_kind()
    share = [Scene(s, g, t).is_held_out for s in composer.subjects[:60] for g in grounds for t in image_styles.STYLES]
    assert 0.13 < sum(share) / len(share) < 0.17


def test_the_same_seed_composes_the_same_scene_and_caption(composer: Composer) -> None:
    one, other = random.Random("7 3"), random.Random("7 3")
    scene, same = composer.scene(one), composer.scene(other)
    assert scene == same
    assert image_scenes.caption(scene, one) == image_scenes.caption(same, other)


@pytest.mark.parametrize(
    ("word", "article", "many"),
    [("fox", "a fox", "foxes"), ("apple", "an apple", "apples"), ("UFO", "a UFO", "UFOs"), ("@grapes", "grapes", None),
     ("slice of pizza", "a slice of pizza", "slices of pizza"), ("mouse", "a mouse", "mice"), ("teddy", "a teddy", "teddies"),
     ("unicorn", "a unicorn", "unicorns"), ("computer mouse", "a computer mouse", "computer mice")],
)  # fmt: skip
def test_words_get_the_right_article_and_plural(word: str, article: str, many: str | None) -> None:
    assert image_subjects.with_article(word) == article
    assert image_subjects.plural(word) == many


def test_captions_name_what_the_scene_shows(composer: Composer) -> None:
    rng = random.Random(3)
    by_id = {s.id: s for s in composer.subjects}
    scene = Scene(by_id["fox"], image_backgrounds.plain("blue"), "neon", count=2)
    for _ in range(50):
        text = image_scenes.caption(scene, rng, is_full=True).lower()
        assert "fox" in text
        assert "blue" in text
        assert "two" in text or "2" in text
        assert any(w in text for words in image_styles.STYLE_WORDS["neon"] for w in words)
    pair = Scene(by_id["fox"], image_backgrounds.plain("blue"), other=by_id["rocket"], relation="above")
    text = image_scenes.caption(pair, rng)
    assert text.lower().find("fox") < max(text.lower().find("rocket"), text.lower().find("spaceship"))


@needs_font
@pytest.mark.parametrize("style", image_styles.STYLES)
def test_every_style_draws_the_subject_and_differs_from_flat(style: str, composer: Composer) -> None:
    import numpy as np

    by_id = {s.id: s for s in composer.subjects}
    for ground in (image_backgrounds.plain("white"), image_backgrounds.Background("scene", "space")):
        scene = Scene(by_id["dolphin"], ground, style)
        picture = image_scenes.draw(scene, random.Random(1))
        assert picture.size == (128, 128)
        assert picture.mode == "RGB"
        flat = image_scenes.draw(Scene(by_id["dolphin"], ground), random.Random(1))
        difference = np.abs(np.asarray(picture, float) - np.asarray(flat, float)).mean()
        assert (difference > 2) == (style != "flat")


@needs_font
def test_the_place_asked_for_is_where_the_subject_stands(composer: Composer) -> None:
    import numpy as np

    by_id = {s.id: s for s in composer.subjects}
    for place, axis, is_low in (("left", 1, True), ("right", 1, False), ("above", 0, True), ("below", 0, False)):
        scene = Scene(by_id["tomato"], image_backgrounds.plain("white"), place=place)
        dark = np.asarray(image_scenes.draw(scene, random.Random(1)).convert("L")) < 200
        assert (np.nonzero(dark)[axis].mean() < 64) == is_low


@needs_font
def test_smoke_training_writes_a_folder_that_diffusers_loads_and_paints_with(tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    from pipelines.recipes import train_image

    train_image.main(
        ["--smoke", "--minutes", "0", "--workers", "1", "--dtype", "fp32", "--output", str(tmp_path / "m")]
    )
    pipe = DiffusionPipeline.from_pretrained(tmp_path / "m")
    pipe.set_progress_bar_config(disable=True)
    assert type(pipe).__name__ == "StableDiffusionPipeline"
    picture = pipe("a fox", num_inference_steps=2, guidance_scale=3.0).images[0]
    assert picture.size == (128, 128)
    assert (tmp_path / "m" / "MANIFEST.json").is_file()
    # A second call resumes: nothing is left to do, and the folder is written again.
    train_image.main(
        ["--smoke", "--minutes", "0", "--workers", "1", "--dtype", "fp32", "--output", str(tmp_path / "m")]
    )


@needs_font
def test_latents_are_normalized_without_changing_the_reconstruction() -> None:
    import torch

    from pipelines.recipes import image_model, train_image

    torch.manual_seed(0)
    autoencoder = image_model.build_autoencoder(image_model.SIZES["smoke"]).eval()
    pixels = torch.rand(8, 3, 128, 128) * 2 - 1
    with torch.no_grad():
        before = autoencoder.decode(autoencoder.encode(pixels).latent_dist.mean).sample
        train_image.normalize_latents(autoencoder, pixels)
        latents = autoencoder.encode(pixels).latent_dist.mean
        after = autoencoder.decode(latents).sample
    assert latents.mean((0, 2, 3)).abs().max() < 1e-3
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 1e-2
    assert torch.allclose(before, after, atol=1e-3)


def test_muon_moves_convolution_kernels_towards_the_target() -> None:
    import torch

    from pipelines.recipes.optimizers import MuonAdam

    torch.manual_seed(0)
    layer, pixels = torch.nn.Conv2d(8, 16, 3), torch.randn(4, 8, 6, 6)
    optimizer = MuonAdam(layer.named_parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = (layer(pixels) - 1).pow(2).mean()
        loss.backward()
        optimizer.step(1.0)
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4
