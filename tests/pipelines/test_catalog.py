"""The catalogue: what ships is in order, what a person adds is checked, and ``auto`` means the best that can be had."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines import catalog, device
from pipelines.catalog import CatalogError, Model
from pipelines.device import GIB, Compute, Gpu, Hardware, Request
from pipelines.errors import ModelMissing, ModelTooLarge, ModelUnavailable

CPU = device.pick(Request(), Hardware(ram_free_bytes=8 * GIB))
CARD_16GB = device.pick(Request(), Hardware(cuda=(Gpu("T4", 16 * GIB, 15 * GIB, (7, 5)),)))
CARD_80GB = device.pick(Request(), Hardware(cuda=(Gpu("H100", 80 * GIB, 79 * GIB, (9, 0)),)))
APPLE = device.pick(Request(), Hardware(mps=Gpu("Apple arm64", 128 * GIB, 100 * GIB)))
REVISION = "0123456789abcdef0123456789abcdef01234567"

SHIPPED = catalog.read(catalog.ASSETS / "catalog.toml")


def model(id: str, source: str = "hub", **changes: Any) -> Model:
    values: dict[str, Any] = {
        "id": id,
        "task": "chat",
        "title": id.title(),
        "summary": "For a test.",
        "source": source,
        "license": "Apache-2.0",
        "repo": f"owner/{id}" if source == "hub" else "",
        "revision": REVISION if source == "hub" else "",
        "path": f"models/{id}" if source in ("embedded", "local") else "",
    }
    return Model(**(values | changes))


TINY = model("tiny", "embedded", memory_mb=300, rank=0)
MEDIUM = model("medium", memory_mb=1800, rank=20, download_mb=730)
GATED = model("gated", memory_mb=2000, rank=30, gated=True)
LARGE = model("large", memory_mb=66000, rank=60, tier="80gb")
SERVER = model("server", "remote", base_url="${TEST_URL}", remote_model="${TEST_MODEL}", rank=99)
ALL = (TINY, MEDIUM, GATED, LARGE, SERVER)


def present(*models: Model) -> Callable[[Model], bool]:
    ids = {m.id for m in models}
    return lambda m: m.id in ids


# --- what ships -------------------------------------------------------------------------------------------


def test_shipped_catalogue_has_unique_lower_case_ids() -> None:
    ids = [m.id for m in SHIPPED]
    assert len(ids) == len(set(ids)) > 5
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.-]*", i) for i in ids)


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda m: m.id)
def test_shipped_block_says_what_it_is_and_under_which_licence(shipped: Model) -> None:
    assert shipped.summary.endswith(".")
    assert shipped.title
    assert shipped.license
    if not shipped.is_remote:
        assert shipped.license_url.startswith("https://")
        assert shipped.memory_mb > 0
        assert shipped.context > 0
    assert type(shipped.non_commercial) is bool
    if re.search(r"\bNC\b|non-?commercial", shipped.license, re.IGNORECASE):
        assert shipped.non_commercial


@pytest.mark.parametrize("shipped", [m for m in SHIPPED if m.source == "hub"], ids=lambda m: m.id)
def test_shipped_hub_block_is_pinned_to_a_commit_and_states_its_size(shipped: Model) -> None:
    assert re.fullmatch(r"[0-9a-f]{40}", shipped.revision)
    assert shipped.download_mb > 0


@pytest.mark.parametrize("task", sorted({m.task for m in SHIPPED}))
def test_every_task_has_an_embedded_model_that_fits_any_machine(task: str) -> None:
    smallest = device.pick(Request(), Hardware(ram_free_bytes=2 * GIB))
    assert [m for m in SHIPPED if m.task == task and m.source == "embedded" and catalog.fits(m, smallest)]


@pytest.mark.parametrize("shipped", [m for m in SHIPPED if m.source == "embedded"], ids=lambda m: m.id)
def test_embedded_model_is_in_the_repository(shipped: Model) -> None:
    assert catalog.is_present(shipped)
    assert shipped.is_tiny


# --- files of a person's own ------------------------------------------------------------------------------

BLOCK: dict[str, Any] = {
    "id": "mine",
    "task": "chat",
    "title": "Mine",
    "summary": "My own.",
    "source": "local",
    "license": "MIT",
    "path": "models/mine",
}
REMOTE = {"source": "remote", "base_url": "http://127.0.0.1:8000/v1", "remote_model": "m"}
HUB = {"source": "hub", "repo": "owner/name"}


def write(path: Path, *blocks: dict[str, Any]) -> Path:
    """A catalogue file; JSON writes text, numbers, booleans and lists as TOML does."""
    lines = [
        line
        for block in blocks
        for line in ("[[model]]", *(f"{k} = {json.dumps(v)}" for k, v in block.items() if v is not None))
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_own_file_adds_a_model(tmp_path: Path) -> None:
    models = catalog.load(write(tmp_path / "catalog.toml", BLOCK))
    assert models["mine"].title == "Mine"
    assert set(models) == {m.id for m in SHIPPED} | {"mine"}


def test_own_file_replaces_a_shipped_model_of_the_same_id(tmp_path: Path) -> None:
    models = catalog.load(write(tmp_path / "catalog.toml", BLOCK | {"id": "mote", "title": "Better"}))
    assert models["mote"].title == "Better"
    assert set(models) == {m.id for m in SHIPPED}


def test_without_an_own_file_there_are_the_shipped_models() -> None:
    assert list(catalog.load().values()) == SHIPPED


def test_an_own_file_that_is_not_there_is_an_error_not_ignored(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"typo\.toml cannot be read"):
        catalog.load(tmp_path / "typo.toml")


def test_local_folder_is_relative_to_the_file_that_names_it(tmp_path: Path) -> None:
    [mine] = catalog.read(write(tmp_path / "catalog.toml", BLOCK))
    assert mine.folder() == tmp_path / "models" / "mine"
    assert not catalog.is_present(mine)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "models" / "mine" / "config.json").write_text("{}")
    assert catalog.is_present(mine)


def test_local_folder_may_be_absolute_or_in_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    file = write(tmp_path / "catalog.toml", BLOCK | {"path": "~/m"}, BLOCK | {"id": "b", "path": str(tmp_path / "x")})
    assert [m.folder() for m in catalog.read(file)] == [tmp_path / "home" / "m", tmp_path / "x"]


def test_folder_of_a_pipeline_counts_as_present(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    assert catalog.is_present(model("p", "local", path=str(tmp_path)))
    assert not catalog.is_present(model("p", "local", path=str(tmp_path / "no")))


WRONG: list[tuple[dict[str, Any], str, str]] = [
    *[({name: None}, "", f"{name} is missing") for name in ("task", "title", "summary", "source", "license", "path")],
    ({"id": None}, "'?'", "id is missing"),
    ({"title": ""}, "'mine'", "title is missing"),
    ({"summary": 5}, "'mine'", "summary is missing"),
    ({"colour": "red"}, "'mine'", "unknown field colour"),
    ({"source": "cloud"}, "'mine'", "source must be one of embedded, local, hub, remote"),
    ({"tier": "12gb"}, "'mine'", "tier must be one of cpu, 8gb"),
    ({"quantization": "int2"}, "'mine'", "quantization must be one of none, int8, int4"),
    ({"memory_mb": "300"}, "'mine'", "memory_mb must be int, not '300'"),
    ({"memory_mb": 1.5}, "'mine'", "memory_mb must be int, not 1.5"),
    ({"memory_mb": True}, "'mine'", "memory_mb must be int, not True"),
    ({"memory_mb": -1}, "'mine'", "memory_mb must not be negative"),
    ({"gated": "yes"}, "'mine'", "gated must be bool, not 'yes'"),
    ({"gated": 1}, "'mine'", "gated must be bool, not 1"),
    ({"path": ["a"]}, "'mine'", "path must be str"),
    (HUB | {"repo": None}, "'mine'", "repo is missing"),
    (HUB | {"repo": "name"}, "'mine'", "repo must be owner/name, not 'name'"),
    (HUB | {"repo": "../../etc"}, "'mine'", "repo must be owner/name"),
    (HUB | {"repo": "https://huggingface.co/owner/name"}, "'mine'", "repo must be owner/name"),
    (HUB | {"repo": "owner/a--b"}, "'mine'", "repo must be owner/name"),
    (REMOTE | {"base_url": None}, "'mine'", "base_url is missing"),
    (REMOTE | {"remote_model": None}, "'mine'", "remote_model is missing"),
    (REMOTE | {"needs_key": True}, "'mine'", "key_variable is missing"),
]


@pytest.mark.parametrize(("changes", "block", "complaint"), WRONG, ids=[complaint for _, _, complaint in WRONG])
def test_wrong_block_is_refused_naming_file_block_and_field(
    tmp_path: Path, changes: dict[str, Any], block: str, complaint: str
) -> None:
    file = write(tmp_path / "own.toml", BLOCK | changes)
    with pytest.raises(CatalogError) as refusal:
        catalog.load(file)
    message = refusal.value.message
    assert message.startswith(f"own.toml, model {block}")
    assert complaint in message
    assert str(tmp_path) not in str(refusal.value)


@pytest.mark.parametrize("changes", [{}, HUB, REMOTE, REMOTE | {"needs_key": True, "key_variable": "KEY"}])
def test_right_block_of_every_source_is_accepted(tmp_path: Path, changes: dict[str, Any]) -> None:
    [mine] = catalog.read(write(tmp_path / "own.toml", BLOCK | changes))
    assert mine.id == "mine"


def test_same_id_twice_in_one_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="own.toml, model 'mine': id is used twice"):
        catalog.read(write(tmp_path / "own.toml", BLOCK, BLOCK))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"[[model]\n", "own.toml cannot be read"),
        (b"\xff\xfe", "own.toml cannot be read"),
        (b"[model]\nid = 'a'\n", "own.toml: model must be written as"),
        (b"model = 3\n", "own.toml: model must be written as"),
        (b"model = ['a']\n", "own.toml: model must be written as"),
    ],
)
def test_file_that_is_no_catalogue_is_refused_by_name(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "own.toml").write_bytes(content)
    with pytest.raises(CatalogError, match=re.escape(complaint)):
        catalog.read(tmp_path / "own.toml")


def test_file_without_models_is_empty(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("# nothing yet\n")
    assert catalog.read(tmp_path / "own.toml") == []


# --- choosing ---------------------------------------------------------------------------------------------


def test_auto_takes_the_best_that_fits_and_is_present() -> None:
    choice = catalog.choose("chat", "auto", ALL, CPU, present=present(TINY, MEDIUM, LARGE))
    assert choice.model is MEDIUM
    here = catalog.choose("chat", "auto", ALL, CARD_80GB, present=present(*ALL))
    assert here.model is LARGE
    assert here.reason == "Large, the best that fits tier 80gb."


def test_offline_falls_back_to_the_embedded_model_and_says_so() -> None:
    choice = catalog.choose("chat", "auto", (TINY, MEDIUM, LARGE), CPU, present=present(TINY))
    assert choice.model is TINY
    assert choice.reason == "Tiny: Medium would fit too, but it is not on this machine and downloads are off."


def test_auto_takes_a_hub_model_when_it_may_download() -> None:
    choice = catalog.choose("chat", "auto", (TINY, MEDIUM), CPU, present=present(TINY), may_download=True)
    assert choice.model is MEDIUM


def test_auto_never_downloads_a_gated_model_and_says_why() -> None:
    choice = catalog.choose("chat", "auto", (TINY, GATED), CPU, present=present(TINY), may_download=True)
    assert choice.model is TINY
    assert choice.reason == "Tiny: Gated would fit too, but its licence must be accepted first."


def test_auto_takes_a_gated_model_that_is_already_here() -> None:
    assert catalog.choose("chat", "auto", ALL, CPU, present=present(TINY, GATED)).model is GATED


def test_auto_names_a_local_folder_that_went_missing() -> None:
    local = model("own", "local", rank=50)
    choice = catalog.choose("chat", "auto", (TINY, local), CPU, present=present(TINY), may_download=True)
    assert choice.reason == "Tiny: Own would fit too, but its folder is not there."


def test_auto_never_takes_a_remote_model() -> None:
    assert catalog.choose("chat", "auto", ALL, CPU, present=present(SERVER, TINY)).model is TINY


def test_auto_with_nothing_here_says_what_to_do() -> None:
    with pytest.raises(ModelMissing, match="Allow downloads, or restore assets/models"):
        catalog.choose("chat", "auto", ALL, CPU, present=present())


def test_auto_with_nothing_that_fits_names_what_is_known() -> None:
    with pytest.raises(ModelUnavailable, match=r"No chat model fits CPU. Known: large, server\."):
        catalog.choose("chat", "auto", (LARGE, SERVER), CPU, present=present(LARGE, SERVER))


def test_a_model_asked_for_is_taken_even_if_a_better_one_is_here() -> None:
    choice = catalog.choose("chat", "tiny", ALL, CARD_80GB, present=present(*ALL))
    assert choice.model is TINY
    assert "asked for" in choice.reason


def test_unknown_id_names_those_known() -> None:
    with pytest.raises(ModelUnavailable, match="no chat model called 'gpt'. Known: tiny, medium, gated, large, server"):
        catalog.choose("chat", "gpt", ALL, CPU, present=present(*ALL))


def test_models_of_another_task_are_not_chosen() -> None:
    painter = model("painter", "embedded", task="image", rank=100)
    assert catalog.choose("chat", "auto", (*ALL, painter), CPU, present=lambda m: True).model is GATED
    with pytest.raises(ModelUnavailable, match="no chat model called 'painter'"):
        catalog.choose("chat", "painter", (*ALL, painter), CPU)


def test_too_large_a_model_names_needs_offer_and_the_next_smaller_one() -> None:
    with pytest.raises(ModelTooLarge) as refusal:
        catalog.choose("chat", "large", ALL, CPU, present=present(*ALL))
    assert "Large needs 64.5 GB and tier 80gb; CPU offers 4.8 GB, tier cpu." in refusal.value.message
    assert refusal.value.hint == "The next smaller one that fits is gated."


def test_too_large_a_model_without_a_smaller_one_promises_nothing() -> None:
    with pytest.raises(ModelTooLarge) as refusal:
        catalog.choose("chat", "large", (LARGE, SERVER), CPU, present=present(LARGE))
    assert refusal.value.hint == ""


def test_memory_in_use_counts_against_a_model_whose_tier_would_do() -> None:
    crowded = device.pick(Request(), Hardware(cuda=(Gpu("H100", 80 * GIB, 20 * GIB, (9, 0)),)))
    assert crowded.tier == "80gb"
    assert catalog.fits(LARGE, CARD_80GB)
    assert not catalog.fits(LARGE, crowded)


def test_four_bit_model_needs_cuda_and_the_refusal_says_so() -> None:
    packed = model("packed", memory_mb=1000, quantization="int4", rank=10)
    assert catalog.fits(packed, CARD_16GB)
    for other in (CPU, APPLE):
        assert not catalog.fits(packed, other)
    with pytest.raises(ModelTooLarge, match="NVIDIA"):
        catalog.choose("chat", "packed", (TINY, packed), APPLE, present=present(packed))


def test_absent_model_asked_for_says_how_to_get_it() -> None:
    with pytest.raises(ModelMissing) as refusal:
        catalog.choose("chat", "medium", ALL, CPU, present=present(TINY))
    assert "0.7 GB" in refusal.value.message
    assert "--allow-downloads" in refusal.value.hint
    assert "hf download owner/medium" in refusal.value.hint
    choice = catalog.choose("chat", "medium", ALL, CPU, present=present(TINY), may_download=True)
    assert choice.model is MEDIUM


def test_missing_folder_is_not_downloadable() -> None:
    with pytest.raises(ModelMissing, match="Restore the folder"):
        catalog.choose("chat", "tiny", ALL, CPU, present=present(), may_download=True)


@pytest.mark.parametrize("compute", [CPU, APPLE, CARD_16GB], ids=lambda c: str(c.name))
def test_remote_model_fits_every_device(compute: Compute) -> None:
    assert catalog.choose("chat", "server", ALL, compute, present=present(SERVER)).model is SERVER


def test_remote_model_is_present_only_with_all_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    keyed = model(
        "keyed", "remote", base_url="http://${HOST}:1/v1", remote_model="${NAME}", key_variable="KEY", needs_key=True
    )
    for name in ("HOST", "NAME", "KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ModelMissing, match="Set HOST and NAME and KEY and start again"):
        catalog.choose("chat", "keyed", [keyed], CPU)
    monkeypatch.setenv("HOST", "localhost")
    monkeypatch.setenv("NAME", "")
    monkeypatch.setenv("KEY", "secret-value")
    assert not catalog.is_present(keyed)
    with pytest.raises(ModelMissing, match="Set NAME and start again") as refusal:
        catalog.choose("chat", "keyed", [keyed], CPU)
    assert "secret-value" not in str(refusal.value)
    monkeypatch.setenv("NAME", "m")
    assert catalog.is_present(keyed)
    assert catalog.choose("chat", "keyed", [keyed], CPU).model is keyed


def test_variables_are_replaced_and_nothing_else() -> None:
    assert catalog.expand("${A}/x/${B}/$C/${d}", {"A": "1", "C": "3", "d": "4"}) == "1/x//$C/${d}"


# --- the hub's cache on disk ------------------------------------------------------------------------------


class FakeCache:
    """A Hugging Face cache directory, laid out as the hub library lays it out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.repo = root / "models--owner--medium"
        self.snapshot = self.repo / "snapshots" / REVISION

    def add(self, name: str, content: bytes = b"{}") -> None:
        blob = self.repo / "blobs" / f"{len(list(self.repo.glob('blobs/*'))):040x}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link = self.snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)

    def add_index(self, *shards: str) -> None:
        weight_map = {f"layer.{i}": shard for i, shard in enumerate(shards)}
        self.add("model.safetensors.index.json", json.dumps({"weight_map": weight_map}).encode())

    def list_tree(self, *names: str) -> None:
        """The hub's listing of the commit, which the library writes before it downloads."""
        files = {name: {"size": 2, "blob_id": "0" * 40} for name in names}
        tree = self.repo / "trees" / f"{REVISION}.json"
        tree.parent.mkdir(parents=True, exist_ok=True)
        tree.write_text(json.dumps({"format_version": 1, "files": files}))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCache:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return FakeCache(tmp_path / "hub")


