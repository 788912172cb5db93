"""InstanceNorm1d, InstanceNorm2d and InstanceNorm3d as PyTorch layers."""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from normlab import _check
from normlab.layers import functional
from normlab.layers._formula import agree, centered_rows, eps_for, is_one_dtype, scaled, wide
from normlab.layers._half import SHORT, keeps_float32
from normlab.layers._spec import DEFAULT_EPS, WithSpec, plain, resolve, size
from normlab.spec import NormSpec


@torch.no_grad()
def _move(running: Tensor, new: Tensor, momentum: float) -> None:
    """running <- (1 - momentum) * running + momentum * (new averaged over the samples), in place, rounded once."""
    old = running.to(torch.promote_types(running.dtype, new.dtype))
    running.copy_((1 - momentum) * old + momentum * new.mean(0))


class _InstanceNorm(WithSpec, nn.modules.instancenorm._InstanceNorm):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, with the statistics of each sample's channels over space.

    torch.nn's: same constructor, same state_dict keys. No parameters and no running statistics unless asked for.

    Args:
        num_features: channels.
        eps: added to the (biased) variance.
        momentum: share of a new batch in the running statistics; None: they do not move, as in torch.
        affine: whether there are weight and bias, of shape (num_features,).
        track_running_stats: whether evaluation uses running statistics, which training then moves.
        device, dtype: of parameters and buffers.
        bias: whether an affine layer has a bias.
        spec: a NormSpec of kind "instancenorm", for all details, `affine` among them: beside it affine=False cannot be
            told from nothing said. bias=False takes its bias away; True gives none that it has not.

    Raises:
        TypeError, ValueError: for a spec of another kind, an eps or affine that contradicts it, or a size or momentum
            that is none.

    Source: Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022. Definition: `normlab.norms.instancenorm`.

    FAQ:
        Why does num_batches_tracked stay 0? torch.nn's InstanceNorm has the counter but does not count.
        What differs from torch? In half precision statistics are float32, where torch's rounds them to the dtype of
        the parameters; and a batch without samples is taken and leaves the running statistics alone, where torch's
        become NaN, or with affine refuses it.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = DEFAULT_EPS,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
        spec: NormSpec | str | None = None,
    ) -> None:
        # False is torch's default here, so beside a spec it means that nothing was said.
        wanted = affine if spec is None else True
        resolved = resolve("instancenorm", spec, eps=eps, default_eps=DEFAULT_EPS, affine=wanted, bias=bias)
        if spec is not None:
            agree("affine", affine, False, resolved.affine)
        self._spec = resolved
        num_features, momentum = size("num_features", num_features), plain(momentum)
        if momentum is not None:
            _check.number("momentum", momentum)
        super().__init__(
            num_features,
            resolved.eps,  # pyright: ignore[reportArgumentType]
            momentum,  # pyright: ignore[reportArgumentType]
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

    def forward(self, input: Float[Tensor, "*batch_channels_space"]) -> Float[Tensor, "*batch_channels_space"]:
        """Normalize input, (batch, channels, *space) or (channels, *space); in training move running statistics."""
        functional.check_tensor("input", input)
        return super().forward(input)

    def _apply_instance_norm(self, input: Tensor) -> Tensor:
        shape, spec = list(input.shape), self.spec
        mean, var = self.running_mean, self.running_var
        if mean is None or var is None:
            mean = var = None
        elif self.track_running_stats and not self.training:
            as_batchnorm = replace(spec, kind="batchnorm")
            return functional.batch_norm(input, mean, var, self.weight, self.bias, False, spec=as_batchnorm)
        elif len(mean) != shape[1]:
            raise ValueError(f"input must have {len(mean)} channels, as the running statistics, got shape {shape}")
        if math.prod(shape[2:]) == 1:
            raise ValueError(
                f"input must hold more than 1 value per sample and channel for its statistics, got {shape}"
            )
        momentum = 0.0 if self.momentum is None else self.momentum
        # torch's averages the running statistics over the samples even where there are none.
        given = (self.weight, self.bias, mean, var)
        if (
            input.numel()
            and (
                is_one_dtype(input, spec, *given)
                or (keeps_float32(input, spec, *given) and math.prod(shape[2:]) <= SHORT)
            )
            and (mean is None or spec.unbiased_running_var)
        ):
            weight = self.weight + spec.offset if self.weight is not None and spec.offset else self.weight
            return F.instance_norm(
                input, mean, var, weight, self.bias, True, momentum, eps_for(wide(input, spec), spec)
            )

        h = wide(input, spec)
        column = [1, -1] + [1] * (len(shape) - 2)
        w, b = (p if p is None else p.view(column) for p in (self.weight, self.bias))
        y = scaled(centered_rows(h, shape[2:], spec), input, w, b, spec)
        if input.numel() and mean is not None and var is not None:
            v, m = torch.var_mean(h.detach().flatten(2), -1, correction=1 if spec.unbiased_running_var else 0)
            _move(mean, m, momentum)
            _move(var, v, momentum)
        return y


class InstanceNorm1d(_InstanceNorm, nn.InstanceNorm1d):
    """InstanceNorm over (N, C, L) or (C, L) input."""

    __doc__ = f"{__doc__}\n\n    {_InstanceNorm.__doc__}"


class InstanceNorm2d(_InstanceNorm, nn.InstanceNorm2d):
    """InstanceNorm over (N, C, H, W) or (C, H, W) input."""

    __doc__ = f"{__doc__}\n\n    {_InstanceNorm.__doc__}"


class InstanceNorm3d(_InstanceNorm, nn.InstanceNorm3d):
    """InstanceNorm over (N, C, D, H, W) or (C, D, H, W) input."""

    __doc__ = f"{__doc__}\n\n    {_InstanceNorm.__doc__}"
