"""Attention, in steps that can be looked at one by one."""

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from normlab.tensor import ops
from normlab.tensor.core import Tensor
from normlab.tensor.layers.basic import Linear
from normlab.tensor.layers.module import Module
from normlab.tensor.ops._operands import as_tensor


class MultiHeadAttention(Module):
    """softmax(q k^T / sqrt(head_dim)) v, over heads (Vaswani et al. 2017, arXiv:1706.03762).

    Args:
        dim: width of the input and of the output.
        n_heads: heads, which share dim evenly.
        causal: whether a position sees only itself and those before it.
        bias: whether the four linear layers have one.
        dtype: of the parameters.
    """

    def __init__(
        self, dim: int, n_heads: int, *, causal: bool = False, bias: bool = True, dtype: DTypeLike = np.float64
    ) -> None:
        if n_heads < 1 or dim % n_heads:
            raise ValueError(f"dim must be a multiple of n_heads, got dim={dim}, n_heads={n_heads}")
        self.n_heads, self.causal = n_heads, causal
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (Linear(dim, dim, bias, dtype=dtype) for _ in range(4))

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, time, dim) to (batch, heads, time, head_dim)."""
        batch, time, dim = x.shape
        return x.reshape(batch, time, self.n_heads, dim // self.n_heads).permute(0, 2, 1, 3)

    def forward(self, x: Tensor, mask: Any = None) -> Tensor:
        """x: (batch, time, dim). mask: booleans that broadcast to (batch, heads, time, time), true where a position
        must not look."""
        x = as_tensor(x)
        if x.ndim != 3:
            raise ValueError(f"x must have shape (batch, time, dim), got {x.shape}")
        batch, time, dim = x.shape
        q, k, v = (self._heads(proj(x)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        scores = (q * (1 / math.sqrt(dim // self.n_heads))) @ k.transpose(2, 3)
        if self.causal:
            later = np.triu(np.ones((time, time), np.bool_), 1)
            mask = later if mask is None else later | (mask.data if isinstance(mask, Tensor) else np.asarray(mask))
        if mask is not None:
            scores = ops.masked_fill(scores, mask, -math.inf)
        y = ops.softmax(scores) @ v
        return self.o_proj(y.permute(0, 2, 1, 3).reshape(batch, time, dim))
