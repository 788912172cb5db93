"""The feed-forward of a block: down(gelu(up(x))), or SwiGLU (Shazeer 2020, arXiv:2002.05202)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from normlab.models.config import TransformerConfig


class FeedForward(nn.Module):
    """gelu: down(gelu(up(x))), tanh form; swiglu: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        gated = config.activation == "swiglu"
        self.gate_proj = nn.Linear(config.dim, config.hidden_dim, bias=config.bias) if gated else None
        self.up_proj = nn.Linear(config.dim, config.hidden_dim, bias=config.bias)
        self.down_proj = nn.Linear(config.hidden_dim, config.dim, bias=config.bias)

    def forward(self, x: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
        """Position by position."""
        if self.gate_proj is None:
            return self.down_proj(F.gelu(self.up_proj(x), approximate="tanh"))
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
