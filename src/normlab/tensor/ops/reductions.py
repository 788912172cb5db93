"""Many numbers to few: sum, mean, max, min, and the running sum."""

from collections.abc import Iterable, Sequence
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from normlab.tensor.broadcasting import sum_over
from normlab.tensor.core import Array, Operation, apply
from normlab.tensor.ops._operands import as_tensor

if TYPE_CHECKING:
    from normlab.tensor.core import Tensor

# One axis, several, or all (None).
Axis = int | Sequence[int] | None


def _axes(axis: Axis) -> int | tuple[int, ...] | None:
    return axis if axis is None else tuple(axis) if isinstance(axis, Iterable) else index(axis)


class _Reduction(Operation):
    """Over some axes, which stay as axes of length 1 if `keepdims`."""

    ndim: int

    def __init__(self, axis: Axis, keepdims: bool) -> None:
        self.axis, self.keepdims = _axes(axis), keepdims

    def spread(self, y: Array) -> Array:
        """Something of the result's shape, back over the axes that were reduced."""
        if not self.keepdims and y.ndim < self.ndim:
            y = np.expand_dims(y, tuple(range(self.ndim)) if self.axis is None else self.axis)
        return y


class Sum(_Reduction):
    """The sum over axes."""

    formula = "y = sum(x)"
    derivative = "dx = dy, for every number of the sum"

    def forward(self, x: Array) -> Array:
        """The sum."""
        self.ndim, self.shape = x.ndim, x.shape
        return sum_over(x, self.axis, self.keepdims)

    def backward(self, dy: Array) -> Any:
        """The same for all."""
        return (np.broadcast_to(self.spread(dy), self.shape),)


class Mean(_Reduction):
    """The mean over axes."""

    formula = "y = sum(x) / n"
    derivative = "dx = dy / n, for every number of the mean"

    def forward(self, x: Array) -> Array:
        """The mean; NaN of no numbers."""
        self.ndim, self.shape = x.ndim, x.shape
        y = sum_over(x, self.axis, self.keepdims)
        self.n = x.size // max(y.size, 1)
        return y / self.n if self.n else np.full_like(y, np.nan)

    def backward(self, dy: Array) -> Any:
        """The same for all."""
        return (np.broadcast_to(self.spread(dy / max(self.n, 1)), self.shape),)


class Max(_Reduction):
    """The largest over axes."""

    formula = "y = max(x)"
    derivative = "dx = dy for the largest, in equal shares where there are several"
    reduce = np.maximum.reduce

    def forward(self, x: Array) -> Array:
        """The largest."""
        self.ndim, self.x = x.ndim, x
        self.y = np.asarray(type(self).reduce(x, axis=self.axis, keepdims=self.keepdims))
        return self.y

    def backward(self, dy: Array) -> Any:
        """As torch.amax."""
        chosen = self.x == self.spread(self.y)
        return (chosen * (self.spread(dy) / np.add.reduce(chosen, axis=self.axis, keepdims=True, dtype=dy.dtype)),)


class Min(Max):
    """The smallest over axes."""

    formula = "y = min(x)"
    derivative = "dx = dy for the smallest, in equal shares where there are several"
    reduce = np.minimum.reduce


class CumSum(Operation):
    """The running sum along an axis."""

    formula = "y_i = x_1 + ... + x_i"
    derivative = "dx_i = dy_i + ... + dy_n"

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Array) -> Array:
        """From the front."""
        return np.cumsum(x, axis=self.axis)

    def backward(self, dy: Array) -> Any:
        """From the end."""
        return (np.flip(np.cumsum(np.flip(dy, self.axis), axis=self.axis), self.axis),)


def total(x: Any, axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """The sum over axes, or over all."""
    return apply(Sum(axis, keepdims), as_tensor(x))


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """The mean over axes, or over all."""
    return apply(Mean(axis, keepdims), as_tensor(x))


def amax(x: Any, axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """The largest over axes, or of all."""
    return apply(Max(axis, keepdims), as_tensor(x))


def amin(x: Any, axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """The smallest over axes, or of all."""
    return apply(Min(axis, keepdims), as_tensor(x))


def cumsum(x: Any, axis: int) -> "Tensor":
    """The running sum along an axis."""
    return apply(CumSum(axis), as_tensor(x))


def var(x: Any, axis: Axis = None, keepdims: bool = False, *, unbiased: bool = False) -> "Tensor":
    """The mean squared distance from the mean; `unbiased` divides by n - 1. In three steps, as one writes it down."""
    x = as_tensor(x)
    centred = x - mean(x, axis, keepdims=True)
    squares = centred * centred
    if not unbiased:
        return mean(squares, axis, keepdims)
    summed = total(squares, axis, keepdims)
    return summed / (x.size // max(summed.size, 1) - 1)
