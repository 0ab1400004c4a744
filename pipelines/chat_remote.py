"""Chat with a model behind an OpenAI-compatible server, through OpenAI's own client library.

vLLM, SGLang, TGI, llama.cpp, Ollama, ``transformers serve`` and HF Inference Providers all speak this
protocol; they differ in which optional settings they accept, so those a server refuses are left out and
said so. Knows no page, no torch.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from typing import Any

from pipelines import catalog
from pipelines.chat import ChatParams, ChatResult
from pipelines.errors import InvalidParams, MissingKey, RemoteFailed
from pipelines.events import Alternative, CancelToken, Done, Event, Notice, Partial, Token

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 60.0


class RemoteChat:
    """A connection to one server. Its memory is the server's affair."""

    memory_bytes = 0

    def __init__(self, model: catalog.Model) -> None:
        import openai

        self.model = model
        self._url = catalog.expand(model.base_url)
        self._name = catalog.expand(model.remote_model)
        if not catalog.is_present(model):
            raise catalog.missing(model)
        key = os.environ.get(model.key_variable, "") if model.key_variable else ""
        timeout = openai.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._client = openai.OpenAI(base_url=self._url, api_key=key or "none", timeout=timeout, max_retries=1)

    def _ask(self, params: ChatParams, *, is_plain: bool) -> Any:
        """Open the stream; ``is_plain`` sends only what every server of this protocol knows."""
        messages: list[Any] = [{"role": "system", "content": params.system}] if params.system.strip() else []
        messages += [dict(m) for m in params.messages]
        temperature = 0.0 if params.strategy == "greedy" else params.temperature
        options: dict[str, Any] = {
            "temperature": temperature,
            "top_p": params.top_p,
            "max_tokens": params.max_new_tokens,
        }
        if not is_plain:
            options["seed"] = params.seed
            if params.stop_strings:
                options["stop"] = list(params.stop_strings)[:4]
            if params.is_traced:
                options |= {"logprobs": True, "top_logprobs": 10}
            extra = {"top_k": params.top_k or None, "min_p": params.min_p or None}
            if params.repetition_penalty != 1.0:
                extra["repetition_penalty"] = params.repetition_penalty
            options["extra_body"] = {k: v for k, v in extra.items() if v is not None}
        return self._client.chat.completions.create(model=self._name, messages=messages, stream=True, **options)

    def run(self, params: ChatParams, cancel: CancelToken) -> Iterator[Event]:
        """Answer, one event per chunk the server sends.

        Raises:
            RemoteFailed: the server is down, slow, does not know the model, or broke off.
            MissingKey: it wants a key, or another one.
            InvalidParams: asked for something only a local model can do.
        """
        import httpx
        import openai

        if params.strategy == "beam" or params.prefix_ids:
            what = "Beam search" if params.strategy == "beam" else "Branching at a token"
            raise InvalidParams(f"{what} needs a model that runs here.", "Choose a local model, for instance Mote.")
        params = params.seeded()
        started = time.monotonic()
        text, tokens, finish = "", [], ""
        try:
            try:
                stream = self._ask(params, is_plain=False)
            except (openai.BadRequestError, openai.UnprocessableEntityError):
                stream = self._ask(params, is_plain=True)
                yield Notice(
                    "This server accepts only temperature, top-p and length: seed, stop strings and token "
                    "probabilities were left out."
                )
            cancel.on_set(stream.close)
            try:
                for chunk in stream:
                    cancel.check()
                    if not chunk.choices:
                        continue
                    choice = chunk.choices[0]
                    finish = choice.finish_reason or finish
                    piece = choice.delta.content or ""
                    traced = _tokens(choice.logprobs)
                    tokens += traced or ([Token(-1, piece, 0.0)] if piece else [])
                    text += piece
                    for token in traced:
                        yield Partial(token.text, token)
                    rest = piece[len("".join(t.text for t in traced)) :]
                    if rest:
                        yield Partial(rest, None if traced else tokens[-1])
            finally:
                stream.close()
        except (openai.OpenAIError, httpx.HTTPError, httpx.StreamError) as error:
            cancel.check()
            raise self._worded(error, has_begun=bool(text)) from error
        cancel.check()
        if not finish:
            raise RemoteFailed(
                f"The server at {self._url} broke off in mid-answer.", "What came until then is kept. Try again."
            )
        seconds = time.monotonic() - started
        record = {
            "seed": params.seed,
            "model": f"{self.model.id}: {self._name}",
            "device": "remote",
            "dtype": "as served",
            "seconds": round(seconds, 3),
            "tokens": len(tokens),
            "tokens_per_second": round(len(tokens) / seconds, 1),
            "finish_reason": finish,
            "settings": params.record(),
        }
        yield Done(ChatResult(text, tuple(tokens), finish), record)

    def _worded(self, error: Exception, *, has_begun: bool) -> RemoteFailed | MissingKey:
        import openai

        where = f"the server at {self._url}"
        if isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError)):
            variable = self.model.key_variable or "its key"
            return MissingKey(f"{where[0].upper()}{where[1:]} refused the key.", f"Set {variable} and start again.")
        if isinstance(error, openai.APITimeoutError):
            return RemoteFailed(
                f"No answer from {where} within {READ_TIMEOUT_S:.0f} s.",
                "It may be loading. Try again in a minute.",
            )
        if has_begun or not isinstance(error, openai.OpenAIError):
            return RemoteFailed(f"The connection to {where} broke in mid-answer.", "What came until then is kept.")
        if isinstance(error, openai.APIConnectionError):
            return RemoteFailed(f"Nothing answers at {self._url}.", "Is the server running? Is the address right?")
        if isinstance(error, openai.NotFoundError):
            return RemoteFailed(f"No model called {self._name!r} at {where}.", "Check the model name.")
        if isinstance(error, openai.RateLimitError):
            return RemoteFailed(f"Too many requests for {where}.", "Wait a little, or choose a local model.")
        status = getattr(error, "status_code", None)
        return RemoteFailed(
            f"An error{f' {status}' if status else ''} from {where}.", "Its log has the reason. Your text is kept."
        )

    def close(self) -> None:
        self._client.close()


def _tokens(logprobs: Any) -> list[Token]:
    """A chunk's log probabilities as our tokens; empty when the server sends none."""
    found = []
    for item in getattr(logprobs, "content", None) or []:
        alternatives = tuple(
            Alternative(-1, a.token, math.exp(a.logprob), math.exp(a.logprob)) for a in item.top_logprobs or []
        )
        found.append(Token(-1, item.token, math.exp(item.logprob), alternatives))
    return found
