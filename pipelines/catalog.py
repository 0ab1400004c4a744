"""Which models exist, and which one to use here.

Reads ``assets/catalog.toml`` and the user's own ``catalog.toml``; answers what is present on this machine
and which model ``auto`` means. Knows no task in particular, never imports torch, downloads nothing
(that is ``pipelines.weights``).

    python -m pipelines.catalog            # every model, whether it is present, and what auto picks
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from pipelines import device
from pipelines.errors import ModelMissing, ModelTooLarge, ModelUnavailable, StudioError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ASSETS = Path(__file__).resolve().parent.parent / "assets"
SOURCES = ("embedded", "local", "hub", "remote")
QUANTIZATIONS = ("none", "int8", "int4")
#: What a hub model is loaded from. Pickles, ONNX exports, GGUF files and python code stay out.
LOADED = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
_NEEDED = {"embedded": ("path",), "local": ("path",), "hub": ("repo",), "remote": ("base_url", "remote_model")}
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")


@dataclass(frozen=True, kw_only=True)
class Model:
    """One block of the catalogue; the meaning of each field stands at the top of ``catalog.toml``."""

    id: str
    task: str
    title: str
    summary: str
    source: str
    license: str
    path: str = ""
    repo: str = ""
    revision: str = ""
    base_url: str = ""
    remote_model: str = ""
    key_variable: str = ""
    needs_key: bool = False
    license_url: str = ""
    non_commercial: bool = False
    gated: bool = False
    download_mb: int = 0
    memory_mb: int = 0
    context: int = 0
    files: str = ""
    variant: str = ""
    lora_repo: str = ""
    lora_revision: str = ""
    lora_file: str = ""
    width: int = 0
    height: int = 0
    num_inference_steps: int = 0
    guidance_scale: float = -1.0
    scheduler: str = ""
    tier: str = "cpu"
    quantization: str = "none"
    rank: int = 0

    @property
    def memory_bytes(self) -> int:
        return self.memory_mb * 1024**2

    @property
    def is_remote(self) -> bool:
        return self.source == "remote"

    @property
    def unset_variables(self) -> tuple[str, ...]:
        """Environment variables that a remote model needs and that are not set."""
        names = _VARIABLE.findall(self.base_url + self.remote_model)
        names += [self.key_variable] if self.needs_key else []
        return tuple(name for name in names if not os.environ.get(name))

    @property
    def is_tiny(self) -> bool:
        """The models trained by this project wear a badge in the page."""
        return self.source == "embedded"

    def folder(self) -> Path | None:
        """Where an embedded or local model lies; None for the other sources."""
        if self.source == "embedded":
            return ASSETS / self.path
        return Path(self.path).expanduser() if self.source == "local" else None


class CatalogError(StudioError):
    """A block of a catalogue file is wrong; the message names file, block and field."""


def _is_repo(name: str) -> bool:
    return _REPO.fullmatch(name) is not None and "--" not in name and ".." not in name


def _model(raw: Any, source_file: str, base: Path) -> Model:
    if not isinstance(raw, Mapping):
        raise CatalogError(f"{source_file}: model must be written as [[model]] blocks.")
    where = f"{source_file}, model {raw.get('id', '?')!r}"
    types = {f.name: str if f.default is MISSING else type(f.default) for f in fields(Model)}
    unknown = sorted(set(raw) - set(types))
    if unknown:
        raise CatalogError(f"{where}: unknown field {', '.join(unknown)}.", f"Known: {', '.join(types)}.")
    for name in ("id", "task", "title", "summary", "source", "license"):
        if not isinstance(raw.get(name), str) or not raw[name]:
            raise CatalogError(f"{where}: {name} is missing.", "Every model needs it.")
    for name, value in raw.items():
        if type(value) is int and types[name] is float:
            continue
        if type(value) is not types[name]:
            raise CatalogError(f"{where}: {name} must be {types[name].__name__}, not {value!r}.")
        if isinstance(value, int) and name.endswith("_mb") and value < 0:
            raise CatalogError(f"{where}: {name} must not be negative, as {value} is.")
        if isinstance(value, int) and name in ("width", "height", "num_inference_steps") and value < 0:
            raise CatalogError(f"{where}: {name} must not be negative, as {value} is.")
    if raw["source"] not in SOURCES:
        raise CatalogError(f"{where}: source must be one of {', '.join(SOURCES)}.")
    if raw.get("tier", "cpu") not in device.TIERS:
        raise CatalogError(f"{where}: tier must be one of {', '.join(device.TIERS)}.")
    if raw.get("quantization", "none") not in QUANTIZATIONS:
        raise CatalogError(f"{where}: quantization must be one of {', '.join(QUANTIZATIONS)}.")
    for needed in (*_NEEDED[raw["source"]], *(["key_variable"] if raw.get("needs_key") else [])):
        if not raw.get(needed):
            raise CatalogError(f"{where}: {needed} is missing.", f"Source {raw['source']} needs it.")
    if raw["source"] == "hub" and not _is_repo(raw["repo"]):
        raise CatalogError(f"{where}: repo must be owner/name, not {raw['repo']!r}.")
    if raw.get("lora_repo") and not _is_repo(raw["lora_repo"]):
        raise CatalogError(f"{where}: lora_repo must be owner/name, not {raw['lora_repo']!r}.")
    if bool(raw.get("lora_repo")) != bool(raw.get("lora_file")):
        raise CatalogError(f"{where}: lora_repo and lora_file go together.")
    values = dict(raw)
    if raw["source"] == "local":
        values["path"] = str((base / Path(raw["path"]).expanduser()).resolve())
    return Model(**values)


def read(path: Path) -> list[Model]:
    """The models of one catalogue file. Raises CatalogError naming the block and field that is wrong."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CatalogError(f"{path.name} cannot be read: {error}.") from error
    blocks = data.get("model", [])
    models = [_model(raw, path.name, path.parent) for raw in (blocks if isinstance(blocks, list) else [None])]
    ids = [m.id for m in models]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise CatalogError(f"{path.name}, model {twice[0]!r}: id is used twice.", "Every model needs its own.")
    return models


