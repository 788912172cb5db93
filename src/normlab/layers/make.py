"""A spec to a layer."""

import torch
from torch import nn

from normlab.layers.batchnorm import BatchNorm1d
from normlab.layers.layernorm import LayerNorm
from normlab.layers.rmsnorm import RMSNorm
from normlab.spec import NormSpec

LAYERS = {"layernorm": LayerNorm, "rmsnorm": RMSNorm, "batchnorm": BatchNorm1d}


def make_norm(
    spec: NormSpec | str,
    dim: int,
    *,
    preset: str | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """The layer that computes a spec over `dim` features.

    Args:
        spec: a NormSpec, or a kind ("rmsnorm", "layernorm", "batchnorm", "none").
        dim: size of the normalized axis (channels for batchnorm).
        preset: with a kind, whose details to take ("llama", ...).
        device, dtype: of the parameters.

    Raises:
        ValueError: for an unknown kind or preset, or a preset beside a whole spec.
    """
    if isinstance(spec, NormSpec):
        if preset is not None:
            raise ValueError(f"preset goes with the name of a kind, not with a NormSpec, got {preset!r}")
    else:
        spec = NormSpec(spec) if preset is None else NormSpec.preset(preset, spec)  # pyright: ignore[reportArgumentType]
    if spec.kind == "none":
        return nn.Identity()
    return LAYERS[spec.kind](dim, device=device, dtype=dtype, spec=spec)
