"""The Triton kernels go through Triton's whole compiler, down to machine code, without a GPU.

The interpreter takes what the compiler refuses. `../test_gpu.py` runs this file in a process of its own, because it
replaces Triton's driver by one that has nothing to launch on.
"""

# Triton need not be installed.
# pyright: reportMissingImports=false

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from normlab.kernels import gpu, gpu_launch
from normlab.spec import NormSpec

H100 = GPUTarget("cuda", 90, 32)
A100 = GPUTarget("cuda", 80, 32)
DESKTOP = GPUTarget("cuda", 86, 32)
MI300 = GPUTarget("hip", "gfx942", 64)
TARGETS = [H100, A100, DESKTOP, MI300]
# The shared memory that a program may have at most.
SHARED_BYTES = {H100: 232448, A100: 166912, DESKTOP: 101376}


class NoGPU:
    """As much of a driver as compiling takes."""

    def __init__(self, target: GPUTarget = H100) -> None:
        self.target = target

    def get_current_device(self) -> int:
        # Triton keeps what it compiles, and for what, by the number of the device.
        return TARGETS.index(self.target)

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return self.target


@pytest.fixture
def compiled(monkeypatch):
    """The kernels that are compiled, with their names, instead of launched."""
    kernels: list[tuple[str, Any]] = []
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        kernels.append((self.fn.__name__, run(self, *args, grid=grid, warmup=True, **options)))

    monkeypatch.setattr(JITFunction, "run", compile_only)
    triton.runtime.driver.set_active(NoGPU())  # pyright: ignore[reportArgumentType]
    return kernels


# Each kernel and each of its ways once, and widths that are no multiple of 16 bytes.
@pytest.mark.parametrize(
    ("kind", "n", "dtype", "parameters"),
    [
        ("rmsnorm", 4096, torch.bfloat16, torch.bfloat16),
        ("layernorm", 4096, torch.bfloat16, torch.float32),
        ("rmsnorm", 256, torch.float16, torch.float16),
        ("layernorm", 33, torch.float32, torch.float32),
        ("rmsnorm", 1, torch.float64, None),
        ("layernorm", 16384, torch.bfloat16, torch.bfloat16),
        ("layernorm", 40000, torch.bfloat16, torch.bfloat16),
    ],
)
def test_compiles_for_an_h100(compiled, kind, n, dtype, parameters):
    spec = NormSpec(kind, scale_dtype="input" if dtype == parameters else "stats", offset=1.0)
    x = torch.empty(4, n, dtype=dtype)
    weight = None if parameters is None else torch.empty(n, dtype=parameters)
    bias = weight if kind == "layernorm" else None
    stats = gpu.forward(x, x, weight, bias, x.shape[0], x.shape[1], spec).stats
    gpu.backward(x, x, x, weight, stats, None if bias is None else bias.dtype, x.shape[0], x.shape[1], spec)

    names = {name for name, _ in compiled}
    looped = n * dtype.itemsize > gpu_launch.RESIDENT_BYTES
    assert names >= {"forward_looped" if looped else "forward_rows", "backward_rows"}
    assert ("row_means" in names) == looped
    assert ("sum_programs" in names) == (weight is not None)
    for name, kernel in compiled:
        assert kernel.asm["cubin"]
        assert kernel.metadata.shared <= gpu_launch.SHARED_BYTES
        if n % 8 == 0:
            # Rows that start at a multiple of 16 bytes are moved 16 bytes at a time.
            assert ".v4." in kernel.asm["ptx"], name
        # A sum with the number of rows in 32 bits would overflow near 2^31 of them.
        assert not re.search(r"addi %rows\b.* : i32", kernel.asm["ttir"]), name


