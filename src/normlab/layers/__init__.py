"""PyTorch layers, drop-in for torch.nn."""

from normlab.layers import functional
from normlab.layers.adaptive import AdaptiveLayerNorm, AdaptiveRMSNorm
from normlab.layers.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from normlab.layers.crmsnorm import CRMSNorm
from normlab.layers.dyt import DyT
from normlab.layers.explaining import Explanation, explain
from normlab.layers.groupnorm import GroupNorm
from normlab.layers.instancenorm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from normlab.layers.l2norm import L2Norm, QKNorm
from normlab.layers.layernorm import LayerNorm
from normlab.layers.make import make_norm
from normlab.layers.prmsnorm import PRMSNorm
from normlab.layers.rmsnorm import RMSNorm
from normlab.layers.scalenorm import ScaleNorm

__all__ = [
    "AdaptiveLayerNorm",
    "AdaptiveRMSNorm",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "CRMSNorm",
    "DyT",
    "Explanation",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "L2Norm",
    "LayerNorm",
    "PRMSNorm",
    "QKNorm",
    "RMSNorm",
    "ScaleNorm",
    "explain",
    "functional",
    "make_norm",
]
