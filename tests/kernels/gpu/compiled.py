"""The Triton kernels go through Triton's whole compiler, down to machine code, without a GPU.

The interpreter takes what the compiler refuses. `../test_gpu.py` runs this file in a process of its own, because it
replaces Triton's driver by one that has nothing to launch on.
"""

# Triton need not be installed.
# pyright: reportMissingImports=false

from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from normlab.kernels import gpu, gpu_launch
from normlab.spec import NormSpec


H100 = 90
# The shared memory that a program may have at most on the H100, the A100 and the GPUs of desktops (8.6, 8.9, 12.0).
SHARED_BYTES = {H100: 232448, 80: 166912, 86: 101376}


class NoGPU:
    """As much of a driver as compiling takes."""

    def __init__(self, capability: int = H100) -> None:
        self.capability = capability

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)


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


# The bytes of a tile differ in how much of a row it holds (one number, the whole, a half), in the dtype of the weight,
# and in whether the weight is loaded once (up to 8192 numbers a row of RMSNorm) or with every row. A100 and desktops:
# what is nearest to their limits.
@pytest.mark.parametrize(
    ("capability", "kind", "n", "dtype", "parameters", "dtotal"),
    [
        (H100, "layernorm", 1, torch.float32, None, True),
        (H100, "rmsnorm", 8192, torch.float32, torch.bfloat16, True),
        (H100, "rmsnorm", 12288, torch.bfloat16, torch.float32, False),
        (H100, "rmsnorm", 16384, torch.float32, torch.float32, True),
        (H100, "layernorm", 16384, torch.bfloat16, torch.float64, False),
        (80, "rmsnorm", 12288, torch.bfloat16, torch.float64, False),
        (80, "layernorm", 12288, torch.bfloat16, torch.float32, True),
        (86, "layernorm", 1, torch.float32, None, True),
        (86, "rmsnorm", 8192, torch.float32, torch.bfloat16, False),
        (86, "rmsnorm", 16384, torch.bfloat16, torch.float32, False),
    ],
)
def test_shared_memory_suffices(compiled, monkeypatch, capability, kind, n, dtype, parameters, dtotal):
    limit = SHARED_BYTES[capability]
    triton.runtime.driver.set_active(NoGPU(capability))  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(gpu_launch, "SHARED_BYTES", limit)
    x = torch.empty(4, n, dtype=dtype)
    weight = None if parameters is None else torch.empty(n, dtype=parameters)
    stats = torch.empty(4, 2 if kind == "layernorm" else 1, dtype=torch.float64)
    gpu_launch.backward(x, x if dtotal else None, x, weight, stats, None, 4, n, NormSpec(kind))
    assert max(kernel.metadata.shared for _, kernel in compiled) <= limit
