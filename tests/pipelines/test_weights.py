"""Weights: an intact folder passes, a damaged one is refused in words, and a download succeeds or says why not.

The downloads run against a real HTTP server on this machine that speaks the part of the hub's protocol that
``snapshot_download`` needs: a listing of the commit, HEAD and GET of its files.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines import catalog, weights
from pipelines.catalog import Model
from pipelines.errors import Cancelled, ModelCorrupt, ModelGated, ModelMissing, ModelTooLarge, ModelUnavailable
from pipelines.events import CancelToken, Event, Notice, Progress

REVISION = "0123456789abcdef0123456789abcdef01234567"


def safetensors_bytes(values: int = 64) -> bytes:
    import numpy
    from safetensors.numpy import save

    return bytes(save({"a.weight": numpy.arange(values, dtype=numpy.float32), "b.weight": numpy.ones((2, 3))}))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_manifest(folder: Path) -> None:
    files = {f.name: {"sha256": weights.sha256(f)} for f in sorted(folder.iterdir()) if f.name != "MANIFEST.json"}
    (folder / "MANIFEST.json").write_text(json.dumps({"files": files}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder without a manifest."""
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(safetensors_bytes())
    return made


# --- verification -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_manifest", [True, False])
def test_intact_folder_passes(folder: Path, has_manifest: bool) -> None:
    if has_manifest:
        write_manifest(folder)
    weights.check_folder(folder)


def flip(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 0x20]) + content[position + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "0 bytes": lambda content: b"",
    "5 bytes": lambda content: content[:5],
    "only the length": lambda content: content[:8],
    "half": lambda content: content[: len(content) // 2],
    "tail cut": lambda content: content[:-1],
    "bytes too many": lambda content: content + b"\0",
    "bits flipped in the length": lambda content: flip(content, 0),
    "bits flipped in the header": lambda content: flip(content, 8),
    "all zero": lambda content: bytes(len(content)),
    "a pickle": lambda content: pickle.dumps({"a.weight": [1.0]}),
    "an error page": lambda content: b"<!doctype html><title>Not found</title>" * 20,
}


@pytest.mark.parametrize("has_manifest", [True, False])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_weights_are_refused(folder: Path, damage: Callable[[bytes], bytes], has_manifest: bool) -> None:
    if has_manifest:
        write_manifest(folder)
    file = folder / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ModelCorrupt, match=r"model\.safetensors") as refusal:
        weights.check_folder(folder)
    assert str(folder) not in str(refusal.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_one_flipped_bit_is_found_by_the_manifest(folder: Path, name: str) -> None:
    write_manifest(folder)
    file = folder / name
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelCorrupt, match=f"model/{name} does not match its recorded hash"):
        weights.check_folder(folder)


HEADERS: list[Any] = [
    [],
    {"a": None},
    {"a": {}},
    {"a": {"data_offsets": []}},
    {"a": {"data_offsets": [0]}},
    {"a": {"data_offsets": [0, None]}},
    {"a": {"data_offsets": [0, "x"]}},
    {"a": {"data_offsets": [0, float("inf")]}},
    {"a": {"data_offsets": "x"}},
]


@pytest.mark.parametrize("header", HEADERS, ids=[json.dumps(h) for h in HEADERS])
def test_header_that_makes_no_sense_is_refused(folder: Path, header: Any) -> None:
    raw = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(16))
    with pytest.raises(ModelCorrupt, match=r"model\.safetensors"):
        weights.check_folder(folder)


def test_deeply_nested_header_is_refused(folder: Path) -> None:
    raw = b"[" * 200_000
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw)
    with pytest.raises(ModelCorrupt, match="header"):
        weights.check_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_file_missing_from_the_manifest_is_named(folder: Path, name: str) -> None:
    write_manifest(folder)
    (folder / name).unlink()
    with pytest.raises(ModelCorrupt, match=f"model/{name} is missing"):
        weights.check_folder(folder)


