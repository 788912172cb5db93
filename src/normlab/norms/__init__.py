"""The definitions: one file a kind, forward and hand-derived backward, in float64 NumPy.

Every other form of a normalization in this package is compared with these, never with itself.
"""

from normlab.norms import (
    adaptive,
    batchnorm,
    crmsnorm,
    dyt,
    groupnorm,
    instancenorm,
    l2norm,
    layernorm,
    prmsnorm,
    rmsnorm,
    scalenorm,
)

__all__ = [
    "adaptive",
    "batchnorm",
    "crmsnorm",
    "dyt",
    "groupnorm",
    "instancenorm",
    "l2norm",
    "layernorm",
    "prmsnorm",
    "rmsnorm",
    "scalenorm",
]
