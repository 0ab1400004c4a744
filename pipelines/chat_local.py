"""Chat with a causal language model in this process, through standard transformers classes.

The decoding loop is our own generator: one ``next`` is one token, so that it streams, stops at once,
can be stepped in turn with other jobs, draws from a seeded generator of its own and can show what each
token was chosen from. ``model.generate`` does beam search. Knows no page, no queue.
"""

from __future__ import annotations

import itertools
import logging
import time
from bisect import bisect_left
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import device, weights
from pipelines.catalog import Model
from pipelines.chat import ChatParams, ChatResult, Detokenizer, StopStrings, split_thinking
from pipelines.errors import InvalidParams, ModelCorrupt, ModelUnavailable, StudioError
from pipelines.events import Alternative, CancelToken, Done, Event, Notice, Partial, Progress, PromptTokens, Token

if TYPE_CHECKING:
    import torch

SHOWN_ALTERNATIVES = 10


def _quantization(model: Model, compute: device.Compute) -> Any:
    """The transformers quantization config that a catalogue block asks for, or None.

    bitsandbytes does both widths on CUDA, XPU and CPU. On AVX-512 its int8 takes one token through six layers
    of 960 x 2560 as fast as plain bfloat16 does (17 ms of one core); torchao's int8 takes 1.7 times as long and
    its mere presence makes importing transformers 5 s slower (bitsandbytes 0.50.2, torchao 0.18.0, torch 2.13).
    """
    if model.quantization == "none":
        return None
    if compute.device == "mps":
        raise ModelUnavailable(
            f"{model.title} is loaded in {model.quantization}, which Apple's MPS cannot do.",
            "Choose a model that is not quantized, or the device cpu.",
        )
    # It would warn that "inputs will be cast to float16" for every layer of every token.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        import bitsandbytes  # noqa: F401 - transformers imports it late and words its absence worse
    except ImportError as error:
        raise ModelUnavailable(
            f"{model.title} is loaded in {model.quantization}, which needs bitsandbytes.",
            "Run: pip install bitsandbytes",
        ) from error
    import torch
    from transformers import BitsAndBytesConfig

    if model.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, compute.dtype)
    )


