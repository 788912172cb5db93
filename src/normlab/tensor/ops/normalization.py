"""LayerNorm, RMSNorm, BatchNorm and GroupNorm, each one step with its derivative worked out by hand.

The formulas and their derivation stand in `normlab.norms`; rows are computed by the library's kernels
(`normlab.kernels.arrays`), the same that its PyTorch layers use.
"""

import math
from collections.abc import Sequence
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from normlab import _check
from normlab.kernels import arrays
from normlab.spec import NormSpec
from normlab.tensor import core
from normlab.tensor.core import Array, Operation, apply
from normlab.tensor.ops._operands import as_tensor, kind_of

if TYPE_CHECKING:
    from normlab.tensor.core import Tensor


def _rows(x: Array, shape: tuple[int, ...]) -> Array:
    """x as contiguous rows of the numbers of the trailing axes `shape`."""
    n = math.prod(shape)
    return np.ascontiguousarray(x).reshape(math.prod(x.shape[: x.ndim - len(shape)]), n)


class _RowNorm(Operation):
    """Over rows of the trailing axes."""

    kind: ClassVar[str]

    def __init__(self, shape: tuple[int, ...], spec: NormSpec) -> None:
        self.shape, self.spec = shape, spec

    def forward(self, x: Array, *parameters: Array) -> Array:
        """The norm of each row."""
        weight, bias = (*(np.ascontiguousarray(p, x.dtype).reshape(-1) for p in parameters), None, None)[:2]
        y, self.kept = arrays.forward(_rows(x, self.shape), weight, bias, self.spec)
        return y.reshape(x.shape)

    def backward(self, dy: Array) -> Any:
        """dx, dweight and dbias in one pass over x and dy."""
        dx, *sums = arrays.backward(_rows(dy, self.shape), self.kept)
        return dx.reshape(dy.shape), *(s.reshape(self.shape) for s in sums if s is not None)


class LayerNorm(_RowNorm):
    """Ba, Kiros & Hinton 2016, arXiv:1607.06450."""

    kind = "layernorm"
    formula = "y = h * gamma + beta,  h = (x - mean(x)) * s,  s = 1 / sqrt(var(x) + eps)"
    derivative = (
        "u = dy * gamma,  dx = s * (u - mean(u) - h * mean(u * h)),  "
        "dgamma = sum of dy * h over rows,  dbeta = sum of dy over rows"
    )


class RMSNorm(_RowNorm):
    """Zhang & Sennrich 2019, arXiv:1910.07467."""

    kind = "rmsnorm"
    formula = "y = h * weight,  h = x * s,  s = 1 / sqrt(mean(x^2) + eps)"
    derivative = "u = dy * weight,  dx = s * (u - h * mean(u * h)),  dweight = sum of dy * h over rows"


class BatchNorm(Operation):
    """Ioffe & Szegedy 2015, arXiv:1502.03167: a channel's numbers, over the batch and over space, make a row.

    Args:
        mean, var: what to normalize with, (channels,); None stands for the batch's own, which are left in `mean` and
            `var` (float64, the variance biased).
    """

    formula = "y = h * gamma + beta,  h = (x - m) * s,  s = 1 / sqrt(v + eps),  m and v of the channel"
    derivative = (
        "u = dy * gamma,  dx = s * (u - mean(u) - h * mean(u * h)) over the channel (dx = s * u in evaluation),  "
        "dgamma = sum of dy * h,  dbeta = sum of dy"
    )

    def __init__(self, eps: float, mean: Any = None, var: Any = None) -> None:
        self.eps, self.mean, self.var = eps, mean, var
        self.training = mean is None

    def forward(self, x: Array, *parameters: Array) -> Array:
        """x: (N, C) or (N, C, *space)."""
        self.axes = (0, *range(2, x.ndim))
        self.n = math.prod(x.shape[i] for i in self.axes)
        # Statistics in float64: a channel may have millions of numbers.
        if self.training:
            # Of no numbers at all any statistics will do.
            n = max(self.n, 1)
            self.mean = self._sum(x) / n
            c = x - self._wide(self.mean, x.dtype)
            self.var = self._sum(np.square(c)) / n
        else:
            c = x - self._wide(self.mean, x.dtype)
        self.s = self._wide(1 / np.sqrt(self.var + self.eps), x.dtype)
        self.h = c * self.s
        if not parameters:
            return self.h
        # The result has x's dtype, whatever the parameters', as that of the kernels has.
        self.gamma = self._wide(parameters[0], x.dtype)
        y = self.h * self.gamma
        if len(parameters) > 1:
            y += self._wide(parameters[1], x.dtype)
        return y

    def backward(self, dy: Array) -> Any:
        """LayerNorm's derivative over channels; in evaluation an affine map's."""
        sums = [self._sum(a) for a in (dy * self.h, dy)]
        u = dy * self.gamma if len(self.needs) > 1 else dy
        dx = u * self.s
        if self.training:
            mean_u, mean_uh = (self._wide(self._sum(a) / max(self.n, 1), dy.dtype) for a in (u, u * self.h))
            dx = self.s * (u - mean_u - self.h * mean_uh)
        return dx, *sums[: len(self.needs) - 1]

    def _sum(self, a: Array) -> Array:
        return np.add.reduce(a, axis=self.axes, dtype=np.float64)

    def _wide(self, channel: Any, dtype: Any) -> Array:
        return channel.astype(dtype, copy=False)[(..., *(None,) * (len(self.axes) - 1))]


