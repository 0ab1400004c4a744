"""Measure the embedded image model without any outside model: does a picture show what the prompt asked for?

The judge is a classifier trained on composed scenes alone (``image_judge``); its own accuracy on unseen composed
scenes is printed first and bounds what can be measured. Prompts are worded by the same grammar as in training.
Also measured: how different the pictures of one prompt are, and how near they come to training pictures.

    python -m pipelines.recipes.eval_image                   # the scores
    python -m pipelines.recipes.eval_image --card            # and CARD.md with contact sheets
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.recipes import image_backgrounds, image_card, image_judge, image_scenes, image_styles
from pipelines.recipes.image_model import GUIDANCE, STEPS
from pipelines.recipes.image_scenes import Composer, Scene
from pipelines.recipes.image_store import SceneStore
from pipelines.recipes.train_image import DEFAULT_OUTPUT, ROOT

AIMS = {"subject": 0.9, "background": 0.95, "style": 0.9, "held_out": 0.8, "pairs": 0.7}
BATCH = 16


def _spread(subjects: tuple[Any, ...], rng: random.Random, count: int) -> list[Any]:
    pool = list(subjects)
    rng.shuffle(pool)
    return [pool[i % len(pool)] for i in range(count)]


def test_scenes(composer: Composer, per_kind: int, rng: random.Random) -> dict[str, list[Scene]]:
    """The scenes asked for, by what they test."""
    flat = image_backgrounds.plain
    colours = tuple(image_backgrounds.COLOURS)
    grounds = image_backgrounds.every_kind()
    found = {
        "subject": [Scene(s, flat(rng.choice(colours))) for s in _spread(composer.subjects, rng, per_kind * 2)],
        "background": [
            Scene(s, grounds[i % len(grounds)]) for i, s in enumerate(_spread(composer.subjects, rng, per_kind))
        ],
        "style": [
            Scene(s, rng.choice(grounds), image_styles.STYLES[i % len(image_styles.STYLES)])
            for i, s in enumerate(_spread(composer.subjects, rng, per_kind))
        ],
        "held_out": [],
        "pairs": [],
    }
    while len(found["held_out"]) < per_kind:
        scene = composer.scene(rng, held_out_combinations=True)
        if not scene.other and scene.count == 1 and scene.style != "silhouette":
            found["held_out"].append(replace(scene, place="", size=""))
    while len(found["pairs"]) < per_kind:
        scene = composer.scene(rng)
        if scene.other and scene.style != "silhouette":
            found["pairs"].append(scene)
    return found


def paint(pipe: Any, prompts: list[str], seed: int) -> list[Any]:
    """One picture per prompt, picture ``i`` from seed ``seed + i``."""
    import torch

    pictures = []
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(batch))]
        pictures += pipe(batch, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generators).images
    return pictures


def as_pixels(pictures: list[Any]) -> Any:
    """PIL pictures as [n, 3, 128, 128] from -1 to 1."""
    import numpy as np
    import torch

    stacked = np.stack([np.asarray(p.convert("RGB")) for p in pictures])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 127.5 - 1


def _share(values: list[bool | None]) -> float:
    known = [v for v in values if v is not None]
    return round(statistics.mean(known), 3) if known else 0.0


def _rates(rows: list[dict[str, bool | None]]) -> dict[str, float]:
    return {name: _share([row[name] for row in rows]) for name in ("subject", "background", "style")}


def _nearest(pixels: Any, pool: Any) -> list[float]:
    """Root mean square distance of each picture to its nearest in ``pool``, both at 16 x 16 px."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    small, all_small = (F.interpolate(p, size=16, mode="area").flatten(1) for p in (pixels, pool))
    return [float(v) for v in torch.cdist(small, all_small).min(1).values / small.shape[1] ** 0.5]


def evaluate(pipe: Any, store: SceneStore, judge_path: Path, *, per_kind: int, minutes: float) -> dict[str, Any]:
    """All scores as a dictionary; ``pictures`` holds (kind, prompt, picture, verdict) of everything painted."""
    composer = Composer(image_scenes.training_subjects(store.subjects))
    index = {s.id: i for i, s in enumerate(composer.subjects)}
    judge = image_judge.train(store, index, judge_path, minutes)
    rng = random.Random(99)
    unseen = [composer.scene(rng) for _ in range(400)]
    drawn = as_pixels([image_scenes.draw(s, rng) for s in unseen])
    by_judge = image_judge.verdict(judge, drawn, unseen, index)
    visible = [row for s, row in zip(unseen, by_judge, strict=True) if s.style != "silhouette" and not s.other]
    scores: dict[str, Any] = {"judge": _rates(visible)}
    scores["judge"]["pairs"] = _share([r["subject"] for s, r in zip(unseen, by_judge, strict=True) if s.other])
    pictures: list[tuple[str, str, Any, dict[str, bool | None]]] = []
    for kind, scenes in test_scenes(composer, per_kind, rng).items():
        prompts = [image_scenes.caption(s, rng, is_full=True) for s in scenes]
        painted = paint(pipe, prompts, seed=1000)
        rows = image_judge.verdict(judge, as_pixels(painted), scenes, index)
        pictures += zip([kind] * len(rows), prompts, painted, rows, strict=True)
        asked = {"subject": "subject", "pairs": "subject", "background": "background", "style": "style"}.get(kind)
        right = [row[asked] if asked else all(v is not False for v in row.values()) for row in rows]
        scores[kind] = _share(right)
    composed = store.pixels(list(range(min(store.count, 4000))))
    scores["nearest_training_picture"] = {
        "painted": round(statistics.median(_nearest(as_pixels([p for _, _, p, _ in pictures]), composed)), 3),
        "fresh_scenes": round(statistics.median(_nearest(drawn, composed)), 3),
    }
    scores["diversity"] = round(_diversity(pipe), 3)
    return scores | {"pictures": pictures}


def _diversity(pipe: Any) -> float:
    """Mean root-mean-square distance between eight pictures of one prompt, over four prompts (0 is all the same)."""
    import torch

    found = []
    for prompt in ("a cat", "a rocket in space", "a house on a meadow", "an apple, watercolour"):
        pixels = as_pixels(paint(pipe, [prompt] * 8, seed=1)).flatten(1)
        found.append(float(torch.pdist(pixels).mean()) / pixels.shape[1] ** 0.5)
    return float(statistics.mean(found))


def main() -> None:
    from diffusers import DiffusionPipeline

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEFAULT_OUTPUT)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "image", help="pool of scenes, the judge")
    parser.add_argument("--size", choices=("small", "large"), default="small")
    parser.add_argument("--scenes", type=int, default=40_000)
    parser.add_argument("--per-kind", type=int, default=120, help="pictures per score")
    parser.add_argument("--judge-minutes", type=float, default=8.0)
    parser.add_argument("--card", action="store_true", help="write CARD.md with contact sheets")
    args = parser.parse_args()
    store = SceneStore(args.work / "scenes", args.size, args.scenes, 1)
    store.fill(2)
    pipe = DiffusionPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    path = args.work / f"judge-{args.size}.pt"
    scores = evaluate(pipe, store, path, per_kind=args.per_kind, minutes=args.judge_minutes)
    pictures = scores.pop("pictures")
    for name, value in scores.items():
        aim = f"  (aim {AIMS[name]:.0%})" if name in AIMS else ""
        print(f"{name:26} {value}{aim}")
    if args.card:
        image_card.write(args.model, scores, pictures, pipe)
    print(json.dumps(scores))


if __name__ == "__main__":
    main()
