"""normlab: normalization in deep networks, understood, verified, used and repaired.

Importing this module is cheap: PyTorch and the rest load when a name that needs them is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from normlab.heap import keep_heap
from normlab.spec import NormSpec

if TYPE_CHECKING:
    from normlab import functional, layers, models, norms, tensor
    from normlab.kernels import use_kernels
    from normlab.layers import (
        AdaptiveLayerNorm,
        AdaptiveRMSNorm,
        BatchNorm1d,
        BatchNorm2d,
        BatchNorm3d,
        CRMSNorm,
        DyT,
        GroupNorm,
        InstanceNorm1d,
        InstanceNorm2d,
        InstanceNorm3d,
        L2Norm,
        LayerNorm,
        PRMSNorm,
        QKNorm,
        RMSNorm,
        ScaleNorm,
        explain,
        make_norm,
    )

__version__ = "0.1.0"
__all__ = [
    "AdaptiveLayerNorm",
    "AdaptiveRMSNorm",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "CRMSNorm",
    "DyT",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "L2Norm",
    "LayerNorm",
    "NormSpec",
    "PRMSNorm",
    "QKNorm",
    "RMSNorm",
    "ScaleNorm",
    "explain",
    "functional",
    "keep_heap",
    "layers",
    "make_norm",
    "models",
    "norms",
    "tensor",
    "use_kernels",
]

_LAYERS = (
    "AdaptiveLayerNorm",
    "AdaptiveRMSNorm",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "CRMSNorm",
    "DyT",
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
    "make_norm",
)
_KERNELS = ("use_kernels",)
_MODULES = ("functional", "layers", "models", "norms", "tensor")


def __getattr__(name: str) -> Any:
    if name in _LAYERS:
        return getattr(import_module("normlab.layers"), name)
    if name in _KERNELS:
        return getattr(import_module("normlab.kernels"), name)
    if name in _MODULES:
        return import_module(f"normlab.{name}")
    raise AttributeError(f"module 'normlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