def _tokenizer(folder: Path) -> Any:
    """The folder's tokenizer. Raises ImportError, or ValueError for whatever else is wrong with it."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except ImportError:
        raise
    except Exception as error:  # the tokenizers library raises bare Exception for a broken file
        raise ValueError(f"its tokenizer: {error}") from error


def _first_line(error: Exception, folder: Path) -> str:
    """The start of a library's message, without the path on this machine."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].replace(str(folder), folder.name)[:200]


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
        control = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
        self._control = sorted((t for t in control if len(t) > 2 and not t.isspace()), key=len, reverse=True)
        self._texts: dict[int, str] = {}

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
        from transformers import AutoModelForCausalLM
        from transformers.utils.logging import disable_progress_bar

        hardware = device.probe()
        size = sum(f.stat().st_size for f in folder.rglob("*.safetensors"))
        compute = device.for_model(device.pick(request, hardware), request, hardware, size)
        quantization = _quantization(model, compute)
        options: dict[str, Any] = {}
        if quantization is not None:
            options = {"quantization_config": quantization, "device_map": {"": compute.device}}
        disable_progress_bar()
        try:
            tokenizer = _tokenizer(folder)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=getattr(torch, compute.dtype),
                attn_implementation=compute.attention,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
        except ImportError as error:
            raise ModelUnavailable(
                f"{model.title} needs a package that is not installed: {_first_line(error, folder)}",
                "Install it, or choose another model.",
            ) from error
        except (SafetensorError, KeyError, ValueError, OSError, RuntimeError) as error:
            if device.is_out_of_memory(error):
                raise
            raise ModelCorrupt(
                f"{model.title} cannot be loaded: {_first_line(error, folder)}", "Fetch or restore its files."
            ) from error
        network, report = loaded
        if report["missing_keys"]:
            # transformers fills them with random numbers and only warns.
            raise ModelCorrupt(
                f"{model.title} lacks {len(report['missing_keys'])} of its tensors.", "Fetch or restore its files."
            )
        if tokenizer.chat_template is None:
            raise ModelUnavailable(f"{model.title} has no chat template.", "Choose an instruction-tuned model.")
        if quantization is None:
            network = network.to(compute.device)
        return network.eval(), tokenizer, compute

    # --- prompt ------------------------------------------------------------------------------------------

    def _harmless(self, content: str) -> str:
        """Control tokens that a person typed, broken up so that they are read as text, not as control."""
        for control in self._control:
            if control in content:
                content = content.replace(control, f"{control[0]} {control[1:]}")
        return content

    def _encode(self, system: str, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Prompt ids. Raises InvalidParams when the model's template refuses the conversation."""
        from jinja2.exceptions import TemplateError

        turns = []
        for message in messages:
            content = message["content"]
            if message["role"] == "assistant":
                content = split_thinking(content)[1]  # earlier reasoning is not read again
            turns.append({"role": message["role"], "content": self._harmless(content)})
        system = self._harmless(system.strip())
        attempts = [[{"role": "system", "content": system}, *turns] if system else turns]
        if system and turns[0]["role"] == "user":
            # Some templates know no system role: the instructions then open the first turn.
            attempts.append([{"role": "user", "content": f"{system}\n\n{turns[0]['content']}"}, *turns[1:]])
        for attempt in attempts:
            try:
                prompt = self._tokenizer.apply_chat_template(attempt, tokenize=False, add_generation_prompt=True)
            except TemplateError as error:
                refusal = error
            else:
                return list(self._tokenizer(prompt, add_special_tokens=False)["input_ids"])
        raise InvalidParams(
            f"{self.model.title} cannot read this conversation: {str(refusal)[:200]}", "Start a new one."
        ) from refusal

    def fit(self, params: ChatParams) -> tuple[list[int], int, int]:
        """Prompt ids, turns dropped, tokens left for the answer: the oldest turns go until the rest fits.

        Raises InvalidParams when even the last message alone does not fit.
        """
        messages = params.messages
        if not messages:
            raise InvalidParams("There is no question to answer.", "Type something first.")
        reserve = min(params.max_new_tokens, self.context // 2)

        def fits(ids: list[int]) -> bool:
            return len(ids) + reserve <= self.context

        start, ids = 0, self._encode(params.system, messages)
        if not fits(ids):
            # What is kept opens with a question. Bisection, as encoding a long conversation takes a while.
            starts = [i for i, m in enumerate(messages) if i and m["role"] == "user"]
            found = bisect_left(starts, True, key=lambda i: fits(self._encode(params.system, messages[i:])))
            if starts:
                start = starts[min(found, len(starts) - 1)]
                ids = self._encode(params.system, messages[start:])
        room = self.context - len(ids)
        if room < min(16, reserve):
            what = "This message and its instructions are" if params.system.strip() else "This message is"
            raise InvalidParams(
                f"{what} {len(ids)} tokens long; {self.model.title} reads {self.context} at most, answer included.",
                "Shorten it, or choose a model with a longer context.",
            )
        if len(params.prefix_ids) > room:
            raise InvalidParams(
                f"The answer so far is {len(params.prefix_ids)} tokens long; there is room for {room}.",
                "Branch earlier, or choose a model with a longer context.",
            )
        return ids, start, max(0, min(params.max_new_tokens, room) - len(params.prefix_ids))

    def _text(self, token_id: int) -> str:
        """One token alone as text."""
        text = self._texts.get(token_id)
        if text is None:
            text = self._texts[token_id] = str(self._tokenizer.decode([token_id]))
        return text

    def pieces(self, ids: list[int]) -> tuple[tuple[int, str], ...]:
        """(id, text) of each token."""
        return tuple((i, self._text(i)) for i in ids)

    # --- generation --------------------------------------------------------------------------------------

    def run(self, params: ChatParams, cancel: CancelToken) -> Iterator[Event]:
        """Answer, one event per token.

        Yields ``PromptTokens``, ``Notice``, ``Partial`` per token, then ``Done`` with a ``ChatResult``.
        Raises InvalidParams, Cancelled, TimedOut.
        """
        params = params.seeded()
        ids, dropped, limit = self.fit(params)
        size = self._network.config.get_text_config().vocab_size
        if max(params.prefix_ids, default=0) >= size:
            raise InvalidParams(f"prefix_ids must be below {size}, this model's vocabulary.")
        started = time.monotonic()
        yield PromptTokens(self.pieces(ids), self.context, dropped)
        if dropped:
            yield Notice(
                f"The conversation is longer than {self.context} tokens: its oldest {dropped} messages were left out."
            )
        cancel.check()
        if params.strategy == "beam" and limit:
            result = yield from self._beam(ids, params, limit, cancel)
        else:
            result = yield from self._stream(ids, params, limit, cancel)
        yield Done(result, self._record(params, result, time.monotonic() - started, len(ids)))

    def _record(self, params: ChatParams, result: ChatResult, seconds: float, prompt_tokens: int) -> dict[str, Any]:
        tokens = len(result.tokens)
        new = tokens - min(len(params.prefix_ids), tokens)
        return {
            "seed": params.seed,
            "model": self.model.id,
            "revision": self.model.revision,
            "device": self.compute.device,
            "dtype": self.compute.dtype,
            "seconds": round(seconds, 3),
            "tokens": tokens,
            "tokens_per_second": round(new / seconds, 1) if seconds else 0.0,
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
        """Token by token: those given first, then those drawn."""
        detokenizer, stops = Detokenizer(self._tokenizer), StopStrings(params.stop_strings)
        given = (Token(i, self._text(i), 0.0) for i in params.prefix_ids)
        pieces: list[str] = []
        tokens: list[Token] = []
        finish = "length"
        for token in itertools.chain(given, self._draw(ids, params, limit, cancel)):
            if token.token_id in self._stop_ids:
                finish = "stop"
                break
            tokens.append(token)
            pieces.append(stops.push(detokenizer.push(token.token_id)))
            yield Partial(pieces[-1], token)
            if stops.has_stopped:
                finish = "stop"
                break
        if rest := stops.push(detokenizer.rest()) + stops.rest():
            pieces.append(rest)
            yield Partial(rest)
        return ChatResult("".join(pieces), tuple(tokens), finish)

    def _draw(self, ids: list[int], params: ChatParams, limit: int, cancel: CancelToken) -> Iterator[Token]:
        """At most ``limit`` tokens after ``ids`` and ``prefix_ids``, each decided when it is asked for."""
        import torch
        from transformers import DynamicCache

        where = self._network.device
        processors = self._processors(params)
        is_greedy = params.strategy == "greedy" or params.temperature == 0
        generator = torch.Generator(device=where).manual_seed(params.seed)
        cache = DynamicCache(config=self._network.config)
        sequence = fresh = torch.tensor([[*ids, *params.prefix_ids]], device=where)
        for _ in range(limit):
            cancel.check()
            with torch.inference_mode():
                output = self._network(input_ids=fresh, past_key_values=cache, use_cache=True, logits_to_keep=1)
                raw = output.logits[:, -1].float()
                shaped = processors(sequence, raw) if processors else raw
                kept = torch.softmax(shaped, -1)
                if kept[0, 0].isnan():  # one bad logit makes all of softmax NaN; CUDA's multinomial would not survive
                    raise StudioError(
                        f"{self.model.title} computed no valid numbers in {self.compute.dtype}.",
                        "Start with --dtype fp32, or bf16 where the device has it.",
                    )
                if is_greedy:
                    fresh = shaped.argmax(-1, keepdim=True)
                else:
                    fresh = torch.multinomial(kept, 1, generator=generator)
                sequence = torch.cat([sequence, fresh], -1)
                token = self._trace(int(fresh), raw[0], kept[0], params.is_traced)
            yield token

    def _trace(self, chosen: int, raw: torch.Tensor, kept: torch.Tensor, is_traced: bool) -> Token:
        """What was chosen and from what. ``raw`` are logits [vocabulary], ``kept`` probabilities [vocabulary]."""
        if not is_traced:
            return Token(chosen, self._text(chosen), 0.0)
        probabilities = raw.softmax(-1)
        top, indices = probabilities.topk(min(SHOWN_ALTERNATIVES, probabilities.numel()))
        alternatives = tuple(
            Alternative(i, self._text(i), p, k)
            for i, p, k in zip(indices.tolist(), top.tolist(), kept[indices].tolist(), strict=True)
        )
        return Token(chosen, self._text(chosen), float(probabilities[chosen]), alternatives)

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
                # generate hands out the final scores only if it keeps [beams, vocabulary] of every step, which
                # is 2.5 GB for 4 beams, 1,000 tokens and 150,000 words; nobody reads them, so they are emptied.
                scores[-1].set_()
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
            new = list(itertools.takewhile(lambda i: i not in self._stop_ids, row[len(ids) :]))
            stops = StopStrings(params.stop_strings)
            text = stops.push(self._tokenizer.decode(new, skip_special_tokens=True).rstrip("\ufffd")) + stops.rest()
            finish = "stop" if stops.has_stopped or len(ids) + len(new) < len(start) + limit else "length"
            answers.append((text, score, new, finish))
        best, _, new, finish = answers[0]
        yield Partial(best)
        tokens = tuple(Token(i, self._text(i), 0.0) for i in new)
        return ChatResult(best, tokens, finish, tuple((text, score) for text, score, _, _ in answers[1:]))

    def close(self) -> None:
        """Drop the weights; the engine returns the memory to the device."""
        self._network = self._tokenizer = None
