"""ScaleNorm (Nguyen & Salazar 2019, arXiv:1910.05895), float64.

For a row x of n numbers, with one scale for all of them,  a = offset + g:

    r = 1 / max(||x||, eps),    ||x|| = sqrt(sum(x^2))
    y = a * x * r

g begins at sqrt(n), where ScaleNorm is RMSNorm without a weight. The paper has no eps; its authors' code has it
as this floor.

Backward. With  u = a * dy  and  h = x * r,  as for L2 normalization:

    dx = r * (u - h * sum(u * h))       where ||x|| >= eps
    dx = r * u                          where ||x|| <  eps
    dg = sum over all numbers of  dy * h

Orthogonality: above the floor  sum(x * dx) = 0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from normlab import _check
from normlab.norms._rows import Array, as_rows, check_gradient
from normlab.norms.l2norm import inverse_length


class Gradients(NamedTuple):
    """What flows back: dx has the shape of x, dg is a number (an array of shape ())."""

    dx: Array
    dg: Array


def _scale(g: float | None, n: int, offset: float) -> float:
    if g is None:
        return float(np.sqrt(n))
    _check.number("g", g)
    return offset + g


def forward(
    x: ArrayLike,
    g: float | None = None,
    *,
    eps: float | None = 1e-5,
    offset: float = 0.0,
    normalized_shape: int | Sequence[int] | None = None,
) -> Array:
    """y = (offset + g) * x / max(||x||, eps), row by row.

    Args:
        x: any shape (*rows, *normalized_shape).
        g: a number; None stands for a scale of sqrt(n).
        eps: the least length that a row is divided by; None stands for float64's machine epsilon.
        offset: added to g; not used without g.
        normalized_shape: the trailing axes that make a row; None means the last axis.

    Raises:
        TypeError, ValueError: when the shapes do not fit or g is not a finite number.
    """
    rows, _ = as_rows(x, normalized_shape)
    r, _ = inverse_length(rows, eps)
    return (_scale(g, rows.shape[1], offset) * rows * r).reshape(np.shape(x))


def backward(
    dy: ArrayLike,
    x: ArrayLike,
    g: float | None = None,
    *,
    eps: float | None = 1e-5,
    offset: float = 0.0,
    normalized_shape: int | Sequence[int] | None = None,
) -> Gradients:
    """The gradients of sum(dy * forward(x, g, ...)), by the formulas at the top of this file."""
    check_gradient(dy, x)
    rows, shape = as_rows(x, normalized_shape)
    dy, _ = as_rows(dy, shape)
    r, own = inverse_length(rows, eps)
    u, h = _scale(g, rows.shape[1], offset) * dy, rows * r
    dx = r * (u - own * h * np.sum(u * h, axis=1, keepdims=True))
    return Gradients(dx.reshape(np.shape(x)), np.asarray(np.sum(dy * h)))
