"""What the layers without kernels of their own share: the casts that a spec asks for, and the layers over rows."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, wraps
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from normlab.kernels.torch_ops import HALVES
from normlab.layers import functional
from normlab.layers._rows import by_parts, in_parts
from normlab.layers._spec import DEFAULT_EPS, Called, given, plain, resolve, sizes
from normlab.layers.fused import norm
from normlab.spec import EpsPlace, Kind, NormSpec, StatsDtype


def wide(x: Tensor, spec: NormSpec) -> Tensor:
    """`x` in the dtype in which the spec takes statistics."""
    return x.to(torch.float32) if x.dtype in HALVES and spec.stats_dtype == "float32" else x


def eps_for(h: Tensor, spec: NormSpec) -> float:
    """The spec's eps for statistics in the dtype of `h`."""
    return torch.finfo(h.dtype).eps if spec.eps is None else spec.eps


def factor(v: Tensor, spec: NormSpec) -> Tensor:
    """What a row is multiplied by, for its mean square."""
    eps = eps_for(v, spec)
    if spec.eps_place == "inside":
        return torch.rsqrt(v + eps)
    # sqrt has no derivative at 0; the numbers are zero there, so a derivative of 0 is the limit.
    nonzero = v != 0
    return 1 / (torch.where(nonzero, v, 1).sqrt() * nonzero + eps)


def scaled(normed: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None, spec: NormSpec) -> Tensor:
    """normed * (offset + weight) + bias, cast where the spec says; weight and bias broadcast."""
    if spec.scale_dtype == "input":
        normed = normed.to(x.dtype)
    elif spec.scale_dtype == "weight" and weight is not None and weight.dtype in HALVES:
        normed = normed.to(weight.dtype)
    in_stats = spec.scale_dtype == "stats"
    if weight is not None:
        scale = weight.to(normed.dtype) if in_stats else weight
        normed = normed * (scale + spec.offset if spec.offset else scale)
    if bias is not None:
        normed = normed + (bias.to(normed.dtype) if in_stats else bias)
    return normed.to(x.dtype) if in_stats or weight is None else normed


def is_one_dtype(x: Tensor, spec: NormSpec, *parameters: Tensor | None) -> bool:
    """Whether torch's operation on `x` and the parameters as they are has the spec's formula and casts.

    In half precision throughout it has not: torch's GroupNorm and InstanceNorm round the statistics, on the way back
    or on both ways, to the dtype of the parameters. Beside float32 parameters see `_half`.
    """
    same = all(p is None or p.dtype == x.dtype for p in parameters)
    return same and spec.eps_place == "inside" and x.dtype not in HALVES


def _centered(eps: float | None, eps_place: EpsPlace, stats_dtype: StatsDtype) -> NormSpec:
    return NormSpec("layernorm", eps=eps, eps_place=eps_place, stats_dtype=stats_dtype, affine=False)


_centered_once = cache(_centered)


def centered_rows(h: Tensor, shape: list[int], spec: NormSpec) -> Tensor:
    """(h - mean) / sqrt(var + eps) over the trailing axes `shape`, in the dtype of h."""
    # torch.compile does not look up what is kept, and warns of it.
    centered = _centered if torch.compiler.is_compiling() else _centered_once
    return norm(h, None, shape, None, None, centered(spec.eps, spec.eps_place, spec.stats_dtype))


def agree(name: str, value: Any, default: Any, in_spec: Any) -> None:
    """Raise unless an argument beside a spec was not given or is what the spec says."""
    if given(value, default) and value != in_spec:
        raise ValueError(f"{name} is part of the spec ({in_spec}): give it there, got {name}={value}")


def over_parts(forward: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """A layer's forward pass that takes nested tensors too, as nn.TransformerEncoder makes of padded ones."""

    @wraps(forward)
    def taken(self: Any, input: Tensor) -> Tensor:
        if isinstance(input, Tensor) and in_parts(input):
            return by_parts(lambda part: forward(self, part), input)
        return forward(self, input)

    return taken


class RowNorm(Called, nn.Module):
    """A norm over trailing axes: its spec, its check of input, its repr. A subclass has the formula and parameters."""

    KIND: ClassVar[Kind]
    DEFAULT_EPS: ClassVar[float] = DEFAULT_EPS

    def __init__(
        self,
        normalized_shape: int | list[int] | torch.Size,
        eps: float | None,
        affine: bool,
        spec: NormSpec | str | None,
        *,
        bias: bool = False,
        **fields: Any,
    ) -> None:
        # `fields` go into the spec where none is given.
        resolved = resolve(self.KIND, spec, eps=eps, default_eps=self.DEFAULT_EPS, affine=affine, bias=bias)
        shape = sizes("normalized_shape", normalized_shape)
        super().__init__()
        self._spec = replace(resolved, **{k: plain(v) for k, v in fields.items()}) if spec is None else resolved
        self.normalized_shape = shape
        self.eps = self._spec.eps
        self.elementwise_affine = self._spec.affine
        self._ask_for_calls()

    def _add(
        self,
        name: str,
        shape: tuple[int, ...] | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        """Register a parameter of a shape, or that there is none."""
        p = None if shape is None else nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.register_parameter(name, p)

    def _check(self, x: Tensor) -> None:
        functional.check_tensor("input", x)
        shape = list(self.normalized_shape)
        if list(x.shape[-len(shape) :]) != shape:
            raise ValueError(f"normalized_shape must be the trailing axes of input {list(x.shape)}, got {shape}")

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(-len(self.normalized_shape), 0))

    def extra_repr(self) -> str:
        """As torch.nn.RMSNorm's, and what else makes this another formula."""
        usual = f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        return usual + self._others()


class WeightedRowNorm(RowNorm):
    """A RowNorm with a weight of the shape of a row, or none."""

    def __init__(
        self,
        normalized_shape: int | list[int] | torch.Size,
        eps: float | None,
        affine: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        spec: NormSpec | str | None,
        **fields: Any,
    ) -> None:
        super().__init__(normalized_shape, eps, affine, spec, **fields)
        self.weight: nn.Parameter | None
        self._add("weight", self.normalized_shape if self._spec.affine else None, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill the weight so that the scale is 1."""
        if self.weight is not None:
            nn.init.constant_(self.weight, 1.0 - self.spec.offset)
