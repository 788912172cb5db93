"""Half-precision input beside float32 parameters, as under mixed precision: where torch's own operation is as exact as
the formula, and several times faster.

It keeps its statistics in float32 there, in both directions. What it loses: it adds up half-precision numbers one after
the other in float32, so long sums lose digits; and its GroupNorm takes a variance as the difference of two squares
where the channels lie last, so that a mean of 100 costs all digits but two.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from normlab.kernels.torch_ops import HALVES
from normlab.layers.fused import transformed
from normlab.spec import NormSpec

# Sums of this many numbers are off by no more than a few units of float32.
SHORT = 4096


def keeps_float32(x: Tensor, spec: NormSpec, weight: Tensor | None, *others: Tensor | None) -> bool:
    """Whether torch's operation on `x` has the spec's formula and casts, and statistics in float32.

    Beside parameters in half precision, or without a weight, it rounds the statistics. Only on the CPU, where this was
    measured; and not in programs that are written down, whose graphs would depend on sizes, nor under torch.func.
    """
    return (
        x.dtype in HALVES
        and x.is_cpu
        and (spec.eps_place, spec.stats_dtype, spec.scale_dtype) == ("inside", "float32", "stats")
        and weight is not None
        and all(p is None or p.dtype == torch.float32 for p in (weight, *others))
        and not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and not transformed()
    )


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    spec: NormSpec,
) -> Tensor | None:
    """As `normlab.kernels.torch_ops.batch_norm`, by torch's operation; None where that is not as exact."""
    of_batch = training or running_mean is None
    if (
        not x.numel()
        or (of_batch and spec.eps == 0)  # which torch refuses
        or (training and running_var is not None and not spec.unbiased_running_var)
        or not keeps_float32(x, spec, weight, bias, running_mean, running_var)
    ):
        return None
    scale = weight + spec.offset if weight is not None and spec.offset else weight
    eps = torch.finfo(torch.float32).eps if spec.eps is None else spec.eps
    arguments = running_mean, running_var, scale, bias, of_batch, momentum, eps
    sums = of_batch or torch.is_grad_enabled()
    if not sums or x.numel() // x.shape[1] <= SHORT:
        return F.batch_norm(x, *arguments)
    if x.is_contiguous() and x.numel() > x.shape[0] * x.shape[1]:
        # Of float32 numbers that lie channel by channel torch adds up in float64.
        return F.batch_norm(x.float(), *arguments).to(x.dtype)
    return None
