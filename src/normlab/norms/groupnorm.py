"""GroupNorm (Wu & He 2018, arXiv:1803.08494), float64.

x has shape (N, C) or (N, C, *space). The channels of a sample are divided, in their order, into `groups` groups of
C / groups; a group's numbers, over its channels and over space, take the part that a row has in LayerNorm, and
there are n = C / groups * space of them. Weight and bias belong to the channels:

    m = mean(x),  c = x - m,  v = mean(c^2)            per sample and group
    h = c / sqrt(v + eps)
    y = h * g + bias,   g = offset + weight            per channel

groups = 1 is LayerNorm over (C, *space) but for the parameters, groups = C is InstanceNorm.

Backward is LayerNorm's within a group; what differs is that u = dy * g changes from channel to channel inside of it,
and that a parameter collects from every sample and from space:

    dx      = s * (u - mean(u) - h * mean(u * h))      means over the group
    dweight = sum(dy * h),  dbias = sum(dy)            per channel
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from normlab import _check
from normlab.norms._rows import Array, as_scale, as_vector, check_gradient, factor, mean


class Gradients(NamedTuple):
    """What flows back: dx has the shape of x, dweight and dbias have shape (C,)."""

    dx: Array
    dweight: Array
    dbias: Array


def _by_channel(x: ArrayLike, groups: int) -> Array:
    """x as (N, C, space), after checking that the groups divide its channels."""
    array = np.asarray(x, dtype=np.float64)
    if array.ndim < 2:
        raise ValueError(f"x must have shape (N, C) or (N, C, *space), got {array.shape}")
    _check.whole("groups", groups)
    if array.shape[1] % groups:
        raise ValueError(f"groups must divide the {array.shape[1]} channels of x, got {groups}")
    return array.reshape(*array.shape[:2], int(np.prod(array.shape[2:])))


def _rows(by_channel: Array, groups: int) -> Array:
    """(N, C, space) as (N * groups, n): a group's numbers in a row."""
    samples, channels, space = by_channel.shape
    return by_channel.reshape(samples * groups, channels // groups * space)


def forward(
    x: ArrayLike,
    groups: int,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    eps: float | None = 1e-5,
    eps_place: str = "inside",
    offset: float = 0.0,
) -> Array:
    """y = (x - mean) / sqrt(var + eps) * (offset + weight) + bias, with the statistics of each sample's groups.

    Args:
        x: shape (N, C) or (N, C, *space).
        groups: how many groups; must divide C.
        weight, bias: shape (C,) or None.
        eps, eps_place, offset: as in the other norms.

    Raises:
        ValueError: when the shapes do not fit or the groups do not divide the channels.
    """
    channels = _by_channel(x, groups)
    g = as_scale(weight, channels.shape[1:2], offset)[:, None]
    b = as_vector("bias", bias, channels.shape[1:2], 0.0)[:, None]
    rows = _rows(channels, groups)
    c = rows - mean(rows)
    s, _ = factor(mean(c**2), eps, eps_place)
    return ((c * s).reshape(channels.shape) * g + b).reshape(np.shape(x))


def backward(
    dy: ArrayLike,
    x: ArrayLike,
    groups: int,
    weight: ArrayLike | None = None,
    *,
    eps: float | None = 1e-5,
    eps_place: str = "inside",
    offset: float = 0.0,
) -> Gradients:
    """The gradients of sum(dy * forward(x, groups, weight, bias, ...)), by the formulas at the top of this file."""
    check_gradient(dy, x)
    channels, dy = _by_channel(x, groups), _by_channel(dy, groups)
    g = as_scale(weight, channels.shape[1:2], offset)[:, None]
    rows, u = _rows(channels, groups), _rows(dy * g, groups)
    c = rows - mean(rows)
    s, k = factor(mean(c**2), eps, eps_place)

    h = c * s
    dx = s * (u - mean(u)) - k * h * mean(u * h)
    dweight = np.sum(dy * h.reshape(channels.shape), axis=(0, 2))
    dbias = np.sum(dy, axis=(0, 2))
    return Gradients(dx.reshape(np.shape(x)), dweight, dbias)
