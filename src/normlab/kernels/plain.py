"""What the fused kernels compute, in PyTorch's operations, by the formulas of `fused`.

It stands in where a fused kernel cannot be used for one of the two passes: where the gradient is differentiated or
transformed itself, and where code that was compiled for a fused kernel runs without one. Every operation can be
differentiated and vectorized.
"""

import torch
from torch import Tensor

from normlab.kernels import torch_ops
from normlab.kernels.fused import Backward, Forward
from normlab.spec import NormSpec

NAME = "torch"


def _moments(x: Tensor, spec: NormSpec) -> tuple[Tensor, Tensor, Tensor]:
    """(mean, x - mean, rstd) of each row, in the dtype of the statistics."""
    x = x.to(torch.float32) if x.dtype in torch_ops.HALVES else x
    mean = x.mean(-1, keepdim=True) if spec.kind == "layernorm" else x.new_zeros(())
    c = x - mean
    eps = torch.finfo(x.dtype).eps if spec.eps is None else spec.eps
    return mean, c, torch.rsqrt(c.square().mean(-1, keepdim=True) + eps)


def _vector(p: Tensor | None) -> Tensor | None:
    return None if p is None else p.reshape(-1)


def forward(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    rows: int,
    n: int,
    spec: NormSpec,
) -> Forward:
    """See `fused`."""
    total = None if residual is None else x + residual
    flat = (x if total is None else total).reshape(rows, n)
    mean, _, rstd = _moments(flat, spec)
    stats = torch.cat([mean, rstd], -1) if spec.kind == "layernorm" else rstd
    y = torch_ops.norm(flat, [n], _vector(weight), _vector(bias), spec)
    return Forward(y.reshape(x.shape), total, stats.to(torch.float64))


def backward(
    dy: Tensor,
    dtotal: Tensor | None,
    x: Tensor,
    weight: Tensor | None,
    stats: Tensor,
    bias_dtype: torch.dtype | None,
    rows: int,
    n: int,
    spec: NormSpec,
) -> Backward:
    """See `fused`. The statistics are taken again, from x, so that a derivative finds its way to it."""
    _, c, s = _moments(x.reshape(rows, n), spec)
    h, d = c * s, dy.reshape(rows, n).to(c.dtype)
    u = d
    if weight is not None:
        g = weight.reshape(n).to(c.dtype) + spec.offset
        # As the kernels: the rounding of the scale is seen, that of the normalized value is not.
        u = d * (g.to(x.dtype).to(c.dtype) if spec.scale_dtype != "stats" else g)
    mean_u = u.mean(-1, keepdim=True) if spec.kind == "layernorm" else 0.0
    dx = (s * (u - mean_u - h * (u * h).mean(-1, keepdim=True))).to(x.dtype).reshape(x.shape)
    return Backward(
        dx if dtotal is None else dx + dtotal,
        None if weight is None else (d * h).sum(0).to(weight.dtype).reshape(weight.shape),
        None if bias_dtype is None else d.sum(0).to(bias_dtype),
    )
