"""A Transformer block, and where its norms sit: one class per placement.

`TransformerBlock` is the Pre-LN block and the one to read first. The others hold the same two branches,
attention and feed-forward, and differ only in the line that joins a branch to the residual stream.
"""

from jaxtyping import Float
from torch import Tensor, nn

from normlab.layers import make_norm
from normlab.models.attention import Attention, Rotary
from normlab.models.config import Placement, TransformerConfig
from normlab.models.feedforward import FeedForward

Stream = Float[Tensor, "batch time dim"]


class NoNormBlock(nn.Module):
    """placement "none": x + f(x)."""

    def __init__(self, config: TransformerConfig, rotary: Rotary | None = None) -> None:
        super().__init__()
        self.attention = Attention(config, rotary)
        self.feedforward = FeedForward(config)

    def forward(self, x: Stream) -> Stream:
        """Compute, residual; and again."""
        x = x + self.attention(x)
        return x + self.feedforward(x)


class TransformerBlock(NoNormBlock):
    """placement "pre" (Pre-LN): x + f(N(x)), twice: norm, compute, residual.

    Between input and output every branch is only added to the stream: no norm or weight stands on the stream itself.
    Xiong et al. 2020, arXiv:2002.04745.

    Args:
        config: sizes, norm, positions, activation.
        rotary: RoPE's angles, shared between layers; made here when left out and needed.
    """

    def __init__(self, config: TransformerConfig, rotary: Rotary | None = None) -> None:
        super().__init__(config, rotary)
        self.norm1 = make_norm(config.norm, config.dim)
        self.norm2 = make_norm(config.norm, config.dim)

    def forward(self, x: Stream) -> Stream:
        """Norm, compute, residual; and again."""
        residual = x
        x = self.norm1(x)
        x = self.attention(x)
        x = residual + x

        residual = x
        x = self.norm2(x)
        x = self.feedforward(x)
        return residual + x


class PostNormBlock(TransformerBlock):
    """placement "post" (Post-LN): N(x + f(x)). Vaswani et al. 2017, arXiv:1706.03762."""

    def forward(self, x: Stream) -> Stream:
        """Compute, residual, norm; and again."""
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.feedforward(x))


class SandwichBlock(TransformerBlock):
    """placement "sandwich" (Peri-LN): x + N(f(N(x))). Kim et al. 2025, arXiv:2502.02732."""

    def __init__(self, config: TransformerConfig, rotary: Rotary | None = None) -> None:
        super().__init__(config, rotary)
        self.norm1_out = make_norm(config.norm, config.dim)
        self.norm2_out = make_norm(config.norm, config.dim)

    def forward(self, x: Stream) -> Stream:
        """Norm, compute, norm, residual; and again."""
        x = x + self.norm1_out(self.attention(self.norm1(x)))
        return x + self.norm2_out(self.feedforward(self.norm2(x)))


class ResPostBlock(TransformerBlock):
    """placement "respost": x + N(f(x)). Swin v2 (Liu et al. 2022, arXiv:2111.09883), OLMo 2 (arXiv:2501.00656)."""

    def forward(self, x: Stream) -> Stream:
        """Compute, norm, residual; and again."""
        x = x + self.norm1(self.attention(x))
        return x + self.norm2(self.feedforward(x))


class DeepNormBlock(TransformerBlock):
    """placement "deepnorm": N(a x + f(x)), a = (2 n_layers)^(1/4). Wang et al. 2022, arXiv:2203.00555."""

    def __init__(self, config: TransformerConfig, rotary: Rotary | None = None) -> None:
        super().__init__(config, rotary)
        self.alpha = (2 * config.n_layers) ** 0.25

    def forward(self, x: Stream) -> Stream:
        """Compute, weighted residual, norm; and again."""
        x = self.norm1(self.alpha * x + self.attention(x))
        return self.norm2(self.alpha * x + self.feedforward(x))


BLOCKS: dict[Placement, type[NoNormBlock]] = {
    "none": NoNormBlock,
    "pre": TransformerBlock,
    "post": PostNormBlock,
    "sandwich": SandwichBlock,
    "respost": ResPostBlock,
    "deepnorm": DeepNormBlock,
}
