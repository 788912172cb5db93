"""`normlab.functional`: the norms as functions, with torch's signatures."""

from normlab.layers.functional import add_layer_norm, add_rms_norm, batch_norm, layer_norm, rms_norm

__all__ = ["add_layer_norm", "add_rms_norm", "batch_norm", "layer_norm", "rms_norm"]
