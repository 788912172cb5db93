"""The definitions: one file a kind, forward and hand-derived backward, in float64 NumPy.

Every other form of a normalization in this package is compared with these, never with itself.
"""

from normlab.norms import batchnorm, layernorm, rmsnorm

__all__ = ["batchnorm", "layernorm", "rmsnorm"]
