"""Chat with a causal language model in this process, through standard transformers classes.

The decoding loop is our own generator: one ``next`` is one token, so that it streams, stops at once,
can be stepped in turn with other jobs, draws from a seeded generator of its own and can show what each
token was chosen from. ``model.generate`` does beam search. Knows no page, no queue.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import device, weights
from pipelines.catalog import Model
from pipelines.chat import ChatParams, ChatResult
from pipelines.errors import InvalidParams, ModelCorrupt, ModelUnavailable
from pipelines.events import Alternative, CancelToken, Done, Event, Notice, Partial, Progress, PromptTokens, Token

if TYPE_CHECKING:
    import torch

SHOWN_ALTERNATIVES = 10


class Detokenizer:
    """Turns a growing list of token ids into text without ever showing half a character.

    Decodes a short window and emits what grew, as a byte-level token may be only part of a character and
    a word piece may need its neighbour to get its space right.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._start = self._read = 0

    def push(self, token_id: int, *, is_last: bool = False) -> str:
        """Text that became readable with ``token_id`` (may be empty)."""
        self._ids.append(token_id)
        before = self._tokenizer.decode(self._ids[self._start : self._read], skip_special_tokens=True)
        now = self._tokenizer.decode(self._ids[self._start :], skip_special_tokens=True)
        if now.endswith("\ufffd") and not is_last:
            return ""
        self._start, self._read = self._read, len(self._ids)
        return str(now[len(before) :])