def load(extra: Path | None = None) -> dict[str, Model]:
    """All known models by id; a block of the user's own file ``extra`` replaces one of the same id."""
    models = {m.id: m for m in read(ASSETS / "catalog.toml")}
    return models if extra is None else models | {m.id: m for m in read(extra)}


def expand(value: str, environment: Mapping[str, str] = os.environ) -> str:
    """``${NAME}`` replaced from the environment; empty when the variable is not set."""
    return _VARIABLE.sub(lambda m: environment.get(m.group(1), ""), value)


def is_present(model: Model) -> bool:
    """Whether the model can be used without a download: files here, or a remote server configured."""
    if model.source in ("embedded", "local"):
        return _has_config(model.folder())
    if model.source == "remote":
        return not model.unset_variables
    return cached_snapshot(model) is not None and (not model.lora_repo or cached_lora(model) is not None)


def _has_config(folder: Path | None) -> bool:
    return folder is not None and any((folder / name).is_file() for name in ("config.json", "model_index.json"))


def missing_shards(folder: Path) -> list[str]:
    """Weight files that an index in ``folder`` names and that are not there; an unreadable index itself."""
    missing = []
    for index in sorted(folder.rglob("*.safetensors.index.json")):
        try:
            names = sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
            missing += [name for name in names if not (index.parent / name).is_file()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            missing.append(index.name)
    return missing


def file_patterns(model: Model) -> list[str]:
    """What is fetched of a hub model. ``files`` picks one of the precisions that a repository holds side by side."""
    return [model.files if model.files and name == "*.safetensors" else name for name in LOADED]


def cached_lora(model: Model) -> Path | None:
    """The LoRA that belongs to a model, when it is in the local cache."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(
            hf_hub_download(
                model.lora_repo, model.lora_file, revision=model.lora_revision or None, local_files_only=True
            )
        )
    except (OSError, ValueError):
        return None


def cached_snapshot(model: Model) -> Path | None:
    """Folder of a hub model in the local cache when its weights are complete, else None.

    A download that was broken off lacks files of the hub's listing (which the hub library keeps beside the
    snapshot and compares with) or shards that its index names.
    """
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            model.repo, revision=model.revision or None, allow_patterns=file_patterns(model), local_files_only=True
        )
    except (OSError, ValueError):  # not there, not complete, not readable
        return None
    folder = Path(found)
    has_weights = any(folder.rglob("*.safetensors")) and not missing_shards(folder)
    return folder if _has_config(folder) and has_weights else None


def weight_bytes(model: Model) -> int:
    """Size of the model's weights: measured where they are here, else what the catalogue says."""
    folder = model.folder()
    measured = sum(f.stat().st_size for f in folder.rglob("*.safetensors")) if folder else 0
    return measured or model.download_mb * 1000**2


