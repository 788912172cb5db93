"""A spec to a layer."""

import torch
from torch import nn

from normlab.layers._spec import size
from normlab.layers.batchnorm import BatchNorm1d
from normlab.layers.crmsnorm import CRMSNorm
from normlab.layers.dyt import DyT
from normlab.layers.groupnorm import GroupNorm
from normlab.layers.instancenorm import InstanceNorm1d
from normlab.layers.l2norm import L2Norm
from normlab.layers.layernorm import LayerNorm
from normlab.layers.prmsnorm import PRMSNorm
from normlab.layers.rmsnorm import RMSNorm
from normlab.layers.scalenorm import ScaleNorm
from normlab.spec import NormSpec

LAYERS: dict[str, type[nn.Module]] = {
    "layernorm": LayerNorm,
    "rmsnorm": RMSNorm,
    "batchnorm": BatchNorm1d,
    "groupnorm": GroupNorm,
    "instancenorm": InstanceNorm1d,
    "scalenorm": ScaleNorm,
    "crmsnorm": CRMSNorm,
    "prmsnorm": PRMSNorm,
    "dyt": DyT,
    "l2norm": L2Norm,
}


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
        spec: a NormSpec, or a kind: "layernorm", "rmsnorm", "batchnorm", "groupnorm" (of 32 groups, unless a
            NormSpec says otherwise), "instancenorm", "scalenorm", "crmsnorm", "prmsnorm", "dyt", "l2norm" or "none".
        dim: size of the normalized axis; channels for batchnorm, groupnorm and instancenorm.
        preset: with a kind, whose details to take ("llama", ...); "torch" gives a layer as torch.nn's has by default.
        device, dtype: of the parameters.

    Raises:
        TypeError: for a spec that is neither a NormSpec nor a string, or a dim that is no int.
        ValueError: for an unknown kind or preset, a kind that the preset has not, a preset beside a whole spec, a dim
            below 0, or groups that do not divide dim.

    FAQ:
        Why has make_norm("instancenorm", dim) a weight and a bias, and make_norm("l2norm", dim) a weight, where
        InstanceNorm1d(dim) and L2Norm(dim) have none? Those have torch's defaults, of nn.InstanceNorm1d and
        F.normalize; here those of NormSpec count, which has parameters, and for l2norm an eps of 1e-5 instead of 1e-12.
    """
    if not isinstance(spec, NormSpec | str):
        raise TypeError(f"spec must be a NormSpec or the name of a kind, got {type(spec).__name__} {spec!r}")
    dim = size("dim", dim)
    if isinstance(spec, NormSpec):
        if preset is not None:
            raise ValueError(f"preset goes with the name of a kind, not with a NormSpec, got {preset!r}")
    else:
        spec = NormSpec(spec) if preset is None else NormSpec.preset(preset, spec)  # pyright: ignore[reportArgumentType]
    if spec.kind == "none":
        return nn.Identity()
    if spec.kind == "groupnorm" and dim % spec.groups:
        raise ValueError(f"dim must be a multiple of the spec's groups, {spec.groups}, got {dim}")
    arguments = (spec.groups, dim) if spec.kind == "groupnorm" else (dim,)
    return LAYERS[spec.kind](*arguments, device=device, dtype=dtype, spec=spec)
