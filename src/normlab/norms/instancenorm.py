"""InstanceNorm (Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022), float64.

x has shape (N, C, *space). The n numbers of one channel of one sample, over space, take the part that a row has in
LayerNorm; weight and bias belong to the channels:

    m = mean(x),  c = x - m,  v = mean(c^2)            per sample and channel
    y = c / sqrt(v + eps) * g + bias,   g = offset + weight
    running_mean <- (1 - momentum) * running_mean + momentum * (m averaged over the samples)
    running_var  <- (1 - momentum) * running_var  + momentum * (v * n / (n - 1) averaged over the samples)

With running statistics, which are not usual, evaluation takes them for m and v, and is BatchNorm's: one affine map
per channel.

Backward is LayerNorm's within a row (u = dy * g, h = c * s), and  dx = s * u  with running values:

    dx      = s * (u - mean(u) - h * mean(u * h))
    dweight = sum(dy * h),  dbias = sum(dy)            over samples and space
"""

import numpy as np
from numpy.typing import ArrayLike

from normlab.norms._rows import Array, as_scale, as_vector, check_gradient, factor, mean
from normlab.norms.batchnorm import Gradients, Output


def _instances(x: ArrayLike) -> Array:
    """x as (N * C, n): the numbers of one sample's channel in a row."""
    array = np.asarray(x, dtype=np.float64)
    if array.ndim < 3:
        raise ValueError(f"x must have shape (N, C, *space), got {array.shape}")
    return array.reshape(array.shape[0] * array.shape[1], int(np.prod(array.shape[2:])))


def _per_row(vector: Array, samples: int) -> Array:
    """One number a channel as a column over the rows of _instances."""
    return np.tile(vector, samples)[:, None]


def _statistics(
    rows: Array,
    shape: tuple[int, ...],
    running_mean: ArrayLike | None,
    running_var: ArrayLike | None,
    training: bool,
) -> tuple[Array, Array]:
    """Mean and variance of each row: its own, or in evaluation the running ones where there are any."""
    if (running_mean is None) != (running_var is None):
        raise ValueError("running_mean and running_var must be given together, got only one of them")
    running = (
        _per_row(as_vector("running_mean", running_mean, shape[1:2], 0.0), shape[0]),
        _per_row(as_vector("running_var", running_var, shape[1:2], 1.0), shape[0]),
    )
    if not training and running_mean is not None:
        return running
    if rows.shape[1] == 1:
        raise ValueError(f"x must have more than 1 number per sample and channel for their statistics, got {shape}")
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
    """Normalize each channel of each sample; in training also return the moved running statistics (new arrays).

    Args:
        x: shape (N, C, *space).
        weight, bias, running_mean, running_var: shape (C,) or None.
        training: use the samples' statistics; without running statistics evaluation uses them too.
        momentum: the share of the new batch in the running statistics.
        eps, eps_place, offset: as in the other norms.
        unbiased_running_var: the running variance takes v * n / (n - 1), as PyTorch does, instead of v.

    Raises:
        ValueError: when the shapes do not fit, or statistics are asked for of one number.

    A batch without any numbers is normalized to nothing and leaves the running statistics as they are.
    """
    rows = _instances(x)
    shape, n = np.shape(x), rows.shape[1]
    g = _per_row(as_scale(weight, shape[1:2], offset), shape[0])
    b = _per_row(as_vector("bias", bias, shape[1:2], 0.0), shape[0])
    m, v = _statistics(rows, shape, running_mean, running_var, training)
    s, _ = factor(v, eps, eps_place)
    y = ((rows - m) * s * g + b).reshape(shape)

    new_mean = None if running_mean is None else np.array(running_mean, dtype=np.float64)
    new_var = None if running_var is None else np.array(running_var, dtype=np.float64)
    if training and rows.size and new_mean is not None and new_var is not None:
        of_mean, of_var = (np.mean(a.reshape(shape[:2]), axis=0) for a in (m, v))
        new_mean = (1 - momentum) * new_mean + momentum * of_mean
        new_var = (1 - momentum) * new_var + momentum * of_var * (n / (n - 1) if unbiased_running_var else 1.0)
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
    rows, dy = _instances(x), _instances(dy)
    shape = np.shape(x)
    g = _per_row(as_scale(weight, shape[1:2], offset), shape[0])
    m, v = _statistics(rows, shape, running_mean, running_var, training)
    s, k = factor(v, eps, eps_place)
    u, h = dy * g, (rows - m) * s

    dx = s * u
    if training or running_mean is None:
        dx -= s * mean(u) + k * h * mean(u * h)
    dweight, dbias = (np.sum(np.sum(a, axis=1).reshape(shape[:2]), axis=0) for a in (dy * h, dy))
    return Gradients(dx.reshape(shape), dweight, dbias)
