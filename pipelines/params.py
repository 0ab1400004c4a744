"""Settings of a task: one frozen dataclass per task, with range, unit and help written once.

Sliders, server-side validation, command-line flags and documentation all derive from the field metadata
made by ``number``, ``choice``, ``text`` and ``flag``. Knows no task and no page.

    @dataclass(frozen=True, kw_only=True)
    class ChatParams(Params):
        temperature: float = number(0.7, minimum=0.0, maximum=2.0, step=0.05, help="...")
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pipelines.errors import InvalidParams

P = TypeVar("P", bound="Params")
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Spec:
    """What is known of one field: its kind, range, unit and one sentence of help."""

    kind: str  # "number", "integer", "choice", "text", "flag"
    default: Any
    help: str
    label: str = ""
    unit: str = ""
    minimum: float = 0.0
    maximum: float = 0.0
    step: float = 1.0
    choices: tuple[str, ...] = ()
    max_length: int = 0

    @property
    def span(self) -> str:
        """``0 to 2`` or ``1 to 4096 tokens``: the range of a number, for messages and help."""
        style = ".0f" if self.kind == "integer" else "g"
        return f"{self.minimum:{style}} to {self.maximum:{style}}{' ' + self.unit if self.unit else ''}"


def number(
    default: float, *, minimum: float, maximum: float, step: float, help: str, label: str = "", unit: str = ""
) -> Any:
    """A float field with an inclusive range. NaN, infinities, booleans and text that is no number are refused."""
    spec = Spec("number", default, help, label, unit, minimum, maximum, step)
    return dataclasses.field(default=default, metadata={"spec": spec})


def integer(
    default: int, *, minimum: int, maximum: int, step: int = 1, help: str, label: str = "", unit: str = ""
) -> Any:
    """An integer field with an inclusive range. A float is accepted when it is a whole number."""
    spec = Spec("integer", default, help, label, unit, minimum, maximum, step)
    return dataclasses.field(default=default, metadata={"spec": spec})


def choice(default: str, choices: tuple[str, ...], *, help: str, label: str = "") -> Any:
    """One of a fixed set of names."""
    return dataclasses.field(default=default, metadata={"spec": Spec("choice", default, help, label, choices=choices)})


def text(default: str, *, max_length: int, help: str, label: str = "") -> Any:
    """Free text of at most ``max_length`` characters; see ``clean_text`` for what is refused or removed."""
    return dataclasses.field(
        default=default, metadata={"spec": Spec("text", default, help, label, max_length=max_length)}
    )


def flag(default: bool, *, help: str, label: str = "") -> Any:
    """Yes or no."""
    return dataclasses.field(default=default, metadata={"spec": Spec("flag", default, help, label)})


def specs(cls: type[Params]) -> dict[str, Spec]:
    """Field name -> spec, for the fields that carry one, in order of definition."""
    return {f.name: f.metadata["spec"] for f in dataclasses.fields(cls) if "spec" in f.metadata}


_REMOVED = {ord(c): None for c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"}
_REMOVED |= {c: None for c in range(32) if chr(c) not in "\t\n\r"} | {127: None}


def clean_text(value: Any, name: str, max_length: int) -> str:
    """``value`` as safe text: control characters and direction overrides removed, length checked.

    Raises:
        InvalidParams: not a string, longer than ``max_length`` characters, or holding lone surrogates.
    """
    if not isinstance(value, str):
        raise InvalidParams(f"{name} must be text, not {type(value).__name__}.")
    if len(value) > max_length:
        raise InvalidParams(
            f"{name} has {len(value):,} characters; at most {max_length:,} are accepted.", "Please shorten it."
        )
    cleaned = value.translate(_REMOVED)
    try:
        cleaned.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidParams(f"{name} holds broken characters (half of a Unicode pair).") from error
    return cleaned


def _shown(value: Any) -> str:
    """``value`` in at most 40 characters, at no more cost than that: it may be huge, or a number too long to print."""
    if isinstance(value, str):
        return repr(value[:40])[:40]
    if isinstance(value, int) and value.bit_length() > 1000:
        return "a number of hundreds of digits"
    return repr(value)[:40] if value is None or isinstance(value, (bool, int, float)) else f"a {type(value).__name__}"


def clean_number(value: Any, name: str, spec: Spec) -> float | int:
    """``value`` as a finite number inside the spec's range, an ``int`` for integer fields.

    Raises:
        InvalidParams: not a number, not finite, not whole where it must be, or out of range.
    """
    kind = "whole number" if spec.kind == "integer" else "number"
    refusal = InvalidParams(f"{name} must be a {kind} from {spec.span}, not {_shown(value)}.")
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise refusal
    try:
        result = value if isinstance(value, int) else float(value)
    except ValueError as error:
        raise refusal from error
    if not spec.minimum <= result <= spec.maximum:  # false for NaN too
        raise refusal
    if spec.kind == "integer":
        if result != int(result):
            raise refusal
        return int(result)
    return float(result)


def _clean(name: str, spec: Spec, value: Any) -> Any:
    if spec.kind in ("number", "integer"):
        return clean_number(value, name, spec)
    if spec.kind == "text":
        return clean_text(value, name, spec.max_length)
    if spec.kind == "choice":
        if value not in spec.choices:
            raise InvalidParams(f"{name} must be one of {', '.join(spec.choices)}, not {_shown(value)}.")
        return value
    if not isinstance(value, bool):
        raise InvalidParams(f"{name} must be true or false, not {_shown(value)}.")
    return value


@dataclass(frozen=True, kw_only=True)
class Params:
    """Base of every task's settings: validated on construction, built by name, never by position."""

    def __post_init__(self) -> None:
        for name, spec in specs(type(self)).items():
            object.__setattr__(self, name, _clean(name, spec, getattr(self, name)))

    @classmethod
    def from_mapping(cls: type[P], values: Mapping[str, Any]) -> P:
        """Build from names and values. Raises InvalidParams for a name that does not exist."""
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(str(name)[:40] for name in set(values) - known)
        if unknown:
            raise InvalidParams(f"Unknown setting: {', '.join(unknown[:10])}.")
        return cls(**values)

    def record(self) -> dict[str, Any]:
        """The settings as plain values for the record kept beside a result."""
        return {name: getattr(self, name) for name in specs(type(self))}


def add_arguments(parser: argparse.ArgumentParser, cls: type[Params], names: tuple[str, ...] = ()) -> None:
    """Give ``parser`` one flag per field (``max_new_tokens`` becomes ``--max-new-tokens``)."""
    for name, spec in specs(cls).items():
        if names and name not in names:
            continue
        option = "--" + name.replace("_", "-")
        span = f" ({spec.span})" if spec.kind in ("number", "integer") else ""
        kwargs: dict[str, Any] = {"default": spec.default, "help": f"{spec.help}{span}".replace("%", "%%")}
        if spec.kind == "flag":
            kwargs["action"] = argparse.BooleanOptionalAction
        if spec.kind == "choice":
            kwargs["choices"] = spec.choices
        parser.add_argument(option, **kwargs)
