"""Which device and precision to use, and why, in one sentence.

``pick`` is a pure function from (request, hardware) to ``Compute``; ``probe`` is the one place that looks
at the real machine (and the one place where torch is imported, lazily). Knows no model, no page.

    python -m pipelines.device            # print what this machine would use, and the reason
"""

from __future__ import annotations

import gc
import os
import platform
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.errors import DeviceUnavailable

GIB = 1024**3
DTYPES = ("float32", "bfloat16", "float16")
DTYPE_NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"} | {d: d for d in DTYPES}
DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")
#: A model of fewer weights than this is bound by call overhead on a CPU, not by arithmetic: measured on
#: two AVX-512 cores, a 7M-parameter LM generates no faster in bfloat16 than in float32.
SMALL_MODEL_BYTES = 200 * 1024**2

#: How a RuntimeError says that memory ran out: CUDA's driver and Metal, PyTorch's CPU allocator on Linux and
#: on Windows, cuBLAS.
OUT_OF_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "cublas_status_alloc_failed")

#: Memory tiers of the catalogue, smallest first: name -> memory in bytes that a device must offer.
#: A card sold as "8 GB" shows a little less to a program, hence the margin of 10 %.
TIERS: dict[str, int] = {
    "cpu": 0,
    "8gb": int(7.2 * GIB),
    "16gb": int(14.4 * GIB),
    "24gb": int(21.6 * GIB),
    "80gb": int(72 * GIB),
}


@dataclass(frozen=True)
class Gpu:
    """One accelerator. ``capability`` is CUDA's (major, minor), None elsewhere."""

    name: str
    total_bytes: int
    free_bytes: int
    capability: tuple[int, int] | None = None


@dataclass(frozen=True)
class Hardware:
    """What is there. Tests make imaginary ones."""

    cpu_name: str = "CPU"
    cpu_cores: int = 2
    cpu_has_bf16: bool = False
    ram_total_bytes: int = 8 * GIB
    ram_free_bytes: int = 6 * GIB
    cuda: tuple[Gpu, ...] = ()
    is_rocm: bool = False
    mps: Gpu | None = None
    xpu: tuple[Gpu, ...] = ()
    is_zero_gpu: bool = False


@dataclass(frozen=True)
class Request:
    """What was asked for. ``model_bytes`` (weights in memory) lets a tiny model keep full precision."""

    device: str = "auto"
    dtype: str = "auto"
    model_bytes: int | None = None


@dataclass(frozen=True)
class Compute:
    """What will be used. ``reason`` is one sentence for the page and the log."""

    device: str
    dtype: str
    attention: str
    memory_budget_bytes: int
    tier: str
    name: str
    reason: str

    @property
    def short(self) -> str:
        """``CPU, fp32``: for the chip in the header."""
        kind = self.device.split(":")[0].upper()
        return f"{kind}, {next(k for k, v in DTYPE_NAMES.items() if v == self.dtype)}"


def tier_for(memory_bytes: int) -> str:
    """The largest catalogue tier that ``memory_bytes`` of device memory satisfies."""
    return [name for name, needed in TIERS.items() if memory_bytes >= needed][-1]


def _available(hw: Hardware) -> list[str]:
    found = ["cpu"]
    found += [f"cuda:{i}" for i in range(len(hw.cuda))]
    found += ["mps"] if hw.mps else []
    found += [f"xpu:{i}" for i in range(len(hw.xpu))]
    return found


def _kind_of(device: str, hw: Hardware) -> str:
    wanted = device.strip().lower()
    kind, _, index = wanted.partition(":")
    if kind not in DEVICES or (index and not index.isdigit()):
        raise DeviceUnavailable(
            f"There is no device called {device[:40]!r}.", f"Choose auto or one of: {', '.join(_available(hw))}."
        )
    if wanted == "auto":
        if hw.cuda or hw.is_zero_gpu:
            return "cuda"
        return "xpu" if hw.xpu else "mps" if hw.mps else "cpu"
    offered = _available(hw) + (["cuda:0"] if hw.is_zero_gpu else [])
    if not any(o == wanted or (not index and o.split(":")[0] == kind) for o in offered):
        raise DeviceUnavailable(
            f"Device {wanted!r} was asked for, but is not there.", f"This machine offers: {', '.join(offered)}."
        )
    return wanted