# The bytes of a tile differ in how much of a row it holds (one number, the whole, a half), in the dtype of the weight,
# and in whether the weight is loaded once (up to 8192 numbers a row of RMSNorm) or with every row. A100 and desktops:
# what is nearest to their limits.
@pytest.mark.parametrize(
    ("target", "kind", "n", "dtype", "parameters", "dtotal"),
    [
        (H100, "layernorm", 1, torch.float32, None, True),
        (H100, "rmsnorm", 8192, torch.float32, torch.bfloat16, True),
        (H100, "rmsnorm", 12288, torch.bfloat16, torch.float32, False),
        (H100, "rmsnorm", 16384, torch.float32, torch.float32, True),
        (H100, "layernorm", 16384, torch.bfloat16, torch.float64, False),
        (A100, "rmsnorm", 12288, torch.bfloat16, torch.float64, False),
        (A100, "layernorm", 12288, torch.bfloat16, torch.float32, True),
        (DESKTOP, "layernorm", 1, torch.float32, None, True),
        (DESKTOP, "rmsnorm", 8192, torch.float32, torch.bfloat16, False),
        (DESKTOP, "rmsnorm", 16384, torch.bfloat16, torch.float32, False),
    ],
)
def test_shared_memory_suffices(compiled, monkeypatch, target, kind, n, dtype, parameters, dtotal):
    limit = SHARED_BYTES[target]
    triton.runtime.driver.set_active(NoGPU(target))  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(gpu_launch, "limits", lambda device: gpu_launch.Limits(limit, 32))
    x = torch.empty(4, n, dtype=dtype)
    weight = None if parameters is None else torch.empty(n, dtype=parameters)
    stats = torch.empty(4, 2 if kind == "layernorm" else 1, dtype=torch.float64)
    gpu_launch.backward(x, x if dtotal else None, x, weight, stats, None, 4, n, NormSpec(kind))
    assert {kernel.metadata.target for _, kernel in compiled} == {target}
    assert max(kernel.metadata.shared for _, kernel in compiled) <= limit


def test_more_threads_than_amd_allows_are_not_asked_for(compiled, monkeypatch):
    # ROCm's properties do not say how much shared memory there is.
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(warp_size=64))
    limits = gpu_launch.limits.__wrapped__(torch.device("cuda", 0))
    assert limits == (65536, 16)

    triton.runtime.driver.set_active(NoGPU(MI300))  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setattr(gpu_launch, "limits", lambda device: limits)
    x, weight = torch.empty(4, 16384, dtype=torch.bfloat16), torch.empty(16384)
    stats = gpu.forward(x, None, weight, None, 4, 16384, NormSpec("rmsnorm")).stats
    gpu.backward(x, None, x, weight, stats, None, 4, 16384, NormSpec("rmsnorm"))
    assert len(compiled) == 3
    assert all("hsaco" in kernel.asm for _, kernel in compiled)
    for name, kernel in compiled:
        assert kernel.metadata.num_warps * 64 <= 1024, name
        assert kernel.metadata.shared <= limits.shared, name


def test_where_a_tensor_lies_does_not_choose_the_kernel(compiled):
    flat = torch.randn(5 * 300)
    x, weight = flat[: 4 * 300].view(4, 300), flat[4 * 300 :]
    shifted = torch.empty(1 + flat.numel())[1:].copy_(flat)
    assert shifted.data_ptr() % 16

    def run(x, weight):
        compiled.clear()
        stats = gpu.forward(x, x, weight, weight, 4, 300, NormSpec("layernorm")).stats
        gpu.backward(x, x, x, weight, stats, weight.dtype, 4, 300, NormSpec("layernorm"))
        return [kernel.hash for _, kernel in compiled]

    assert run(x, weight) == run(shifted[: 4 * 300].view(4, 300), shifted[4 * 300 :])
    copy = gpu_launch.aligned(shifted)
    assert copy is not None
    assert copy.data_ptr() % 16 == 0
    assert torch.equal(copy, flat)
    assert gpu_launch.aligned(flat) is flat
    assert gpu_launch.aligned(None) is None