class StopStrings:
    """Passes text through until a stop string appears; holds back what may be the start of one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.has_stopped = False

    def push(self, text: str) -> str:
        self._held += text
        found = [i for s in self._stops if (i := self._held.find(s)) >= 0]
        if found:
            self.has_stopped = True
            out, self._held = self._held[: min(found)], ""
            return out
        longest = max(
            (n for s in self._stops for n in range(1, len(s)) if self._held.endswith(s[:n])),
            default=0,
        )
        cut = len(self._held) - longest
        out, self._held = self._held[:cut], self._held[cut:]
        return out

    def rest(self) -> str:
        out, self._held = ("" if self.has_stopped else self._held), ""
        return out


def _quantization(model: Model) -> Any:
    """The transformers quantization config that a catalogue block asks for, or None."""
    if model.quantization == "none":
        return None
    try:
        if model.quantization == "int8":
            from torchao.quantization import Int8WeightOnlyConfig
            from transformers import TorchAoConfig

            return TorchAoConfig(Int8WeightOnlyConfig())
        import bitsandbytes  # noqa: F401 - transformers imports it late and words its absence worse
        import torch
        from transformers import BitsAndBytesConfig

        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    except ImportError as error:
        package = "torchao" if model.quantization == "int8" else "bitsandbytes"
        raise ModelUnavailable(
            f"{model.title} is loaded in {model.quantization}, which needs {package}.",
            f"Run: pip install {package}",
        ) from error


class LocalChat:
    """A loaded model and its tokenizer. Build with ``open``."""

    def __init__(self, model: Model, network: Any, tokenizer: Any, compute: device.Compute) -> None:
        self.model, self.compute = model, compute
        self._network, self._tokenizer = network, tokenizer
        self.memory_bytes = sum(p.numel() * p.element_size() for p in network.parameters())
        limits = [n for n in (model.context, getattr(network.config, "max_position_embeddings", 0)) if n]
        self.context = min(limits, default=2048)
        stop_ids = network.generation_config.eos_token_id
        ids = stop_ids if isinstance(stop_ids, list) else [stop_ids, tokenizer.eos_token_id]
        self._stop_ids = {i for i in ids if i is not None}
        self._special = sorted({*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}, key=len, reverse=True)

    @classmethod
    def open(
        cls, model: Model, request: device.Request, cancel: CancelToken, *, may_download: bool = False
    ) -> Generator[Event, None, LocalChat]:
        """Find, verify and load a model, yielding progress.

        Raises a child of ModelUnavailable, or DeviceUnavailable for an explicit request that cannot be met.
        """
        folder = yield from weights.locate(model, cancel, may_download=may_download)
        yield Progress(f"Loading {model.title}")
        network, tokenizer, compute = yield from weights.in_thread(
            lambda: cls._load(model, folder, request), lambda: Progress(f"Loading {model.title}"), cancel
        )
        return cls(model, network, tokenizer, compute)

    @staticmethod
    def _load(model: Model, folder: Path, request: device.Request) -> tuple[Any, Any, device.Compute]:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer

        hardware = device.probe()
        size = sum(f.stat().st_size for f in folder.rglob("*.safetensors"))
        compute = device.for_model(device.pick(request, hardware), request, hardware, size)
        quantization = _quantization(model)
        options: dict[str, Any] = {"quantization_config": quantization} if quantization is not None else {}
        if quantization is not None and compute.device.startswith("cuda"):
            options["device_map"] = {"": compute.device}
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            network = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=getattr(torch, compute.dtype),
                attn_implementation=compute.attention,
                use_safetensors=True,
                trust_remote_code=False,
                **options,
            )
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise ModelCorrupt(
                f"{model.title} cannot be loaded: {str(error).splitlines()[0][:200]}",
                "Fetch or restore its files.",
            ) from error
        if tokenizer.chat_template is None:
            raise ModelUnavailable(f"{model.title} has no chat template.", "Choose an instruction-tuned model.")
        if quantization is None:
            network = network.to(compute.device)
        return network.eval(), tokenizer, compute

    # --- prompt ------------------------------------------------------------------------------------------

    def _harmless(self, content: str) -> str:
        """Control tokens that a person typed, broken up so that they are read as text, not as control."""
        for special in self._special:
            if len(special) > 2 and special in content:
                content = content.replace(special, f"{special[0]} {special[1:]}")
        return content

    def _encode(self, system: str, messages: list[Mapping[str, str]]) -> list[int]:
        from jinja2.exceptions import TemplateError

        turns = [{"role": m["role"], "content": self._harmless(m["content"])} for m in messages]
        head = [{"role": "system", "content": self._harmless(system)}] if system.strip() else []
        options = {"tokenize": False, "add_generation_prompt": True}
        try:
            prompt = self._tokenizer.apply_chat_template([*head, *turns], **options)
        except TemplateError:
            # Some templates know no system role: the instructions then open the first turn.
            turns[0] = {"role": "user", "content": f"{system}\n\n{turns[0]['content']}"}
            prompt = self._tokenizer.apply_chat_template(turns, **options)
        return list(self._tokenizer(prompt, add_special_tokens=False)["input_ids"])

    def fit(self, params: ChatParams) -> tuple[list[int], int, int]:
        """Prompt ids, turns dropped, tokens left for the answer: the oldest turns go until the rest fits.

        Raises InvalidParams when even the last message alone does not fit.
        """
        messages = list(params.messages)
        if not messages:
            raise InvalidParams("There is no question to answer.", "Type something first.")
        reserve = min(params.max_new_tokens, self.context // 2)
        ids = self._encode(params.system, messages)
        dropped = 0
        while len(ids) + len(params.prefix_ids) + reserve > self.context and len(messages) > 1:
            gone = 2 if len(messages) > 2 else 1
            messages, dropped = messages[gone:], dropped + gone
            ids = self._encode(params.system, messages)
        room = self.context - len(ids) - len(params.prefix_ids)
        if room < 1 or len(ids) > self.context - min(16, reserve):
            raise InvalidParams(
                f"This message is {len(ids)} tokens long; {self.model.title} reads {self.context} at most.",
                "Shorten it, or choose a model with a longer context.",
            )
        return ids, dropped, min(params.max_new_tokens, room)

    def pieces(self, ids: list[int]) -> tuple[tuple[int, str], ...]:
        """(id, text) of each token."""
        return tuple((i, self._tokenizer.decode([i])) for i in ids)

    # --- generation --------------------------------------------------------------------------------------

    def run(self, params: ChatParams, cancel: CancelToken) -> Iterator[Event]:
        """Answer, one event per token.

        Yields ``PromptTokens``, ``Notice``, ``Partial`` per token, then ``Done`` with a ``ChatResult``.
        Raises InvalidParams, Cancelled, TimedOut.
        """
        params = params.seeded()
        ids, dropped, limit = self.fit(params)
        size = self._network.config.get_text_config().vocab_size
        if any(i >= size for i in params.prefix_ids):
            raise InvalidParams(f"prefix_ids must be below {size}, this model's vocabulary.")
        started = time.monotonic()
        yield PromptTokens(self.pieces(ids), self.context, dropped)
        if dropped:
            yield Notice(
                f"The conversation is longer than {self.context} tokens: its oldest {dropped} messages were left out."
            )
        cancel.check()
        if params.strategy == "beam":
            result = yield from self._beam(ids, params, limit, cancel)
        else:
            result = yield from self._stream(ids, params, limit, cancel)
        yield Done(result, self._record(params, result, time.monotonic() - started, len(ids)))

    def _record(self, params: ChatParams, result: ChatResult, seconds: float, prompt_tokens: int) -> dict[str, Any]:
        tokens = len(result.tokens)
        return {
            "seed": params.seed,
            "model": self.model.id,
            "revision": self.model.revision,
            "device": self.compute.device,
            "dtype": self.compute.dtype,
            "seconds": round(seconds, 3),
            "tokens": tokens,
            "tokens_per_second": round(tokens / seconds, 1) if seconds else 0.0,
            "prompt_tokens": prompt_tokens,
            "context": self.context,
            "finish_reason": result.finish_reason,
            "settings": params.record() | {"prefix_ids": list(params.prefix_ids)},
        }

    def _processors(self, params: ChatParams) -> Any:
        """The chain that reshapes the distribution, in the order ``generate`` applies it."""
        from transformers import LogitsProcessorList
        from transformers.generation.logits_process import (
            MinPLogitsWarper,
            RepetitionPenaltyLogitsProcessor,
            TemperatureLogitsWarper,
            TopKLogitsWarper,
            TopPLogitsWarper,
        )

        chain: list[Any] = []
        if params.repetition_penalty != 1.0:
            chain.append(RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
        if params.strategy == "sample" and params.temperature > 0:
            if params.temperature != 1.0:
                chain.append(TemperatureLogitsWarper(params.temperature))
            if params.top_k:
                chain.append(TopKLogitsWarper(params.top_k))
            if params.top_p < 1.0:
                chain.append(TopPLogitsWarper(params.top_p))
            if params.min_p > 0.0:
                chain.append(MinPLogitsWarper(params.min_p))
        return LogitsProcessorList(chain)

    def _stream(
        self, ids: list[int], params: ChatParams, limit: int, cancel: CancelToken
    ) -> Generator[Event, None, ChatResult]:
        import torch
        from transformers import DynamicCache

        where = self._network.device
        processors = self._processors(params)
        is_greedy = params.strategy == "greedy" or params.temperature == 0
        generator = torch.Generator(device=where).manual_seed(params.seed)
        cache = DynamicCache(config=self._network.config)
        sequence = torch.tensor([[*ids, *params.prefix_ids]], device=where)
        fresh = sequence
        detokenizer, stops = Detokenizer(self._tokenizer), StopStrings(params.stop_strings)
        text, tokens, finish = "", [], "length"
        for i in params.prefix_ids:
            piece = stops.push(detokenizer.push(i))
            text += piece
            yield Partial(piece, Token(i, self._tokenizer.decode([i]), 0.0))
        for _ in range(limit):
            cancel.check()
            with torch.inference_mode():
                output = self._network(input_ids=fresh, past_key_values=cache, use_cache=True, logits_to_keep=1)
                raw = output.logits[:, -1].float()
                shaped = processors(sequence, raw) if processors else raw
                kept = torch.softmax(shaped, -1)
                if is_greedy:
                    fresh = shaped.argmax(-1, keepdim=True)
                else:
                    fresh = torch.multinomial(kept, 1, generator=generator)
                sequence = torch.cat([sequence, fresh], -1)
                chosen = int(fresh)
                token = self._trace(chosen, raw[0], kept[0], params.is_traced)
            if chosen in self._stop_ids:
                finish = "stop"
                break
            piece = stops.push(detokenizer.push(chosen))
            text += piece
            tokens.append(token)
            yield Partial(piece, token)
            if stops.has_stopped:
                finish = "stop"
                break
        if rest := stops.rest():
            text += rest
            yield Partial(rest)
        return ChatResult(text, tuple(tokens), finish)

    def _trace(self, chosen: int, raw: torch.Tensor, kept: torch.Tensor, is_traced: bool) -> Token:
        """What was chosen and from what. ``raw`` are logits [vocabulary], ``kept`` probabilities [vocabulary]."""
        import torch

        if not is_traced:
            return Token(chosen, "", 0.0)
        probabilities = torch.softmax(raw, -1)
        top, indices = probabilities.topk(min(SHOWN_ALTERNATIVES, probabilities.numel()))
        after = kept[indices].tolist()
        alternatives = tuple(
            Alternative(i, self._tokenizer.decode([i]), p, k)
            for i, p, k in zip(indices.tolist(), top.tolist(), after, strict=True)
        )
        return Token(chosen, self._tokenizer.decode([chosen]), float(probabilities[chosen]), alternatives)

    def _beam(
        self, ids: list[int], params: ChatParams, limit: int, cancel: CancelToken
    ) -> Generator[Event, None, ChatResult]:
        """Beam search by ``generate``, in a thread of its own: the other answers come as alternatives."""
        import torch
        from transformers import StoppingCriteria, StoppingCriteriaList

        start = [*ids, *params.prefix_ids]
        step = 0

        class Watch(StoppingCriteria):  # type: ignore[misc]
            def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
                nonlocal step
                step = input_ids.shape[1] - len(start)
                cancel.check()
                return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

        def search() -> Any:
            inputs = torch.tensor([start], device=self._network.device)
            return self._network.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                num_beams=params.num_beams,
                num_return_sequences=params.num_beams,
                do_sample=False,
                max_new_tokens=limit,
                repetition_penalty=params.repetition_penalty,
                temperature=None,
                top_p=None,
                top_k=None,
                stopping_criteria=StoppingCriteriaList([Watch()]),
                return_dict_in_generate=True,
                output_scores=True,
            )

        found = yield from weights.in_thread(search, lambda: Progress("Searching beams", step, limit), cancel)
        answers = []
        for row, score in zip(found.sequences.tolist(), found.sequences_scores.tolist(), strict=True):
            new = [i for i in row[len(ids) :] if i not in self._stop_ids and i != self._tokenizer.pad_token_id]
            stops = StopStrings(params.stop_strings)
            text = stops.push(self._tokenizer.decode(new, skip_special_tokens=True))
            answers.append((text + stops.rest(), score, new))
        best, _, new = answers[0]
        yield Partial(best)
        tokens = tuple(Token(i, self._tokenizer.decode([i]), 0.0) for i in new)
        finish = "stop" if len(new) < limit else "length"
        return ChatResult(best, tokens, finish, tuple((t, s) for t, s, _ in answers[1:]))

    def close(self) -> None:
        """Drop the weights; the engine returns the memory to the device."""
        self._network = self._tokenizer = None
