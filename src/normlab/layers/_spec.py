"""What the layers share: how torch.nn's arguments, or a spec, become a layer's NormSpec."""

from collections.abc import Iterable
from dataclasses import replace
from operator import index
from typing import Any

from normlab import _check
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
    check_spec(spec, kind, eps=eps, default_eps=default_eps, allowed="a NormSpec or the name of a preset")
    return replace(spec, affine=spec.affine and affine, bias=spec.bias and bias)


def check_spec(spec: Any, kind: Kind, *, eps: float | None, default_eps: float | None, allowed: str) -> None:
    """Raise unless `spec` is a NormSpec of this kind and the eps beside it is the default or agrees."""
    if not isinstance(spec, NormSpec):
        raise TypeError(f"spec must be {allowed}, got {type(spec).__name__}")
    if spec.kind != kind:
        raise ValueError(f"spec must be of kind {kind!r} here, got {spec.kind!r}")
    if eps is default_eps or (isinstance(eps, float) and eps == default_eps):
        return
    if eps is not None:
        _check.number("eps", eps, least=0)
    if eps != spec.eps:
        raise ValueError(f"eps is part of the spec ({spec.eps}): give it there, got eps={eps}")


def sizes(name: str, value: Any, allowed: str = "an int or a sequence of ints") -> tuple[int, ...]:
    """`value`, an int or several, as a tuple of ints of at least 0."""
    try:
        shape = tuple(map(index, value if isinstance(value, Iterable) else [value]))
    except TypeError:
        raise TypeError(f"{name} must be {allowed}, got {value!r}") from None
    if not shape or min(shape) < 0:
        raise ValueError(f"{name} must hold at least one size, each at least 0, got {value!r}")
    return shape


class WithSpec:
    """A layer's `spec`. It follows the attribute `eps`, which users of torch.nn set (`bn.eps = 1e-3`)."""

    eps: Any
    _spec: NormSpec

    @property
    def spec(self) -> NormSpec:
        """What this layer computes."""
        return self._spec if self.eps == self._spec.eps else replace(self._spec, eps=self.eps)
