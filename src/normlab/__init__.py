"""normlab: normalization in deep networks, understood, verified, used and repaired.

Importing this module is cheap: PyTorch and the rest load when a name that needs them is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from normlab.spec import NormSpec

if TYPE_CHECKING:
    from normlab import functional, models, norms
    from normlab.layers import BatchNorm1d, BatchNorm2d, LayerNorm, RMSNorm, make_norm

__version__ = "0.1.0"
__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "LayerNorm",
    "NormSpec",
    "RMSNorm",
    "functional",
    "make_norm",
    "models",
    "norms",
]

_LAYERS = ("BatchNorm1d", "BatchNorm2d", "LayerNorm", "RMSNorm", "make_norm")
_MODULES = ("functional", "layers", "models", "norms")


def __getattr__(name: str) -> Any:
    if name in _LAYERS:
        return getattr(import_module("normlab.layers"), name)
    if name in _MODULES:
        return import_module(f"normlab.{name}")
    raise AttributeError(f"module 'normlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