def _choose_gpu(gpus: tuple[Gpu, ...], device: str) -> int:
    """The index asked for, else the GPU with the most free memory (the first of equals)."""
    _, _, index = device.partition(":")
    if index:
        return int(index)
    return max(range(len(gpus)), key=lambda i: (gpus[i].free_bytes, -i))


def _dtype(request: Request, *, natural: str, why: str, can: tuple[str, ...], name: str) -> tuple[str, str]:
    if request.dtype == "auto":
        return natural, why
    wanted = DTYPE_NAMES.get(request.dtype.lower())
    if wanted is None:
        raise DeviceUnavailable(
            f"There is no precision called {request.dtype[:40]!r}.",
            f"Choose auto or one of: {', '.join(DTYPE_NAMES)}.",
        )
    if wanted not in can:
        raise DeviceUnavailable(f"{name} cannot compute in {wanted}.", f"It can: {', '.join(can)}.")
    return wanted, f"{wanted} because it was asked for"


def pick(request: Request, hw: Hardware) -> Compute:
    """Choose device, precision, attention and memory budget. Pure: no probing, no torch.

    Args:
        request: what the operator asked for; ``auto`` lets this function decide.
        hw: what is there.
    Returns:
        The choice, with ``memory_budget_bytes`` (what models and their work may take) and the reason.
    Raises:
        DeviceUnavailable: an explicit device or precision cannot be met; the hint says what can.
    """
    device = _kind_of(request.device, hw)
    kind = device.split(":")[0]
    asked = "" if request.device == "auto" else " (asked for)"
    small = request.model_bytes is not None and request.model_bytes < SMALL_MODEL_BYTES
    if kind == "cuda" and hw.is_zero_gpu:
        # The GPU is attached only inside a call, so its properties cannot be read; the fleet is
        # RTX Pro 6000 (compute capability 12), half a card (48 GB) by default.
        dtype, why = _dtype(
            request,
            natural="bfloat16",
            why="bfloat16, which its RTX Pro 6000 computes natively",
            can=DTYPES,
            name="ZeroGPU",
        )
        return Compute(
            "cuda", dtype, "sdpa", int(48e9 * 0.85), tier_for(int(48e9)), "ZeroGPU",
            f"ZeroGPU: a GPU is lent for each call{asked}, {why}.",
        )  # fmt: skip
    if kind == "cuda":
        index = _choose_gpu(hw.cuda, device)
        gpu = hw.cuda[index]
        system = "ROCm" if hw.is_rocm else "CUDA"
        several = f"the freest of {len(hw.cuda)} GPUs" if len(hw.cuda) > 1 and ":" not in device else "the GPU"
        native_bf16 = hw.is_rocm or (gpu.capability is not None and gpu.capability >= (8, 0))
        if native_bf16:
            natural, why = "bfloat16", "bfloat16, which it computes natively with float32's range"
        else:
            natural, why = "float16", "float16, since it has no native bfloat16"
        can = DTYPES if native_bf16 else ("float32", "float16")
        dtype, why = _dtype(request, natural=natural, why=why, can=can, name=gpu.name)
        return Compute(
            f"cuda:{index}", dtype, "sdpa", int(gpu.free_bytes * 0.85), tier_for(gpu.total_bytes), gpu.name,
            f"{gpu.name} over {system}, {several}{asked}, {why}.",
        )  # fmt: skip
    if kind == "xpu":
        index = _choose_gpu(hw.xpu, device)
        gpu = hw.xpu[index]
        dtype, why = _dtype(
            request, natural="bfloat16", why="bfloat16, native on Intel's XPU", can=DTYPES, name=gpu.name
        )
        return Compute(
            f"xpu:{index}", dtype, "sdpa", int(gpu.free_bytes * 0.85), tier_for(gpu.total_bytes), gpu.name,
            f"{gpu.name}{asked}, {why}.",
        )  # fmt: skip
    if kind == "mps":
        assert hw.mps is not None
        dtype, why = _dtype(
            request,
            natural="float16",
            why="float16, its fastest precision",
            can=("float32", "float16"),
            name="Apple MPS",
        )
        # Unified memory: the system and the page live there too.
        return Compute(
            "mps", dtype, "sdpa", int(hw.mps.total_bytes * 0.6), tier_for(int(hw.mps.total_bytes * 0.75)), hw.mps.name,
            f"{hw.mps.name} over Metal{asked}, {why}.",
        )  # fmt: skip
    if hw.cpu_has_bf16 and not small:
        natural, why = "bfloat16", "bfloat16, since this CPU multiplies it natively and it halves the memory"
    elif hw.cpu_has_bf16:
        natural, why = "float32", "float32, since a model this small is no faster in bfloat16"
    else:
        natural, why = "float32", "float32, since this CPU has no fast half precision"
    can = ("float32", "bfloat16")  # float16 arithmetic is emulated on CPUs and missing for some operators
    dtype, why = _dtype(request, natural=natural, why=why, can=can, name="The CPU")
    because = "because it was asked for" if asked else "since there is no GPU"
    return Compute(
        "cpu", dtype, "sdpa", int(hw.ram_free_bytes * 0.6), "cpu", hw.cpu_name,
        f"CPU with {hw.cpu_cores} cores, {because}, in {why}.",
    )  # fmt: skip


