"""RMSNorm (Zhang & Sennrich 2019, arXiv:1910.07467), float64.

For a row x of n numbers, with the scale  g = offset + weight:

    v = mean(x^2)
    s = 1 / sqrt(v + eps)
    y = x * s * g

Backward. Let  u = dy * g  be the gradient that reaches the normalized row x * s. Every x_i acts in two
ways: directly, and through s, which all entries of the row share. With ds/dx_i = -s^3 x_i / n:

    dx_i      = s * u_i  -  s^3 * x_i * mean(u * x)
              = s * (u_i - h_i * mean(u * h)),         h = x * s
    dweight_j = sum over rows of  dy_j * h_j

Orthogonality: for eps = 0, sum(x * dx) = 0. Rescaling a row does not change y, so the gradient can have
no component along x.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from normlab.norms._rows import Array, as_rows, as_scale, check_gradient, factor, mean


class Gradients(NamedTuple):
    """What flows back: dx has the shape of x, dweight that of the weight."""

    dx: Array
    dweight: Array


def forward(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    eps: float | None = 1e-5,
    eps_place: str = "inside",
    offset: float = 0.0,
    normalized_shape: int | Sequence[int] | None = None,
) -> Array:
    """y = x / sqrt(mean(x^2) + eps) * (offset + weight), row by row.

    Args:
        x: any shape (*rows, *normalized_shape).
        weight: shape normalized_shape; None stands for a scale of 1.
        eps: None stands for float64's machine epsilon.
        eps_place: "inside" or "outside" of the square root.
        offset: added to the weight (Gemma: 1); not used without a weight.
        normalized_shape: the trailing axes that make a row; None means the last axis.

    Raises:
        ValueError: when the shapes do not fit.
    """
    rows, shape = as_rows(x, normalized_shape)
    g = as_scale(weight, shape, offset)
    v = mean(rows**2)
    s, _ = factor(v, eps, eps_place)
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
    v = mean(rows**2)
    s, k = factor(v, eps, eps_place)

    u, h = dy * g, rows * s
    dx = s * u - k * h * mean(u * h)
    dweight = np.sum(dy * h, axis=0)
    return Gradients(dx.reshape(np.shape(x)), dweight.reshape(shape))
