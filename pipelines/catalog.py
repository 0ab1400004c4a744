"""Which models exist, and which one to use here.

Reads ``assets/catalog.toml`` and the user's own ``catalog.toml``; answers what is present on this machine
and which model ``auto`` means. Knows no task in particular, never imports torch, downloads nothing
(that is ``pipelines.weights``).

    python -m pipelines.catalog            # every model, whether it is present, and what auto picks
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
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


def _model(raw: Mapping[str, Any], source_file: str, base: Path) -> Model:
    where = f"{source_file}, model {raw.get('id', '?')!r}"
    types = {f.name: type(f.default) if f.default is not f.default_factory else str for f in fields(Model)}
    known = {f.name: f for f in fields(Model)}
    unknown = sorted(set(raw) - set(known))
    if unknown:
        raise CatalogError(f"{where}: unknown field {', '.join(unknown)}.", f"Known: {', '.join(known)}.")
    for name in ("id", "task", "title", "summary", "source", "license"):
        if not isinstance(raw.get(name), str) or not raw[name]:
            raise CatalogError(f"{where}: {name} is missing.", "Every model needs it.")
    for name, value in raw.items():
        wanted = types.get(name, str)
        wanted = wanted if wanted in (int, bool) else str
        if type(value) is not wanted:
            raise CatalogError(f"{where}: {name} must be {wanted.__name__}, not {value!r}.")
    if raw["source"] not in SOURCES:
        raise CatalogError(f"{where}: source must be one of {', '.join(SOURCES)}.")
    if raw.get("tier", "cpu") not in device.TIERS:
        raise CatalogError(f"{where}: tier must be one of {', '.join(device.TIERS)}.")
    if raw.get("quantization", "none") not in QUANTIZATIONS:
        raise CatalogError(f"{where}: quantization must be one of {', '.join(QUANTIZATIONS)}.")
    needed = {"embedded": "path", "local": "path", "hub": "repo", "remote": "base_url"}[raw["source"]]
    if not raw.get(needed):
        raise CatalogError(f"{where}: source {raw['source']} needs {needed}.")
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
    return [_model(raw, path.name, path.parent) for raw in data.get("model", [])]


def load(extra: Path | None = None) -> dict[str, Model]:
    """All known models by id; a block of the user's own file ``extra`` replaces one of the same id."""
    models = {m.id: m for m in read(ASSETS / "catalog.toml")}
    if extra is not None and extra.exists():
        models |= {m.id: m for m in read(extra)}
    return models


def expand(value: str, environment: Mapping[str, str] = os.environ) -> str:
    """``${NAME}`` replaced from the environment; empty when the variable is not set."""
    return _VARIABLE.sub(lambda m: environment.get(m.group(1), ""), value)


def is_present(model: Model) -> bool:
    """Whether the model can be used without a download: files here, or a remote server configured."""
    if model.source in ("embedded", "local"):
        folder = model.folder()
        return folder is not None and (folder / "config.json").is_file() or _is_pipeline(folder)
    if model.source == "remote":
        has_key = not model.needs_key or bool(os.environ.get(model.key_variable))
        return bool(expand(model.base_url) and expand(model.remote_model)) and has_key
    return cached_snapshot(model) is not None


def _is_pipeline(folder: Path | None) -> bool:
    return folder is not None and (folder / "model_index.json").is_file()


def cached_snapshot(model: Model) -> Path | None:
    """Folder of a hub model in the local cache when its weights are complete, else None.

    A snapshot is complete when no safetensors shard named by the index is missing; a download that was
    broken off has its shards missing.
    """
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(model.repo, "config.json", revision=model.revision or None)
    if not isinstance(config, str):
        config = try_to_load_from_cache(model.repo, "model_index.json", revision=model.revision or None)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    index = folder / "model.safetensors.index.json"
    if index.exists():
        import json

        names = set(json.loads(index.read_text())["weight_map"].values())
        return folder if all((folder / n).exists() for n in names) else None
    return folder if any(folder.rglob("*.safetensors")) else None


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
            raise ModelTooLarge(
                f"{found.title} needs {found.memory_mb / 1024:.1f} GB and tier {found.tier}; "
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
            how = "can be downloaded" if may_download else "is on this machine and downloads are off"
            return Choice(model, f"{model.title}: {best.title} would fit too, but only this one {how}.")
    raise ModelMissing(f"No {task} model is on this machine.", "Allow downloads, or restore assets/models.")


def missing(model: Model) -> ModelMissing:
    """The error for a model that is not here: what it would take to get it."""
    if model.source == "hub":
        return ModelMissing(
            f"{model.title} is not on this machine (a download of {model.download_mb / 1000:.1f} GB).",
            f"Start without --offline and with --allow-downloads, or run: hf download {model.repo}",
        )
    if model.source == "remote":
        variables = _VARIABLE.findall(model.base_url + model.remote_model)
        variables += [model.key_variable] if model.needs_key else []
        unset = [v for v in variables if not os.environ.get(v)]
        return ModelMissing(f"{model.title} is not configured.", f"Set {' and '.join(unset)} and start again.")
    return ModelMissing(f"{model.title} is not in {model.path}.", "Restore the folder, or choose another model.")


def main() -> None:
    models = load()
    compute = device.pick(device.Request(), device.probe())
    for model in models.values():
        state = "present" if is_present(model) else "absent "
        fit = "fits" if fits(model, compute) else "too large"
        print(f"{model.task:6} {model.id:18} {state} {fit:9} {model.license:28} {model.summary}")
    for task in sorted({m.task for m in models.values()}):
        print(f"auto {task}: {choose(task, 'auto', models.values(), compute).reason}")


if __name__ == "__main__":
    main()
