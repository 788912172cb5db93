"""What the layers share: how torch.nn's arguments, or a spec, become a layer's NormSpec."""

from collections.abc import Iterable
from dataclasses import replace
from operator import index
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from normlab import _check
from normlab.spec import Kind, NormSpec

# torch.nn's default as an object of its own, made at run time: a 1e-5 that is written out is equal, but not the same.
DEFAULT_EPS = float("1e-5")


def given(value: Any, default: Any) -> bool:
    """Whether an argument is not the object that stands in the signature, be it equal or not.

    In a compiled call it is not known, as torch.compile may put a number of its own there: what is equal counts as not
    given.
    """
    if value is default:
        return False
    return not (torch.compiler.is_compiling() and isinstance(value, float) and value == default)


def plain(value: Any) -> Any:
    """A NumPy number as Python's, which torch.nn takes too; a float as an object that is no default; or what came."""
    if isinstance(value, np.number):
        return value.item()
    return value + 0.0 if type(value) is float else value


def resolve(
    kind: Kind, spec: NormSpec | str | None, *, eps: float | None, default_eps: float, affine: bool, bias: bool
) -> NormSpec:
    """The layer's spec.

    `spec` may be a NormSpec or the name of a preset. Its eps is the layer's; `eps` beside it must be left out or
    agree. `affine` and `bias` switch parameters off in a spec that has them.
    """
    if spec is None:
        return NormSpec(kind, eps=plain(eps), affine=affine, bias=bias)
    if isinstance(spec, str):
        spec = NormSpec.preset(spec, kind)
    check_spec(spec, kind, eps=eps, default_eps=default_eps, allowed="a NormSpec or the name of a preset")
    return replace(spec, affine=spec.affine and affine, bias=spec.bias and bias)


def check_spec(spec: Any, kind: Kind, *, eps: float | None, default_eps: float | None, allowed: str) -> None:
    """Raise unless `spec` is a NormSpec of this kind and the eps beside it was not given or agrees."""
    if not isinstance(spec, NormSpec):
        raise TypeError(f"spec must be {allowed}, got {type(spec).__name__}")
    if spec.kind != kind:
        raise ValueError(f"spec must be of kind {kind!r} here, got {spec.kind!r}")
    if not given(eps, default_eps):
        return
    eps = plain(eps)
    if eps is not None:
        _check.number("eps", eps, least=0)
    if eps != spec.eps:
        raise ValueError(f"eps is part of the spec ({spec.eps}): give it there, got eps={eps}")


def sizes(name: str, value: Any) -> tuple[int, ...]:
    """`value`, an int or several, as a tuple of ints of at least 0."""
    try:
        # What is an int stays as it is: index() would fix a size that torch.compile or torch.export keeps open.
        shape = tuple(
            v if isinstance(v, int | torch.SymInt) else index(v)
            for v in (value if isinstance(value, Iterable) else [value])
        )
    except TypeError:
        raise TypeError(f"{name} must be an int or a sequence of ints, got {value!r}") from None
    # One by one: a comparison with each other would fix open sizes too.
    if not shape or any(n < 0 for n in shape):
        wanted = "hold at least one size, each at least 0" if isinstance(value, Iterable) else "be at least 0"
        raise ValueError(f"{name} must {wanted}, got {value!r}")
    return shape  # pyright: ignore[reportReturnType]


def size(name: str, value: Any, *, least: int = 0) -> int:
    """`value`, an int, NumPy's among them, of at least `least`, as an int."""
    try:
        if isinstance(value, bool):
            raise TypeError
        found = index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, got {value!r}") from None
    if found < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return found


# Fields of a spec that no argument of a constructor says.
IN_REPR = ("eps_place", "offset", "stats_dtype", "scale_dtype", "unbiased_running_var")


class WithSpec:
    """A layer's `spec`. It follows the attribute `eps`, which users of torch.nn set (`bn.eps = 1e-3`)."""

    eps: Any
    _spec: NormSpec

    @property
    def spec(self) -> NormSpec:
        """What this layer computes."""
        return self._spec if self.eps == self._spec.eps else replace(self._spec, eps=plain(self.eps))

    def extra_repr(self) -> str:
        """As torch.nn's, and what else makes this another formula."""
        return super().extra_repr() + self._others()  # pyright: ignore[reportAttributeAccessIssue]

    def _others(self) -> str:
        spec, usual = self._spec, NormSpec(self._spec.kind)
        return "".join(f", {name}={v!r}" for name in IN_REPR if (v := getattr(spec, name)) != getattr(usual, name))


def _nothing(module: nn.Module, inputs: Any) -> None:
    """A hook."""


class Called(WithSpec):
    """A layer that nn.TransformerEncoderLayer calls where it stands in the place of a LayerNorm. In evaluation that
    computes torch's LayerNorm itself, from the weight, bias and eps of whatever stands there, unless it sees a hook."""

    # Not a number, of which PyTorch gives a hook the next one, from 0 on in each process.
    HOOK: ClassVar[str] = "normlab"
    _forward_pre_hooks: dict[Any, Any]

    def _ask_for_calls(self) -> None:
        spec = self._spec
        if spec.eps is None or spec != NormSpec("layernorm", eps=spec.eps, affine=spec.affine, bias=spec.bias):
            self._forward_pre_hooks[self.HOOK] = _nothing

    def __getstate__(self) -> dict[str, Any]:
        """Without the hook, which is no part of what a file holds."""
        state = self.__dict__.copy()
        hooks = state["_forward_pre_hooks"] = state["_forward_pre_hooks"].copy()
        hooks.pop(self.HOOK, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """With the hook."""
        super().__setstate__(state)  # pyright: ignore[reportAttributeAccessIssue]
        self._ask_for_calls()
