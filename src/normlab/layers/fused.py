"""The fused kernels as differentiable functions of tensors of any shape.

There are two ways in. Eager calls take an autograd.Function, the cheapest that PyTorch offers to Python. What looks
through the code instead of running it (torch.compile, fake tensors, tracing modes) meets the operators
`normlab::norm` and `normlab::norm_backward`, which are registered with torch.library and compute the same.

Where neither can be used, PyTorch's own operations compute the spec's formula: under transforms of torch.func and
forward-mode differentiation, which go through any operation of PyTorch's; in programs that are exported, which must
run without this library; and for a gradient of a gradient.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from normlab.kernels import choose
from normlab.layers import operators
from normlab.layers._fused import Added, backward, formula, forward, gradients_by_formula
from normlab.spec import NormSpec


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Any, bias: Any, kernel: Any, shape: list[int], spec: NormSpec) -> Tensor:
        y, _, stats = forward(kernel, x, None, shape, weight, bias, spec)
        ctx.save_for_backward(x, weight, bias, stats)
        ctx.call = kernel, shape, spec
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (dy,) = gradients
        x, weight, bias, stats = ctx.saved_tensors
        kernel, shape, spec = ctx.call
        if torch.is_grad_enabled():
            found = gradients_by_formula(dy, None, x, shape, weight, bias, spec, create_graph=True)
        else:
            found = backward(kernel, dy, None, x, shape, weight, bias, stats, spec)
        return *found, None, None, None


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor, weight: Any, bias: Any, kernel: Any, shape: list[int], spec: NormSpec
    ) -> tuple[Tensor, Tensor]:
        y, total, stats = forward(kernel, x, residual, shape, weight, bias, spec)
        ctx.save_for_backward(total, weight, bias, stats)
        ctx.set_materialize_grads(False)
        ctx.call = kernel, shape, spec
        return total, y  # pyright: ignore[reportReturnType]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        dtotal, dy = gradients
        total, weight, bias, stats = ctx.saved_tensors
        kernel, shape, spec = ctx.call
        if torch.is_grad_enabled():
            found = gradients_by_formula(dy, dtotal, total, shape, weight, bias, spec, create_graph=True)
        else:
            found = backward(kernel, dy, dtotal, total, shape, weight, bias, stats, spec)
        dx, dweight, dbias = found
        return dx, dx, dweight, dbias, None, None, None


# Anything else has its own idea of what an operation does, and knows PyTorch's alone.
_PLAIN = (Tensor, torch.nn.Parameter, type(None))


def _by_formula(x: Tensor, weight: Tensor | None) -> bool:
    """Whether operations are transformed, or written down for use elsewhere."""
    return (
        torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or torch._C._is_tracing()
        or type(x) not in _PLAIN
        or type(weight) not in _PLAIN
    )


def _differentiated(*tensors: Tensor | None) -> bool:
    return any(t is not None and t.requires_grad for t in tensors)


def norm(
    x: Tensor, residual: Tensor | None, shape: list[int], weight: Tensor | None, bias: Tensor | None, spec: NormSpec
) -> Any:
    """The norm of x over the trailing axes `shape`; with a residual Added, from x + residual."""
    if x.is_cuda and torch.is_autocast_enabled("cuda"):
        # As torch.nn's norms under autocast on a GPU.
        x, residual, weight, bias = (t if t is None else t.float() for t in (x, residual, weight, bias))  # pyright: ignore[reportAssignmentType]
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0:
        added = _seen_through(x, residual, shape, weight, bias, spec)
        return added.normed if residual is None else added
    kernel = None if _by_formula(x, weight) else choose(x, residual, weight, bias, spec).kernel
    if kernel is None:
        added = formula(x, residual, shape, weight, bias, spec)
        return added.normed if residual is None else added
    if not (torch.is_grad_enabled() and _differentiated(x, residual, weight, bias)):
        y, total, _ = forward(kernel, x, residual, shape, weight, bias, spec)
        return y if total is None else Added(total, y)
    if residual is None:
        return _Norm.apply(x, weight, bias, kernel, shape, spec)
    return Added(*_AddNorm.apply(x, residual, weight, bias, kernel, shape, spec))  # pyright: ignore[reportGeneralTypeIssues]


def _seen_through(
    x: Tensor, residual: Tensor | None, shape: list[int], weight: Tensor | None, bias: Tensor | None, spec: NormSpec
) -> Added:
    """One operator, where the result has the input's dtype and nothing else forbids it."""
    own_dtype = spec.scale_dtype == "stats" or weight is None or weight.dtype == x.dtype
    if not own_dtype or torch.compiler.is_exporting() or forward_ad._current_level >= 0:
        return formula(x, residual, shape, weight, bias, spec)
    y, total, _ = torch.ops.normlab.norm(x, residual, weight, bias, shape, *operators.fields(spec))
    return Added(x if residual is None else total, y)
