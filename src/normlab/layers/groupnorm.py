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


def _channels_last(x: Tensor) -> bool:
    """Whether torch's operation on the CPU takes x with the channels next to each other, and so takes its variance as
    a difference of squares: see the FAQ of GroupNorm. It also does that where an axis of one number makes x look like
    both."""
    if not x.is_cpu or x.dim() not in (4, 5) or x.stride(1) == 0:
        return False
    least = 0
    for axis in (1, *range(x.dim() - 1, 1, -1), 0):
        size, stride = x.shape[axis], x.stride(axis)
        # The last question is asked of channels and axes of space that hold one number each.
        if size == 0 or stride < least or (axis == 0 and least == x.stride(1)):
            return False
        least = stride * size
    return True


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
        And channels last on the CPU? torch's operation takes the variance as a difference of squares there: in
        float32, of shape (8, 64, 56, 56) and 8 groups, y is wrong by 7% where the mean is 1000 and the deviation 2.
        Here the mean of each group is taken off first: 2e-7. It takes 1.3 to 1.9 times as long, forward and backward,
        and the backward pass keeps what is left in the place of the input.
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
        beside = _channels_last(input)
        if beside and input.is_contiguous():
            # With a single axis of space it looks like one thing only.
            y = GroupNorm.forward(self, input.flatten(2))
            return y.view(shape[0], *shape[2:], shape[1]).movedim(-1, 1)
        # Of no numbers at all torch's makes a weight's gradient of NaN.
        if input.numel() and (
            is_one_dtype(input, spec, self.weight, self.bias)
            or (input.is_contiguous() and keeps_float32(input, spec, self.weight, self.bias))
        ):
            weight = self.weight + spec.offset if self.weight is not None and spec.offset else self.weight
            x = _centered(input, self.num_groups) if beside else input
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