def for_model(compute: Compute, request: Request, hw: Hardware, model_bytes: int) -> Compute:
    """The same choice made again for one model of ``model_bytes``: precision may differ, the device not."""
    again = pick(replace(request, model_bytes=model_bytes), hw)
    if again.device == compute.device:
        return again
    return pick(replace(request, device=compute.device, model_bytes=model_bytes), hw)


def _cpu_flags() -> tuple[str, bool]:
    """Name of the processor and whether it multiplies bfloat16 natively (avx512_bf16, AMX or Arm's bf16)."""
    name, flags = platform.processor() or platform.machine() or "CPU", ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip().lower() in ("flags", "features"):
                flags = value
                break
    words = set(flags.split())
    return name, bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


def probe() -> Hardware:
    """Look at the real machine. Imports torch (seconds when cold)."""
    import psutil
    import torch

    name, has_bf16 = _cpu_flags()
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    limit = _cgroup_limit()
    if limit is not None and limit < total:
        total, free = limit, max(0, min(free, limit - psutil.Process().memory_info().rss))
    zero = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true")
    cuda: tuple[Gpu, ...] = ()
    if not zero and torch.cuda.is_available():
        found = []
        for i in range(torch.cuda.device_count()):
            free_bytes, total_bytes = torch.cuda.mem_get_info(i)
            found.append(
                Gpu(torch.cuda.get_device_name(i), total_bytes, free_bytes, torch.cuda.get_device_capability(i))
            )
        cuda = tuple(found)
    mps = None
    if torch.backends.mps.is_available():
        mps = Gpu(f"Apple {platform.machine()}", total, free)
    xpu: tuple[Gpu, ...] = ()
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        found = []
        for i in range(torch.xpu.device_count()):
            properties = torch.xpu.get_device_properties(i)
            found.append(Gpu(properties.name, properties.total_memory, properties.total_memory))
        xpu = tuple(found)
    return Hardware(
        cpu_name=name,
        cpu_cores=_usable_cores(),
        cpu_has_bf16=has_bf16,
        ram_total_bytes=total,
        ram_free_bytes=free,
        cuda=cuda,
        is_rocm=torch.version.hip is not None,
        mps=mps,
        xpu=xpu,
        is_zero_gpu=zero,
    )


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cgroup_limit(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The container's memory limit in bytes, if there is one: a Space sees the host's RAM otherwise."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            raw = (root / name).read_text().strip()
        except OSError:
            continue
        if raw.isdigit():
            return int(raw)
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` means that memory ran out, on any device (CPU allocators raise RuntimeError)."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(phrase in words for phrase in OUT_OF_MEMORY_WORDS)


def release_memory() -> None:
    """Give freed tensors back to the device. Does nothing when torch was never imported."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
    elif hasattr(torch, "xpu") and torch.xpu.is_available():
        torch.xpu.empty_cache()


def main() -> None:
    compute = pick(Request(), probe())
    print(f"{compute.short}: {compute.reason} Memory budget {compute.memory_budget_bytes / GIB:.1f} GiB.")


if __name__ == "__main__":
    main()
