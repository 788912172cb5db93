"""GroupNorm as a PyTorch layer."""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from normlab.kernels.torch_ops import HALVES
from normlab.layers import functional
from normlab.layers._formula import agree, centered_rows, eps_for, is_one_dtype, scaled, wide
from normlab.layers._half import keeps_float32
from normlab.layers._spec import DEFAULT_EPS, WithSpec, resolve, size
from normlab.spec import NormSpec


def _off_center(x: Tensor) -> bool:
    """Whether torch's operation would take the variance of x as a difference of squares: on the CPU, in float32, where
    channels lie next to each other. See the FAQ of GroupNorm."""
    return x.is_cpu and x.dtype == torch.float32 and x.dim() > 3 and not x.is_contiguous() and x.stride(1) == 1


def _centered(x: Tensor, groups: int) -> Tensor:
    """x less the mean of its group, about. The norm, and so its gradient, does not change where x is shifted."""
    shape = list(x.shape)
    mean = x.detach().mean(list(range(2, len(shape)))).unflatten(1, (groups, -1)).mean(-1, keepdim=True)
    each = mean.expand(-1, -1, shape[1] // groups).flatten(1)
    return x - each.view(each.shape + (1,) * (len(shape) - 2))


class GroupNorm(WithSpec, nn.GroupNorm):
    """y = (x - mean) / sqrt(var + eps) * (offset + weight) + bias, with the statistics of each sample's groups.

    The channels are divided, in their order, into num_groups groups; mean and variance are taken over a group's
    channels and over space. A torch.nn.GroupNorm: same constructor, same state_dict keys.

    Args:
        num_groups: how many groups; must divide num_channels.
        num_channels: channels.
        eps: added to the (biased) variance.
        affine: whether there are weight and bias, of shape (num_channels,).
        device, dtype: of the parameters.
        bias: whether an affine layer has a bias.
        spec: a NormSpec of kind "groupnorm", for all details; its `groups` must be num_groups. Beside it
            affine and bias only take away: True gives no parameter that it has not.

    Raises:
        TypeError, ValueError: for groups that do not divide the channels, a spec of another kind, or an eps or
            num_groups that contradicts it.

    Source: Wu & He 2018, arXiv:1803.08494. Definition: `normlab.norms.groupnorm`.

    FAQ:
        What about half precision? Statistics are float32. torch's own operation saves them for the backward pass in
        the dtype of the parameters, which costs digits of the weight's gradient where the mean is large; it is taken
        beside float32 parameters, where the weight's gradient has the digits that it has for float32 input.
        And float32 with the channels last, on the CPU? torch's operation takes the variance as a difference of
        squares there: with a mean of 1000 and a deviation of 2 its y is off by a third or more, with a mean of 10 by
        1e-4. Here the mean of each group is taken off first, which leaves an error of 1e-6 and takes 1.3 to 1.9 times
        as long, forward and backward.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = DEFAULT_EPS,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
        spec: NormSpec | str | None = None,
    ) -> None:
        resolved = resolve("groupnorm", spec, eps=eps, default_eps=DEFAULT_EPS, affine=affine, bias=bias)
        num_groups, num_channels = size("num_groups", num_groups, least=1), size("num_channels", num_channels)
        if spec is not None:
            agree("num_groups", num_groups, resolved.groups, resolved.groups)
        if num_channels % num_groups:
            raise ValueError(f"num_groups must divide num_channels, {num_channels}, got {num_groups}")
        self._spec = replace(resolved, groups=num_groups)
        super().__init__(
            num_groups,
            num_channels,
            resolved.eps,  # pyright: ignore[reportArgumentType]
            resolved.affine,
            device,
            dtype,
        )
        if not resolved.bias:
            self.bias = None

    def reset_parameters(self) -> None:
        """Fill the weight so that the scale is 1, and the bias with 0."""
        if self.weight is not None:
            nn.init.constant_(self.weight, 1.0 - self.spec.offset)
            if self.bias is not None:
                nn.init.zeros_(self.bias)

    def forward(self, input: Float[Tensor, "batch channels *space"]) -> Float[Tensor, "batch channels *space"]:
        """Normalize input of shape (batch, num_channels, *space)."""
        functional.check_tensor("input", input)
        shape, spec = list(input.shape), self.spec
        if len(shape) < 2 or shape[1] != self.num_channels:
            raise ValueError(f"input must have shape (batch, {self.num_channels}, *space), got {shape}")
        if input.numel() == self.num_groups:
            # One value in the whole batch for each group, as torch's; one value each of several samples it lets pass.
            raise ValueError(f"input must hold more than 1 value per group for its statistics, got {shape}")
        if input.is_cuda and torch.is_autocast_enabled("cuda") and input.dtype in HALVES:
            # As torch.nn's under autocast on a GPU.
            input = input.float()
        # Of no numbers at all torch's makes a weight's gradient of NaN.
        if input.numel() and (
            is_one_dtype(input, spec, self.weight, self.bias)
            or (input.is_contiguous() and keeps_float32(input, spec, self.weight, self.bias))
        ):
            weight = self.weight + spec.offset if self.weight is not None and spec.offset else self.weight
            x = _centered(input, self.num_groups) if _off_center(input) else input
            return F.group_norm(x, self.num_groups, weight, self.bias, eps_for(wide(input, spec), spec))

        n = self.num_channels // self.num_groups * math.prod(shape[2:])
        rows = wide(input, spec).reshape(shape[0], self.num_groups, n)
        normed = centered_rows(rows, [n], spec).reshape(shape)
        column = [1, -1] + [1] * (len(shape) - 2)
        w, b = (p if p is None else p.view(column) for p in (self.weight, self.bias))
        y = scaled(normed, input, w, b, spec)
        # As torch.nn's. (What is contiguous may look like channels last too, where an axis has the size 1.)
        last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(input.dim())
        if last is not None and not input.is_contiguous() and input.is_contiguous(memory_format=last):
            return y.contiguous(memory_format=last)
        return y
