"""Causal self-attention with grouped queries, optional query/key norms, and RoPE."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from normlab.layers import make_norm
from normlab.models.config import TransformerConfig


class Rotary(nn.Module):
    """RoPE (Su et al. 2021, arXiv:2104.09864), rotate-half form.

    Entry i of a head's first half and entry i of its second half turn together, by the angle
    position * theta^(-2i / head_dim):

        x1' = x1 cos - x2 sin,    x2' = x2 cos + x1 sin

    One instance serves all layers. Holds no parameters and no state_dict entries.
    """

    def __init__(self, head_dim: int, theta: float) -> None:
        super().__init__()
        self.head_dim, self.theta = head_dim, theta

    def forward(self, x: Float[Tensor, "batch heads time head_dim"]) -> Float[Tensor, "batch heads time head_dim"]:
        """Turn queries or keys by their positions 0, 1, 2, ..."""
        # Angles in at least float32: a half precision cannot tell position 2049 from 2048.
        dtype = torch.promote_types(x.dtype, torch.float32)
        exponents = torch.arange(0, self.head_dim, 2, device=x.device, dtype=dtype) / self.head_dim
        angles = torch.outer(torch.arange(x.shape[-2], device=x.device, dtype=dtype), 1.0 / self.theta**exponents)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        x1, x2 = x.chunk(2, dim=-1)
        return torch.cat((x1 * cos - x2 * sin, x2 * cos + x1 * sin), dim=-1)


class Attention(nn.Module):
    """softmax(q k^T / sqrt(head_dim), causal) v, over heads; n_heads / n_kv_heads queries share a key and value."""

    def __init__(self, config: TransformerConfig, rotary: Rotary | None = None) -> None:
        super().__init__()
        width, kv_width = config.dim, config.kv_heads * config.head_dim
        self.head_dim = config.head_dim
        self.q_proj = nn.Linear(width, width, bias=config.bias)
        self.k_proj = nn.Linear(width, kv_width, bias=config.bias)
        self.v_proj = nn.Linear(width, kv_width, bias=config.bias)
        self.o_proj = nn.Linear(width, width, bias=config.bias)
        self.q_norm = make_norm(config.norm, config.head_dim) if config.qk_norm else nn.Identity()
        self.k_norm = make_norm(config.norm, config.head_dim) if config.qk_norm else nn.Identity()
        self.rotary: nn.Module = nn.Identity()
        if config.positions == "rope":
            self.rotary = rotary or Rotary(config.head_dim, config.rope_theta)
        self.grouped = config.kv_heads != config.n_heads

    def forward(self, x: Float[Tensor, "batch time dim"]) -> Float[Tensor, "batch time dim"]:
        """Each position attends to itself and to those before it."""
        q, k, v = (proj(x).unflatten(-1, (-1, self.head_dim)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        q = self.rotary(self.q_norm(q).transpose(1, 2))
        k = self.rotary(self.k_norm(k).transpose(1, 2))
        y = F.scaled_dot_product_attention(q, k, v.transpose(1, 2), is_causal=True, enable_gqa=self.grouped)
        return self.o_proj(y.transpose(1, 2).flatten(2))
