"""From a catalogue block to a folder of weights that can be trusted: find, download, verify.

Safetensors only, no code from a model's repository, progress while downloading, and one clear error for
each way this fails (missing, gated, corrupt, too large for the disk, network). Knows no task.

    python -m pipelines.weights mote       # verify an embedded or cached model
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pipelines import catalog
from pipelines.errors import (
    Cancelled,
    ModelCorrupt,
    ModelGated,
    ModelMissing,
    ModelTooLarge,
    ModelUnavailable,
    TimedOut,
)
from pipelines.events import CancelToken, Event, Notice, Progress

T = TypeVar("T")

PAPERS = ["*.md", "LICENSE*"]
REACH_TIMEOUT_S = 5.0
LARGEST_HEADER_BYTES = 100 * 1024**2  # the safetensors format's own limit


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def check_safetensors(path: Path) -> None:
    """Raise ModelCorrupt unless header and file size of a safetensors file agree (catches a cut-off file)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= min(LARGEST_HEADER_BYTES, size - 8):
            raise ModelCorrupt(f"{path.name} is not a complete safetensors file.", "Fetch the model again.")
        try:
            header = json.loads(file.read(length))
            ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise ModelCorrupt(f"The header of {path.name} cannot be read.", "Fetch the model again.") from error
    if 8 + length + max(ends, default=0) != size:
        raise ModelCorrupt(f"{path.name} is cut off or has bytes too many.", "Fetch the model again.")