def fits(model: Model, compute: device.Compute) -> bool:
    """Whether the device's tier and memory budget suffice (a remote model always fits)."""
    if model.is_remote:
        return True
    order = list(device.TIERS)
    if model.quantization == "int4" and not compute.device.startswith("cuda"):
        return False
    return order.index(model.tier) <= order.index(compute.tier) and model.memory_bytes <= compute.memory_budget_bytes


@dataclass(frozen=True)
class Choice:
    """The model to use and, in one sentence, why it and not another."""

    model: Model
    reason: str


def choose(
    task: str,
    wanted: str,
    models: Iterable[Model],
    compute: device.Compute,
    *,
    present: Callable[[Model], bool] = is_present,
    may_download: bool = False,
) -> Choice:
    """The model for ``task``: the one asked for, or for ``auto`` the best that fits and can be had.

    Args:
        wanted: a model id, or ``auto``.
        present: whether a model can be used without download (injected by tests).
        may_download: whether a model that fits may be fetched from the hub; gated ones never are by ``auto``.
    Raises:
        ModelUnavailable: unknown id, or nothing fits.
        ModelMissing: asked for by id, absent, and downloads are not allowed.
        ModelTooLarge: asked for by id and does not fit; the hint names the next smaller one that does.
    """
    candidates = [m for m in models if m.task == task]
    ids = ", ".join(m.id for m in candidates)
    local = sorted((m for m in candidates if not m.is_remote), key=lambda m: m.rank, reverse=True)
    if wanted != "auto":
        found = next((m for m in candidates if m.id == wanted), None)
        if found is None:
            raise ModelUnavailable(f"There is no {task} model called {wanted[:60]!r}.", f"Known: {ids}.")
        if not fits(found, compute):
            smaller = next((m for m in local if m.rank < found.rank and fits(m, compute)), None)
            card = ", an NVIDIA card" if found.quantization == "int4" else ""
            raise ModelTooLarge(
                f"{found.title} needs {found.memory_mb / 1024:.1f} GB{card} and tier {found.tier}; "
                f"{compute.name} offers {compute.memory_budget_bytes / device.GIB:.1f} GB, tier {compute.tier}.",
                f"The next smaller one that fits is {smaller.id}." if smaller else "",
            )
        if not present(found) and not (may_download and found.source == "hub"):
            raise missing(found)
        return Choice(found, f"{found.title}, because it was asked for.")
    fitting = [m for m in local if fits(m, compute)]
    if not fitting:
        raise ModelUnavailable(f"No {task} model fits {compute.name}.", f"Known: {ids}.")
    best = fitting[0]
    for model in fitting:
        here = present(model)
        if here or (may_download and model.source == "hub" and not model.gated):
            if model is best:
                return Choice(model, f"{model.title}, the best that fits tier {compute.tier}.")
            return Choice(model, f"{model.title}: {best.title} would fit too, but {_obstacle(best, may_download)}.")
    raise ModelMissing(f"No {task} model is on this machine.", "Allow downloads, or restore assets/models.")


def _obstacle(model: Model, may_download: bool) -> str:
    """Why ``auto`` did not take a model that fits."""
    if model.source != "hub":
        return "its folder is not there"
    return "its licence must be accepted first" if may_download else "it is not on this machine and downloads are off"


def missing(model: Model) -> ModelMissing:
    """The error for a model that is not here: what it would take to get it."""
    if model.source == "hub":
        return ModelMissing(
            f"{model.title} is not on this machine (a download of {model.download_mb / 1000:.1f} GB).",
            f"Start without --offline and with --allow-downloads, or run: hf download {model.repo}",
        )
    if model.source == "remote":
        unset = " and ".join(model.unset_variables)
        return ModelMissing(f"{model.title} is not configured.", f"Set {unset} and start again.")
    return ModelMissing(f"{model.title} is not in {model.path}.", "Restore the folder, or choose another model.")


def main() -> None:
    models = load()
    compute = device.pick(device.Request(), device.probe())
    for model in models.values():
        state = "present" if is_present(model) else "absent "
        fit = "fits" if fits(model, compute) else "too large"
        print(f"{model.task:13} {model.id:18} {state} {fit:9} {model.license:28} {model.summary}")
    for task in sorted({m.task for m in models.values()}):
        try:
            reason = choose(task, "auto", models.values(), compute).reason
        except ModelUnavailable as error:
            reason = str(error)
        print(f"auto {task}: {reason}")


if __name__ == "__main__":
    main()
