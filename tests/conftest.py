"""What every test shares: no network but loopback, a data directory of its own, tiny real models.

"Tiny real" means a standard transformers class with random weights, saved to disk and loaded the normal
way. The embedded model that ships is used where the test is about what people get.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines import catalog

LOOPBACK = ("127.0.0.1", "::1", "localhost", "0.0.0.0")


class NetworkBlocked(AssertionError):
    """A test tried to reach another host."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests last: Playwright's synchronous API keeps an event loop running in this thread from then on."""
    items.sort(key=lambda item: "browser" in item.path.parts)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Refuse every connection that leaves this machine, and keep caches out of the home directory."""
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOOPBACK:
            raise NetworkBlocked(f"connection to {address}")
        connect(self, address)

    def guarded_resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in (*LOOPBACK, None, ""):
            raise NetworkBlocked(f"name lookup of {name}")
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_resolve)
    for name in ("STUDIO_REMOTE_URL", "STUDIO_REMOTE_MODEL", "STUDIO_REMOTE_KEY", "STUDIO_OLLAMA_MODEL", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def make_chat_model(folder: Path, vocabulary_text: str = "", *, layers: int = 2, context: int = 128) -> Path:
    """A Llama-type model with random weights (seed 0), a byte-level BPE tokenizer and a chat template, on disk."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from pipelines.recipes.train_chat import CHAT_TEMPLATE, SPECIAL

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        [vocabulary_text or "the cat sat on the mat and the rat ran to the hat"] * 20, trainer
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
    )
    fast.chat_template = CHAT_TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    network = LlamaForCausalLM(config)
    network.generation_config = GenerationConfig(eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id)
    network.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random-weight chat model on disk, context 128."""
    return make_chat_model(tmp_path_factory.mktemp("models") / "tiny-chat")


def local_model(folder: Path, **changes: Any) -> catalog.Model:
    """A catalogue block for a folder, as a user would write it."""
    values: dict[str, Any] = {
        "id": "tiny",
        "task": "chat",
        "title": "Tiny",
        "summary": "Random weights.",
        "source": "local",
        "path": str(folder),
        "license": "Apache-2.0",
        "memory_mb": 1,
        "context": 128,
    }
    return catalog.Model(**(values | changes))


@pytest.fixture
def tiny(chat_folder: Path) -> catalog.Model:
    return local_model(chat_folder)


@pytest.fixture
def engine() -> Iterator[Any]:
    """An engine on the CPU that opens chat models; closed afterwards."""
    from pipelines.chat import Loader
    from pipelines.engine import Engine

    made = Engine(Loader(), 2 * 1024**3)
    yield made
    made.close()
