"""Device and precision: the right choice on hardware that this machine does not have, and one sentence why."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import device
from pipelines.device import GIB, Compute, Gpu, Hardware, Request
from pipelines.errors import DeviceUnavailable

A100 = Gpu("NVIDIA A100-SXM4-80GB", 80 * GIB, 78 * GIB, (8, 0))
H100 = Gpu("NVIDIA H100 80GB HBM3", 80 * GIB, 79 * GIB, (9, 0))
T4 = Gpu("Tesla T4", 15 * GIB, 14 * GIB, (7, 5))
RTX_4090 = Gpu("NVIDIA GeForce RTX 4090", 24 * GIB, 20 * GIB, (8, 9))
MI300X = Gpu("AMD Instinct MI300X", 192 * GIB, 190 * GIB, (9, 4))
ARC = Gpu("Intel Arc A770", 16 * GIB, 15 * GIB)
APPLE = Gpu("Apple arm64", 32 * GIB, 20 * GIB)

OLD_CPU = Hardware()
NEW_CPU = Hardware(cpu_has_bf16=True, cpu_cores=16, ram_total_bytes=64 * GIB, ram_free_bytes=50 * GIB)
MACHINES = {
    "a100": Hardware(cuda=(A100,)),
    "h100": Hardware(cuda=(H100,)),
    "t4": Hardware(cuda=(T4,)),
    "two": Hardware(cuda=(T4, RTX_4090)),
    "rocm": Hardware(cuda=(MI300X,), is_rocm=True),
    "mps": Hardware(mps=APPLE),
    "xpu": Hardware(xpu=(ARC,)),
    "zero": Hardware(is_zero_gpu=True),
    "old cpu": OLD_CPU,
    "new cpu": NEW_CPU,
}
BIG, SMALL = 2 * GIB, 14 * 1024**2


def auto(name: str, model_bytes: int | None = None) -> Compute:
    return device.pick(Request(model_bytes=model_bytes), MACHINES[name])


@pytest.mark.parametrize(
    ("name", "chosen", "dtype", "tier"),
    [
        ("a100", "cuda:0", "bfloat16", "80gb"),
        ("h100", "cuda:0", "bfloat16", "80gb"),
        ("t4", "cuda:0", "float16", "16gb"),
        ("two", "cuda:1", "bfloat16", "24gb"),
        ("rocm", "cuda:0", "bfloat16", "80gb"),
        ("mps", "mps", "float16", "24gb"),
        ("xpu", "xpu:0", "bfloat16", "16gb"),
        ("zero", "cuda", "bfloat16", "24gb"),
        ("old cpu", "cpu", "float32", "cpu"),
        ("new cpu", "cpu", "bfloat16", "cpu"),
    ],
)
def test_auto_takes_the_accelerator_in_its_native_precision(name: str, chosen: str, dtype: str, tier: str) -> None:
    compute = auto(name)
    assert (compute.device, compute.dtype, compute.tier) == (chosen, dtype, tier)


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("dtype", ["auto", "fp32"])
def test_reason_is_one_sentence_naming_device_and_precision(name: str, dtype: str) -> None:
    compute = device.pick(Request(dtype=dtype), MACHINES[name])
    assert compute.reason.endswith(".")
    assert compute.reason.count(". ") == 0
    assert "\n" not in compute.reason
    assert compute.dtype in compute.reason
    assert (compute.name if "cpu" not in name else "CPU") in compute.reason


def test_reason_tells_an_explicit_request_from_a_choice() -> None:
    assert "asked for" not in auto("a100").reason
    assert "asked for" in device.pick(Request(device="cuda"), MACHINES["a100"]).reason
    assert "bfloat16 because it was asked for" in device.pick(Request(dtype="bf16"), OLD_CPU).reason


def test_freest_of_several_gpus_is_taken_and_said_so() -> None:
    crowded = Gpu("busy", 80 * GIB, 1 * GIB, (8, 0))
    compute = device.pick(Request(), Hardware(cuda=(crowded, T4, RTX_4090)))
    assert compute.device == "cuda:2"
    assert "the freest of 3 GPUs" in compute.reason


def test_first_of_equally_free_gpus_is_taken() -> None:
    assert device.pick(Request(device="cuda"), Hardware(cuda=(A100, A100))).device == "cuda:0"


def test_explicit_index_is_taken_however_busy_it_is() -> None:
    compute = device.pick(Request(device="cuda:0"), MACHINES["two"])
    assert (compute.device, compute.dtype) == ("cuda:0", "float16")
    assert device.pick(Request(device=" CUDA:1 "), MACHINES["two"]).device == "cuda:1"


def test_cpu_can_be_asked_for_beside_a_gpu() -> None:
    compute = device.pick(Request(device="cpu"), MACHINES["a100"])
    assert (compute.device, compute.dtype, compute.tier) == ("cpu", "float32", "cpu")
    assert "asked for" in compute.reason


@pytest.mark.parametrize(
    ("request_", "name", "complaint", "hint"),
    [
        (Request(device="cuda"), "old cpu", "'cuda' was asked for, but is not there", "This machine offers: cpu."),
        (Request(device="cuda:5"), "two", "'cuda:5' was asked for", "cpu, cuda:0, cuda:1"),
        (Request(device="cuda:1"), "zero", "'cuda:1' was asked for", "cpu, cuda:0"),
        (Request(device="mps"), "a100", "'mps' was asked for", "cpu, cuda:0"),
        (Request(device="xpu:1"), "xpu", "'xpu:1' was asked for", "cpu, xpu:0"),
        (Request(device="tpu"), "mps", "no device called 'tpu'", "cpu, mps"),
        (Request(device="cuda:-1"), "a100", "no device called 'cuda:-1'", "cpu, cuda:0"),
        (Request(device=""), "old cpu", "no device called ''", "auto or one of: cpu"),
        (Request(device="/dev/sda" * 100), "old cpu", "no device called '/dev/sda", "auto or one of: cpu"),
        (Request(dtype="bf16"), "t4", "Tesla T4 cannot compute in bfloat16", "It can: float32, float16."),
        (Request(dtype="fp16"), "new cpu", "The CPU cannot compute in float16", "It can: float32, bfloat16."),
        (Request(dtype="bf16"), "mps", "cannot compute in bfloat16", "It can: float32, float16."),
        (Request(dtype="int3"), "a100", "no precision called 'int3'", "auto or one of: fp32, bf16, fp16"),
    ],
)
def test_request_that_cannot_be_met_fails_and_says_what_can(
    request_: Request, name: str, complaint: str, hint: str
) -> None:
    with pytest.raises(DeviceUnavailable) as refusal:
        device.pick(request_, MACHINES[name])
    assert complaint in refusal.value.message
    assert hint in refusal.value.hint
    assert len(refusal.value.message) < 120


@pytest.mark.parametrize(
    ("name", "written", "dtype"),
    [
        ("a100", "fp16", "float16"),
        ("a100", "FP32", "float32"),
        ("t4", "float32", "float32"),
        ("old cpu", "bfloat16", "bfloat16"),
        ("xpu", "fp16", "float16"),
        ("zero", "fp32", "float32"),
    ],
)
def test_explicit_precision_is_kept(name: str, written: str, dtype: str) -> None:
    assert device.pick(Request(dtype=written), MACHINES[name]).dtype == dtype


def test_small_model_keeps_full_precision_on_a_cpu_only() -> None:
    assert auto("new cpu", SMALL).dtype == "float32"
    assert auto("new cpu", BIG).dtype == "bfloat16"
    assert auto("a100", SMALL).dtype == "bfloat16"


def test_precision_for_one_model_changes_neither_device_nor_reason() -> None:
    request, hardware = Request(), MACHINES["new cpu"]
    small = device.for_model(device.pick(request, hardware), request, hardware, SMALL)
    assert (small.device, small.dtype) == ("cpu", "float32")
    assert "no GPU" in small.reason
    assert "asked for" not in small.reason


def test_model_stays_on_its_device_when_another_gpu_became_freer() -> None:
    request = Request()
    chosen = device.pick(request, Hardware(cuda=(A100, T4)))
    later = Hardware(cuda=(Gpu(A100.name, A100.total_bytes, 1 * GIB, (8, 0)), T4))
    assert device.for_model(chosen, request, later, BIG).device == "cuda:0"


@pytest.mark.parametrize("name", MACHINES)
def test_budget_leaves_a_margin_of_what_is_free(name: str) -> None:
    hardware = MACHINES[name]
    gpus = [*hardware.cuda, *hardware.xpu, *([hardware.mps] if hardware.mps else [])]
    free = max((g.free_bytes for g in gpus), default=48 * 10**9 if hardware.is_zero_gpu else hardware.ram_free_bytes)
    assert 0.5 * free < auto(name).memory_budget_bytes < 0.97 * free


@pytest.mark.parametrize(
    ("sold_as_gb", "tier"),
    [(0, "cpu"), (6, "cpu"), (8, "8gb"), (12, "8gb"), (16, "16gb"), (24, "24gb"), (48, "24gb"), (80, "80gb")],
)
def test_tier_is_the_largest_that_fits_a_card_showing_a_little_less_than_it_was_sold_as(
    sold_as_gb: int, tier: str
) -> None:
    assert device.tier_for(int(sold_as_gb * GIB * 0.93)) == tier


@pytest.mark.parametrize(("name", "chip"), [("t4", "CUDA, fp16"), ("old cpu", "CPU, fp32"), ("xpu", "XPU, bf16")])
def test_header_chip_is_short(name: str, chip: str) -> None:
    assert auto(name).short == chip


@pytest.mark.parametrize(
    ("file", "content", "limit"),
    [
        ("memory.max", "2147483648\n", 2 * GIB),
        ("memory.max", "max\n", None),
        ("memory/memory.limit_in_bytes", "1073741824\n", GIB),
        ("memory.max", "", None),
        ("other", "5", None),
    ],
)
def test_container_limit_is_read_from_either_version_of_cgroups(
    tmp_path: Path, file: str, content: str, limit: int | None
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(content)
    assert device._cgroup_limit(tmp_path) == limit


def test_probe_sees_this_machine_and_pick_accepts_it() -> None:
    hardware = device.probe()
    assert hardware.cpu_cores >= 1
    assert 0 < hardware.ram_free_bytes <= hardware.ram_total_bytes
    assert device.pick(Request(device="cpu"), hardware).memory_budget_bytes > 0


def test_probe_reports_the_container_limit_when_it_is_below_the_hosts_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_cgroup_limit", lambda: 3 * 1024**2)
    hardware = device.probe()
    assert hardware.ram_total_bytes == 3 * 1024**2
    assert hardware.ram_free_bytes == 0  # this process alone takes more


def test_probe_ignores_a_limit_above_the_hosts_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_cgroup_limit", lambda: 9223372036854771712)  # cgroup v1's "no limit"
    assert device.probe().ram_total_bytes < 2**60


def test_zero_gpu_is_recognised_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert device.probe().is_zero_gpu
    monkeypatch.setenv("SPACES_ZERO_GPU", "0")
    assert not device.probe().is_zero_gpu


def test_out_of_memory_is_recognised_from_real_allocators() -> None:
    import torch

    with pytest.raises(RuntimeError) as refusal:
        torch.empty(2**60, dtype=torch.uint8)
    assert device.is_out_of_memory(refusal.value)
    assert device.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."))
    with pytest.raises(MemoryError) as refused:
        bytearray(2**60)
    assert device.is_out_of_memory(refused.value)


@pytest.mark.parametrize(
    "message",
    [
        "MPS backend out of memory (MPS allocated: 9 GB)",
        "CUDA error: out of memory",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_out_of_memory_is_recognised_by_its_words(message: str) -> None:
    assert device.is_out_of_memory(RuntimeError(message))


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not match"), ValueError("out of memory"), KeyError("x"), RuntimeError()]
)
def test_other_failures_are_not_taken_for_out_of_memory(error: Exception) -> None:
    assert not device.is_out_of_memory(error)
