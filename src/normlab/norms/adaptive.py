"""Adaptive LayerNorm and RMSNorm (adaLN; Peebles & Xie 2022, arXiv:2212.09748), float64.

The norm N of a row x of n numbers, LayerNorm or RMSNorm, usually without parameters of its own; scale and shift are
computed from a conditioning vector c (a time step, a class):

    a              = c * sigmoid(c)                     (SiLU)
    (shift, scale) = the two halves of  W a + b         W of shape (2n, size of c), b of shape (2n,)
    y              = N(x) * (1 + scale) + shift

W and b begin at 0, where y = N(x).

Backward. One c acts on every row x under it (the positions of a sequence), so these collect:

    dN     = dy * (1 + scale)                           then through the norm, which gives dx
    dshift = sum of dy,  dscale = sum of dy * N(x)      over the rows under the same c
    dW     = sum of (dshift, dscale) a^T,  db = sum of (dshift, dscale)
    da     = W^T (dshift, dscale)
    dc     = da * sigmoid(c) * (1 + c * (1 - sigmoid(c)))
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from normlab import _check
from normlab.norms import layernorm, rmsnorm
from normlab.norms._rows import Array, check_gradient

NORMS: Mapping[str, ModuleType] = {"layernorm": layernorm, "rmsnorm": rmsnorm}


class Gradients(NamedTuple):
    """What flows back: each has the shape of what it belongs to."""

    dx: Array
    dcondition: Array
    dprojection: Array
    dprojection_bias: Array


class _Modulation(NamedTuple):
    """What c makes: sigmoid(c), a, shift and scale, the last two broadcasting to x."""

    sigmoid: Array
    a: Array
    shift: Array
    scale: Array


def _modulation(x: Array, c: Array, projection: Array, projection_bias: Array) -> _Modulation:
    if x.ndim == 0 or c.ndim == 0 or c.ndim > x.ndim or c.shape[:-1] != x.shape[: c.ndim - 1]:
        raise ValueError(
            f"condition must have shape (*leading, size) with the leading axes of x, {x.shape}, got {c.shape}"
        )
    shape = (2 * x.shape[-1], c.shape[-1])
    if projection.shape != shape:
        raise ValueError(f"projection must have shape {shape}, got {projection.shape}")
    if projection_bias.shape != shape[:1]:
        raise ValueError(f"projection_bias must have shape {shape[:1]}, got {projection_bias.shape}")
    # exp of a large number is inf, and 1 / (1 + inf) the right 0.
    with np.errstate(over="ignore"):
        sigmoid = 1 / (1 + np.exp(-c))
    a = c * sigmoid
    both = a @ projection.T + projection_bias
    both = both.reshape(*c.shape[:-1], *(1,) * (x.ndim - c.ndim), both.shape[-1])
    shift, scale = np.split(both, 2, axis=-1)
    return _Modulation(sigmoid, a, shift, scale)


def forward(
    x: ArrayLike,
    condition: ArrayLike,
    projection: ArrayLike,
    projection_bias: ArrayLike,
    *,
    kind: str = "layernorm",
    **options: Any,
) -> Array:
    """y = N(x) * (1 + scale) + shift along the last axis, with (shift, scale) = projection silu(condition) + bias.

    Args:
        x: shape (*leading, *positions, n).
        condition: shape (*leading, size); one for all positions under it.
        projection: shape (2n, size).
        projection_bias: shape (2n,).
        kind: "layernorm" or "rmsnorm".
        options: of that norm's own definition: eps, eps_place, and a weight, an offset and a bias of its own.

    Raises:
        ValueError: when a shape or the kind does not fit.
    """
    _check.one_of("kind", kind, tuple(NORMS))
    x, c, w, b = (np.asarray(v, dtype=np.float64) for v in (x, condition, projection, projection_bias))
    m = _modulation(x, c, w, b)
    return NORMS[kind].forward(x, **options) * (1 + m.scale) + m.shift


def backward(
    dy: ArrayLike,
    x: ArrayLike,
    condition: ArrayLike,
    projection: ArrayLike,
    projection_bias: ArrayLike,
    *,
    kind: str = "layernorm",
    **options: Any,
) -> Gradients:
    """The gradients of sum(dy * forward(x, condition, projection, projection_bias, ...)), by the formulas above."""
    _check.one_of("kind", kind, tuple(NORMS))
    check_gradient(dy, x)
    dy, x, c, w, b = (np.asarray(v, dtype=np.float64) for v in (dy, x, condition, projection, projection_bias))
    m = _modulation(x, c, w, b)
    normed = NORMS[kind].forward(x, **options)
    inner = {name: value for name, value in options.items() if name != "bias"}
    dx = NORMS[kind].backward(dy * (1 + m.scale), x, **inner).dx

    positions = tuple(range(c.ndim - 1, x.ndim - 1))
    both = np.concatenate([np.sum(dy, axis=positions), np.sum(dy * normed, axis=positions)], axis=-1)
    dc = (both @ w) * m.sigmoid * (1 + c * (1 - m.sigmoid))
    leading = tuple(range(c.ndim - 1))
    dw = np.sum(both[..., :, None] * m.a[..., None, :], axis=leading)
    return Gradients(dx, dc, dw, np.sum(both, axis=leading))
