"""How the studio was started: command-line flags and STUDIO_ environment variables, from one list.

A flag wins over its variable, a variable over the default. The README's table is generated from here.

    python -m studio.settings            # print the table for the README
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from pipelines.errors import InvalidParams

TRUE_WORDS, FALSE_WORDS = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
KIND_WORDS = {int: "a whole number", float: "a number"}


def _setting(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting with its default and help; the flag of ``chat_model`` is ``--chat-model``."""

    host: str = _setting("127.0.0.1", "address to listen on; 0.0.0.0 lets the room in")
    port: int = _setting(7860, "port to listen on")
    root_path: str = _setting("", "path prefix behind a reverse proxy, for instance /studio")
    device: str = _setting("auto", "auto, cpu, cuda, cuda:1, mps or xpu")
    dtype: str = _setting("auto", "auto, fp32, bf16 or fp16")
    chat_model: str = _setting("auto", "model id of the catalogue, or auto for the best that fits and is present")
    image_model: str = _setting("auto", "the same for pictures")
    catalog: Path | None = _setting(None, "a catalogue file of your own (default: catalog.toml in the data directory)")
    data_dir: Path = _setting(Path("data"), "where the studio keeps what must outlive a restart")
    offline: bool = _setting(False, "never touch the network, not even for a model asked for")
    allow_downloads: bool = _setting(False, "let the studio download models from the hub")
    presenter_password: str = _setting("", "needed for controls that change things for everybody; empty: no lock")
    time_limit_s: float = _setting(120.0, "seconds one job may work")
    max_waiting: int = _setting(100, "jobs that may wait; one more is refused")
    model_memory_gb: float = _setting(0.0, "memory for loaded models; 0: chosen by the device")
    open_browser: bool = _setting(False, "open the page in a browser once it answers")

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise InvalidParams(f"port must be from 1 to 65535, not {self.port}.")
        if not 1 <= self.time_limit_s <= 86400:
            raise InvalidParams(f"time_limit_s must be from 1 to 86400 s, not {self.time_limit_s:g}.")
        if not 1 <= self.max_waiting <= 100_000:
            raise InvalidParams(f"max_waiting must be from 1 to 100000, not {self.max_waiting}.")
        if not 0 <= self.model_memory_gb <= 10_000:
            raise InvalidParams(f"model_memory_gb must be from 0 to 10000 GB, not {self.model_memory_gb:g}.")
        if self.root_path and not self.root_path.startswith(("/", "http")):
            raise InvalidParams(f"root_path must begin with /, not {self.root_path!r}.")
        if self.catalog is not None and not self.catalog.is_file():
            raise InvalidParams(f"catalog must be a file, and there is none at {self.catalog}.")

    @property
    def catalog_file(self) -> Path | None:
        """The user's own catalogue: the one asked for, else the data directory's where there is one."""
        usual = self.data_dir / "catalog.toml"
        return self.catalog or (usual if usual.is_file() else None)

    @property
    def may_download(self) -> bool:
        return self.allow_downloads and not self.offline


def _kind(f: dataclasses.Field[Any]) -> type:
    if f.name in ("catalog", "data_dir"):
        return Path
    return type(f.default)


def _from_text(f: dataclasses.Field[Any], value: str, where: str) -> Any:
    kind = _kind(f)
    if kind is bool:
        if value.lower() in (*TRUE_WORDS, *FALSE_WORDS):
            return value.lower() in TRUE_WORDS
        raise InvalidParams(f"{where} must be one of {', '.join((*TRUE_WORDS, *FALSE_WORDS))}, not {value[:60]!r}.")
    try:
        return kind(value)
    except ValueError as error:
        raise InvalidParams(f"{where} must be {KIND_WORDS[kind]}, not {value[:60]!r}.") from error


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, like every other error, instead of printing all flags first."""

    def error(self, message: str) -> NoReturn:
        raise InvalidParams(f"{message[:1].upper()}{message[1:]}.", "python app.py --help lists every setting.")


def variable(name: str) -> str:
    """``chat_model`` -> ``STUDIO_CHAT_MODEL``."""
    return f"STUDIO_{name.upper()}"


def _defaults(environment: Mapping[str, str]) -> dict[str, Any]:
    values = {f.name: f.default for f in dataclasses.fields(Settings)}
    if "SPACE_ID" in environment:  # a Space's container is reached from outside; its proxy is the guard
        values["host"] = "0.0.0.0"
    for f in dataclasses.fields(Settings):
        if environment.get(variable(f.name)):  # containers pass what nobody set as an empty string
            values[f.name] = _from_text(f, environment[variable(f.name)], variable(f.name))
    return values


def parse(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> tuple[Settings, str]:
    """Settings and command (``run`` or ``doctor``). Raises InvalidParams for a value out of range."""
    parser = _Parser(
        prog="python app.py",
        description="Generative AI 101 Studio: opens the page, or checks everything with 'doctor'.",
        epilog="Every flag can also be set as an environment variable, for instance STUDIO_PORT.",
    )
    parser.add_argument("command", nargs="?", choices=("run", "doctor"), default="run", help="what to do (run)")
    values = _defaults(environment)
    for f in dataclasses.fields(Settings):
        option, text = "--" + f.name.replace("_", "-"), f.metadata["help"]
        has_default = f.name != "presenter_password" and values[f.name] not in (None, "")
        shown = f"{text} (default: {values[f.name]})" if has_default else text
        if _kind(f) is bool:
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=values[f.name], help=text)
        else:
            convert = functools.partial(_from_text, f, where=option)
            parser.add_argument(option, type=convert, default=values[f.name], help=shown, metavar="VALUE")
    args = vars(parser.parse_args(argv))
    command = args.pop("command")
    return Settings(**args), command


def table() -> str:
    """The settings as a Markdown table."""
    rows = ["| Flag | Variable | Default | Meaning |", "|---|---|---|---|"]
    for f in dataclasses.fields(Settings):
        default = "off" if f.default is False else ("none" if f.default in (None, "") else f"`{f.default}`")
        rows.append(f"| `--{f.name.replace('_', '-')}` | `{variable(f.name)}` | {default} | {f.metadata['help']} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
