"""The operators `normlab::norm` and `normlab::norm_backward`, registered with torch.library.

They are what torch.compile and fake tensors see of a norm: one node, whose shapes and dtypes are known without
running it. They take what a fused kernel can compute; which kernel runs is chosen when they run, and without one it
is `kernels.plain`. A spec goes in as its fields, since operators take no objects.

    norm(x, residual, weight, bias, shape, *spec) -> (y, total, stats)
    norm_backward(dy, dtotal, total, weight, bias, stats, shape, *spec) -> (dx, dweight, dbias)

What there is none of (total without a residual, dbias without a bias) is an empty tensor.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from normlab.kernels import plain
from normlab.kernels.choice import Passes, choose
from normlab.layers import _fused
from normlab.layers._rows import count
from normlab.spec import NormSpec

_SPEC = "str kind, float? eps, str eps_place, float offset, str stats_dtype, str scale_dtype"
_NORM = f"(Tensor x, Tensor? residual, Tensor? weight, Tensor? bias, SymInt[] shape, {_SPEC})"
_BACKWARD = (
    f"(Tensor? dy, Tensor? dtotal, Tensor total, Tensor? weight, Tensor? bias, Tensor stats, SymInt[] shape, {_SPEC})"
)
_RESULTS = " -> (Tensor, Tensor, Tensor)"


def fields(spec: NormSpec) -> tuple[Any, ...]:
    """A spec as arguments of an operator."""
    return spec.kind, spec.eps, spec.eps_place, spec.offset, spec.stats_dtype, spec.scale_dtype


def _spec(kind: Any, eps: Any, eps_place: Any, offset: float, stats_dtype: Any, scale_dtype: Any) -> NormSpec:
    return NormSpec(kind, eps, eps_place, offset, stats_dtype, scale_dtype)


def _kernel(x: Tensor, residual: Any, weight: Any, bias: Any, spec: NormSpec, *others: Any) -> Passes:
    if not _fused.ordinary(x, residual, weight, bias, *others):
        return plain
    return choose(x, residual, weight, bias, spec).kernel or plain


def _or_empty(given: Tensor | None, like: Tensor) -> Tensor:
    return like.new_empty(0) if given is None else given


def _forward(x: Any, residual: Any, weight: Any, bias: Any, shape: Any, *spec_fields: Any) -> tuple[Tensor, ...]:
    spec = _spec(*spec_fields)
    kernel = _kernel(x, residual, weight, bias, spec)
    y, total, stats = _fused.forward(kernel, x, residual, list(shape), weight, bias, spec)
    return y, _or_empty(total, x), stats


def _backward(
    dy: Any, dtotal: Any, total: Any, weight: Any, bias: Any, stats: Any, shape: Any, *spec_fields: Any
) -> tuple[Tensor, ...]:
    spec = _spec(*spec_fields)
    kernel = _kernel(total, dtotal, weight, bias, spec, dy)
    bias_dtype = None if bias is None else bias.dtype
    dx, dweight, dbias = _fused.backward(kernel, dy, dtotal, total, list(shape), weight, bias_dtype, stats, spec)
    if dx is None:
        dx = torch.zeros_like(total)
    # An operator must not return what came in.
    dx = dx.clone() if dx is dtotal else dx
    return dx.contiguous(), _of(dweight, weight, total), _of(dbias, bias, total)


def _of(gradient: Tensor | None, parameter: Tensor | None, like: Tensor) -> Tensor:
    """A parameter's gradient; zeros where nothing came to it, empty where there is no parameter."""
    if parameter is None:
        return like.new_empty(0)
    return parameter.new_zeros(parameter.shape) if gradient is None else gradient.contiguous()


def _empty(like: Tensor) -> Tensor:
    return torch.empty(like.shape, dtype=like.dtype, device=like.device)


def _fake_forward(x: Any, residual: Any, weight: Any, bias: Any, shape: Any, *spec_fields: Any) -> tuple[Tensor, ...]:
    rows = count(x.shape[: x.dim() - len(shape)])
    stats = x.new_empty((rows, 2 if spec_fields[0] == "layernorm" else 1), dtype=torch.float64)
    return _empty(x), _or_empty(None if residual is None else _empty(x), x), stats


def _fake_backward(
    dy: Any, dtotal: Any, total: Any, weight: Any, bias: Any, stats: Any, shape: Any, *spec_fields: Any
) -> tuple[Tensor, ...]:
    parameters = (total.new_empty(0) if p is None else _empty(p) for p in (weight, bias))
    return _empty(total), *parameters


def _one_by_one(operator: Callable[..., tuple[Tensor, ...]]) -> Callable[..., Any]:
    """vmap as a loop."""

    def rule(info: Any, in_dims: Sequence[Any], *arguments: Any) -> Any:
        batched = [
            a.unbind(d) if isinstance(a, Tensor) and d is not None else [a] * info.batch_size
            for a, d in zip(arguments, in_dims, strict=True)
        ]
        results = [operator(*each) for each in zip(*batched, strict=True)]
        return tuple(torch.stack(r) for r in zip(*results, strict=True)), (0, 0, 0)

    return rule


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, residual, weight, bias, shape, *spec_fields = inputs
    _, total, stats = output
    ctx.save_for_backward(x if residual is None else total, weight, bias, stats)
    ctx.added, ctx.shape, ctx.spec = residual is not None, shape, spec_fields
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, dy: Any, dtotal: Any, dstats: Any) -> tuple[Any, ...]:
    total, weight, bias, stats = ctx.saved_tensors
    dtotal = dtotal if ctx.added else None
    if torch.is_grad_enabled():
        # Somebody will differentiate the gradients.
        dtype = None if bias is None else bias.dtype
        found = _fused.backward(plain, dy, dtotal, total, list(ctx.shape), weight, dtype, stats, _spec(*ctx.spec))
        return found.dx, found.dx if ctx.added else None, found.dweight, found.dbias, *[None] * (1 + len(ctx.spec))
    dx, dweight, dbias = torch.ops.normlab.norm_backward(dy, dtotal, total, weight, bias, stats, ctx.shape, *ctx.spec)
    return (
        dx,
        dx if ctx.added else None,
        None if weight is None else dweight,
        None if bias is None else dbias,
        *[None] * (1 + len(ctx.spec)),
    )


_norm = torch.library.custom_op("normlab::norm", _forward, mutates_args=(), schema=_NORM + _RESULTS)
_norm_backward = torch.library.custom_op(
    "normlab::norm_backward", _backward, mutates_args=(), schema=_BACKWARD + _RESULTS
)
_norm.register_fake(_fake_forward)
_norm_backward.register_fake(_fake_backward)
_norm.register_autograd(_differentiate, setup_context=_setup)
_norm.register_vmap(_one_by_one(torch.ops.normlab.norm))
_norm_backward.register_vmap(_one_by_one(torch.ops.normlab.norm_backward))
