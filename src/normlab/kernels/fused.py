"""What a fused kernel computes: RMSNorm or LayerNorm over rows, with or without a residual added first.

The kernels for the CPU and for the GPU are modules with the same two functions,

    forward(x, residual, weight, bias, rows, n, spec) -> Forward
    backward(dy, dtotal, x, weight, stats, bias_dtype, rows, n, spec) -> Backward

All tensors are contiguous. x, residual, dy and dtotal, all of one dtype, are of one shape, which holds `rows` rows of n
numbers in its memory; weight and bias hold n. What was normalized is the x of the backward pass: the sum, where a
residual was added; `dtotal` is the gradient that comes to the sum from elsewhere, `bias_dtype` the dtype of dbias, None
where there is no bias.

For a row x of n numbers, with the statistics and the arithmetic in float32 (float64 for float64):

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
        y: of x's shape and dtype.
        total: x + residual, of x's shape and dtype; None without a residual.
        stats: float64, (rows, 1) with rstd, or for LayerNorm (rows, 2) with mean and rstd.
    """

    y: Tensor
    total: Tensor | None
    stats: Tensor


class Backward(NamedTuple):
    """What flows back.

    Attributes:
        dx: of x's shape and dtype: the gradient by x, which is that by the residual too.
        dweight: of weight's shape and dtype; None without a weight.
        dbias: n numbers of `bias_dtype`; None without a bias.
    """

    dx: Tensor
    dweight: Tensor | None
    dbias: Tensor | None
