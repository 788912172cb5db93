"""Layers: the norms, what stands beside them, and the Transformer block in every placement."""

from normlab.tensor.layers.attention import MultiHeadAttention
from normlab.tensor.layers.basic import GELU, Dropout, Embedding, Linear, ReLU, Sigmoid, SiLU, Tanh
from normlab.tensor.layers.module import Module, ModuleList, Sequential
from normlab.tensor.layers.norm import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from normlab.tensor.layers.transformer import (
    BLOCKS,
    DeepNormBlock,
    FeedForward,
    NoNormBlock,
    PostNormBlock,
    ResPostBlock,
    SandwichBlock,
    Transformer,
    TransformerBlock,
)

__all__ = [
    "BLOCKS",
    "GELU",
    "BatchNorm",
    "DeepNormBlock",
    "Dropout",
    "Embedding",
    "FeedForward",
    "GroupNorm",
    "LayerNorm",
    "Linear",
    "Module",
    "ModuleList",
    "MultiHeadAttention",
    "NoNormBlock",
    "PostNormBlock",
    "RMSNorm",
    "ReLU",
    "ResPostBlock",
    "SandwichBlock",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Tanh",
    "Transformer",
    "TransformerBlock",
]
