"""What torch has in torch.nn: the layers, `functional` and `init`."""

from normlab.tensor import init
from normlab.tensor.layers import (
    GELU,
    BatchNorm,
    Dropout,
    Embedding,
    GroupNorm,
    LayerNorm,
    Linear,
    Module,
    ModuleList,
    MultiHeadAttention,
    ReLU,
    RMSNorm,
    Sequential,
    Sigmoid,
    SiLU,
    Tanh,
)
from normlab.tensor.nn import functional

__all__ = [
    "GELU",
    "BatchNorm",
    "Dropout",
    "Embedding",
    "GroupNorm",
    "LayerNorm",
    "Linear",
    "Module",
    "ModuleList",
    "MultiHeadAttention",
    "RMSNorm",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Tanh",
    "functional",
    "init",
]
