"""How a layer's constructor turns torch.nn's arguments, or a spec, into its NormSpec."""

from dataclasses import replace

from normlab.spec import Kind, NormSpec


def resolve(
    kind: Kind, spec: NormSpec | str | None, *, eps: float | None, default_eps: float, affine: bool, bias: bool
) -> NormSpec:
    """The layer's spec.

    `spec` may be a NormSpec or the name of a preset. Its eps is the layer's; `eps` beside it must be left
    at its default or agree. `affine` and `bias` switch parameters off in a spec that has them.
    """
    if spec is None:
        return NormSpec(kind, eps=eps, affine=affine, bias=bias)
    if isinstance(spec, str):
        spec = NormSpec.preset(spec, kind)
    if not isinstance(spec, NormSpec):
        raise TypeError(f"spec must be a NormSpec or the name of a preset, got {type(spec).__name__}")
    if spec.kind != kind:
        raise ValueError(f"spec must be of kind {kind!r} for this layer, got {spec.kind!r}")
    if eps not in (default_eps, spec.eps):
        raise ValueError(f"eps is part of the spec ({spec.eps}): give it there, got eps={eps}")
    return replace(spec, affine=spec.affine and affine, bias=spec.bias and bias)
