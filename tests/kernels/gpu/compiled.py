"""The Triton kernels go through Triton's whole compiler, down to machine code for an H100, without a GPU.

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


class NoGPU:
    """As much of a driver as compiling takes."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


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