def test_weights_missing_without_a_manifest_are_missing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelMissing, match="no safetensors weights in model"):
        weights.check_folder(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": []}', '{"files": {"a": 1}}', '{"files": {"a": {}}}'])
def test_unreadable_manifest_is_refused(folder: Path, content: str) -> None:
    (folder / "MANIFEST.json").write_text(content)
    with pytest.raises(ModelCorrupt, match=r"MANIFEST.json of model cannot be read"):
        weights.check_folder(folder)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname"])
def test_manifest_cannot_name_a_file_outside_the_folder(folder: Path, name: str) -> None:
    (folder.parent / "outside").write_text("x")
    (folder / "MANIFEST.json").write_text(json.dumps({"files": {name: {"sha256": digest(b"x")}}}))
    with pytest.raises(ModelCorrupt, match="is missing"):
        weights.check_folder(folder)


def test_missing_shard_is_named(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "other.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelCorrupt, match=r"model/other\.safetensors is missing"):
        weights.check_folder(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "model.gguf"])
def test_folder_with_only_other_formats_is_refused_and_not_opened(tmp_path: Path, name: str) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelMissing, match="Other formats can hide code"):
        weights.check_folder(tmp_path)
    assert not (tmp_path / "executed").exists()


def test_weights_of_a_pipelines_parts_are_checked_too(folder: Path) -> None:
    (folder / "unet").mkdir()
    (folder / "unet" / "diffusion.safetensors").write_bytes(safetensors_bytes()[:-1])
    with pytest.raises(ModelCorrupt, match=r"diffusion\.safetensors is cut off"):
        weights.check_folder(folder)


def test_hub_blob_is_compared_with_the_hash_in_its_name(folder: Path) -> None:
    file = folder / "model.safetensors"
    blob = folder.parent / digest(file.read_bytes())
    file.rename(blob)
    file.symlink_to(blob)
    weights.check_folder(folder)
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelCorrupt, match="does not match the hub's hash"):
        weights.check_folder(folder)


@pytest.mark.parametrize("id", [m.id for m in catalog.load().values() if m.source == "embedded"])
def test_embedded_model_matches_its_manifest(id: str) -> None:
    model = catalog.load()[id]
    located = weights.drain(weights.locate(model, CancelToken()))
    assert located == model.folder()
    assert (located / "MANIFEST.json").is_file()


# --- work in a thread -------------------------------------------------------------------------------------


def collect(steps: Iterator[Event]) -> tuple[list[Event], Any]:
    """Every event and the generator's return value."""
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as stop:
            return seen, stop.value


def test_work_in_a_thread_reports_progress_and_returns_its_result() -> None:
    go = threading.Event()
    steps = weights.in_thread(lambda: go.wait(10) and 42, lambda: Progress("working"), CancelToken())
    assert [next(steps), next(steps)] == [Progress("working")] * 2
    go.set()
    assert collect(steps)[1] == 42


def test_failure_in_a_thread_is_raised_where_the_result_was_awaited() -> None:
    def fail() -> None:
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        collect(weights.in_thread(fail, lambda: Progress("working"), CancelToken()))


def test_cancelling_does_not_wait_for_the_thread() -> None:
    go, cancel = threading.Event(), CancelToken()
    steps = weights.in_thread(lambda: go.wait(10), lambda: Progress("working"), cancel)
    next(steps)
    cancel.set()
    with pytest.raises(Cancelled):
        collect(steps)
    assert not go.is_set()
    go.set()


# --- a hub on this machine --------------------------------------------------------------------------------


