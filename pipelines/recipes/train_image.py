"""Train the embedded image model, Pixie, from scratch, on scenes this repository composes itself.

Data: ``image_scenes`` (Noto Color Emoji artwork, OFL 1.1, and drawing code). First the autoencoder learns to
squeeze a picture into 16 x 16 x 16 numbers and back, then text encoder and UNet learn to denoise those. Resumable:
run the same command again; more minutes train on.

    python -m pipelines.recipes.train_image --minutes 90              # two cores: the weights that ship
    python -m pipelines.recipes.train_image --size large --minutes 25   # a GPU: all subjects
    python -m pipelines.recipes.train_image --smoke --output /tmp/m   # seconds: does every part still work?
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines import device
from pipelines.recipes import image_model
from pipelines.recipes.half_twin import HalfTwin
from pipelines.recipes.image_export import export
from pipelines.recipes.image_model import SIZES, Size
from pipelines.recipes.image_store import SceneStore
from pipelines.recipes.optimizers import MuonAdam

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_OUTPUT = ROOT / "assets" / "models" / "pixie"
AUTOENCODER_SHARE = 0.3
NO_CAPTION_SHARE = 0.1  # for classifier-free guidance
KL_WEIGHT = 5e-4
AUTOENCODER_RATE, DENOISER_RATE = 2e-3, 1e-3
SMOKE_STEPS = 4
#: Parameters that are no maps from one space of features to another: AdamW trains them.
KEEP_ADAM = ("conv_in", "conv_out", "token_embedding", "position_embedding")


@dataclass
class State:
    """What a resumed phase must know."""

    step: int = 0
    seconds: float = 0.0
    samples: int = 0
    loss: float = 0.0


def learning_rate_scale(progress: float, step: int) -> float:
    """Warm-up over 100 steps, constant to 50 % of the budget, then linear down to 2 %."""
    return min(1.0, (step + 1) / 100) * min(1.0, max(0.02, (1.0 - progress) / 0.5))


class Phase:
    """One resumable training loop: float32 weights with a moving average, arithmetic in the twin's precision."""

    def __init__(
        self, name: str, model: Any, rate: float, work: Path, compute: Any, minutes: float, steps: int
    ) -> None:
        import torch

        self.name, self.model, self.compute = name, model.to(compute.device), compute
        self.limit_s, self.steps = minutes * 60, steps
        self.state, self.path = State(), work / f"{name}.pt"
        self.optimizer = MuonAdam(model.named_parameters(), rate, KEEP_ADAM)
        self.average = {k: v.detach().clone().float() for k, v in model.state_dict().items()}
        if self.path.exists():
            saved = torch.load(self.path, map_location=compute.device, weights_only=True)
            model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.average, self.state = saved["average"], State(**saved["state"])
            print(f"{name}: resumed at step {self.state.step}", flush=True)

    @property
    def progress(self) -> float:
        if self.steps:
            return self.state.step / self.steps
        return self.state.seconds / self.limit_s if self.limit_s else 1.0

    def save(self) -> None:
        import torch

        partial = self.path.with_suffix(".partial")
        content = {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "average": self.average,
            "state": asdict(self.state),
        }  # fmt: skip
        torch.save(content, partial)
        partial.replace(self.path)

    def run(self, loss_of: Callable[[Any], tuple[Any, int]]) -> None:
        """Train until the budget is used: ``loss_of(model)`` returns the loss of a fresh batch and its size."""
        import torch

        if self.progress >= 1.0:
            return
        half = HalfTwin(self.model) if self.compute.dtype != "float32" else None
        last = time.monotonic()
        while self.progress < 1.0:
            loss, samples = loss_of(half.twin if half else self.model)
            loss.backward()
            if half:
                half.hand_over_gradients()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step(learning_rate_scale(self.progress, self.state.step))
            if half:
                half.follow()
            self._follow_average()
            now, state = time.monotonic(), self.state
            state.step, state.samples = state.step + 1, state.samples + samples
            state.seconds, last = state.seconds + now - last, now
            state.loss = 0.98 * state.loss + 0.02 * loss.item() if state.loss else loss.item()
            if state.step % 50 == 0:
                print(
                    f"{self.name} step {state.step} {self.progress:6.1%} loss {state.loss:.4f} "
                    f"{state.samples / state.seconds:,.1f} samples/s {state.seconds / 60:.1f} min",
                    flush=True,
                )
            if state.step % 500 == 0:
                self.save()
        self.save()

    def _follow_average(self) -> None:
        import torch

        keep = min(0.999, (1 + self.state.step) / (10 + self.state.step))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value.float(), 1 - keep)

    def averaged(self) -> Any:
        """The model with its averaged weights."""
        self.model.load_state_dict(self.average)
        return self.model.eval()


