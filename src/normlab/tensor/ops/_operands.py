"""What may stand beside a tensor in an operation."""

from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np

from normlab.tensor import core

if TYPE_CHECKING:
    from normlab.tensor.core import Array, Tensor


def kind_of(value: Any) -> str:
    """The name of a value's class, with the library's where others have such a class too."""
    cls = type(value)
    library = cls.__module__.partition(".")[0]
    return cls.__name__ if library in ("builtins", "normlab") else f"{library}.{cls.__name__}"


def held(value: Any, dtype: Any = None) -> "Array":
    """The user's array as a step may keep it: a copy where gradients are wanted, for it may be a buffer that holds the
    next batch by the time that backward() is called."""
    return (np.array if core.mode.recording else np.asarray)(value, dtype)


def as_tensor(value: Any, like: "Tensor | None" = None) -> "Tensor":
    """A tensor as it is; an array or a number as a tensor without a gradient.

    A number takes the dtype of the tensor that it stands beside, so that `x * 0.5` stays float32.

    Raises:
        TypeError: for anything else, and for arrays of other dtypes than a tensor may have.
    """
    if isinstance(value, core.Tensor):
        return value
    if isinstance(value, np.ndarray | np.generic | Number | list | tuple):
        floating = like is not None and like._data.dtype.kind == "f" and isinstance(value, int | float)
        array = held(value, like._data.dtype if floating and like is not None else None)
        if array.dtype.kind not in "iub" and array.dtype not in core.FLOATS:
            raise TypeError(f"an array must be float32, float64, integers or booleans, got {array.dtype}")
        return core.wrap(array)
    advice = "; Tensor(t.detach().numpy()) makes one of it" if kind_of(value) == "torch.Tensor" else ""
    raise TypeError(f"a tensor, an array or a number was expected, got {kind_of(value)}{advice}")


def pair(a: Any, b: Any) -> "tuple[Tensor, Tensor]":
    """Two operands as tensors.

    Integers beside floating-point numbers take their dtype, as in torch: NumPy would make float64 of float32 and int64.
    """
    if not isinstance(a, core.Tensor):
        b = as_tensor(b)
        a = as_tensor(a, b)
    elif not isinstance(b, core.Tensor):
        b = as_tensor(b, a)
    one, other = a._data.dtype, b._data.dtype
    if one is not other and one.kind != other.kind:
        if one.kind == "f":
            b = core.wrap(b._data.astype(one))
        elif other.kind == "f":
            a = core.wrap(a._data.astype(other))
    return a, b
