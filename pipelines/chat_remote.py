"""Chat with a model behind an OpenAI-compatible server, through OpenAI's own client library.

vLLM, SGLang, TGI, llama.cpp, Ollama, ``transformers serve`` and HF Inference Providers all speak this
protocol; they differ in which optional settings they accept, so those a server refuses are left out and
said so. Knows no page, no torch.
"""

from __future__ import annotations

import asyncio
import math
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

from pipelines import catalog
from pipelines.chat import ChatParams, ChatResult, StopStrings
from pipelines.errors import InvalidParams, MissingKey, RemoteFailed
from pipelines.events import Alternative, CancelToken, Done, Event, Notice, Partial, Progress, Token

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 60.0
#: How long one ``next`` may take: short while the server thinks, so that other jobs get their turn, longer
#: once it writes, so that the gaps between its chunks pass without an event.
FIRST_WAIT_S, NEXT_WAIT_S = 0.02, 0.25
MOST_STOP_STRINGS = 4  # OpenAI's limit; all of them are looked for here as well


class RemoteChat:
    """A connection to one server. Its memory is the server's affair.

    Requests run on an event loop in a thread of their own: only there can a read that waits on the network
    be cancelled at once (closing a socket does not wake the thread that reads from it).
    """

    memory_bytes = 0

    def __init__(self, model: catalog.Model) -> None:
        """Opens no connection yet. Raises ModelMissing when address, model or key is not configured, MissingKey
        for a key that cannot be one."""
        import openai

        self.model = model
        self._url = catalog.expand(model.base_url)
        self._name = catalog.expand(model.remote_model)
        if not catalog.is_present(model):
            raise catalog.missing(model)
        self._key = os.environ.get(model.key_variable, "").strip() if model.key_variable else ""
        if not self._key.isascii():
            raise MissingKey(f"{model.key_variable} holds characters that no key has.", "Copy the key again.")
        timeout = openai.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._client = openai.AsyncOpenAI(
            base_url=self._url, api_key=self._key or "none", timeout=timeout, max_retries=0
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"remote {model.id}", daemon=True)
        self._thread.start()

    @property
    def where(self) -> str:
        """The server's address as it may be shown: without a name and password in it."""
        return re.sub(r"//[^/@]*@", "//", self._url)

    async def _ask(self, params: ChatParams, *, is_plain: bool) -> Any:
        """Ask for the stream; ``is_plain`` sends only what every server of this protocol knows."""
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
                options["stop"] = list(params.stop_strings)[:MOST_STOP_STRINGS]
            if params.is_traced:
                options |= {"logprobs": True, "top_logprobs": 10}
            extra = {"top_k": params.top_k or None, "min_p": params.min_p or None}
            if params.repetition_penalty != 1.0:
                extra["repetition_penalty"] = params.repetition_penalty
            options["extra_body"] = {k: v for k, v in extra.items() if v is not None}
        return await self._client.chat.completions.create(model=self._name, messages=messages, stream=True, **options)

    async def _open(self, params: ChatParams, *, is_plain: bool) -> Any:
        """``_ask``, twice where the connection fails: one that was kept alive may have ended just now."""
        import openai

        try:
            return await self._ask(params, is_plain=is_plain)
        except openai.APITimeoutError:
            raise
        except openai.APIConnectionError:
            return await self._ask(params, is_plain=is_plain)

    async def _exchange(self, params: ChatParams, put: Callable[[Any], None]) -> None:
        """Ask, and ``put`` a Notice where settings were refused, every chunk, and None at the end."""
        import openai

        try:
            try:
                stream = await self._open(params, is_plain=False)
            except (openai.BadRequestError, openai.UnprocessableEntityError):
                stream = await self._open(params, is_plain=True)
                put(
                    Notice(
                        "This server accepts only temperature, top-p and length: seed, top-k, min-p, repetition "
                        "penalty and token probabilities were left out."
                    )
                )
            async with stream:
                async for chunk in stream:
                    put(chunk)
        finally:
            put(None)

    def run(self, params: ChatParams, cancel: CancelToken) -> Iterator[Event]:
        """Answer, one event per token or chunk that the server sends.

        Raises:
            RemoteFailed: the server is down, slow, does not know the model, or broke off.
            MissingKey: it wants a key, or another one.
            InvalidParams: asked for something only a local model can do.
        """
        if params.strategy == "beam" or params.prefix_ids:
            what = "Beam search" if params.strategy == "beam" else "Branching at a token"
            raise InvalidParams(f"{what} needs a model that runs here.", "Choose a local model, for instance Mote.")
        params = params.seeded()
        started = time.monotonic()
        answer = _Answer(params.stop_strings)
        seed: int | None = params.seed
        inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        exchange = asyncio.run_coroutine_threadsafe(self._exchange(params, inbox.put), self._loop)
        try:
            while not answer.has_stopped:
                cancel.check()
                try:
                    item = inbox.get(timeout=NEXT_WAIT_S if answer.has_begun else FIRST_WAIT_S)
                except queue.Empty:
                    yield Progress(f"Waiting for {self.model.title}")
                    continue
                if item is None:
                    self._raise_failure(exchange, cancel, has_begun=answer.has_begun)
                    break
                if isinstance(item, Notice):
                    seed = None
                    yield item
                else:
                    yield from answer.read(item)
        finally:
            exchange.cancel()
        yield from answer.rest()
        if not answer.finish and answer.has_begun:
            raise RemoteFailed(
                f"The server at {self.where} broke off in mid-answer.", "What came until then is kept. Try again."
            )
        if not answer.finish:
            raise RemoteFailed(
                f"The server at {self.where} sent no answer.",
                "Is it a model server? Its address has to be complete (most end in /v1).",
            )
        seconds = time.monotonic() - started
        record = {
            "seed": seed,
            "model": f"{self.model.id}: {self._name}",
            "device": "remote",
            "dtype": "as served",
            "seconds": round(seconds, 3),
            "tokens": len(answer.tokens),
            "tokens_per_second": round(len(answer.tokens) / seconds, 1) if seconds else 0.0,
            "finish_reason": answer.finish,
            "settings": params.record(),
        }
        yield Done(ChatResult("".join(answer.pieces), tuple(answer.tokens), answer.finish), record)

    def _raise_failure(self, exchange: Future[None], cancel: CancelToken, *, has_begun: bool) -> None:
        """Raise what ended the exchange early, in words."""
        import openai

        try:
            exchange.result()
        except (openai.OpenAIError, ValueError, RuntimeError, OSError, CancelledError) as error:
            # Not only OpenAI's: a chunk may be no JSON, and ``close`` cancels what still runs.
            cancel.check()
            raise self._worded(error, has_begun=has_begun) from error

    def _worded(self, error: Exception, *, has_begun: bool) -> RemoteFailed | MissingKey:
        import openai

        where = f"the server at {self.where}"
        if isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError)):
            variable = self.model.key_variable or "its key"
            return MissingKey(f"{where[0].upper()}{where[1:]} refused the key.", f"Set {variable} and start again.")
        if isinstance(error, openai.APITimeoutError):
            return RemoteFailed(
                f"No answer from {where} within {READ_TIMEOUT_S:g} s.",
                "It may be loading. Try again in a minute.",
            )
        if has_begun:
            return RemoteFailed(f"The connection to {where} broke in mid-answer.", "What came until then is kept.")
        if isinstance(error, openai.APIConnectionError):
            return RemoteFailed(f"Nothing answers at {self.where}.", "Is the server running? Is the address right?")
        if isinstance(error, openai.NotFoundError):
            return RemoteFailed(
                f"No model called {self._name!r} at {where}.",
                "Check the model's name, and that the address is complete (most end in /v1).",
            )
        if isinstance(error, openai.RateLimitError):
            return RemoteFailed(f"Too many requests for {where}.", "Wait a little, or choose a local model.")
        if isinstance(error, (openai.BadRequestError, openai.UnprocessableEntityError)):
            return RemoteFailed(
                f"{where[0].upper()}{where[1:]} refused this request{self._its_words(error)}.",
                "Check the model's name and the length of the conversation.",
            )
        status = getattr(error, "status_code", None)
        return RemoteFailed(
            f"An error{f' {status}' if status else ''} from {where}.", "Its log has the reason. Your text is kept."
        )

    def _its_words(self, error: Any) -> str:
        """What a server said of a refused request, as the end of a sentence; one line, never the key."""
        body = error.body if isinstance(error.body, dict) else {}
        said = next((body[k] for k in ("message", "detail", "error") if isinstance(body.get(k), str)), "")
        line = (said.strip().splitlines() or [""])[0]
        line = line.replace(self._key, "(key)") if self._key else line
        return f": {line[:200].rstrip('.')}" if line else ""

    def close(self) -> None:
        """End what still runs and close the connections."""

        async def shut() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await self._client.close()

        if not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(shut(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


class _Answer:
    """What has come of an answer so far: text, tokens, and why it ended."""

    def __init__(self, stop_strings: tuple[str, ...]) -> None:
        self._stops = StopStrings(stop_strings)
        self.pieces: list[str] = []
        self.tokens: list[Token] = []
        self.finish = ""

    @property
    def has_begun(self) -> bool:
        return bool(self.tokens)

    @property
    def has_stopped(self) -> bool:
        """A stop string came; what the server sends now is not wanted."""
        return self._stops.has_stopped

    def read(self, chunk: Any) -> Iterator[Partial]:
        """One chunk as events: one per token where the server reports probabilities, else one for its text."""
        if not chunk.choices:
            return
        choice = chunk.choices[0]
        self.finish = choice.finish_reason or self.finish
        piece = getattr(choice.delta, "content", None) or ""
        tokens = _tokens(choice.logprobs) or ([Token(-1, piece, 0.0)] if piece else [])
        texts = [t.text for t in tokens]
        if tokens and "".join(texts) != piece:  # a token may be half a character, or written with its control signs
            texts = [""] * (len(tokens) - 1) + [piece]
        for token, text in zip(tokens, texts, strict=True):
            self.tokens.append(token)
            self.pieces.append(self._stops.push(text))
            yield Partial(self.pieces[-1], token)
            if self.has_stopped:
                self.finish = "stop"
                return

    def rest(self) -> Iterator[Partial]:
        """What was held back for a stop string that did not come."""
        if rest := self._stops.rest():
            self.pieces.append(rest)
            yield Partial(rest)


def _tokens(logprobs: Any) -> list[Token]:
    """A chunk's log probabilities as our tokens; empty when the server sends none."""
    found = []
    for item in getattr(logprobs, "content", None) or []:
        alternatives = tuple(
            Alternative(-1, a.token, math.exp(a.logprob), math.exp(a.logprob)) for a in item.top_logprobs or []
        )
        found.append(Token(-1, item.token, math.exp(item.logprob), alternatives))
    return found
