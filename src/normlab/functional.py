"""`normlab.functional`: the norms as functions, with torch's signatures."""

from normlab.layers.functional import batch_norm, layer_norm, rms_norm

__all__ = ["batch_norm", "layer_norm", "rms_norm"]
