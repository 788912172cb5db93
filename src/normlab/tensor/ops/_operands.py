"""What may stand beside a tensor in an operation."""

from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np

from normlab.tensor import core

if TYPE_CHECKING:
    from normlab.tensor.core import Tensor


def as_tensor(value: Any, like: "Tensor | None" = None) -> "Tensor":
    """A tensor as it is; an array or a number as a tensor without a gradient.

    A number takes the dtype of the tensor that it stands beside, so that `x * 0.5` stays float32.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(value, core.Tensor):
        return value
    if isinstance(value, np.ndarray | np.generic | Number | list | tuple):
        floating = like is not None and like._data.dtype.kind == "f" and isinstance(value, int | float)
        array = np.asarray(value, like._data.dtype if floating and like is not None else None)
        if array.dtype.kind in "fiub":
            return core.wrap(array)
    raise TypeError(f"a tensor, an array or a number was expected, got {type(value).__name__}")


def pair(a: Any, b: Any) -> "tuple[Tensor, Tensor]":
    """Two operands as tensors, at least one of which is one."""
    if isinstance(a, core.Tensor):
        return a, b if isinstance(b, core.Tensor) else as_tensor(b, a)
    b = as_tensor(b)
    return as_tensor(a, b), b
