"""What a fused kernel computes: RMSNorm or LayerNorm over rows, with or without a residual added first.

The kernels for the CPU and for the GPU are modules with the same two functions over contiguous (rows, n) tensors,

    forward(x, residual, weight, bias, spec) -> Forward
    backward(dy, dtotal, x, weight, stats, spec, bias_dtype) -> Backward

and for a row x of n numbers, with the statistics and the arithmetic in float32 (float64 for float64):

    total = round(x + residual)                       x itself without a residual
    m     = mean(total) (LayerNorm), 0 (RMSNorm)
    rstd  = 1 / sqrt(mean((total - m)^2) + eps)
    h     = (total - m) * rstd
    y     = round(h * (offset + weight) + bias)

    u     = dy * (offset + weight)
    dx    = rstd * (u - mean(u) - h * mean(u * h)) + dtotal       without mean(u) for RMSNorm
    dweight = sum over rows of dy * h,    dbias = sum over rows of dy
"""

from typing import NamedTuple

from torch import Tensor


class Forward(NamedTuple):
    """What a forward pass gives.

    Attributes:
        y: (rows, n), of x's dtype.
        total: x + residual, (rows, n), of x's dtype; None without a residual.
        stats: float64, (rows, 1) with rstd, or for LayerNorm (rows, 2) with mean and rstd.
    """

    y: Tensor
    total: Tensor | None
    stats: Tensor


class Backward(NamedTuple):
    """What flows back.

    Attributes:
        dx: (rows, n), of x's dtype: the gradient by x, which is that by the residual too.
        dweight, dbias: (n,), of their parameter's dtype; None where there is none.
    """

    dx: Tensor
    dweight: Tensor | None
    dbias: Tensor | None
