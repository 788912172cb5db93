"""Sums over what was repeated: the gradient of broadcasting."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# NumPy adds the rows of an array to one running sum, whose error grows with their number; sums of so many rows, which
# are then added up, keep it small.
BLOCK = 256


def sum_leading(x: NDArray[Any], axes: int) -> NDArray[Any]:
    """The sum over the first axes."""
    if axes > 1:
        x = x.reshape(int(np.prod(x.shape[:axes])), *x.shape[axes:])
    whole = len(x) // BLOCK * BLOCK
    # Along a contiguous axis NumPy's own sum is pairwise.
    if whole < 2 * BLOCK or x.ndim == 1 or x.dtype.kind != "f":
        return np.add.reduce(x, axis=0)
    blocks = np.add.reduce(x[:whole].reshape(whole // BLOCK, BLOCK, *x.shape[1:]), axis=1)
    total = sum_leading(blocks, 1)
    return total if whole == len(x) else total + np.add.reduce(x[whole:], axis=0)


def unbroadcast(gradient: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The gradient of what was broadcast from `shape`: what was repeated is added up."""
    if gradient.shape == shape:
        return gradient
    new = gradient.ndim - len(shape)
    if new:
        gradient = sum_leading(gradient, new)
    repeated = tuple(i for i, size in enumerate(shape) if size == 1 and gradient.shape[i] != 1)
    return np.add.reduce(gradient, axis=repeated, keepdims=True) if repeated else gradient