class GroupNorm(Operation):
    """Wu & He 2018, arXiv:1803.08494: the channels of a group, with all of space, make a row."""

    formula = "y = h * gamma + beta,  h = (x - m) * s,  s = 1 / sqrt(v + eps),  m and v of the group"
    derivative = (
        "u = dy * gamma,  dx = s * (u - mean(u) - h * mean(u * h)) over the group,  "
        "dgamma = sum of dy * h,  dbeta = sum of dy, per channel"
    )

    def __init__(self, groups: int, spec: NormSpec) -> None:
        self.groups, self.spec = groups, spec

    def forward(self, x: Array, *parameters: Array) -> Array:
        """x: (N, C, *space)."""
        width = x.shape[1] // self.groups * math.prod(x.shape[2:])
        rows = np.ascontiguousarray(x).reshape(x.shape[0] * self.groups, width)
        h, self.kept = arrays.forward(rows, None, None, self.spec)
        self.h = h.reshape(x.shape)
        if not parameters:
            return self.h
        column = (..., *(None,) * (x.ndim - 2))
        self.gamma = parameters[0].astype(x.dtype, copy=False)[column]
        y = self.h * self.gamma
        if len(parameters) > 1:
            y += parameters[1].astype(x.dtype, copy=False)[column]
        return y

    def backward(self, dy: Array) -> Any:
        """LayerNorm's derivative over groups."""
        u = dy * self.gamma if len(self.needs) > 1 else dy
        dx, _, _ = arrays.backward(np.ascontiguousarray(u).reshape(self.kept.x.shape), self.kept)
        axes = (0, *range(2, dy.ndim))
        sums = [np.add.reduce(a, axis=axes, dtype=np.float64) for a in (dy * self.h, dy)[: len(self.needs) - 1]]
        return dx.reshape(dy.shape), *sums


