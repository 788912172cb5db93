"""PyTorch layers, drop-in for torch.nn."""

from normlab.layers import functional
from normlab.layers.batchnorm import BatchNorm1d, BatchNorm2d
from normlab.layers.layernorm import LayerNorm
from normlab.layers.make import make_norm
from normlab.layers.rmsnorm import RMSNorm

__all__ = ["BatchNorm1d", "BatchNorm2d", "LayerNorm", "RMSNorm", "functional", "make_norm"]
