"""Partial RMSNorm (pRMSNorm; Zhang & Sennrich 2019, arXiv:1910.07467, section 4), float64.

The RMS of a row of n numbers is estimated from its first  m = ceil(fraction * n):

    v = mean(x_1^2, ..., x_m^2)
    s = 1 / sqrt(v + eps)
    y = x * s * g,                g = offset + weight

The paper uses a fraction of 6.25%. With the fraction 1 it is RMSNorm.

Backward. Let  u = dy * g  be the gradient that reaches  h = x * s.  Every entry acts directly; only the first m act
through s, which all n share:

    dx_i    = s * (u_i - h_i * sum(u * h) / m)     i <= m
    dx_i    = s * u_i                              i >  m
    dweight = sum over rows of  dy * h

Orthogonality: for eps = 0, sum(x * dx) = 0, as for RMSNorm: rescaling a row does not change y.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from normlab import _check
from normlab.norms._rows import Array, as_rows, as_scale, check_gradient, factor, mean


class Gradients(NamedTuple):
    """What flows back: dx has the shape of x, dweight that of the weight."""

    dx: Array
    dweight: Array


def count(n: int, fraction: float) -> int:
    """How many of n entries the RMS is taken of: ceil(fraction * n).

    Raises:
        TypeError, ValueError: for a fraction that is not a number above 0 and at most 1.
    """
    _check.number("fraction", fraction, above=0)
    if fraction > 1:
        raise ValueError(f"fraction must be at most 1, got {fraction:g}")
    # In floating point 0.07 * 100 is a little more than 7, and would be rounded up to 8.
    return min(n, max(math.ceil(fraction * n * (1 - 1e-12)), min(n, 1)))


def forward(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    fraction: float = 0.0625,
    eps: float | None = 1e-5,
    eps_place: str = "inside",
    offset: float = 0.0,
    normalized_shape: int | Sequence[int] | None = None,
) -> Array:
    """y = x / sqrt(mean(x[:m]^2) + eps) * (offset + weight) with m = ceil(fraction * n), row by row.

    Args:
        x: any shape (*rows, *normalized_shape).
        weight: shape normalized_shape; None stands for a scale of 1.
        fraction: the share of a row whose RMS is taken, above 0 and at most 1.
        eps, eps_place, offset, normalized_shape: as for RMSNorm.

    Raises:
        ValueError: when the shapes or the fraction do not fit.
    """
    rows, shape = as_rows(x, normalized_shape)
    g = as_scale(weight, shape, offset)
    s, _ = factor(mean(rows[:, : count(rows.shape[1], fraction)] ** 2), eps, eps_place)
    return (rows * s * g).reshape(np.shape(x))


def backward(
    dy: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    fraction: float = 0.0625,
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
    m = count(rows.shape[1], fraction)
    s, k = factor(mean(rows[:, :m] ** 2), eps, eps_place)

    u, h = dy * g, rows * s
    dx = s * u
    dx[:, :m] -= k * h[:, :m] * (np.sum(u * h, axis=1, keepdims=True) / max(m, 1))
    dweight = np.sum(dy * h, axis=0)
    return Gradients(dx.reshape(np.shape(x)), dweight.reshape(shape))
