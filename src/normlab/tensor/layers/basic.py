"""The plain layers: Linear, Embedding, Dropout, and the activations as modules."""

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from normlab.tensor import ops
from normlab.tensor.core import Tensor
from normlab.tensor.layers.module import Module
from normlab.tensor.ops._operands import as_tensor
from normlab.tensor.random import generator


class Linear(Module):
    """y = x @ weight^T + bias.

    Args:
        in_features, out_features: sizes of the last axis of x and of y.
        bias: whether there is one.
        dtype: of the parameters.

    weight, (out, in), and bias start uniform within 1 / sqrt(in_features), as torch's.
    """

    bias: Tensor | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, dtype: DTypeLike = np.float64
    ) -> None:
        bound = 1 / math.sqrt(in_features) if in_features else 0.0
        draw = generator().uniform
        self.weight = Tensor(draw(-bound, bound, (out_features, in_features)), True, dtype)
        self.bias = Tensor(draw(-bound, bound, out_features), True, dtype) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """x: (*, in_features)."""
        x = as_tensor(x)
        if not x.ndim or x.shape[-1] != self.weight.shape[1]:
            raise ValueError(f"x must have {self.weight.shape[1]} numbers on its last axis, got shape {x.shape}")
        return ops.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """As torch's."""
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, bias={self.bias is not None}"


class Embedding(Module):
    """Rows of a table, by their number. They start normal with std 1, as torch's."""

    def __init__(self, num_embeddings: int, embedding_dim: int, *, dtype: DTypeLike = np.float64) -> None:
        self.weight = Tensor(generator().standard_normal((num_embeddings, embedding_dim)), True, dtype)

    def forward(self, ids: Any) -> Tensor:
        """ids: integers of any shape; (*, embedding_dim)."""
        return ops.embedding(self.weight, ids)

    def extra_repr(self) -> str:
        """As torch's."""
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"


class Dropout(Module):
    """In training, numbers are dropped with probability p."""

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"p must be from 0 to 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape."""
        return ops.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        """As torch's."""
        return f"p={self.p}"


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape."""
        return ops.relu(x)


class GELU(Module):
    """x times the probability that a normal number is below it; "tanh" for GPT-2's form."""

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f'approximate must be "none" or "tanh", got {approximate!r}')
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape."""
        return ops.gelu(x, self.approximate)


class SiLU(Module):
    """x * sigmoid(x)."""

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape."""
        return ops.silu(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape."""
        return ops.tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape."""
        return ops.sigmoid(x)