def check_folder(folder: Path) -> None:
    """Verify a model folder: its ``MANIFEST.json`` hashes where there is one, else the files' structure.

    Raises:
        ModelMissing: no safetensors weights in it.
        ModelCorrupt: a file is missing, cut off or does not match its recorded sha256.
    """
    weights = sorted(folder.rglob("*.safetensors"))
    manifest = folder / "MANIFEST.json"
    if manifest.exists():
        try:
            files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
            recorded = {str(name): str(entry["sha256"]) for name, entry in files.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelCorrupt(f"MANIFEST.json of {folder.name} cannot be read.", "Restore the folder.") from error
        for name, digest in recorded.items():
            file = folder / name
            if ".." in Path(name).parts or Path(name).is_absolute() or not file.is_file():
                raise ModelCorrupt(f"{folder.name}/{name} is missing.", "Restore the folder from the repository.")
            if sha256(file) != digest:
                raise ModelCorrupt(
                    f"{folder.name}/{name} does not match its recorded hash.", "Restore it from the repository."
                )
    if not weights:
        raise ModelMissing(
            f"There are no safetensors weights in {folder.name}.",
            "Other formats can hide code and are not loaded.",
        )
    if absent := catalog.missing_shards(folder):
        raise ModelCorrupt(f"{folder.name}/{absent[0]} is missing or cannot be read.", "Fetch the model again.")
    for file in weights:
        check_safetensors(file)
        blob = file.resolve()
        # The hub's cache names a large file's blob by its sha256, which makes it verifiable for nothing.
        if blob != file and len(blob.name) == 64 and sha256(blob) != blob.name:
            raise ModelCorrupt(f"{file.name} does not match the hub's hash.", "Delete it from the cache, fetch again.")


def in_thread(work: Callable[[], T], progress: Callable[[], Event], cancel: CancelToken) -> Generator[Event, None, T]:
    """Run ``work`` in a thread of its own, yielding ``progress()`` meanwhile, and return its result.

    So a download or a big load does not hold up the engine's other jobs. When cancelled, the thread is
    left to end by itself and its result is dropped.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, nothing is swallowed
            failure.append(error)

    thread = threading.Thread(target=run, name="weights", daemon=True)
    thread.start()
    while thread.is_alive():
        cancel.check()
        yield progress()
        thread.join(0.02)
    if failure:
        raise failure[0]
    return outcome[0]


class _Meter:
    """Counts downloaded bytes. The hub library counts them on two bars, received and written: the larger one holds."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.lock = threading.Lock()

    def bar_class(self, cancel: CancelToken) -> Any:
        from tqdm.auto import tqdm

        meter = self

        class Bar(tqdm):  # type: ignore[misc]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                kwargs.pop("name", None)
                kwargs["disable"] = True
                self.counts_bytes = kwargs.get("unit") == "B"
                self.bytes_done = 0
                super().__init__(*args, **kwargs)

            def update(self, n: float | None = 1) -> bool | None:
                cancel.check()
                if self.counts_bytes and n:
                    with meter.lock:
                        self.bytes_done += int(n)
                        meter.done = max(meter.done, self.bytes_done)
                return None

        return Bar


def _translate(error: BaseException, model: catalog.Model) -> ModelUnavailable:
    """One hub-library exception as the error a person can act on."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{model.repo}"
    if isinstance(error, errors.GatedRepoError):
        return ModelGated(
            f"{model.title} is gated: its licence must be accepted first.",
            f"Visit {page} , accept, then set HF_TOKEN to a token of that account.",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelMissing(f"{model.repo} has no revision {model.revision[:12]}.", "Correct the catalogue block.")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelMissing(
            f"The hub does not know {model.repo}, or your token may not see it.", f"Check {page} and HF_TOKEN."
        )
    if isinstance(error, OSError) and error.errno == 28:
        return ModelTooLarge(f"The disk is full; {model.title} needs {model.download_mb / 1000:.1f} GB.", "Free some.")
    return ModelMissing(
        f"{model.title} could not be downloaded ({type(error).__name__}).",
        "Is there a network? The embedded model works without one.",
    )


def download(model: catalog.Model, cancel: CancelToken) -> Generator[Event, None, Path]:
    """Fetch a hub model's pinned snapshot, yielding ``Progress`` in MB, returning its folder.

    Raises ModelGated, ModelMissing, ModelTooLarge as the cause demands; ``Cancelled`` within a second.
    """
    from huggingface_hub import constants, get_session, snapshot_download

    cache = Path(constants.HF_HUB_CACHE)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
    except OSError as error:
        raise _translate(error, model) from error
    if model.download_mb * 1024**2 > free:
        raise ModelTooLarge(
            f"{model.title} needs {model.download_mb / 1000:.1f} GB of disk; {free / 1e9:.1f} GB are free.",
            "Free some, or choose a smaller model.",
        )
    meter = _Meter(model.download_mb * 1000**2)
    started = time.monotonic()

    def work() -> str:
        # Without a network snapshot_download would retry for 23 s before it says so.
        get_session().head(constants.ENDPOINT, timeout=REACH_TIMEOUT_S)
        return snapshot_download(
            model.repo,
            revision=model.revision or None,
            allow_patterns=[*catalog.file_patterns(model), *PAPERS],
            tqdm_class=meter.bar_class(cancel),
        )

    def progress() -> Progress:
        rate = meter.done / max(time.monotonic() - started, 0.1)
        left = (meter.total - meter.done) / rate if rate and meter.total > meter.done else None
        return Progress(f"Downloading {model.title}", round(meter.done / 1e6), meter.total / 1e6, left)

    try:
        return Path((yield from in_thread(work, progress, cancel)))
    except (Cancelled, TimedOut):
        raise
    except Exception as error:
        cancel.check()
        raise _translate(error, model) from error


def locate(model: catalog.Model, cancel: CancelToken, *, may_download: bool = False) -> Generator[Event, None, Path]:
    """The verified folder of a model, downloading it first where allowed and needed.

    Yields ``Progress`` and ``Notice``; returns the folder. Raises a child of ModelUnavailable.
    """
    folder = model.folder() if model.source in ("embedded", "local") else catalog.cached_snapshot(model)
    if folder is None and model.source == "hub" and may_download:
        folder = yield from download(model, cancel)
        yield Notice(f"{model.title} is on this machine now.")
    if folder is None or not folder.is_dir():
        raise catalog.missing(model)
    found = folder
    yield from in_thread(lambda: check_folder(found), lambda: Progress(f"Checking {model.title}"), cancel)
    return folder


def drain(steps: Iterator[Event] | Generator[Event, None, Path]) -> Any:
    """Run a generator to its end and hand back its return value."""
    iterator = iter(steps)
    while True:
        try:
            next(iterator)
        except StopIteration as stop:
            return stop.value


def main() -> None:
    model = catalog.load()[sys.argv[1]]
    print(drain(locate(model, CancelToken())), "verified")


if __name__ == "__main__":
    main()
