"""The command line that every pipeline shares: one prompt or a file of them, text or JSON lines out.

Knows no task: a pipeline hands it a loader and a function from prompt to params.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NoReturn

from pipelines import catalog, device, params
from pipelines.engine import Load
from pipelines.errors import StudioError
from pipelines.events import CancelToken, Done, Event, Notice, Partial, Progress
from pipelines.weights import drain

INTERRUPTED = 130  # what shells report after Ctrl-C


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the flags; --help has the rest."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message}. See {self.prog} --help\n")


def add_common_arguments(
    parser: argparse.ArgumentParser, settings: type[params.Params], hidden: tuple[str, ...] = ()
) -> None:
    """Flags of every pipeline: the task's settings, then model, device, files and output format."""
    shown = tuple(name for name in params.specs(settings) if name not in hidden)
    params.add_arguments(parser, settings, shown)
    parser.add_argument("--model", default="auto", help="model id of the catalogue (python -m pipelines.catalog)")
    parser.add_argument("--catalog", type=Path, default=None, help="a catalogue file of your own")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps, xpu")
    parser.add_argument("--dtype", default="auto", help="auto, fp32, bf16, fp16")
    parser.add_argument("--allow-downloads", action="store_true", help="fetch a model that is not on this machine")
    parser.add_argument("--file", type=Path, help="read one prompt per line; the model is loaded once")
    parser.add_argument("--json", action="store_true", help="one JSON record per prompt on stdout")


def _prompts(args: argparse.Namespace) -> Iterator[str]:
    if args.prompt and args.file:
        raise StudioError("Give a prompt or --file, not both.")
    if args.file:
        try:
            lines = args.file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise StudioError(f"{args.file} cannot be read: {error}.") from error
        yield from (line for line in lines if line.strip())
    elif args.prompt:
        yield args.prompt
    else:
        raise StudioError("There is no prompt.", "Give one, or --file.")


def run(
    args: argparse.Namespace,
    task: str,
    load: Load,
    make_params: Callable[[str], Any],
    record: Callable[[str, Done], dict[str, Any]] | None = None,
    show: Callable[[str, Done], str] | None = None,
) -> int:
    """Load the model once and answer every prompt.

    Args:
        record: what ``--json`` prints of a result.
        show: what is printed of it else, after any text that was streamed.
    Returns:
        0 when all were answered, 1 when some failed, 2 when a flag, a prompt or the model is no good and nothing
        was asked, 130 after Ctrl-C.
    """

    def text_record(prompt: str, done: Done) -> dict[str, Any]:
        return {"prompt": prompt, "text": done.artifact.text, **done.record}

    to_record = record or text_record
    failures = 0
    try:
        runs = [(prompt, make_params(prompt)) for prompt in _prompts(args)]
        models = catalog.load(args.catalog)
        request = device.Request(args.device, args.dtype)
        compute = device.pick(request, device.probe())
        choice = catalog.choose(task, args.model, models.values(), compute, may_download=args.allow_downloads)
        print(f"{choice.reason} {compute.reason}", file=sys.stderr)
        backend = drain(_told(load(choice.model, CancelToken())))
    except StudioError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    try:
        for prompt, settings in runs:
            started = time.monotonic()
            try:
                for event in _told(backend.run(settings, CancelToken())):
                    if isinstance(event, Partial) and not args.json:
                        print(event.text, end="", flush=True)
                    elif isinstance(event, Done):
                        if args.json:
                            print(json.dumps(to_record(prompt, event), ensure_ascii=False), flush=True)
                        else:
                            print(show(prompt, event) if show else "", flush=True)
            except StudioError as error:
                failures += 1
                seconds = round(time.monotonic() - started, 3)
                failure = json.dumps({"prompt": prompt, "error": str(error), "seconds": seconds}, ensure_ascii=False)
                print(failure if args.json else "", flush=True)
                print(error, file=sys.stderr)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        backend.close()
    return 1 if failures else 0


def _told(events: Iterator[Event]) -> Generator[Event, None, Any]:
    """The same events and return value; notices and each new stage of progress are printed on stderr."""
    stage = ""
    while True:
        try:
            event = next(events)
        except StopIteration as stop:
            return stop.value
        if isinstance(event, Notice):
            print(event.text, file=sys.stderr)
        elif isinstance(event, Progress) and event.label != stage:
            stage = event.label
            print(stage, file=sys.stderr)
        yield event
