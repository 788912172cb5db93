"""Norms on tensors, fast, and which implementation runs.

RMSNorm and LayerNorm have fused kernels, for the CPU (`cpu`, Numba) and for the GPU (`gpu`, Triton); `fused` says
what they compute, and `plain` is the same in PyTorch's operations. `torch_ops` takes every spec. `choose` decides;
`normlab.explain` says what runs a call, and why. `arrays` has the CPU kernels on NumPy arrays; it does not need
PyTorch, so importing this package must not load it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from normlab.kernels.choice import Choice, Kernel, Passes, choose, chosen, use_kernels

__all__ = ["Choice", "Kernel", "Passes", "choose", "chosen", "use_kernels"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("normlab.kernels.choice"), name)
    raise AttributeError(f"module 'normlab.kernels' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
