"""L2 normalization, float64: torch.nn.functional.normalize, with a weight as in ParseNet (Liu, Rabinovich & Berg
2015, arXiv:1506.04579); and QK-norm (Henry, Dachapally, Pawar & Chen 2020, arXiv:2010.04245), which is two of them.

For a row x of n numbers, with the scale  g = offset + weight:

    r = 1 / max(||x||, eps),    ||x|| = sqrt(sum(x^2))
    y = x * r * g

eps is a floor, not an addend: a row longer than eps is brought to length 1 exactly.

Backward. Let  u = dy * g  be the gradient that reaches  h = x * r.  Above the floor  dr/dx_i = -r^3 x_i;  below it
r is the constant 1 / eps:

    dx      = r * (u - h * sum(u * h))       where ||x|| >= eps
    dx      = r * u                          where ||x|| <  eps
    dweight = sum over rows of  dy * h

Orthogonality: above the floor  sum(x * dx) = 0.

QK-norm brings every head's queries and keys to length 1 and multiplies their dot products by one learned number g
in the place of 1 / sqrt(n). Here g goes with the queries:  q' = g * q / ||q||,  k' = k / ||k||.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from normlab import _check
from normlab.norms._rows import Array, as_rows, as_scale, check_gradient


class Gradients(NamedTuple):
    """What flows back: dx has the shape of x, dweight that of the weight."""

    dx: Array
    dweight: Array


class QKGradients(NamedTuple):
    """What flows back through QK-norm: dq and dk have the shapes of q and k, dg is a number."""

    dq: Array
    dk: Array
    dg: Array


def inverse_length(rows: Array, eps: float | None) -> tuple[Array, Array]:
    """(r, whether the row's own length is what it is divided by), each a column."""
    eps = float(np.finfo(np.float64).eps) if eps is None else eps
    _check.number("eps", eps, least=0)
    length = np.sqrt(np.sum(rows**2, axis=1, keepdims=True))
    return 1.0 / np.maximum(length, eps), length >= eps


def forward(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    eps: float | None = 1e-12,
    offset: float = 0.0,
    normalized_shape: int | Sequence[int] | None = None,
) -> Array:
    """y = x / max(||x||, eps) * (offset + weight), row by row.

    Args:
        x: any shape (*rows, *normalized_shape).
        weight: shape normalized_shape; None stands for a scale of 1.
        eps: the least length that a row is divided by; None stands for float64's machine epsilon.
        offset: added to the weight; not used without a weight.
        normalized_shape: the trailing axes that make a row; None means the last axis.

    Raises:
        ValueError: when the shapes do not fit.
    """
    rows, shape = as_rows(x, normalized_shape)
    r, _ = inverse_length(rows, eps)
    return (rows * r * as_scale(weight, shape, offset)).reshape(np.shape(x))


def backward(
    dy: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    eps: float | None = 1e-12,
    offset: float = 0.0,
    normalized_shape: int | Sequence[int] | None = None,
) -> Gradients:
    """The gradients of sum(dy * forward(x, weight, ...)), by the formulas at the top of this file."""
    check_gradient(dy, x)
    rows, shape = as_rows(x, normalized_shape)
    dy, _ = as_rows(dy, shape)
    r, own = inverse_length(rows, eps)
    u, h = dy * as_scale(weight, shape, offset), rows * r
    dx = r * (u - own * h * np.sum(u * h, axis=1, keepdims=True))
    return Gradients(dx.reshape(np.shape(x)), np.sum(dy * h, axis=0).reshape(shape))


def qk_forward(q: ArrayLike, k: ArrayLike, g: float, *, eps: float | None = 1e-12) -> tuple[Array, Array]:
    """(g * q / ||q||, k / ||k||) along the last axis; their dot products are g times a cosine.

    Args:
        q, k: any shapes (..., n).
        g: the learned scale.
        eps: the least length that a row is divided by.

    Raises:
        TypeError, ValueError: when a shape or the eps does not fit.
    """
    return g * forward(q, eps=eps), forward(k, eps=eps)


def qk_backward(
    dq: ArrayLike, dk: ArrayLike, q: ArrayLike, k: ArrayLike, g: float, *, eps: float | None = 1e-12
) -> QKGradients:
    """The gradients of sum(dq * q') + sum(dk * k') for (q', k') = qk_forward(q, k, g)."""
    dq = np.asarray(dq, dtype=np.float64)
    dg = np.asarray(np.sum(dq * forward(q, eps=eps)))
    return QKGradients(backward(dq * g, q, eps=eps).dx, backward(dk, k, eps=eps).dx, dg)
