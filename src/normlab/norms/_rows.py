"""What the definitions share: the view of an array as rows, and the factor that rescales a row.

The factor s for a row whose mean square is v (for LayerNorm: its variance):

    inside:   s = 1 / sqrt(v + eps)      ds/dv = -s^3 / 2
    outside:  s = 1 / (sqrt(v) + eps)    ds/dv = -s^2 / (2 sqrt(v))

A derivative by x_i passes through v = mean(x^2), dv/dx_i = 2 x_i / n, so what flows back through s, from a
gradient u, is  2 ds/dv * x_i * mean(u * x).  In terms of the normalized row h = x * s, in which no power
of a small or large s can leave float64's range, that is  -k * h_i * mean(u * h)  with

    inside:   k = s
    outside:  k = 1 / sqrt(v)
"""

from collections.abc import Sequence
from operator import index

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normlab import _check
from normlab.spec import EPS_PLACES

Array = NDArray[np.float64]


def as_rows(x: ArrayLike, normalized_shape: int | Sequence[int] | None) -> tuple[Array, tuple[int, ...]]:
    """(x as a float64 array of shape (rows, n), the normalized shape); None means the last axis."""
    array = np.asarray(x, dtype=np.float64)
    if normalized_shape is None:
        shape = array.shape[-1:]
    else:
        shape = tuple(index(size) for size in np.atleast_1d(normalized_shape))
    if not shape or array.shape[array.ndim - len(shape) :] != shape:
        raise ValueError(f"normalized_shape must be the trailing axes of x, {array.shape}, got {shape}")
    rows = array.shape[: array.ndim - len(shape)]
    return array.reshape(int(np.prod(rows)), int(np.prod(shape))), shape


def mean(rows: Array) -> Array:
    """The mean of each row, as a column; of a row without entries NaN, without NumPy's warning."""
    if rows.shape[1] == 0:
        return np.full((rows.shape[0], 1), np.nan)
    return np.mean(rows, axis=1, keepdims=True)


def check_gradient(dy: ArrayLike, x: ArrayLike) -> None:
    """Raise ValueError unless the upstream gradient has the shape of x."""
    if np.shape(dy) != np.shape(x):
        raise ValueError(f"dy must have the shape of x, {np.shape(x)}, got {np.shape(dy)}")


def as_vector(name: str, value: ArrayLike | None, shape: tuple[int, ...], default: float) -> Array:
    """`value` flattened, checked against `shape`; `default` everywhere when it is None."""
    if value is None:
        return np.full(int(np.prod(shape)), default)
    array = np.asarray(value, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return array.reshape(-1)


def as_scale(weight: ArrayLike | None, shape: tuple[int, ...], offset: float) -> Array:
    """offset + weight, flattened; 1 everywhere without a weight."""
    return as_vector("weight", weight, shape, 1.0) + (0.0 if weight is None else offset)


def factor(v: Array, eps: float | None, eps_place: str) -> tuple[Array, Array]:
    """(s, k) for the mean squares v, by the formulas above."""
    _check.one_of("eps_place", eps_place, EPS_PLACES)
    eps = float(np.finfo(np.float64).eps) if eps is None else eps
    _check.number("eps", eps, least=0)
    if eps_place == "inside":
        s = 1.0 / np.sqrt(v + eps)
        return s, s
    root = np.sqrt(v)
    # At a row of zeros sqrt has no derivative; h = 0 multiplies k there twice, so 0 is the limit.
    return 1.0 / (root + eps), np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
