"""The Transformer block in every placement of its norms, and a causal language model made of it.

`TransformerBlock` is the Pre-LN block and the one to read first. The others hold the same two branches and differ only
in the line that joins a branch to the residual stream. Names of parts are those of `normlab.models`.
"""

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from normlab.tensor import init, ops
from normlab.tensor.core import Tensor
from normlab.tensor.layers.attention import MultiHeadAttention
from normlab.tensor.layers.basic import Embedding, Linear
from normlab.tensor.layers.module import Module, ModuleList
from normlab.tensor.layers.norm import LayerNorm, RMSNorm

NORMS: dict[str, type[LayerNorm] | type[RMSNorm]] = {"layernorm": LayerNorm, "rmsnorm": RMSNorm}


def make_norm(kind: str, dim: int, dtype: DTypeLike) -> Module:
    """A norm of the block.

    Raises:
        ValueError: for another kind.
    """
    if kind not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {kind!r}")
    return NORMS[kind](dim, eps=1e-5, dtype=dtype)


class FeedForward(Module):
    """down(gelu(up(x))), in GPT-2's form of GELU, position by position."""

    def __init__(self, dim: int, hidden: int, *, bias: bool = True, dtype: DTypeLike = np.float64) -> None:
        self.up_proj = Linear(dim, hidden, bias, dtype=dtype)
        self.down_proj = Linear(hidden, dim, bias, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """x: (*, dim)."""
        return self.down_proj(ops.gelu(self.up_proj(x), "tanh"))


class NoNormBlock(Module):
    """placement "none": x + f(x)."""

    norms: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        dim: int,
        n_heads: int,
        hidden: int | None = None,
        *,
        norm: str = "layernorm",
        n_layers: int = 1,
        causal: bool = True,
        bias: bool = True,
        dtype: DTypeLike = np.float64,
    ) -> None:
        self.attention = MultiHeadAttention(dim, n_heads, causal=causal, bias=bias, dtype=dtype)
        self.feedforward = FeedForward(dim, hidden or 4 * dim, bias=bias, dtype=dtype)
        for name in self.norms:
            setattr(self, name, make_norm(norm, dim, dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Compute, residual; and again."""
        x = x + self.attention(x)
        return x + self.feedforward(x)


class TransformerBlock(NoNormBlock):
    """placement "pre" (Pre-LN): x + f(N(x)), twice (Xiong et al. 2020, arXiv:2002.04745).

    Args:
        dim: width of the residual stream.
        n_heads: heads of the attention.
        hidden: width inside the feed-forward; None: 4 * dim.
        norm: "layernorm" or "rmsnorm".
        n_layers: blocks of the whole model, which "deepnorm" depends on.
        causal, bias, dtype: as in MultiHeadAttention.
    """

    norms = ("norm1", "norm2")
    norm1: Module
    norm2: Module

    def forward(self, x: Tensor) -> Tensor:
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

    def forward(self, x: Tensor) -> Tensor:
        """Compute, residual, norm; and again."""
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.feedforward(x))


class SandwichBlock(TransformerBlock):
    """placement "sandwich" (Peri-LN): x + N(f(N(x))). Kim et al. 2025, arXiv:2502.02732."""

    norms = ("norm1", "norm2", "norm1_out", "norm2_out")
    norm1_out: Module
    norm2_out: Module

    def forward(self, x: Tensor) -> Tensor:
        """Norm, compute, norm, residual; and again."""
        x = x + self.norm1_out(self.attention(self.norm1(x)))
        return x + self.norm2_out(self.feedforward(self.norm2(x)))


class ResPostBlock(TransformerBlock):
    """placement "respost": x + N(f(x)). Swin v2 (Liu et al. 2022, arXiv:2111.09883), OLMo 2 (arXiv:2501.00656)."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute, norm, residual; and again."""
        x = x + self.norm1(self.attention(x))
        return x + self.norm2(self.feedforward(x))


class DeepNormBlock(TransformerBlock):
    """placement "deepnorm": N(a x + f(x)), a = (2 n_layers)^(1/4). Wang et al. 2022, arXiv:2203.00555."""

    def __init__(self, dim: int, n_heads: int, hidden: int | None = None, *, n_layers: int = 1, **options: Any) -> None:
        super().__init__(dim, n_heads, hidden, n_layers=n_layers, **options)
        self.alpha = (2 * n_layers) ** 0.25

    def forward(self, x: Tensor) -> Tensor:
        """Compute, weighted residual, norm; and again."""
        x = self.norm1(self.alpha * x + self.attention(x))
        return self.norm2(self.alpha * x + self.feedforward(x))


BLOCKS: dict[str, type[NoNormBlock]] = {
    "none": NoNormBlock,
    "pre": TransformerBlock,
    "post": PostNormBlock,
    "sandwich": SandwichBlock,
    "respost": ResPostBlock,
    "deepnorm": DeepNormBlock,
}
# There the stream arrives at the output layer without a norm.
NORM_AT_THE_END = ("pre", "sandwich", "respost")


class Transformer(Module):
    """Token ids to logits: embeddings, blocks, perhaps a final norm, the output layer.

    Args:
        vocab_size: number of token ids.
        n_layers, dim, n_heads, hidden: sizes; hidden None stands for 4 * dim.
        context: longest sequence.
        norm: "layernorm" or "rmsnorm".
        placement: "none", "pre", "post", "sandwich", "respost" or "deepnorm".
        bias: whether the linear layers of the blocks have one.
        dtype: of the parameters.

    Weights start Xavier normal and embeddings such that the stream begins with variance 1; biases at 0.

    Raises:
        ValueError: for a placement or a norm that there is not.
    """

    def __init__(
        self,
        vocab_size: int,
        n_layers: int = 4,
        dim: int = 64,
        n_heads: int = 4,
        context: int = 64,
        *,
        hidden: int | None = None,
        norm: str = "layernorm",
        placement: str = "pre",
        bias: bool = True,
        dtype: DTypeLike = np.float32,
    ) -> None:
        if placement not in BLOCKS:
            raise ValueError(f"placement must be one of {', '.join(BLOCKS)}, got {placement!r}")
        self.context = context
        self.tokens = Embedding(vocab_size, dim, dtype=dtype)
        self.positions = Embedding(context, dim, dtype=dtype)
        options: dict[str, Any] = {"norm": norm, "n_layers": n_layers, "bias": bias, "dtype": dtype}
        self.blocks = ModuleList([BLOCKS[placement](dim, n_heads, hidden, **options) for _ in range(n_layers)])
        if placement in NORM_AT_THE_END:
            self.final_norm = make_norm(norm, dim, dtype)
        self.lm_head = Linear(dim, vocab_size, bias=False, dtype=dtype)
        for module in self.modules():
            _initialize(module)

    def forward(self, ids: Any) -> Tensor:
        """ids: integers, (batch, time). The logits of the next token at every position, (batch, time, vocab_size)."""
        ids = ids.data if isinstance(ids, Tensor) else np.asarray(ids)
        if ids.ndim != 2 or ids.shape[1] > self.context:
            raise ValueError(f"ids must have shape (batch, time <= {self.context}), got {ids.shape}")
        x = self.tokens(ids) + self.positions(np.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        if hasattr(self, "final_norm"):
            x = self.final_norm(x)
        return self.lm_head(x)


def _initialize(module: Module) -> None:
    if isinstance(module, Embedding):
        init.normal_(module.weight, std=math.sqrt(1 / 2))
    elif isinstance(module, Linear):
        init.xavier_normal_(module.weight)
        if module.bias is not None:
            init.zeros_(module.bias)