class Hub(ThreadingHTTPServer):
    """One repository, owner/tiny, at one revision. ``refuse`` maps a path's beginning to (status, error code)."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {}
        self.wrong: dict[str, bytes] = {}  # sent instead of the file that was announced
        self.refuse: dict[str, tuple[int, str]] = {}
        self.requests: list[str] = []
        self.pause_after = 0  # bytes of a file after which the server waits for ``go_on``
        self.go_on = threading.Event()
        self.is_cut = False  # break off at the pause, and refuse everybody from then on

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def fetched(self) -> set[str]:
        marker = f"/resolve/{REVISION}/"
        return {r.split(marker)[1] for r in self.requests if r.startswith("GET") and marker in r}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is no news."""


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output clean."""

    def do_HEAD(self) -> None:
        self.answer(has_body=False)

    def do_GET(self) -> None:
        self.answer(has_body=True)

    def answer(self, *, has_body: bool) -> None:
        hub, path = self.server, self.path.split("?")[0]
        hub.requests.append(f"{self.command} {path}")
        refusal = next((r for start, r in hub.refuse.items() if path.startswith(start)), None)
        if refusal is not None:
            self.reply(refusal[0], {"X-Error-Code": refusal[1], "X-Error-Message": refusal[1]}, b"", has_body)
        elif path == "/":
            self.reply(200, {}, b"", has_body)
        elif path == f"/api/models/owner/tiny/tree/{REVISION}":
            listing = [self.entry(name, content) for name, content in hub.files.items()]
            self.reply(200, {"Content-Type": "application/json"}, json.dumps(listing).encode(), has_body)
        elif (name := path.removeprefix(f"/owner/tiny/resolve/{REVISION}/")) in hub.files:
            content = hub.files[name]
            headers = {"ETag": f'"{self.etag(name, content)}"', "X-Repo-Commit": REVISION}
            self.reply(200, headers, hub.wrong.get(name, content), has_body)
        else:
            self.reply(404, {"X-Error-Code": "EntryNotFound"}, b"", has_body)

    @staticmethod
    def etag(name: str, content: bytes) -> str:
        """Large files are named by their sha256, small ones by a git blob id."""
        return digest(content) if name.endswith((".safetensors", ".bin")) else hashlib.sha1(content).hexdigest()

    def entry(self, name: str, content: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
        if name.endswith(".safetensors"):
            entry["lfs"] = {"oid": digest(content), "size": len(content), "pointerSize": 134}
        return entry

    def reply(self, status: int, headers: dict[str, str], body: bytes, has_body: bool) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if not has_body:
            return
        pause = self.server.pause_after or len(body)
        self.wfile.write(body[:pause])
        if len(body) > pause:
            self.wfile.flush()
            self.server.go_on.wait(60)
            if self.server.is_cut:
                self.server.refuse[""] = (500, "")
                self.close_connection = True
                return
            self.wfile.write(body[pause:])


MEGABYTE = 10**6


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running hub with one good model, which the hub library takes for huggingface.co."""
    import huggingface_hub
    from huggingface_hub import constants

    server = Hub()
    server.files = {
        "config.json": b"{}",
        "tokenizer.json": b"{ }",
        "tokenizer.model": b"pieces",
        "chat_template.jinja": b"{{ messages }}",
        "README.md": b"# Tiny",
        "LICENSE": b"Apache-2.0",
        "model.safetensors": safetensors_bytes(MEGABYTE),
        "pytorch_model.bin": b"pickle",
        "modeling_tiny.py": b"raise SystemExit",
        "model.onnx": b"onnx",
        "model.gguf": b"gguf",
        ".gitattributes": b"*.bin lfs",
    }
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.go_on.set()
    server.shutdown()
    thread.join()
    server.server_close()
    huggingface_hub.close_session()


def hub_model(**changes: Any) -> Model:
    values: dict[str, Any] = {
        "id": "tiny",
        "task": "chat",
        "title": "Tiny",
        "summary": "For a test.",
        "source": "hub",
        "repo": "owner/tiny",
        "revision": REVISION,
        "license": "Apache-2.0",
        "download_mb": 4,
    }
    return Model(**(values | changes))


def download_error(model: Model) -> ModelUnavailable:
    with pytest.raises(ModelUnavailable) as refusal:
        weights.drain(weights.download(model, CancelToken()))
    assert catalog.cached_snapshot(model) is None
    return refusal.value