def test_empty_cache_holds_no_model(cache: FakeCache) -> None:
    assert catalog.cached_snapshot(MEDIUM) is None
    assert not catalog.is_present(MEDIUM)


def test_complete_snapshot_is_found_without_a_network(cache: FakeCache) -> None:
    cache.add("config.json")
    cache.add("model.safetensors")
    assert catalog.cached_snapshot(MEDIUM) == cache.snapshot
    assert catalog.is_present(MEDIUM)


def test_snapshot_of_another_revision_does_not_count(cache: FakeCache) -> None:
    cache.add("config.json")
    cache.add("model.safetensors")
    assert catalog.cached_snapshot(model("medium", revision="f" * 40)) is None


def test_branch_is_followed_to_its_commit(cache: FakeCache) -> None:
    cache.add("config.json")
    cache.add("model.safetensors")
    (cache.repo / "refs").mkdir()
    (cache.repo / "refs" / "main").write_text(REVISION)
    assert catalog.cached_snapshot(model("medium", revision="")) == cache.snapshot


@pytest.mark.parametrize("files", [(), ("config.json",), ("model.safetensors",), ("config.json", "pytorch_model.bin")])
def test_snapshot_without_config_or_safe_weights_is_not_present(cache: FakeCache, files: tuple[str, ...]) -> None:
    for name in ("README.md", *files):
        cache.add(name)
    assert not catalog.is_present(MEDIUM)


