"""The normalization layers, with the names that papers give their parameters."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from normlab.spec import NormSpec
from normlab.tensor import ops
from normlab.tensor.core import Array, Tensor
from normlab.tensor.layers.module import Module
from normlab.tensor.ops._operands import as_tensor
from normlab.tensor.ops.normalization import sizes


def _follow(spec: NormSpec, eps: float | None) -> NormSpec:
    """The spec with this eps: users set the attribute (`norm.eps = 1e-3`)."""
    return spec if spec.eps == eps else replace(spec, eps=eps)


class LayerNorm(Module):
    """y = (x - mean(x)) / sqrt(var(x) + eps) * gamma + beta, over the trailing axes.

    Args:
        normalized_shape: int or sizes of the trailing axes that are normalized together.
        eps: added to the (biased) variance.
        elementwise_affine, bias: whether there are gamma and beta, of shape normalized_shape.
        dtype: of gamma and beta; NumPy's own, float64, if not given.

    Source: Ba, Kiros & Hinton 2016, arXiv:1607.06450. Definition: `normlab.norms.layernorm`.
    """

    gamma: Tensor | None
    beta: Tensor | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float64,
    ) -> None:
        self.normalized_shape, self.eps = sizes(normalized_shape), eps
        self.gamma = Tensor(np.ones(self.normalized_shape, dtype), True) if elementwise_affine else None
        self.beta = Tensor(np.zeros(self.normalized_shape, dtype), True) if elementwise_affine and bias else None
        self._spec = NormSpec("layernorm", eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """x: (*, *normalized_shape)."""
        spec = self._spec = _follow(self._spec, self.eps)
        return ops.layer_norm(x, self.normalized_shape, self.gamma, self.beta, spec=spec)

    def extra_repr(self) -> str:
        """As torch's."""
        return f"{self.normalized_shape}, eps={self.eps}"


class RMSNorm(Module):
    """y = x / sqrt(mean(x^2) + eps) * weight, over the trailing axes.

    Args:
        dim: int or sizes of the trailing axes that are normalized together.
        eps: added to the mean square.
        elementwise_affine: whether there is a weight, of shape dim.
        dtype: of the weight; NumPy's own, float64, if not given.

    Source: Zhang & Sennrich 2019, arXiv:1910.07467. Definition: `normlab.norms.rmsnorm`.
    """

    weight: Tensor | None

    def __init__(
        self,
        dim: int | Sequence[int],
        eps: float | None = 1e-6,
        elementwise_affine: bool = True,
        *,
        dtype: DTypeLike = np.float64,
    ) -> None:
        self.normalized_shape, self.eps = sizes(dim), eps
        self.weight = Tensor(np.ones(self.normalized_shape, dtype), True) if elementwise_affine else None
        self._spec = NormSpec("rmsnorm", eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """x: (*, *dim)."""
        spec = self._spec = _follow(self._spec, self.eps)
        return ops.rms_norm(x, self.normalized_shape, self.weight, spec=spec)

    def extra_repr(self) -> str:
        """As torch's."""
        return f"{self.normalized_shape}, eps={self.eps}"


class BatchNorm(Module):
    """y = (x - mean) / sqrt(var + eps) * gamma + beta per channel, over the batch and over space.

    In training with the batch's statistics, which move the running ones; in evaluation with the running ones.

    Args:
        num_features: channels.
        eps: added to the (biased) variance.
        momentum: the share of a new batch in the running statistics.
        affine: whether there are gamma and beta, of shape (num_features,).
        track_running_stats: whether there are running statistics; without them evaluation uses the batch's.
        unbiased_running_var: the running variance takes n / (n - 1) times the batch's, as in torch; textbooks leave
            the factor out.
        dtype: of gamma and beta; NumPy's own, float64, if not given.

    Source: Ioffe & Szegedy 2015, arXiv:1502.03167. Definition: `normlab.norms.batchnorm`.
    """

    buffers = ("running_mean", "running_var")
    running_mean: Array | None
    running_var: Array | None
    gamma: Tensor | None
    beta: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        unbiased_running_var: bool = True,
        dtype: DTypeLike = np.float64,
    ) -> None:
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.unbiased_running_var = unbiased_running_var
        self.gamma = Tensor(np.ones(num_features, dtype), True) if affine else None
        self.beta = Tensor(np.zeros(num_features, dtype), True) if affine else None
        self.running_mean = np.zeros(num_features, dtype) if track_running_stats else None
        self.running_var = np.ones(num_features, dtype) if track_running_stats else None

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C), (N, C, L) or (N, C, H, W)."""
        x = as_tensor(x)
        if x.ndim < 2 or x.shape[1] != self.num_features:
            raise ValueError(f"x must have {self.num_features} channels on axis 1, got shape {x.shape}")
        options: dict[str, Any] = {"unbiased_running_var": self.unbiased_running_var}
        return ops.batch_norm(
            x, self.running_mean, self.running_var, self.gamma, self.beta, self.training, self.momentum, self.eps,
            **options,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """As torch's."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class GroupNorm(Module):
    """y = (x - mean) / sqrt(var + eps), over the channels of a group and all of space; then gamma and beta per channel.

    Args:
        num_groups: groups, which share the channels evenly.
        num_channels: channels.
        eps: added to the (biased) variance.
        affine: whether there are gamma and beta, of shape (num_channels,).
        dtype: of gamma and beta; NumPy's own, float64, if not given.

    Source: Wu & He 2018, arXiv:1803.08494. Definition: `normlab.norms.groupnorm`.
    """

    gamma: Tensor | None
    beta: Tensor | None

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        dtype: DTypeLike = np.float64,
    ) -> None:
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(f"num_groups must divide num_channels, {num_channels}, got {num_groups}")
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.gamma = Tensor(np.ones(num_channels, dtype), True) if affine else None
        self.beta = Tensor(np.zeros(num_channels, dtype), True) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, num_channels, *)."""
        return ops.group_norm(x, self.num_groups, self.gamma, self.beta, self.eps)

    def extra_repr(self) -> str:
        """As torch's."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}"
