"""Chat: a conversation in, an answer out as a stream of tokens. Settings, loading and the command line.

The same ``run`` serves an embedded model, one from the hub, a folder of yours (``pipelines.chat_local``)
and a server elsewhere (``pipelines.chat_remote``). Knows no page and no session.

    python -m pipelines.chat "What is a GAN?" --seed 0 --max-new-tokens 120 --temperature 0.7
    python -m pipelines.chat --file questions.txt --json
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipelines import cli, device
from pipelines.catalog import Model
from pipelines.errors import InvalidParams
from pipelines.events import CancelToken, Event, Token
from pipelines.params import LARGEST_SEED, Params, choice, clean_text, flag, integer, number, specs, text
from pipelines.shelf import Backend

TASK = "chat"
ROLES = ("user", "assistant")
LONGEST_MESSAGE = 16_000  # characters
MOST_MESSAGES = 200
MOST_TOKENS = 4096


@dataclass(frozen=True, kw_only=True)
class ChatParams(Params):
    """A conversation and how to answer it. ``messages`` end with the user's; see ``clean_messages``."""

    messages: tuple[Mapping[str, str], ...] = ()
    system: str = text(
        "", max_length=4000, label="System prompt", help="Standing instructions read before the conversation."
    )
    strategy: str = choice(
        "sample",
        ("sample", "greedy", "beam"),
        label="Strategy",
        help="sample draws by probability, greedy takes the likeliest token, beam keeps several answers in parallel.",
    )
    temperature: float = number(
        0.3,
        minimum=0.0,
        maximum=2.0,
        step=0.05,
        label="Temperature",
        help="Below 1 the likely tokens win more often, above 1 the unlikely ones get a chance; 0 is greedy.",
    )
    top_p: float = number(
        0.95,
        minimum=0.05,
        maximum=1.0,
        step=0.01,
        label="Top-p",
        help="Draw only from the likeliest tokens that together hold this share of the probability; 1 is off.",
    )
    max_new_tokens: int = integer(
        160,
        minimum=1,
        maximum=MOST_TOKENS,
        step=1,
        unit="tokens",
        label="Longest answer",
        help="The answer is cut here; a token is about three quarters of a word.",
    )
    top_k: int = integer(
        0,
        minimum=0,
        maximum=500,
        label="Top-k",
        unit="tokens",
        help="Draw only from this many of the likeliest tokens; 0 is off.",
    )
    min_p: float = number(
        0.0,
        minimum=0.0,
        maximum=1.0,
        step=0.01,
        label="Min-p",
        help="Drop tokens less likely than this share of the likeliest one; 0 is off.",
    )
    repetition_penalty: float = number(
        1.0,
        minimum=0.5,
        maximum=2.0,
        step=0.01,
        label="Repetition penalty",
        help="Above 1, tokens that already occurred become less likely.",
    )
    num_beams: int = integer(
        4, minimum=2, maximum=8, label="Beams", help="How many answers beam search keeps in parallel."
    )
    seed: int = integer(
        -1,
        minimum=-1,
        maximum=LARGEST_SEED,
        label="Seed",
        help="The same seed gives the same answer; -1 draws a new one and reports it.",
    )
    stop: str = text(
        "", max_length=500, label="Stop strings", help="The answer ends before the first of these, one per line."
    )
    is_traced: bool = flag(
        True, label="Trace", help="Keep for every token the likeliest candidates it was chosen from."
    )
    prefix_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "messages", clean_messages(self.messages))
        object.__setattr__(self, "prefix_ids", clean_token_ids(self.prefix_ids))

    @property
    def stop_strings(self) -> tuple[str, ...]:
        return tuple(s for s in self.stop.split("\n") if s)

    def seeded(self) -> ChatParams:
        """The same settings with the seed that will really be used."""
        return replace(self, seed=secrets.randbelow(2**31)) if self.seed < 0 else self


#: The settings that the command line and the page offer.
SETTINGS = tuple(specs(ChatParams))


def clean_messages(messages: Any) -> tuple[dict[str, str], ...]:
    """Messages as sent by anybody, made safe: known roles, text content, a user's message last.

    Raises:
        InvalidParams: naming what is wrong with which message.
    """
    if isinstance(messages, (str, bytes)) or not isinstance(messages, Sequence):
        raise InvalidParams("messages must be a list of {role, content}.")
    if len(messages) > MOST_MESSAGES:
        raise InvalidParams(f"The conversation has {len(messages)} messages; at most {MOST_MESSAGES} are accepted.")
    cleaned = []
    for i, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping) or message.get("role") not in ROLES:
            raise InvalidParams(f"Message {i} needs a role of {' or '.join(ROLES)}.")
        content = clean_text(message.get("content"), f"Message {i}", LONGEST_MESSAGE)
        cleaned.append({"role": str(message["role"]), "content": content})
    if cleaned and (cleaned[-1]["role"] != "user" or not cleaned[-1]["content"].strip()):
        raise InvalidParams("There is no question to answer.", "Type something first.")
    return tuple(cleaned)


