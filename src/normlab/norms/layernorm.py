"""LayerNorm (Ba, Kiros & Hinton 2016, arXiv:1607.06450), float64.

For a row x of n numbers, with the scale  g = offset + weight:

    m = mean(x)
    c = x - m
    v = mean(c^2)                (the biased variance)
    s = 1 / sqrt(v + eps)
    y = c * s * g + bias

Backward. Let  u = dy * g  be the gradient that reaches  h = c * s.  Through s, as in RMSNorm but with c in the
place of x, the gradient by c is  s * (u - h * mean(u * h)).  Subtracting the mean is a projection, and its
transpose is the same projection: subtract the mean once more. The second term has mean 0 already, so

    dx        = s * (u - mean(u) - h * mean(u * h))
    dweight_j = sum over rows of  dy_j * h_j
    dbias_j   = sum over rows of  dy_j

Orthogonality: sum(dx) = 0 always (shifting a row changes nothing), and for eps = 0 also sum(c * dx) = 0
(nor does rescaling it).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from normlab.norms._rows import Array, as_rows, as_scale, as_vector, check_gradient, factor, mean


class Gradients(NamedTuple):
    """What flows back: dx has the shape of x, dweight and dbias that of the weight."""

    dx: Array
    dweight: Array
    dbias: Array


def forward(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    eps: float | None = 1e-5,
    eps_place: str = "inside",
    offset: float = 0.0,
    normalized_shape: int | Sequence[int] | None = None,
) -> Array:
    """y = (x - mean(x)) / sqrt(var(x) + eps) * (offset + weight) + bias, row by row.

    Args:
        x: any shape (*rows, *normalized_shape).
        weight: shape normalized_shape; None stands for a scale of 1.
        bias: shape normalized_shape; None stands for 0.
        eps: None stands for float64's machine epsilon.
        eps_place: "inside" or "outside" of the square root.
        offset: added to the weight; not used without a weight.
        normalized_shape: the trailing axes that make a row; None means the last axis.

    Raises:
        ValueError: when the shapes do not fit.
    """
    rows, shape = as_rows(x, normalized_shape)
    g = as_scale(weight, shape, offset)
    b = as_vector("bias", bias, shape, 0.0)
    c = rows - mean(rows)
    v = mean(c**2)
    s, _ = factor(v, eps, eps_place)
    return (c * s * g + b).reshape(np.shape(x))


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
    """The gradients of sum(dy * forward(x, weight, bias, ...)), by the formulas at the top of this file."""
    check_gradient(dy, x)
    rows, shape = as_rows(x, normalized_shape)
    dy, _ = as_rows(dy, shape)
    g = as_scale(weight, shape, offset)
    c = rows - mean(rows)
    v = mean(c**2)
    s, k = factor(v, eps, eps_place)

    u, h = dy * g, c * s
    dx = s * (u - mean(u)) - k * h * mean(u * h)
    dweight = np.sum(dy * h, axis=0)
    dbias = np.sum(dy, axis=0)
    return Gradients(dx.reshape(np.shape(x)), dweight.reshape(shape), dbias.reshape(shape))
