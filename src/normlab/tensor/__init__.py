"""A transparent autograd engine: Tensor, on NumPy arrays and normlab's CPU kernels, without PyTorch.

core.py        Tensor, Operation and backward(): the engine
ops/           the operations, each with its formula and its derivative
layers/, nn/   modules; optim/  optimizers; data.py  datasets; random.py  the seed
"""

from normlab.tensor.core import Operation, Tensor, apply, no_grad
from normlab.tensor.ops import cat, exp, log, maximum, minimum, sqrt, stack, tanh, where
from normlab.tensor.random import manual_seed

__all__ = [
    "Operation",
    "Tensor",
    "apply",
    "cat",
    "exp",
    "log",
    "manual_seed",
    "maximum",
    "minimum",
    "no_grad",
    "sqrt",
    "stack",
    "tanh",
    "where",
]
