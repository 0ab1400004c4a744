"""Writes the embedded image model's folder: safetensors in diffusers' layout (fp16), and MANIFEST.json with hashes."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.weights import sha256

ROOT = Path(__file__).resolve().parents[2]


def export(pipe: Any, args: argparse.Namespace, states: dict[str, Any], compute: Any) -> None:
    """Save ``pipe`` under ``args.output``; ``states`` are the training phases' (step, seconds, samples, loss)."""
    import diffusers
    import tokenizers
    import torch
    import transformers

    output: Path = args.output
    output.mkdir(parents=True, exist_ok=True)
    pipe.to("cpu", torch.float16)
    # diffusers loads its parts in float32 unless told otherwise, transformers 5 as they are stored: a text encoder
    # in float16 would then not fit the UNet.
    pipe.text_encoder.float()
    pipe.save_pretrained(output)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    skipped = ("MANIFEST.json", "CARD.md")
    files = sorted(p for p in output.rglob("*") if p.is_file() and p.name not in skipped and "work" not in p.parts)
    parts = {name: getattr(pipe, name) for name in ("vae", "text_encoder", "unet")}
    manifest = {
        "recipe": "python -m pipelines.recipes.train_image",
        "seed": args.seed,
        "size": "smoke" if args.smoke else args.size,
        "parameters": {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()},
        "phases": {
            name: asdict(state) | {"minutes": round(state.seconds / 60, 1), "loss": round(state.loss, 4)}
            for name, state in states.items()
        },
        "machine": f"{compute.reason} {platform.machine()}",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "commit": commit.stdout.strip() or "unknown",
        "license": "Apache-2.0 (weights); the artwork they were trained on is Noto Color Emoji, SIL OFL 1.1",
        "files": {p.relative_to(output).as_posix(): {"sha256": sha256(p), "bytes": p.stat().st_size} for p in files},
    }
    (output / "MANIFEST.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    total = sum(p.stat().st_size for p in files)
    print(f"wrote {output.name}: {total / 1e6:.1f} MB", flush=True)