def clean_token_ids(ids: Any) -> tuple[int, ...]:
    """Token ids as sent by anybody. Raises InvalidParams unless they are a list of at most 4096 whole numbers."""
    is_list = isinstance(ids, Sequence) and len(ids) <= MOST_TOKENS
    if not is_list or any(isinstance(i, bool) or not isinstance(i, int) or i < 0 for i in ids):
        raise InvalidParams(f"prefix_ids must be a list of at most {MOST_TOKENS} token ids.")
    return tuple(ids)


@dataclass(frozen=True)
class ChatResult:
    """An answer: all of it, ``prefix_ids`` included. ``alternatives`` are beam search's other answers as
    (text, mean log probability)."""

    text: str
    tokens: tuple[Token, ...] = ()
    finish_reason: str = "stop"
    alternatives: tuple[tuple[str, float], ...] = field(default=())


class Detokenizer:
    """Turns a growing list of token ids into text without ever showing half a character.

    Decodes a short window and emits what grew, as a byte-level token may be only part of a character and
    a word piece may need its neighbour to get its space right.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._start = self._read = 0

    def _grown(self) -> str:
        """What the tokens after ``_read`` add to the text; ends in U+FFFD while a character is incomplete."""
        before = self._tokenizer.decode(self._ids[self._start : self._read], skip_special_tokens=True)
        now = self._tokenizer.decode(self._ids[self._start :], skip_special_tokens=True)
        return str(now[len(before) :])

    def push(self, token_id: int) -> str:
        """Text that became readable with ``token_id`` (may be empty)."""
        self._ids.append(token_id)
        text = self._grown()
        if text.endswith("\ufffd"):
            return ""
        if text:  # a control token adds none, and the word before it stays the neighbour of the next
            self._start = self._read
        self._read = len(self._ids)
        return text

    def rest(self) -> str:
        """What was held back, less the half character that an answer may be cut in."""
        text = self._grown().rstrip("\ufffd")
        self._start = self._read = len(self._ids)
        return text


class StopStrings:
    """Passes text through until a stop string appears; holds back what may be the start of one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.has_stopped = False

    def push(self, text: str) -> str:
        """What of ``text``, and of what was held back, can be shown now."""
        if self.has_stopped or not self._stops:
            return "" if self.has_stopped else text
        self._held += text
        found = [i for s in self._stops if (i := self._held.find(s)) >= 0]
        if found:
            self.has_stopped = True
            out, self._held = self._held[: min(found)], ""
            return out
        longest = max((n for s in self._stops for n in range(1, len(s)) if self._held.endswith(s[:n])), default=0)
        cut = len(self._held) - longest
        out, self._held = self._held[:cut], self._held[cut:]
        return out

    def rest(self) -> str:
        """What was held back for a stop string that did not come."""
        out, self._held = self._held, ""
        return out


def split_thinking(answer: str) -> tuple[str, str]:
    """``<think>...</think>`` of a reasoning model apart from its answer: (thinking, answer).

    An unfinished block counts as thinking; some templates open the block in the prompt, so a lone
    ``</think>`` ends it too.
    """
    head, closed, tail = answer.partition("</think>")
    before, opened, inside = head.partition("<think>")
    if not opened:
        return (head.strip(), tail.lstrip()) if closed else ("", answer)
    return inside.strip(), before + tail.lstrip()


@dataclass(frozen=True)
class Loader:
    """Opens chat models: the engine calls it with a catalogue block, it yields progress, returns a backend."""

    request: device.Request = device.Request()
    may_download: bool = False

    def __call__(self, model: Model, cancel: CancelToken) -> Generator[Event, None, Backend]:
        if model.is_remote:
            from pipelines.chat_remote import RemoteChat

            return RemoteChat(model)
        from pipelines.chat_local import LocalChat

        return (yield from LocalChat.open(model, self.request, cancel, may_download=self.may_download))


def main(argv: list[str] | None = None) -> int:
    parser = cli.Parser(description="Ask a chat model.", prog="python -m pipelines.chat")
    parser.add_argument("prompt", nargs="?", help="the question")
    cli.add_common_arguments(parser, ChatParams, hidden=("is_traced",))
    args = parser.parse_args(argv)

    def params(prompt: str) -> ChatParams:
        values = {name: getattr(args, name) for name in SETTINGS if hasattr(args, name)}
        return ChatParams(messages=({"role": "user", "content": prompt},), **(values | {"is_traced": False}))

    return cli.run(args, TASK, Loader(device.Request(args.device, args.dtype), args.allow_downloads), params)


if __name__ == "__main__":
    sys.exit(main())
