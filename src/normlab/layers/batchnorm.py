"""BatchNorm1d and BatchNorm2d as PyTorch layers."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normlab.layers import functional
from normlab.layers._spec import resolve
from normlab.spec import NormSpec


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """y = (x - mean) / sqrt(var + eps) * weight + bias per channel, over the batch and over space.

    torch.nn's: same constructor, same state_dict keys, so a checkpoint of one loads into the other.

    Args:
        num_features: channels.
        eps: added to the (biased) variance.
        momentum: share of a new batch in the running statistics; None: their plain average.
        affine: whether there are weight and bias, of shape (num_features,).
        track_running_stats: whether evaluation uses running statistics.
        device, dtype: of parameters and buffers.
        bias: whether an affine layer has a bias.
        spec: a NormSpec or the name of a preset ("torch", "tensorweaver"), for all details.

    Raises:
        TypeError, ValueError: for a spec of another kind, or an eps that contradicts it.

    Source: Ioffe & Szegedy 2015, arXiv:1502.03167. Definition: `normlab.norms.batchnorm`.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
        spec: NormSpec | str | None = None,
    ) -> None:
        resolved = resolve("batchnorm", spec, eps=eps, default_eps=1e-5, affine=affine, bias=bias)
        self.spec = resolved
        super().__init__(
            num_features,
            resolved.eps,  # pyright: ignore[reportArgumentType]
            momentum,
            resolved.affine,
            track_running_stats,
            device,
            dtype,
            bias=resolved.bias,
        )

    def forward(self, input: Float[Tensor, "batch channels *space"]) -> Float[Tensor, "batch channels *space"]:
        """Normalize input; in training mode also move the running statistics."""
        self._check_input_dim(input)
        momentum = 0.0 if self.momentum is None else self.momentum
        track = self.training and self.track_running_stats
        if track and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked)
        use_running = track or not self.training
        return functional.batch_norm(
            input,
            self.running_mean if use_running else None,
            self.running_var if use_running else None,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            momentum,
            spec=self.spec,
        )


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """BatchNorm over (N, C) or (N, C, L) input."""

    __doc__ = f"{__doc__}\n\n    {_BatchNorm.__doc__}"


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """BatchNorm over (N, C, H, W) input."""

    __doc__ = f"{__doc__}\n\n    {_BatchNorm.__doc__}"
