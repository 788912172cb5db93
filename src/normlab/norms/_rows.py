"""What the definitions share: the view of an array as rows, and the factor that rescales a row.

The factor s for a row whose mean square is v (for LayerNorm: its variance):

    inside:   s = 1 / sqrt(v + eps)      ds/dv = -s^3 / 2
    outside:  s = 1 / (sqrt(v) + eps)    ds/dv = -s^2 / (2 sqrt(v))

A derivative by x_i passes through v = mean(x^2), dv/dx_i = 2 x_i / n, so what the backward formulas
need is  slope = -2 ds/dv:  s^3 inside, s^2 / sqrt(v) outside.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def as_rows(x: ArrayLike, normalized_shape: int | Sequence[int] | None) -> tuple[Array, tuple[int, ...]]:
    """(x as a float64 array of shape (rows, n), the normalized shape); None means the last axis."""
    array = np.asarray(x, dtype=np.float64)
    if normalized_shape is None:
        shape = array.shape[-1:]
    else:
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or array.shape[array.ndim - len(shape) :] != shape:
        raise ValueError(f"normalized_shape must be the trailing axes of x, {array.shape}, got {shape}")
    n = int(np.prod(shape))
    return array.reshape(array.size // n if n else 0, n), shape


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


def factor(v: Array, eps: float | None, eps_place: str) -> tuple[Array, Array]:
    """(s, slope) for the mean squares v, by the formulas above."""
    eps = float(np.finfo(np.float64).eps) if eps is None else eps
    if eps_place == "inside":
        s = 1.0 / np.sqrt(v + eps)
        return s, s**3
    root = np.sqrt(v)
    s = 1.0 / (root + eps)
    # At a row of zeros sqrt has no derivative; x = 0 multiplies the slope there, so 0 is its limit.
    slope = np.divide(s**2, root, out=np.zeros_like(root), where=root > 0)
    return s, slope
