"""CRMSNorm, the compressed RMSNorm (Jiang, Gu, Zhu & Pan 2023, arXiv:2305.14858), float64.

A vector of d numbers whose mean is 0 is known by its first n = d - 1: the last is minus their sum, -S. On such
vectors LayerNorm and RMSNorm agree, and both can be had from the n numbers alone. For a row x of n numbers,
S = sum(x), with the scale  g = offset + weight:

    v = (sum(x^2) + S^2) / d         the mean square of the whole vector (x, -S)
    s = 1 / sqrt(v + eps)
    y = x * s * g

So y is the first n entries of LayerNorm((x, -S)).

Backward. Let  u = dy * g  be the gradient that reaches  h = x * s.  An entry x_i acts directly, and twice through
s: by its own square and by the sum's, so that  dv/dx_i = 2 (x_i + S) / d,  ds/dv = -s^3 / 2:

    dx_i    = s * (u_i - (h_i + H) * sum(u * h) / d),      H = S * s = sum(h)
    dweight = sum over rows of  dy * h

Orthogonality: for eps = 0, sum(x * dx) = 0, since rescaling x rescales S too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from normlab.norms._rows import Array, as_rows, as_scale, check_gradient, factor


class Gradients(NamedTuple):
    """What flows back: dx has the shape of x, dweight that of the weight."""

    dx: Array
    dweight: Array


def compress(x: ArrayLike) -> Array:
    """Of vectors (..., d) the first d - 1 entries less the vector's mean: shape (..., d - 1)."""
    array = np.asarray(x, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"x must have at least one entry along its last axis, got shape {array.shape}")
    return array[..., :-1] - np.mean(array, axis=-1, keepdims=True)


def recover(x: ArrayLike) -> Array:
    """The vectors of mean 0 that `x` (..., n) stands for: shape (..., n + 1), the last entry minus the sum."""
    array = np.asarray(x, dtype=np.float64)
    return np.concatenate([array, -np.sum(array, axis=-1, keepdims=True)], axis=-1)


def _sum_and_mean_square(rows: Array) -> tuple[Array, Array]:
    """(S, v) of each row, as columns."""
    total = np.sum(rows, axis=1, keepdims=True)
    return total, (np.sum(rows**2, axis=1, keepdims=True) + total**2) / (rows.shape[1] + 1)


def forward(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    eps: float | None = 1e-5,
    eps_place: str = "inside",
    offset: float = 0.0,
    normalized_shape: int | Sequence[int] | None = None,
) -> Array:
    """y = x / sqrt((sum(x^2) + sum(x)^2) / (n + 1) + eps) * (offset + weight), row by row.

    Args:
        x: any shape (*rows, *normalized_shape); n is the size of normalized_shape, one less than the vector's.
        weight: shape normalized_shape; None stands for a scale of 1.
        eps, eps_place, offset, normalized_shape: as for RMSNorm.

    Raises:
        ValueError: when the shapes do not fit.
    """
    rows, shape = as_rows(x, normalized_shape)
    g = as_scale(weight, shape, offset)
    s, _ = factor(_sum_and_mean_square(rows)[1], eps, eps_place)
    return (rows * s * g).reshape(np.shape(x))


def backward(
    dy: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    eps: float | None = 1e-5,
    eps_place: str = "inside",
    offset: float = 0.0,
    normalized_shape: int | Sequence[int] | None = None,
) -> Gradients:
    """The gradients of sum(dy * forward(x, weight, ...)), by the formulas at the top of this file."""
    check_gradient(dy, x)
    rows, shape = as_rows(x, normalized_shape)
    dy, _ = as_rows(dy, shape)
    g = as_scale(weight, shape, offset)
    total, v = _sum_and_mean_square(rows)
    s, k = factor(v, eps, eps_place)

    u, h = dy * g, rows * s
    dx = s * u - k * (h + total * s) * (np.sum(u * h, axis=1, keepdims=True) / (rows.shape[1] + 1))
    dweight = np.sum(dy * h, axis=0)
    return Gradients(dx.reshape(np.shape(x)), dweight.reshape(shape))