# --- autoencoder --------------------------------------------------------------------------------------------------
def reconstruction_loss(autoencoder: Any, pixels: Any) -> Any:
    """L1 at full and half resolution, L1 of the differences between neighbours (edges), a little KL."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    posterior = autoencoder.encode(pixels.to(next(autoencoder.parameters()).dtype)).latent_dist
    mean, variance = posterior.mean.float(), posterior.var.float()
    latents = mean + variance.sqrt() * torch.randn_like(mean)
    out = autoencoder.decode(latents.to(posterior.mean.dtype)).sample.float()
    loss = F.l1_loss(out, pixels) + 0.5 * F.l1_loss(F.avg_pool2d(out, 2), F.avg_pool2d(pixels, 2))
    for axis in (2, 3):
        loss = loss + F.l1_loss(out.diff(dim=axis), pixels.diff(dim=axis))
    kl = 0.5 * (mean.pow(2) + variance - 1 - posterior.logvar.float()).mean()
    return loss + KL_WEIGHT * kl


def normalize_latents(autoencoder: Any, pixels: Any) -> None:
    """Fold mean and spread of each latent channel into the 1x1 convolutions, so that latents have mean 0 and std 1."""
    import torch

    with torch.no_grad():
        latents = torch.cat([autoencoder.encode(p).latent_dist.mean for p in pixels.split(32)])
        mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
        into, out, channels = autoencoder.quant_conv, autoencoder.post_quant_conv, len(mean)
        into.weight[:channels] /= std[:, None, None, None]
        into.bias[:channels] = (into.bias[:channels] - mean) / std
        into.bias[channels:] -= 2 * std.log()
        out.bias += (out.weight[:, :, 0, 0] * mean).sum(1)
        out.weight *= std[None, :, None, None]


# --- denoiser -----------------------------------------------------------------------------------------------------
def encode_pool(autoencoder: Any, store: SceneStore, path: Path, compute: Any) -> Any:
    """The latents of every scene of the pool, float16 [n, 16, 16, 16], cached in ``path``."""
    import torch

    if path.exists():
        return torch.load(path, weights_only=True)
    autoencoder = autoencoder.to(compute.device, getattr(torch, compute.dtype))
    found = []
    for start in range(0, store.count, 64):
        pixels = store.pixels(list(range(start, min(store.count, start + 64))))
        with torch.inference_mode():
            mean = autoencoder.encode(pixels.to(compute.device, autoencoder.dtype)).latent_dist.mean
        found.append(mean.to("cpu", torch.float16))
        if start % 6400 == 0:
            print(f"encoded {start} of {store.count} scenes", flush=True)
    latents = torch.cat(found)
    torch.save(latents, path)
    return latents


class Denoiser:
    """Text encoder and UNet as one trainable module, and the loss of a batch."""

    def __init__(self, text_encoder: Any, unet: Any) -> None:
        import torch

        self.module = torch.nn.ModuleDict({"text_encoder": text_encoder, "unet": unet})

    @staticmethod
    def loss(module: Any, tokens: Any, latents: Any, schedule: Any) -> Any:
        """Mean squared error of the predicted velocity; ``tokens`` [n, 40], ``latents`` [n, 16, 16, 16]."""
        import torch
        import torch.nn.functional as F  # noqa: N812

        n = len(latents)
        # Stratified: every batch covers the whole schedule.
        steps = (
            ((torch.arange(n) + torch.rand(n)) / n * 1000).long().clamp(max=999)[torch.randperm(n)].to(latents.device)
        )
        noise = torch.randn_like(latents)
        noisy = schedule.add_noise(latents, noise, steps)
        target = schedule.get_velocity(latents, noise, steps)
        dtype = module["unet"].dtype
        words = module["text_encoder"](tokens).last_hidden_state
        found = module["unet"](noisy.to(dtype), steps, words.to(dtype)).sample.float()
        return F.mse_loss(found, target)


def train(args: argparse.Namespace) -> None:
    """The whole recipe: scenes, autoencoder, latents, denoiser, export."""
    import torch

    size: Size = SIZES["smoke" if args.smoke else args.size]
    compute = device.pick(device.Request(args.device, args.dtype), device.probe())
    print(compute.reason, flush=True)
    torch.manual_seed(args.seed)
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    store = SceneStore(work / "scenes", size.subjects, args.scenes or size.scenes, args.seed)
    store.fill(args.workers)
    rng, steps = random.Random(args.seed + int(time.time())), SMOKE_STEPS if args.smoke else 0

    minutes = args.minutes * AUTOENCODER_SHARE if args.autoencoder_minutes is None else args.autoencoder_minutes
    phase = Phase("autoencoder", image_model.build_autoencoder(size), AUTOENCODER_RATE, work, compute, minutes, steps)

    def autoencoder_loss(model: Any) -> tuple[Any, int]:
        pixels = store.pixels([rng.randrange(store.count) for _ in range(size.autoencoder_batch)]).to(compute.device)
        return reconstruction_loss(model, pixels), len(pixels)

    phase.run(autoencoder_loss)
    autoencoder_state = phase.state
    autoencoder = phase.averaged().to("cpu").float()
    normalize_latents(autoencoder, store.pixels(list(range(min(store.count, 512)))))
    latents = encode_pool(autoencoder, store, work / f"latents-{autoencoder_state.step}.pt", compute)

    tokenizer_folder = work / "tokenizer"
    if not (tokenizer_folder / "tokenizer_config.json").exists():
        words = (store.caption(i % store.count, rng) for i in range(30_000 if not args.smoke else 300))
        image_model.train_tokenizer(words, size.vocabulary).save_pretrained(tokenizer_folder)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    denoiser = Denoiser(image_model.build_text_encoder(size, tokenizer), image_model.build_unet(size))
    phase = Phase("denoiser", denoiser.module, DENOISER_RATE, work, compute, args.minutes - minutes, steps)
    schedule = image_model.training_schedule()

    def denoiser_loss(module: Any) -> tuple[Any, int]:
        numbers = [rng.randrange(store.count) for _ in range(size.batch)]
        captions = ["" if rng.random() < NO_CAPTION_SHARE else store.caption(i, rng) for i in numbers]
        tokens = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        batch = latents[numbers].to(compute.device).float()
        return Denoiser.loss(module, tokens.to(compute.device), batch, schedule), len(numbers)

    phase.run(denoiser_loss)
    averaged = phase.averaged()
    pipe = image_model.pipeline(autoencoder, averaged["text_encoder"], tokenizer, averaged["unet"])
    export(pipe, args, {"autoencoder": autoencoder_state, "denoiser": phase.state}, compute)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=[s for s in SIZES if s != "smoke"], default="small")
    parser.add_argument("--smoke", action="store_true", help="a few steps on a toy size, to test the recipe itself")
    parser.add_argument("--minutes", type=float, default=90.0, help="training time in all, resumed runs included")
    parser.add_argument("--autoencoder-minutes", type=float, help=f"of these (default {AUTOENCODER_SHARE:.0%})")
    parser.add_argument("--scenes", type=int, default=0, help="pictures in the pool (0: the size's own number)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw scenes")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    parser.add_argument(
        "--work", type=Path, default=ROOT / "runs" / "image", help="scenes and checkpoints (not in git)"
    )
    args = parser.parse_args(argv)
    if args.smoke and args.work == ROOT / "runs" / "image":
        args.work = args.output / "work"
    train(args)


if __name__ == "__main__":
    main(sys.argv[1:])
