"""DyT, dynamic tanh (Zhu, Chen, He, LeCun & Liu 2025, arXiv:2503.10622), float64.

Not a normalization but what can stand in the place of one: it takes no statistics, and every number is squashed on
its own. With one learned alpha (0.5 to begin with) and the scale  g = offset + weight:

    t = tanh(alpha * x)
    y = t * g + bias

Backward. tanh' = 1 - tanh^2. Let  u = dy * g  be the gradient that reaches t:

    dx      = alpha * u * (1 - t^2)
    dalpha  = sum over all numbers of  u * (1 - t^2) * x
    dweight = sum over rows of  dy * t
    dbias   = sum over rows of  dy

Far from 0 the difference 1 - t^2 has no digits left; with  e = exp(-2 |alpha x|)  it is  4 e / (1 + e)^2,  which has
all of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from normlab import _check
from normlab.norms._rows import Array, as_rows, as_scale, as_vector, check_gradient


class Gradients(NamedTuple):
    """What flows back: dx has the shape of x, dalpha is a number, dweight and dbias have the weight's shape."""

    dx: Array
    dalpha: Array
    dweight: Array
    dbias: Array


def forward(
    x: ArrayLike,
    alpha: float = 0.5,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    offset: float = 0.0,
    normalized_shape: int | Sequence[int] | None = None,
) -> Array:
    """y = tanh(alpha * x) * (offset + weight) + bias.

    Args:
        x: any shape (*rows, *normalized_shape).
        alpha: the slope at 0.
        weight: shape normalized_shape; None stands for a scale of 1.
        bias: shape normalized_shape; None stands for 0.
        offset: added to the weight; not used without a weight.
        normalized_shape: the trailing axes that weight and bias have; None means the last axis.

    Raises:
        TypeError, ValueError: when the shapes do not fit or alpha is not a finite number.
    """
    _check.number("alpha", alpha)
    rows, shape = as_rows(x, normalized_shape)
    g, b = as_scale(weight, shape, offset), as_vector("bias", bias, shape, 0.0)
    return (np.tanh(alpha * rows) * g + b).reshape(np.shape(x))


def backward(
    dy: ArrayLike,
    x: ArrayLike,
    alpha: float = 0.5,
    weight: ArrayLike | None = None,
    *,
    offset: float = 0.0,
    normalized_shape: int | Sequence[int] | None = None,
) -> Gradients:
    """The gradients of sum(dy * forward(x, alpha, weight, bias, ...)), by the formulas at the top of this file."""
    check_gradient(dy, x)
    _check.number("alpha", alpha)
    rows, shape = as_rows(x, normalized_shape)
    dy, _ = as_rows(dy, shape)
    z = alpha * rows
    e = np.exp(-2 * np.abs(z))
    through = dy * as_scale(weight, shape, offset) * (4 * e / (1 + e) ** 2)
    dweight, dbias = np.sum(dy * np.tanh(z), axis=0), np.sum(dy, axis=0)
    return Gradients(
        (alpha * through).reshape(np.shape(x)),
        np.asarray(np.sum(through * rows)),
        dweight.reshape(shape),
        dbias.reshape(shape),
    )
