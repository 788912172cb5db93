"""BatchNorm (Ioffe & Szegedy 2015, arXiv:1502.03167), float64.

x has shape (N, C) or (N, C, *space). A channel's numbers, over the batch and over space, take the part that
a row has in LayerNorm; there are n = N * space of them. In training:

    m = mean(x),  c = x - m,  v = mean(c^2)            per channel
    y = c / sqrt(v + eps) * g + bias,   g = offset + weight
    running_mean <- (1 - momentum) * running_mean + momentum * m
    running_var  <- (1 - momentum) * running_var  + momentum * v * n / (n - 1)

In evaluation m and v are the running values, constants, so the layer is one affine map per channel.

Backward in training is LayerNorm's, with the reductions over the channel's n numbers (u = dy * g, h = c * s):

    dx = s * (u - mean(u) - h * mean(u * h))

and in evaluation  dx = s * u.  In both: dweight = sum(dy * h), dbias = sum(dy), per channel.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from normlab.norms._rows import Array, as_scale, as_vector, check_gradient, factor, mean


class Output(NamedTuple):
    """y, and the running statistics after this batch (None where none were given)."""

    y: Array
    running_mean: Array | None
    running_var: Array | None


class Gradients(NamedTuple):
    """What flows back: dx has the shape of x, dweight and dbias have shape (C,)."""

    dx: Array
    dweight: Array
    dbias: Array


def _channels(x: ArrayLike) -> Array:
    """x as (C, n): a channel's numbers in a row."""
    array = np.asarray(x, dtype=np.float64)
    if array.ndim < 2:
        raise ValueError(f"x must have shape (N, C) or (N, C, *space), got {array.shape}")
    return np.moveaxis(array, 1, 0).reshape(array.shape[1], array.shape[0] * int(np.prod(array.shape[2:])))


def _unchannels(rows: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of _channels."""
    return np.moveaxis(rows.reshape(shape[1], shape[0], *shape[2:]), 0, 1)


def _statistics(
    rows: Array, running_mean: ArrayLike | None, running_var: ArrayLike | None, training: bool
) -> tuple[Array, Array]:
    """Mean and variance per channel, (C, 1): of the batch, or in evaluation the running ones where there are any."""
    if (running_mean is None) != (running_var is None):
        raise ValueError("running_mean and running_var must be given together, got only one of them")
    shape = (rows.shape[0],)
    running = (
        as_vector("running_mean", running_mean, shape, 0.0)[:, None],
        as_vector("running_var", running_var, shape, 1.0)[:, None],
    )
    if not training and running_mean is not None:
        return running
    if rows.shape[1] == 1:
        raise ValueError("x must have more than 1 number per channel for the batch's statistics, got 1")
    m = mean(rows)
    return m, mean((rows - m) ** 2)


def forward(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    *,
    training: bool = True,
    momentum: float = 0.1,
    eps: float | None = 1e-5,
    eps_place: str = "inside",
    offset: float = 0.0,
    unbiased_running_var: bool = True,
) -> Output:
    """Normalize each channel; in training also return the moved running statistics (new arrays).

    Args:
        x: shape (N, C) or (N, C, *space).
        weight, bias, running_mean, running_var: shape (C,) or None.
        training: use the batch's statistics; without running statistics evaluation uses them too.
        momentum: the share of the new batch in the running statistics.
        eps, eps_place, offset: as in the other norms.
        unbiased_running_var: the running variance takes v * n / (n - 1), as PyTorch does, instead of v.

    Raises:
        ValueError: when the shapes do not fit, or batch statistics are asked for of one number per channel.

    A batch without any numbers (N = 0, say) is normalized to nothing and leaves the running statistics as they are.
    """
    rows = _channels(x)
    n = rows.shape[1]
    g = as_scale(weight, rows.shape[:1], offset)[:, None]
    b = as_vector("bias", bias, rows.shape[:1], 0.0)[:, None]
    m, v = _statistics(rows, running_mean, running_var, training)
    s, _ = factor(v, eps, eps_place)
    y = _unchannels((rows - m) * s * g + b, np.shape(x))

    new_mean = None if running_mean is None else np.array(running_mean, dtype=np.float64)
    new_var = None if running_var is None else np.array(running_var, dtype=np.float64)
    if training and n and new_mean is not None and new_var is not None:
        new_mean = (1 - momentum) * new_mean + momentum * m[:, 0]
        new_var = (1 - momentum) * new_var + momentum * v[:, 0] * (n / (n - 1) if unbiased_running_var else 1.0)
    return Output(y, new_mean, new_var)


def backward(
    dy: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike | None = None,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    *,
    training: bool = True,
    eps: float | None = 1e-5,
    eps_place: str = "inside",
    offset: float = 0.0,
) -> Gradients:
    """The gradients of sum(dy * y). In evaluation the running statistics must be those of the forward call."""
    check_gradient(dy, x)
    rows, dy = _channels(x), _channels(dy)
    g = as_scale(weight, rows.shape[:1], offset)[:, None]
    m, v = _statistics(rows, running_mean, running_var, training)
    s, k = factor(v, eps, eps_place)
    u, h = dy * g, (rows - m) * s

    dx = s * u
    if training or running_mean is None:
        dx -= s * mean(u) + k * h * mean(u * h)
    dweight = np.sum(dy * h, axis=1)
    dbias = np.sum(dy, axis=1)
    return Gradients(_unchannels(dx, np.shape(x)), dweight, dbias)