def test_download_fetches_only_what_a_model_is_loaded_from(hub: Hub) -> None:
    found = weights.drain(weights.download(hub_model(), CancelToken()))
    wanted = set(hub.files) - {"pytorch_model.bin", "modeling_tiny.py", "model.onnx", "model.gguf", ".gitattributes"}
    assert hub.fetched == wanted
    assert {f.name for f in found.iterdir()} == wanted
    assert (found / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_download_reports_each_megabyte_once(hub: Hub) -> None:
    hub.pause_after = 2 * MEGABYTE
    seen = []
    for event in (steps := weights.download(hub_model(), CancelToken())):
        assert isinstance(event, Progress)
        assert event.label == "Downloading Tiny"
        assert event.total == 4
        seen.append(event.step)
        if event.step == 2:
            hub.go_on.set()
    assert hub.go_on.is_set()
    assert seen == sorted(seen)
    assert seen[0] < 2
    assert max(seen) <= 4
    steps.close()


def test_located_model_is_downloaded_once_and_then_found_without_the_hub(hub: Hub) -> None:
    events, first = collect(weights.locate(hub_model(), CancelToken(), may_download=True))
    assert Notice("Tiny is on this machine now.") in events
    assert events[-1] == Progress("Checking Tiny")
    hub.requests.clear()
    events, second = collect(weights.locate(hub_model(), CancelToken(), may_download=True))
    assert second == first
    assert hub.requests == []
    assert not [e for e in events if isinstance(e, Notice)]


def test_absent_model_is_not_downloaded_without_leave(hub: Hub) -> None:
    with pytest.raises(ModelMissing, match="--allow-downloads"):
        weights.drain(weights.locate(hub_model(), CancelToken()))
    assert hub.requests == []


def test_content_that_differs_from_the_hubs_hash_is_refused(hub: Hub) -> None:
    good = hub.files["model.safetensors"]
    hub.wrong["model.safetensors"] = good[:-1] + bytes([good[-1] ^ 1])
    with pytest.raises(ModelCorrupt, match="does not match the hub's hash"):
        weights.drain(weights.locate(hub_model(), CancelToken(), may_download=True))


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("start", ["/api/models/owner/tiny", "/owner/tiny/resolve"])
def test_gated_model_says_where_to_accept_its_licence(hub: Hub, start: str, status: int) -> None:
    hub.refuse[start] = (status, "GatedRepo")
    error = download_error(hub_model())
    assert isinstance(error, ModelGated)
    assert "licence must be accepted" in error.message
    assert "https://huggingface.co/owner/tiny" in error.hint
    assert "HF_TOKEN" in error.hint


@pytest.mark.parametrize("status", [401, 404])
def test_unknown_repository_is_named(hub: Hub, status: int) -> None:
    hub.refuse["/api/models/owner/nothing"] = (status, "RepoNotFound")
    error = download_error(hub_model(repo="owner/nothing"))
    assert type(error) is ModelMissing
    assert "does not know owner/nothing" in error.message


def test_unknown_revision_is_named(hub: Hub) -> None:
    hub.refuse[f"/api/models/owner/tiny/tree/{'f' * 40}"] = (404, "RevisionNotFound")
    error = download_error(hub_model(revision="f" * 40))
    assert type(error) is ModelMissing
    assert "has no revision ffffffffffff" in error.message
    assert "catalogue" in error.hint


def test_cancel_in_mid_download_ends_at_once_and_the_next_try_completes(hub: Hub) -> None:
    hub.pause_after = 2 * MEGABYTE
    cancel = CancelToken()
    steps = weights.download(hub_model(), cancel)
    while next(steps).step < 2:  # type: ignore[attr-defined]
        pass
    started = time.monotonic()
    cancel.set()
    with pytest.raises(Cancelled):
        weights.drain(steps)
    assert time.monotonic() - started < 10.0  # the server would hold it for a minute
    assert catalog.cached_snapshot(hub_model()) is None
    hub.go_on.set()
    for thread in [t for t in threading.enumerate() if t.name == "weights"]:
        thread.join(30)
        assert not thread.is_alive()
    found = weights.drain(weights.locate(hub_model(), CancelToken(), may_download=True))
    assert (found / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_no_network_is_said_within_seconds(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # discard: nobody listens
    started = time.monotonic()
    error = download_error(hub_model())
    assert time.monotonic() - started < 15.0  # left alone, the hub library tries for 23
    assert type(error) is ModelMissing
    assert "Tiny could not be downloaded" in error.message
    assert "Is there a network?" in error.hint


def test_network_that_goes_away_in_mid_download_is_said(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import file_download

    # The library tries five more times, a second apart.
    monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda seconds: None, time=time.time))
    hub.pause_after, hub.is_cut = MEGABYTE, True
    hub.go_on.set()
    error = download_error(hub_model())
    assert type(error) is ModelMissing
    assert "could not be downloaded" in error.message


def test_offline_mode_of_the_hub_library_is_respected(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert type(download_error(hub_model())) is ModelMissing
    assert hub.requests == []


def test_model_larger_than_the_disk_is_refused_before_the_download(hub: Hub) -> None:
    error = download_error(hub_model(download_mb=10**12))
    assert isinstance(error, ModelTooLarge)
    assert "of disk" in error.message
    assert hub.requests == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's always-full device")
def test_disk_that_fills_up_on_the_way_is_said() -> None:
    with pytest.raises(OSError) as full:
        Path("/dev/full").write_text("x")
    error = weights._translate(full.value, hub_model())
    assert isinstance(error, ModelTooLarge)
    assert "disk is full" in error.message


def test_cache_that_cannot_be_written_is_said(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    assert type(download_error(hub_model())) is ModelMissing


def test_command_line_verifies_a_model(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["weights", "mote"])
    weights.main()
    assert capsys.readouterr().out.endswith("mote verified\n")
