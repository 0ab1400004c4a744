"""Writes the image model's CARD.md: data, licence, sizes, scores, and contact sheets with good and bad pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CELL, LINE = 128, 34
_ROWS = (
    ("a cat", "a rocket", "a pizza", "an apple", "a penguin", "a castle", "a guitar", "a robot"),
    ("a fox on a blue background", "a ghost on stripes", "a car in the city", "a shark underwater", "a snowman in the snow",
     "a sunflower on a meadow", "a crown on a stage", "an alien in space"),
    ("a pixel art dragon", "a pencil sketch of a lion", "a silhouette of a camel", "a neon guitar", "a watercolor butterfly",
     "pixel art of a burger", "a sketch of a house", "a neon sign of a heart"),
    ("two dogs", "three balloons", "a fox next to a rocket", "a bear and a pizza", "a star above a house", "a duck left of a tree",
     "a small mouse", "a large elephant"),
)  # fmt: skip


def sheet(pictures: list[tuple[str, Any]], columns: int = 8) -> Any:
    """A contact sheet of (title, picture)."""
    from PIL import Image, ImageDraw

    rows = -(-len(pictures) // columns)
    image = Image.new("RGB", (columns * (CELL + 8), rows * (CELL + LINE)), "white")
    draw = ImageDraw.Draw(image)
    for i, (title, picture) in enumerate(pictures):
        left, top = i % columns * (CELL + 8) + 4, i // columns * (CELL + LINE) + 4
        image.paste(picture, (left, top))
        draw.multiline_text((left, top + CELL + 2), "\n".join(title[j : j + 22] for j in range(0, 44, 22)), "black")
    return image


def write(
    folder: Path, scores: dict[str, Any], pictures: list[tuple[str, str, Any, dict[str, Any]]], pipe: Any
) -> None:
    """Write CARD.md, ``samples.webp`` (fixed prompts, first seed, unchosen) and ``judged.webp`` (right, then wrong)."""
    from pipelines.recipes.eval_image import AIMS, paint

    prompts = [p for row in _ROWS for p in row]
    sheet(list(zip(prompts, paint(pipe, prompts, seed=7), strict=True))).save(folder / "samples.webp", quality=88)
    right = [(p, i) for _, p, i, row in pictures if all(v is not False for v in row.values())]
    wrong = [(p, i) for _, p, i, row in pictures if any(v is False for v in row.values())]
    step = max(1, len(right) // 16)
    sheet([*right[::step][:16], *wrong[:16]]).save(folder / "judged.webp", quality=88)
    manifest = json.loads((folder / "MANIFEST.json").read_text("utf-8"))
    parameters = manifest["parameters"]
    phases = "; ".join(f"{n} {p['minutes']:g} min, {p['samples']:,} pictures" for n, p in manifest["phases"].items())
    table = "\n".join(
        f"| {name.replace('_', ' ')} | {scores[name]:.0%} | {aim:.0%} | {'yes' if scores[name] >= aim else '**no**'} |"
        for name, aim in AIMS.items()
    )
    judge = ", ".join(f"{name} {value:.0%}" for name, value in scores["judge"].items())
    nearest = scores["nearest_training_picture"]
    text = f"""# Pixie, a tiny text-to-image model

A complete Stable-Diffusion-type pipeline in standard classes, trained from scratch by this repository:
`{manifest["recipe"]}`. Autoencoder {parameters["vae"] / 1e6:.1f}M, text encoder {parameters["text_encoder"] / 1e6:.1f}M,
UNet {parameters["unet"] / 1e6:.1f}M parameters; 128 x 128 px, v-prediction, 12 steps of DPM-Solver++, guidance 3.

- **Data**: scenes composed from the Noto Color Emoji font (SIL Open Font License 1.1) and drawing code; nothing scraped.
- **Licence**: weights Apache-2.0.
- **Training**: {phases}; {manifest["machine"]}
- **Knows**: the subjects of `pipelines/recipes/image_data/subjects.toml`, plain and drawn backgrounds, six styles, counts up to
  three, pairs and places. 40 subjects and 15 % of the subject x background x style combinations were kept from training.
- **Does not know**: people's faces, text, photographs, anything not on that list; it then draws something it knows.

## Scores

Share of pictures that show what was asked for, judged by a classifier trained on composed scenes only. The judge itself is right
on unseen composed scenes in: {judge}. What it misses there bounds what it can see here.

| Asked for | Right | Aim | Reached |
|---|---|---|---|
{table}

Diversity (mean distance between eight pictures of one prompt, 0 to 1): {scores["diversity"]}. Distance to the nearest of 4,000 training
pictures: {nearest["painted"]}, against {nearest["fresh_scenes"]} for newly composed scenes; much less would mean copying.

## Pictures

Fixed prompts, one seed, none chosen:

![samples](samples.webp)

Two rows judged right, then two rows judged wrong:

![judged](judged.webp)
"""
    (folder / "CARD.md").write_text(text, encoding="utf-8")
