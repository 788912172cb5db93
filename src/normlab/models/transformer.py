"""A causal Transformer language model whose norm and placement are arguments."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from normlab.layers import make_norm
from normlab.models.attention import Rotary
from normlab.models.blocks import BLOCKS
from normlab.models.config import TransformerConfig
from normlab.models.init import initialize


class Transformer(nn.Module):
    """Token ids to logits: embeddings, n_layers blocks, perhaps a final norm, the output layer.

    Args:
        config: everything that defines it. Parameters are drawn from torch's global generator.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        rotary = Rotary(config.head_dim, config.rope_theta) if config.positions == "rope" else None
        self.tokens = nn.Embedding(config.vocab_size, config.dim)
        self.positions = nn.Embedding(config.context, config.dim) if config.positions == "learned" else None
        self.blocks = nn.ModuleList(BLOCKS[config.placement](config, rotary) for _ in range(config.n_layers))
        self.final_norm = make_norm(config.norm, config.dim) if config.has_final_norm else nn.Identity()
        self.lm_head = nn.Linear(config.dim, config.vocab_size, bias=False)
        if config.tied:
            self.lm_head.weight = self.tokens.weight
        initialize(self, config)

    def forward(self, ids: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time vocab"]:
        """The logits of the next token at every position.

        Raises:
            TypeError: for ids that are not a tensor of integers.
            ValueError: for ids that are not (batch, time), or longer than the context.
        """
        if not isinstance(ids, Tensor) or ids.dtype not in (torch.int64, torch.int32):
            got = ids.dtype if isinstance(ids, Tensor) else type(ids).__name__
            raise TypeError(f"ids must be a torch.Tensor of int64 or int32, got {got}")
        if ids.dim() != 2 or ids.shape[1] > self.config.context:
            raise ValueError(f"ids must have shape (batch, time <= {self.config.context}), got {tuple(ids.shape)}")
        x = self.tokens(ids)
        if self.positions is not None:
            x = x + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.final_norm(x))

    def n_parameters(self) -> int:
        """Number of parameters, shared ones counted once."""
        return sum(p.numel() for p in self.parameters())