def test_sharded_snapshot_is_present_only_with_all_its_shards(cache: FakeCache) -> None:
    cache.add("config.json")
    cache.add_index("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    cache.add("model-00001-of-00002.safetensors")
    assert not catalog.is_present(MEDIUM)
    cache.add("model-00002-of-00002.safetensors")
    assert catalog.is_present(MEDIUM)


def test_shard_whose_blob_was_deleted_is_missed(cache: FakeCache) -> None:
    cache.add("config.json")
    cache.add_index("model-00001-of-00001.safetensors")
    cache.add("model-00001-of-00001.safetensors")
    (cache.snapshot / "model-00001-of-00001.safetensors").resolve().unlink()
    assert not catalog.is_present(MEDIUM)


def test_shards_of_a_pipelines_parts_are_counted_too(cache: FakeCache) -> None:
    cache.add("model_index.json")
    cache.add("vae/diffusion_pytorch_model.safetensors")
    weight_map = json.dumps({"weight_map": {"a": "diffusion_pytorch_model-00001.safetensors"}}).encode()
    cache.add("unet/diffusion_pytorch_model.safetensors.index.json", weight_map)
    assert not catalog.is_present(MEDIUM)
    cache.add("unet/diffusion_pytorch_model-00001.safetensors")
    assert catalog.is_present(MEDIUM)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"weight_map": 5}', b"\xff"])
def test_unreadable_index_makes_a_model_absent_instead_of_breaking_the_start(cache: FakeCache, content: bytes) -> None:
    cache.add("config.json")
    cache.add("model.safetensors")
    cache.add("model.safetensors.index.json", content)
    assert not catalog.is_present(MEDIUM)


def test_download_broken_off_before_the_tokenizer_came_is_not_present(cache: FakeCache) -> None:
    cache.list_tree("config.json", "model.safetensors", "tokenizer.json", "README.md", "pytorch_model.bin")
    cache.add("config.json")
    cache.add("model.safetensors")
    assert not catalog.is_present(MEDIUM)
    cache.add("tokenizer.json")
    assert catalog.is_present(MEDIUM)  # neither the README nor the pickle is needed


def test_command_line_lists_every_model_and_what_auto_picks(
    cache: FakeCache, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog.main()
    shown = capsys.readouterr().out
    assert all(m.id in shown for m in SHIPPED)
    assert "auto chat: Mote" in shown