def sizes(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """The sizes of trailing axes, given as a number or as several.

    Raises:
        TypeError: for what is neither.
    """
    if type(normalized_shape) is tuple:
        return normalized_shape
    try:
        given = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
        return tuple(map(index, given))
    except TypeError:
        raise TypeError(f"normalized_shape must be an int or a sequence of them, got {normalized_shape!r}") from None


def _check_floating(x: "Tensor") -> None:
    if x.dtype.kind != "f":
        raise TypeError(f"x must be float32 or float64, got {x.dtype}")


def _given(*parameters: "Tensor | None") -> "tuple[Tensor, ...]":
    return tuple(p for p in parameters if p is not None)


def _row_norm(kind: type[_RowNorm], x: "Tensor", normalized_shape: Any, spec: NormSpec, *parameters: Any) -> "Tensor":
    x, shape = as_tensor(x), sizes(normalized_shape)
    _check_floating(x)
    if spec.kind != kind.kind or spec.eps_place != "inside":
        raise ValueError(f'spec must be of kind {kind.kind!r} with eps_place "inside", got {spec!r}')
    if not shape or x.shape[-len(shape) :] != shape:
        raise ValueError(f"normalized_shape must be the trailing axes of x, {x.shape}, got {shape}")
    for p in parameters:
        if p is not None and p.shape != shape:
            raise ValueError(f"gamma and beta must have the normalized_shape {shape}, got {p.shape}")
    return apply(kind(shape, spec), x, *_given(*parameters))


def layer_norm(
    x: "Tensor",
    normalized_shape: int | Sequence[int],
    gamma: "Tensor | None" = None,
    beta: "Tensor | None" = None,
    eps: float = 1e-5,
    *,
    spec: NormSpec | None = None,
) -> "Tensor":
    """(x - mean) / sqrt(var + eps) * gamma + beta over the trailing axes.

    Raises:
        TypeError: for an x of integers.
        ValueError: when shapes do not fit, or for a beta without a gamma.
    """
    if gamma is None and beta is not None:
        raise ValueError("beta needs a gamma beside it")
    return _row_norm(LayerNorm, x, normalized_shape, spec or NormSpec("layernorm", eps=eps), gamma, beta)


def rms_norm(
    x: "Tensor",
    normalized_shape: int | Sequence[int],
    weight: "Tensor | None" = None,
    eps: float | None = 1e-6,
    *,
    spec: NormSpec | None = None,
) -> "Tensor":
    """x / sqrt(mean(x^2) + eps) * weight over the trailing axes.

    Raises:
        TypeError: for an x of integers.
        ValueError: when shapes do not fit.
    """
    return _row_norm(RMSNorm, x, normalized_shape, spec or NormSpec("rmsnorm", eps=eps), weight)


def _check_channels(x: "Tensor", gamma: "Tensor | None", beta: "Tensor | None") -> None:
    _check_floating(x)
    if x.ndim < 2:
        raise ValueError(f"x must have shape (batch, channels, *space), got {x.shape}")
    for name, p in (("gamma", gamma), ("beta", beta)):
        if p is not None and p.shape != x.shape[1:2]:
            raise ValueError(f"{name} must have shape ({x.shape[1]},), the channels of x, got {p.shape}")
    if gamma is None and beta is not None:
        raise ValueError("beta needs a gamma beside it")


def batch_norm(
    x: "Tensor",
    running_mean: Array | None = None,
    running_var: Array | None = None,
    gamma: "Tensor | None" = None,
    beta: "Tensor | None" = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    unbiased_running_var: bool = True,
) -> "Tensor":
    """(x - mean) / sqrt(var + eps) * gamma + beta per channel.

    Args:
        x: shape (N, C) or (N, C, *space).
        running_mean, running_var: arrays of shape (C,), moved in place in training.
        training: use the batch's statistics; without running statistics evaluation does too.
        momentum: the share of this batch in the running statistics.
        unbiased_running_var: the running variance takes n / (n - 1) times the batch's, as in torch.

    Raises:
        TypeError: for an x of integers.
        ValueError: when shapes do not fit, or there is 1 number per channel to take statistics of.
    """
    x = as_tensor(x)
    _check_channels(x, gamma, beta)
    if (running_mean is None) != (running_var is None):
        raise ValueError("running_mean and running_var must be given together, got only one of them")
    for name, value in (("running_mean", running_mean), ("running_var", running_var)):
        if value is not None and not (isinstance(value, np.ndarray) and value.dtype in core.FLOATS):
            raise TypeError(f"{name} must be an array of float32 or float64, got {kind_of(value)}")
        if value is not None and value.shape != x.shape[1:2]:
            raise ValueError(f"{name} must have shape ({x.shape[1]},), the channels of x, got {value.shape}")
    _check.number("momentum", momentum)
    _check.number("eps", eps, least=0)
    own = training or running_mean is None
    n = x.size // max(x.shape[1], 1)
    if own and n == 1:
        raise ValueError(f"x must hold more than 1 number per channel for its statistics, got shape {x.shape}")
    step = BatchNorm(eps) if own else BatchNorm(eps, running_mean, running_var)
    y = apply(step, x, *_given(gamma, beta))
    if training and n and running_mean is not None and running_var is not None:
        running_mean += momentum * (step.mean - running_mean)
        running_var += momentum * (step.var * (n / (n - 1) if unbiased_running_var else 1.0) - running_var)
    return y


def group_norm(
    x: "Tensor",
    num_groups: int,
    gamma: "Tensor | None" = None,
    beta: "Tensor | None" = None,
    eps: float = 1e-5,
) -> "Tensor":
    """(x - mean) / sqrt(var + eps) over the channels of a group and all of space, then gamma and beta per channel.

    Raises:
        TypeError: for an x of integers.
        ValueError: when shapes do not fit, or the groups do not share the channels evenly.
    """
    x = as_tensor(x)
    _check_channels(x, gamma, beta)
    if num_groups < 1 or x.shape[1] % num_groups:
        raise ValueError(f"num_groups must divide the channels, {x.shape[1]}, got {num_groups}")
    return apply(GroupNorm(num_groups, NormSpec("layernorm", eps=eps)), x, *_given(gamma, beta))
