"""BatchNorm1d, BatchNorm2d and BatchNorm3d as PyTorch layers."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normlab import _check
from normlab.layers import functional
from normlab.layers._spec import DEFAULT_EPS, WithSpec, plain, resolve, size
from normlab.spec import NormSpec


class _BatchNorm(WithSpec, nn.modules.batchnorm._BatchNorm):
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
        spec: a NormSpec or the name of a preset ("torch", "tensorweaver"), for all details. Beside it affine
            and bias only take away: True gives no parameter that it has not.

    Raises:
        TypeError, ValueError: for a spec of another kind, an eps that contradicts it, or a size or momentum that is
            none.

    Source: Ioffe & Szegedy 2015, arXiv:1502.03167. Definition: `normlab.norms.batchnorm`.

    FAQ:
        What do PyTorch's conversions make of it? `nn.SyncBatchNorm.convert_sync_batchnorm` and `fuse_conv_bn_eval` take
            its weight and statistics for torch's formula, which is right for the formula of torch alone: not with an
            offset, or eps outside of the root. `torch.ao.quantization.fuse_modules` knows torch's own classes only.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = DEFAULT_EPS,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
        spec: NormSpec | str | None = None,
    ) -> None:
        resolved = resolve("batchnorm", spec, eps=eps, default_eps=DEFAULT_EPS, affine=affine, bias=bias)
        self._spec = resolved
        num_features, momentum = size("num_features", num_features), plain(momentum)
        if momentum is not None:
            _check.number("momentum", momentum)
        super().__init__(
            num_features,
            resolved.eps,  # pyright: ignore[reportArgumentType]
            momentum,
            resolved.affine,
            track_running_stats,
            device,
            dtype,
        )
        if not resolved.bias:
            self.bias = None

    def reset_parameters(self) -> None:
        """Fill the weight so that the scale is 1, the bias with 0, and restart the running statistics."""
        self.reset_running_stats()
        if self.weight is not None:
            nn.init.constant_(self.weight, 1.0 - self.spec.offset)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Float[Tensor, "batch channels *space"]) -> Float[Tensor, "batch channels *space"]:
        """Normalize input; in training mode also move the running statistics."""
        functional.check_tensor("input", input)
        self._check_input_dim(input)
        counter = self.num_batches_tracked if self.training and self.track_running_stats else None
        momentum = self.momentum
        if momentum is None:
            momentum = 0.0 if counter is None else 1.0 / (int(counter) + 1)
        use_running = self.track_running_stats or not self.training
        y = functional.batch_norm(
            input,
            self.running_mean if use_running else None,
            self.running_var if use_running else None,
            self.weight,
            self.bias,
            self.training or (self.running_mean is None and self.running_var is None),
            momentum,
            spec=self.spec,
        )
        if counter is not None:
            # Only now: a batch that was refused does not count.
            counter.add_(1)
        return y


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """BatchNorm over (N, C) or (N, C, L) input."""

    __doc__ = f"{__doc__}\n\n    {_BatchNorm.__doc__}"


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """BatchNorm over (N, C, H, W) input."""

    __doc__ = f"{__doc__}\n\n    {_BatchNorm.__doc__}"


class BatchNorm3d(_BatchNorm, nn.BatchNorm3d):
    """BatchNorm over (N, C, D, H, W) input."""

    __doc__ = f"{__doc__}\n\n    {_BatchNorm.__doc__}"
