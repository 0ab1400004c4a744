"""A tiny real chat model that never ends its answer by itself: for tests that stop, leave and branch.

Its weights are random like those of ``make_chat_model``, but of all tokens only those in plain letters have
a chance, and of these some are likely and others are not. An answer ends where its length or the context does.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import make_chat_model

WORDS = "the cat sat on a mat while the rat ran round the red hat and two men made tea for ten in the old tin hut"


def make_endless_model(folder: Path, *, layers: int, context: int) -> Path:
    """Save the model and its tokenizer in ``folder``. Each layer costs 0.2 ms a token on one idle core."""
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    make_chat_model(folder, WORDS, layers=layers, context=context)
    network = LlamaForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    has_chance = [bool(re.fullmatch(" ?[a-z]+", tokenizer.decode([i]))) for i in range(network.config.vocab_size)]
    head = torch.randn(network.lm_head.weight.shape, generator=torch.Generator().manual_seed(0))
    # Logits spread over +-6; the likeliest reach +12, so what is left at 0 together has less than one in 1,000.
    network.lm_head.weight = torch.nn.Parameter(head * torch.tensor(has_chance)[:, None])
    network.config.tie_word_embeddings = False
    network.save_pretrained(folder)
    return folder
