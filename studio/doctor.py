"""What a presenter runs before the talk: everything the show needs, each line green or red, then one real run.

python app.py doctor            # exit status 0 when nothing is red
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines import catalog, device, weights
from pipelines.chat import ChatParams
from pipelines.errors import StudioError
from pipelines.events import CancelToken, Done, Partial, Preview
from pipelines.text_to_image import TASK, ImageParams
from studio.registry import tabs_of
from studio.runtime import Ready, Studio
from studio.settings import Settings

GREEN, YELLOW, RED = "ok", "note", "FAIL"
COLOURS = {GREEN: "\033[32m", YELLOW: "\033[33m", RED: "\033[31m"}
LEAST_DISK_BYTES = 500 * 1024**2


@dataclass(frozen=True)
class Line:
    """One finding: what was looked at, how it stands, what to do if it is red."""

    level: str
    what: str
    found: str


def _device(studio: Studio) -> tuple[list[Line], Ready | None]:
    try:
        ready = studio.look()
    except StudioError as error:
        return [Line(RED, "device", str(error))], None
    compute, hardware = ready.compute, ready.hardware
    free = hardware.ram_free_bytes / device.GIB
    return [
        Line(GREEN, "device", f"{compute.short}: {compute.reason}"),
        Line(
            GREEN if compute.memory_budget_bytes > device.GIB else RED,
            "memory",
            f"{free:.1f} of {hardware.ram_total_bytes / device.GIB:.1f} GiB RAM free; "
            f"models may take {compute.memory_budget_bytes / device.GIB:.1f} GiB on {compute.name}",
        ),
        *(Line(GREEN, f"{task} model", choice.reason) for task, choice in ready.choices.items()),
        *(Line(YELLOW, f"{task} model", str(error)) for task, error in ready.missing.items()),
    ], ready


def _models(studio: Studio) -> Iterator[Line]:
    for model in studio.models.values():
        if model.is_remote:
            if catalog.is_present(model) and catalog.expand(model.remote_model):
                yield Line(GREEN, model.id, f"configured: {catalog.expand(model.base_url)}")
            continue
        if not catalog.is_present(model):
            if model.source == "hub":
                gated = ", after accepting its licence" if model.gated else ""
                yield Line(YELLOW, model.id, f"would have to be downloaded, {model.download_mb / 1000:.1f} GB{gated}")
            else:
                yield Line(RED, model.id, f"its folder is missing: {model.path}")
            continue
        try:
            folder = model.folder() or catalog.cached_snapshot(model)
            assert folder is not None
            weights.check_folder(folder)
            yield Line(GREEN, model.id, f"present and verified ({model.license})")
        except StudioError as error:
            yield Line(RED, model.id, str(error))


def _surroundings(settings: Settings) -> Iterator[Line]:
    folder = settings.data_dir if settings.data_dir.exists() else settings.data_dir.absolute().parent
    free = shutil.disk_usage(folder).free
    yield Line(GREEN if free > LEAST_DISK_BYTES else RED, "disk", f"{free / 1e9:.1f} GB free")
    is_writable = os.access(folder, os.W_OK)
    yield Line(
        GREEN if is_writable else RED,
        "data directory",
        f"{settings.data_dir} {'can' if is_writable else 'cannot'} be written",
    )
    ffmpeg = shutil.which("ffmpeg")
    yield Line(
        GREEN if ffmpeg else YELLOW, "ffmpeg", "found" if ffmpeg else "not found: no MP3 and no video, all else works"
    )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
            yield Line(GREEN, "port", f"{settings.host}:{settings.port} is free")
        except OSError as error:
            yield Line(RED, "port", f"{settings.host}:{settings.port}: {error.strerror}; choose another with --port")
    if settings.host not in ("127.0.0.1", "localhost", "::1"):
        lock = "and a presenter password is set" if settings.presenter_password else "and NO presenter password is set"
        yield Line(GREEN if settings.presenter_password else YELLOW, "reach", f"open to the network, {lock}")


def _chat(studio: Studio, ready: Ready) -> Line:
    """One short real answer with the model that the tab would use."""
    model = ready.choices["chat"].model
    try:
        started = time.monotonic()
        backend = weights.drain(studio.load(model, CancelToken()))
        loaded, first, done = time.monotonic(), 0.0, None
        params = ChatParams(messages=({"role": "user", "content": "What is a GAN?"},), max_new_tokens=40, seed=1)
        for event in backend.run(params, CancelToken()):
            if isinstance(event, Partial) and not first:
                first = time.monotonic()
            if isinstance(event, Done):
                done = event
        backend.close()
    except StudioError as error:
        return Line(RED, "chat run", str(error))
    if done is None or not done.artifact.text.strip():
        return Line(RED, "chat run", f"{model.title} answered nothing")
    speed = done.record["tokens_per_second"]
    return Line(
        GREEN,
        "chat run",
        f"loaded in {loaded - started:.1f} s, first token after {first - loaded:.2f} s, {speed:.0f} tokens/s: "
        f"{done.artifact.text[:60]!r}",
    )


def _image(studio: Studio, ready: Ready) -> Line:
    """One real picture with the model that the tab would use."""
    if TASK not in ready.choices:
        return Line(YELLOW, "image run", str(ready.missing.get(TASK, "no image model")))
    model = ready.choices[TASK].model
    try:
        started = time.monotonic()
        backend = weights.drain(studio.load(model, CancelToken()))
        loaded, first, done = time.monotonic(), 0.0, None
        for event in backend.run(ImageParams(prompt="a fox on a blue background", seed=1), CancelToken()):
            if isinstance(event, Preview) and not first:
                first = time.monotonic()
            if isinstance(event, Done):
                done = event
        backend.close()
    except StudioError as error:
        return Line(RED, "image run", str(error))
    if done is None:
        return Line(RED, "image run", f"{model.title} painted nothing")
    size = done.artifact.pictures[0].image.size
    return Line(
        GREEN,
        "image run",
        f"loaded in {loaded - started:.1f} s, first preview after {first - loaded:.2f} s, "
        f"{size[0]} x {size[1]} px in {done.record['seconds']:.1f} s",
    )


RUNS = {"chat": _chat, "image": _image}


def _print(line: Line) -> None:
    is_colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    level = f"{COLOURS[line.level]}{line.level:>4}\033[0m" if is_colour else f"{line.level:>4}"
    print(f"{level}  {line.what:16} {line.found}", flush=True)


def run(settings: Settings) -> int:
    """Check everything and print a line for each; 0 when nothing is red, else 1."""
    studio = Studio(settings)
    reds = 0

    def show(line: Line) -> None:
        nonlocal reds
        reds += line.level == RED
        _print(line)

    lines, ready = _device(studio)
    for line in [*lines, *_models(studio), *_surroundings(settings)]:
        show(line)
    if ready is not None:
        for tab in tabs_of(studio):
            show(RUNS[tab.id](studio, ready))
    print("Everything the show needs is here." if not reds else f"{reds} of these must be fixed before the show.")
    return 1 if reds else 0
