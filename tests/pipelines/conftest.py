"""Shared by the chat tests: a tiny model that says something, which the one with fresh weights does not.

Fresh random weights make a language model repeat its last token; with larger ones every step differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines import device
from pipelines.chat_local import LocalChat
from pipelines.events import CancelToken
from pipelines.weights import drain
from tests.conftest import local_model, make_chat_model


def make_lively_model(folder: Path) -> Path:
    """A chat model (context 128) whose greedy answers vary from token to token and are printable ASCII."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make_chat_model(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network: Any = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if tensor.dim() == 2:
                tensor.normal_(0.0, 0.3 if "embed" in name else 0.5)
        # The embedding is the output layer too: a row of zeros has logit 0, which never is the largest.
        for i in range(len(tokenizer)):
            text = tokenizer.decode([i])
            if i in tokenizer.all_special_ids or not (text.isascii() and text.isprintable()):
                network.get_input_embeddings().weight[i] = 0.0
    network.save_pretrained(folder)
    return folder


def open_local(folder: Path, **changes: Any) -> LocalChat:
    """The folder as a loaded backend on the CPU, in float32."""
    steps = LocalChat.open(local_model(folder, **changes), device.Request("cpu", "fp32"), CancelToken())
    backend: LocalChat = drain(steps)
    return backend


@pytest.fixture(scope="session")
def lively_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lively_model(tmp_path_factory.mktemp("models") / "lively-chat")


@pytest.fixture(scope="session")
def lively(lively_folder: Path) -> Iterator[LocalChat]:
    """Loaded once: a backend holds nothing of a run."""
    backend = open_local(lively_folder)
    yield backend
    backend.close()
