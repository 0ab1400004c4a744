"""Train the embedded chat model, Mote, from scratch, on conversations this repository composes itself.

Data: ``chat_corpus`` (facts and wordings written for this project, Apache-2.0). Model: a Llama-type causal
LM with its own byte-level BPE tokenizer. Muon for the matrices, AdamW for the rest, bfloat16 where the
device has it, loss on the answers only. Resumable: run the same command again.

    python -m pipelines.recipes.train_chat --minutes 70             # two cores: the weights that ship
    python -m pipelines.recipes.train_chat --size large --minutes 10  # a GPU: about 12M parameters
    python -m pipelines.recipes.train_chat --smoke --output /tmp/m  # seconds: does every part still work?
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines import device
from pipelines.recipes.chat_corpus import Corpus, Message
from pipelines.recipes.half_twin import HalfTwin
from pipelines.weights import sha256

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_OUTPUT = ROOT / "assets" / "models" / "mote"
CONTEXT = 512
OPENING_TOKENS, OPENING_WEIGHT = 8, 2.5
SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content | trim }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True)
class Size:
    """The one dial: everything that scales with the machine."""

    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate: int
    vocabulary: int
    batch: int  # tokens
    steps: int


SIZES = {
    "smoke": Size(64, 2, 4, 2, 128, 600, 800, 12),
    "small": Size(256, 8, 8, 4, 704, 4096, 6000, 5000),
    "large": Size(320, 9, 10, 5, 896, 6144, 32000, 12000),
}


def train_tokenizer(corpus: Corpus, vocabulary: int, conversations: int, seed: int) -> Any:
    """A byte-level BPE tokenizer of ``vocabulary`` entries, learnt from sampled conversations."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(Regex(r"\n|\d| ?[A-Za-z]+| ?[^\sA-Za-z\d]+|\s"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    stream = corpus.conversations(seed)
    tokenizer.train_from_iterator((m["content"] for _ in range(conversations) for m in next(stream)), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def encode(tokenizer: Any, messages: list[Message]) -> tuple[list[int], list[int]]:
    """Token ids and labels of a conversation; only the answers (and their end) carry a label, the rest -100."""
    backend, ids, labels = tokenizer.backend_tokenizer, [], []
    end = tokenizer.eos_token_id
    for message in messages:
        content = backend.encode(message["content"].strip(), add_special_tokens=False).ids
        head = tokenizer.convert_tokens_to_ids(f"<|{message['role']}|>")
        ids += [head, *content, end]
        is_answer = message["role"] == "assistant"
        labels += [-100, *(content if is_answer else [-100] * len(content)), end if is_answer else -100]
        if message.get("ending") == "open":
            ids.pop()
            labels.pop()
    return ids[:CONTEXT], labels[:CONTEXT]


def batches(corpus: Corpus, tokenizer: Any, batch: int, seed: int) -> Iterator[tuple[Any, Any]]:
    """Endless (ids, labels) tensors [n, length] of about ``batch`` tokens, conversations of like length together.

    Padding is at the end, where causal attention never looks, so no attention mask is needed.
    """
    import torch

    stream, rng = corpus.conversations(seed), random.Random(seed)
    while True:
        pool = sorted((encode(tokenizer, next(stream)) for _ in range(batch // 3)), key=lambda pair: len(pair[0]))
        groups: list[list[tuple[list[int], list[int]]]] = []
        group: list[tuple[list[int], list[int]]] = []
        for pair in pool:
            if group and len(pair[0]) * (len(group) + 1) > batch:
                groups, group = [*groups, group], []
            group.append(pair)
        groups.append(group)
        rng.shuffle(groups)
        for group in groups:
            length = max(len(ids) for ids, _ in group)
            ids = torch.tensor([i + [tokenizer.pad_token_id] * (length - len(i)) for i, _ in group])
            labels = torch.tensor([t + [-100] * (length - len(t)) for _, t in group])
            yield ids, labels


def answer_loss(model: Any, ids: Any, labels: Any) -> Any:
    """Cross-entropy over the labelled positions of ``ids`` and ``labels`` [n, length], the openings weighted up.

    Which answer is given is decided in its first tokens, so those count ``OPENING_WEIGHT`` times. The
    vocabulary projection runs on labelled positions only: half of the tokens are questions and padding.
    """
    import torch
    import torch.nn.functional as F  # noqa: N812

    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    wanted = targets != -100
    index = torch.arange(targets.shape[1], device=targets.device).expand_as(targets)
    since_question = index - torch.where(wanted, -1, index).cummax(-1).values  # 1 at an answer's first token
    weights = torch.where(since_question <= OPENING_TOKENS, OPENING_WEIGHT, 1.0)[wanted]
    losses = F.cross_entropy(model.lm_head(hidden[wanted]).float(), targets[wanted], reduction="none")
    return (losses * weights).sum() / weights.sum()


def build_model(size: Size, tokenizer: Any) -> Any:
    """A fresh Llama-type model for ``tokenizer``."""
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.key_value_heads,
        intermediate_size=size.intermediate,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attention_bias=False,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, max_new_tokens=160
    )
    return model


def optimizers(model: Any) -> list[Any]:
    """Muon for the weight matrices inside the blocks, AdamW for embeddings and norms (as in nanochat)."""
    import torch

    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "layers." in n]
    others = [p for n, p in model.named_parameters() if not (p.ndim == 2 and "layers." in n)]
    muon = torch.optim.Muon(matrices, lr=0.02, momentum=0.95, weight_decay=0.01, adjust_lr_fn="original")
    adam = torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0)
    for optimizer in (muon, adam):
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return [muon, adam]


def learning_rate_scale(progress: float) -> float:
    """Warm-up over 2 %, constant to 40 %, then linear down to 2 %. ``progress`` runs from 0 to 1."""
    if progress < 0.02:
        return max(0.05, progress / 0.02)
    return 1.0 if progress < 0.4 else max(0.02, (1.0 - progress) / 0.6)


@dataclass
class State:
    """What a resumed run must know."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    loss: float = 0.0


def _save_checkpoint(path: Path, model: Any, opts: list[Any], state: State) -> None:
    import torch

    partial = path.with_suffix(".partial")
    torch.save({"model": model.state_dict(), "opts": [o.state_dict() for o in opts], "state": asdict(state)}, partial)
    partial.replace(path)


def train(args: argparse.Namespace) -> None:
    """The whole recipe: tokenizer, model, loop with checkpoints, then export."""
    import torch

    size = SIZES["smoke" if args.smoke else args.size]
    compute = device.pick(device.Request(args.device, args.dtype), device.probe())
    print(compute.reason, flush=True)
    torch.manual_seed(args.seed)
    corpus = Corpus()
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    if (work / "tokenizer_config.json").exists():
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(work)
    else:
        tokenizer = train_tokenizer(corpus, size.vocabulary, 400 if args.smoke else 40_000, args.seed)
        tokenizer.save_pretrained(work)
    model = build_model(size, tokenizer).to(compute.device)
    opts, state, checkpoint = optimizers(model), State(), work / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=compute.device, weights_only=True)
        model.load_state_dict(saved["model"])
        for optimizer, content in zip(opts, saved["opts"], strict=True):
            optimizer.load_state_dict(content)
        state = State(**saved["state"])
        print(f"resumed at step {state.step}", flush=True)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters / 1e6:.2f}M parameters, vocabulary {len(tokenizer)}", flush=True)
    steps, limit_s = args.steps or size.steps, args.minutes * 60 if args.minutes else math.inf
    if compute.device == "cpu":
        model.set_attn_implementation("eager")
    half = HalfTwin(model) if compute.dtype != "float32" else None
    running, last = state.loss, time.monotonic()
    stream = batches(corpus, tokenizer, size.batch, args.seed + 1000 * (state.step + 1))
    for ids, labels in stream:
        progress = state.seconds / limit_s if args.minutes else state.step / steps
        if progress >= 1.0:
            break
        for optimizer in opts:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * learning_rate_scale(progress)
        ids, labels = ids.to(compute.device), labels.to(compute.device)
        loss = answer_loss(half.twin if half else model, ids, labels)
        loss.backward()
        if half:
            half.hand_over_gradients()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in opts:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if half:
            half.follow()
        now = time.monotonic()
        state.step, state.seconds, last = state.step + 1, state.seconds + now - last, now
        state.tokens += ids.numel()
        running = state.loss = 0.98 * running + 0.02 * loss.item() if running else loss.item()
        if state.step % 25 == 0 or args.smoke:
            print(
                f"step {state.step} {progress:6.1%} loss {running:.4f} {state.tokens / state.seconds:,.0f} tokens/s "
                f"{state.seconds / 60:.1f} min",
                flush=True,
            )
        if state.step % 200 == 0:
            _save_checkpoint(checkpoint, model, opts, state)
    _save_checkpoint(checkpoint, model, opts, state)
    export(model, tokenizer, args, state, compute, running)


def export(model: Any, tokenizer: Any, args: argparse.Namespace, state: State, compute: Any, loss: float) -> None:
    """Write the folder that ships: fp16 safetensors, tokenizer, config and MANIFEST.json with every hash."""
    import tokenizers
    import torch
    import transformers

    output: Path = args.output
    output.mkdir(parents=True, exist_ok=True)
    model.to("cpu", torch.float16).save_pretrained(output)
    tokenizer.save_pretrained(output)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = sorted(p.name for p in output.iterdir() if p.is_file() and p.name not in ("MANIFEST.json", "CARD.md"))
    manifest = {
        "recipe": "python -m pipelines.recipes.train_chat",
        "seed": args.seed,
        "size": "smoke" if args.smoke else args.size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": state.step,
        "tokens": state.tokens,
        "minutes": round(state.seconds / 60, 1),
        "final_loss": round(loss, 4),
        "machine": f"{compute.reason} {platform.machine()}",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "commit": commit.stdout.strip() or "unknown",
        "license": "Apache-2.0",
        "files": {n: {"sha256": sha256(output / n), "bytes": (output / n).stat().st_size} for n in names},
    }
    (output / "MANIFEST.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    total = sum((output / n).stat().st_size for n in names)
    print(f"wrote {output.name}: {total / 1e6:.1f} MB, {state.step} steps, loss {loss:.4f}", flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=[s for s in SIZES if s != "smoke"], default="small")
    parser.add_argument("--smoke", action="store_true", help="a few steps on a toy size, to test the recipe itself")
    parser.add_argument("--steps", type=int, default=0, help="training steps (0: the size's own)")
    parser.add_argument("--minutes", type=float, default=0.0, help="train by the clock instead of by steps")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "chat", help="checkpoints (not in git)")
    args = parser.parse_args(argv)
    if args.smoke and args.work == ROOT / "runs" / "chat":
        args.work = args.output / "work"
    train(args)


if __name__ == "__main__":
    main(sys.argv[1:])
