"""The judge of the image evaluation: a small classifier that says what a picture shows.

Trained here on composed scenes only, never on anything the image model made; validated on scenes it has not seen.
Three answers: which subjects (softmax over all, the true ones sharing the probability), which background, which style.
What a style hides is not asked of it: a pencil sketch has no background colour, a silhouette no inner features.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from pipelines.recipes import image_backgrounds, image_styles
from pipelines.recipes.image_scenes import Scene
from pipelines.recipes.image_store import SceneStore

BACKGROUNDS = (*(b.name for b in image_backgrounds.every_kind()), "gradient", "stripes")
STYLES = image_styles.STYLES
SIDE = 64
BATCH, RATE = 64, 2e-3


def has_visible_ground(scene: Scene) -> bool:
    """Whether the style leaves the background to be recognised."""
    return scene.style not in ("sketch",) and (scene.style != "neon" or scene.background.kind == "scene")


def build(subjects: int) -> Any:
    """A plain convolutional network over 3 x 64 x 64; returns (subjects, backgrounds, styles) logits."""
    import torch
    from torch import nn

    def block(width: int, out: int) -> Any:
        layers = (nn.Conv2d(width, out, 3, 2, 1), nn.GroupNorm(8, out), nn.SiLU(), nn.Conv2d(out, out, 3, 1, 1))
        return nn.Sequential(*layers, nn.GroupNorm(8, out), nn.SiLU())

    class Judge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(3, 32, 5, 1, 2), nn.SiLU(), block(32, 64), block(64, 128), block(128, 192), block(192, 256)
            )
            self.heads = nn.ModuleList(nn.Linear(512, n) for n in (subjects, len(BACKGROUNDS), len(STYLES)))

        def features(self, pixels: torch.Tensor) -> torch.Tensor:
            """[n, 512] of pictures [n, 3, 128, 128] from -1 to 1."""
            found = self.body(nn.functional.interpolate(pixels, size=SIDE, mode="area"))
            return torch.cat([found.mean((2, 3)), found.amax((2, 3))], 1)

        def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
            features = self.features(pixels)
            return [head(features) for head in self.heads]

    return Judge()


def _targets(scenes: list[Scene], index: dict[str, int]) -> tuple[Any, Any, Any]:
    import torch

    subjects = torch.zeros(len(scenes), len(index))
    for row, scene in enumerate(scenes):
        shown = [s for s in (scene.subject, scene.other) if s]
        for subject in shown:
            subjects[row, index[subject.id]] = 1 / len(shown)
    grounds = [BACKGROUNDS.index(s.background.name) if has_visible_ground(s) else -100 for s in scenes]
    return subjects, torch.tensor(grounds), torch.tensor([STYLES.index(s.style) for s in scenes])


def train(store: SceneStore, index: dict[str, int], path: Path, minutes: float) -> Any:
    """The trained judge, from ``path`` if it is there. ``index`` maps subject ids to classes."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    judge = build(len(index))
    if path.exists():
        judge.load_state_dict(torch.load(path, weights_only=True))
        return judge.eval()
    rng, started, step = random.Random(5), time.monotonic(), 0
    optimizer = torch.optim.AdamW(judge.parameters(), lr=RATE, weight_decay=0.05)
    while (progress := (time.monotonic() - started) / (60 * minutes)) < 1:
        numbers = [rng.randrange(store.count) for _ in range(BATCH)]
        subjects, grounds, styles = _targets([store.scene(i) for i in numbers], index)
        pixels = store.pixels(numbers)
        pixels = (pixels + torch.randn(BATCH, 1, 1, 1) * 0.05 + torch.randn_like(pixels) * 0.04 * rng.random()).clamp(
            -1, 1
        )
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 100) * min(1.0, max(0.02, (1 - progress) / 0.6))
        with torch.autocast("cpu", torch.bfloat16):
            found = judge(pixels)
        loss = F.cross_entropy(found[0].float(), subjects) + 0.5 * F.cross_entropy(found[2].float(), styles)
        loss = loss + 0.5 * F.cross_entropy(found[1].float(), grounds)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        if step % 100 == 0:
            print(f"judge step {step} {progress:5.1%} loss {loss.item():.3f}", flush=True)
    torch.save(judge.state_dict(), path)
    return judge.eval()


def verdict(judge: Any, pixels: Any, scenes: list[Scene], index: dict[str, int]) -> list[dict[str, bool | None]]:
    """Per picture whether subject (all of them), background (None where hidden) and style are what was asked for."""
    import torch

    with torch.inference_mode():
        subjects, grounds, styles = judge(pixels)
    rows: list[dict[str, bool | None]] = []
    for row, scene in enumerate(scenes):
        wanted = {index[s.id] for s in (scene.subject, scene.other) if s}
        seen = set(subjects[row].topk(len(wanted)).indices.tolist())
        ground = int(grounds[row].argmax()) == BACKGROUNDS.index(scene.background.name)
        rows.append(
            {
                "subject": wanted == seen,
                "background": ground if has_visible_ground(scene) else None,
                "style": int(styles[row].argmax()) == STYLES.index(scene.style),
            }
        )
    return rows
