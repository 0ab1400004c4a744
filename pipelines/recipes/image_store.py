"""A pool of drawn scenes on disk, for training: drawn once by several processes, read again in any order.

Drawing a scene takes 10 to 60 ms of a core, several times a training step's share; the captions cost nothing and
are worded anew at every use. Scene ``i`` of a pool depends on the seed and ``i`` alone.

    python -m pipelines.recipes.image_store --count 40000 --folder runs/image/scenes
"""

from __future__ import annotations

import argparse
import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from pipelines.recipes import image_scenes
from pipelines.recipes.image_model import PIXELS
from pipelines.recipes.image_scenes import Composer, Scene

SHARD = 1000


class SceneStore:
    """Scenes ``0 .. count - 1``; ``fill`` draws what is missing, ``pixels`` reads."""

    def __init__(self, folder: Path, subjects: str, count: int, seed: int) -> None:
        self.folder, self.subjects, self.count, self.seed = folder, subjects, count, seed
        self._composer = Composer(image_scenes.training_subjects(subjects))
        self._shards: dict[int, Any] = {}

    def scene(self, i: int) -> Scene:
        return self._composer.scene(random.Random(f"{self.seed} {i}"))

    def caption(self, i: int, rng: random.Random) -> str:
        return image_scenes.caption(self.scene(i), rng)

    def _path(self, shard: int) -> Path:
        return self.folder / f"{shard:04d}.npy"

    def draw_shard(self, shard: int) -> None:
        """Draw one shard, uint8 [n, 128, 128, 3], unless it is there."""
        import numpy as np

        path = self._path(shard)
        if path.exists():
            return
        numbers = range(shard * SHARD, min(self.count, (shard + 1) * SHARD))
        drawn = [image_scenes.draw(self.scene(i), random.Random(f"{self.seed} {i} drawing"), PIXELS) for i in numbers]
        partial = path.with_suffix(".partial.npy")
        np.save(partial, np.stack([np.asarray(d) for d in drawn]))
        partial.replace(path)

    def fill(self, workers: int) -> None:
        """Draw every missing shard."""
        self.folder.mkdir(parents=True, exist_ok=True)
        missing = [s for s in range(-(-self.count // SHARD)) if not self._path(s).exists()]
        if workers <= 1 or len(missing) <= 1:
            for shard in missing:
                self.draw_shard(shard)
            return
        with ProcessPoolExecutor(workers) as pool:
            for done, _ in enumerate(pool.map(self.draw_shard, missing), start=1):
                print(f"drew {done} of {len(missing)} shards", flush=True)

    def pixels(self, numbers: list[int]) -> Any:
        """The pictures as a float tensor [n, 3, 128, 128] from -1 to 1."""
        import numpy as np
        import torch

        picked = []
        for i in numbers:
            shard = i // SHARD
            if shard not in self._shards:
                self._shards[shard] = np.load(self._path(shard), mmap_mode="r")
            picked.append(self._shards[shard][i % SHARD])
        return torch.from_numpy(np.stack(picked)).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--subjects", choices=("small", "large"), default="small")
    parser.add_argument("--count", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    SceneStore(args.folder, args.subjects, args.count, args.seed).fill(args.workers)


if __name__ == "__main__":
    main()
