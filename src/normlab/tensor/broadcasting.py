"""Sums over axes, and with them the gradient of broadcasting."""

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple
from numpy.typing import NDArray

Array = NDArray[Any]

# NumPy adds the rows of an array to one running sum, whose error grows with their number; sums of so many rows, which
# are then added up, keep it small. Along the last axis its own sums are pairwise.
BLOCK = 256


def sum_leading(x: Array, axes: int) -> Array:
    """The sum over the first axes."""
    if axes > 1:
        x = x.reshape(int(np.prod(x.shape[:axes])), *x.shape[axes:])
    whole = len(x) // BLOCK * BLOCK
    if whole < 2 * BLOCK or x.ndim == 1 or x.dtype.kind != "f":
        return np.add.reduce(x, axis=0)
    blocks = np.add.reduce(x[:whole].reshape(whole // BLOCK, BLOCK, *x.shape[1:]), axis=1)
    total = sum_leading(blocks, 1)
    return total if whole == len(x) else total + np.add.reduce(x[whole:], axis=0)


def sum_over(x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
    """The sum over any axes, or over all, with an error that hardly grows with their length."""
    axes = () if axis is None else normalize_axis_tuple(axis, x.ndim)
    # The last axis, and what is short, NumPy sums well.
    early = tuple(a for a in axes if a != x.ndim - 1 and x.shape[a] >= 2 * BLOCK)
    if not early:
        return np.add.reduce(x, axis=axis, keepdims=keepdims)
    rest = tuple(a for a in axes if a not in early)
    x = np.add.reduce(x, axis=rest, keepdims=True) if rest else x
    total = np.expand_dims(sum_leading(np.moveaxis(x, early, range(len(early))), len(early)), early)
    return total if keepdims else np.squeeze(total, axes)


def unbroadcast(gradient: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of what was broadcast from `shape`: what was repeated is added up."""
    if gradient.shape == shape:
        return gradient
    new = gradient.ndim - len(shape)
    if new:
        gradient = sum_leading(gradient, new)
    repeated = tuple(i for i, size in enumerate(shape) if size == 1 and gradient.shape[i] != 1)
    return sum_over(gradient, repeated, keepdims=True) if repeated else gradient
