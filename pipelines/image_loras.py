"""LoRAs on a pipeline whose weights others share: checked before they touch it, active for one run only, then gone.

Safetensors files only. A file that does not fit is refused by name and leaves the model as it was.

    adapters = load(pipe, params.loras, run_id)    # raises InvalidParams naming the file
    activate(pipe, adapters)                       # whenever the run gets its turn
    unload(pipe, adapters)                         # in a finally
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import image_models, weights
from pipelines.device import is_out_of_memory
from pipelines.errors import InvalidParams, ModelCorrupt
from pipelines.text_to_image import Lora

#: SDXL LoRAs of rank 128 have 800 MB; what is larger is a whole model.
LARGEST_BYTES = 1_000 * 1024**2
MOST_TENSORS = 10_000


@dataclass(frozen=True)
class Adapter:
    """A LoRA as loaded: ``name`` is unique to the run."""

    name: str
    weight: float
    title: str
    sha256: str

    def record(self) -> dict[str, Any]:
        """For the picture's record; no path on this machine."""
        return {"name": self.title, "weight": self.weight, "sha256": self.sha256}


def find(lora: Lora) -> Path:
    """The safetensors file that ``lora.path`` means. Raises InvalidParams naming it when there is none, or several."""
    path = Path(lora.path).expanduser()
    shown = path.name or lora.path
    try:
        if path.is_dir():
            found = sorted(path.glob("*.safetensors"))
            if len(found) != 1:
                problem = f"{len(found)} safetensors files" if found else "no safetensors file"
                raise InvalidParams(f"The LoRA folder {shown} holds {problem}.", "Name the file itself.")
            path = found[0]
        if not path.is_file():
            raise InvalidParams(f"There is no LoRA file {shown}.")
        if path.suffix != ".safetensors":
            raise InvalidParams(
                f"The LoRA {shown} is no safetensors file.", "Other formats can hide code and are not loaded."
            )
        if path.stat().st_size > LARGEST_BYTES:
            raise InvalidParams(f"The LoRA {shown} is larger than 1,000 MB, so it is no LoRA.")
    except OSError as error:
        raise InvalidParams(f"The LoRA {shown} cannot be read.") from error
    return path


def check(path: Path) -> int:
    """How many matrices a LoRA's file holds.

    Raises InvalidParams unless it is a whole safetensors file with finite numbers as a LoRA has them.
    """
    from safetensors import SafetensorError, safe_open

    try:
        weights.check_safetensors(path)
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if not 0 < len(names) <= MOST_TENSORS:
                raise InvalidParams(f"The LoRA {path.name} holds {len(names)} tensors.", "That is no LoRA.")
            for name in names:
                tensor = file.get_tensor(name)
                if not tensor.is_floating_point() or tensor.ndim > 4:
                    raise InvalidParams(f"The LoRA {path.name} holds tensors that no LoRA has.")
                if not bool(tensor.isfinite().all()):
                    raise InvalidParams(f"The LoRA {path.name} holds numbers that are not finite.")
            return sum(not name.endswith(("alpha", "dora_scale", "magnitude_vector")) for name in names)
    except (ModelCorrupt, SafetensorError, OSError) as error:
        raise InvalidParams(f"The LoRA {path.name} is damaged or no safetensors file.", "Fetch it again.") from error


def load(pipe: Any, loras: Sequence[Lora], run_id: str) -> tuple[Adapter, ...]:
    """Check and load all of them, or none. Raises InvalidParams naming the file that does not fit."""
    files = [find(lora) for lora in loras]
    sizes = [check(file) for file in files]
    adapters: list[Adapter] = []
    try:
        for i, (lora, file, size) in enumerate(zip(loras, files, sizes, strict=True)):
            adapter = Adapter(f"run_{run_id}_{i}", lora.weight, file.stem, weights.sha256(file))
            adapters.append(adapter)
            _load_one(pipe, file, adapter.name, size)
    except BaseException:
        unload(pipe, adapters)
        raise
    return tuple(adapters)


def _load_one(pipe: Any, file: Path, name: str, size: int) -> None:
    try:
        pipe.load_lora_weights(
            str(file.parent),
            weight_name=file.name,
            adapter_name=name,
            local_files_only=True,
            use_safetensors=True,
        )
    except (ValueError, KeyError, RuntimeError, TypeError, IndexError, AttributeError, AssertionError) as error:
        if is_out_of_memory(error):
            raise
        raise InvalidParams(
            f"The LoRA {file.name} does not fit this model.", "It was made for another kind of model."
        ) from error
    networks = image_models.modules(pipe)
    loaded = sum(f".{name}." in key for network in networks for key, _ in network.named_parameters())
    if 2 * loaded < size:
        # diffusers only warns when little or nothing of a file belongs to the model.
        raise InvalidParams(
            f"Of the {size} matrices in the LoRA {file.name}, {loaded} belong to this model.",
            "It was made for another one.",
        )
    for network in networks:
        network.eval()  # the new layers come in training mode, where a LoRA's dropout would act


def activate(pipe: Any, adapters: Sequence[Adapter]) -> None:
    """Make these the only LoRAs that act; none of them means none at all."""
    present = {name for names in pipe.get_list_adapters().values() for name in names}
    if adapters:
        pipe.enable_lora()
        pipe.set_adapters([a.name for a in adapters], [a.weight for a in adapters])
    elif present:
        pipe.disable_lora()


def unload(pipe: Any, adapters: Sequence[Adapter]) -> None:
    """Remove these; when they were the last ones, the model's layers are the plain ones again."""
    if not adapters:
        return
    mine = {a.name for a in adapters}
    present = {name for names in pipe.get_list_adapters().values() for name in names}
    if others := sorted(present - mine):
        pipe.set_adapters(others)  # peft warns when it deletes one that acts; whose turn is next sets its own
        pipe.delete_adapters(sorted(mine & present))
    else:
        pipe.unload_lora_weights()
