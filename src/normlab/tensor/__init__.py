"""A transparent autograd engine: Tensor, on NumPy arrays and normlab's CPU kernels, without PyTorch.

core.py        Tensor, Operation and backward(): the engine
ops/           the operations, each with its formula and its derivative
layers/, nn/   modules; optim/  optimizers; data.py  datasets; init.py, random.py  the first numbers
inside/        looking on: graph(), explain(), step(), record(), scales()
storage.py     states on disk; bridge.py  from PyTorch's modules; onnx/  to ONNX
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from normlab.tensor.core import Operation, Tensor, apply
from normlab.tensor.mode import no_grad
from normlab.tensor.ops import cat, exp, log, maximum, minimum, sqrt, stack, tanh, where
from normlab.tensor.random import manual_seed

if TYPE_CHECKING:
    from normlab.tensor.bridge import from_torch
    from normlab.tensor.inside import explain, graph, record, scales, step
    from normlab.tensor.storage import load, save

__all__ = [
    "Operation",
    "Tensor",
    "apply",
    "cat",
    "exp",
    "explain",
    "from_torch",
    "graph",
    "load",
    "log",
    "manual_seed",
    "maximum",
    "minimum",
    "no_grad",
    "record",
    "save",
    "scales",
    "sqrt",
    "stack",
    "step",
    "tanh",
    "where",
]


# What brings rich or safetensors along, or is about PyTorch, loads when it is used.
_LATE = {
    "explain": "inside",
    "from_torch": "bridge",
    "graph": "inside",
    "load": "storage",
    "record": "inside",
    "save": "storage",
    "scales": "inside",
    "step": "inside",
}
_MODULES = ("data", "init", "layers", "nn", "onnx", "optim")


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(import_module(f"normlab.tensor.{_LATE[name]}"), name)
    if name in _MODULES:
        return import_module(f"normlab.tensor.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
