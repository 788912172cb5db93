"""The norms as differentiable functions of tensors of any shape, by whichever kernel fits.

There are two ways to the fused kernels. Eager calls take an autograd.Function, the cheapest that PyTorch offers to
Python. What looks through the code instead of running it (torch.compile, fake tensors, tracing modes) meets the
operator `normlab::norm`, which is registered with torch.library and computes the same.

Where neither can be used, PyTorch's own operations compute the spec's formula: under transforms of torch.func and
forward-mode differentiation, which go through any operation of PyTorch's, and in programs that are written down for
use elsewhere, which must run without this library.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from normlab.kernels import choice, plain, torch_ops
from normlab.layers import operators
from normlab.layers._fused import Added, backward, forward, ordinary
from normlab.spec import NormSpec


def _transformed() -> bool:
    """Whether something differentiates or vectorizes what runs, beside autograd."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def _gradients(ctx: Any, dy: Tensor | None, dtotal: Tensor | None) -> Any:
    """The gradients of a call, by its own kernel, or differentiable ones where somebody wants to differentiate them."""
    total, weight, bias, stats = ctx.saved_tensors
    kernel, shape, spec = ctx.call
    if torch.is_grad_enabled() or _transformed() or not ordinary(dy, dtotal):
        kernel = plain
    return backward(kernel, dy, dtotal, total, shape, weight, bias, stats, spec)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Any, bias: Any, kernel: Any, shape: list[int], spec: NormSpec) -> Tensor:
        y, _, stats = forward(kernel, x, None, shape, weight, bias, spec)
        ctx.save_for_backward(x, weight, bias, stats)
        ctx.call = kernel, shape, spec
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return *_gradients(ctx, gradients[0], None), None, None, None


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor, weight: Any, bias: Any, kernel: Any, shape: list[int], spec: NormSpec
    ) -> Any:
        y, total, stats = forward(kernel, x, residual, shape, weight, bias, spec)
        ctx.save_for_backward(total, weight, bias, stats)
        ctx.set_materialize_grads(False)
        ctx.call = kernel, shape, spec
        return total, y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        dtotal, dy = gradients
        dx, dweight, dbias = _gradients(ctx, dy, dtotal)
        return dx, dx, dweight, dbias, None, None, None


# `Function.apply` first looks for what torch.func wraps. Nothing of that comes here (`_transformed`), and the search
# takes as long as a small norm.
_apply_norm: Any = super(torch.autograd.Function, _Norm).apply  # pyright: ignore[reportAttributeAccessIssue]
_apply_add_norm: Any = super(torch.autograd.Function, _AddNorm).apply  # pyright: ignore[reportAttributeAccessIssue]


def _differentiated(x: Tensor, residual: Tensor | None, weight: Tensor | None, bias: Tensor | None) -> bool:
    return (
        x.requires_grad
        or (weight is not None and weight.requires_grad)
        or (bias is not None and bias.requires_grad)
        or (residual is not None and residual.requires_grad)
    )


def norm(
    x: Tensor, residual: Tensor | None, shape: list[int], weight: Tensor | None, bias: Tensor | None, spec: NormSpec
) -> Any:
    """The norm of x over the trailing axes `shape`; with a residual Added, from x + residual."""
    if x.is_cuda and torch.is_autocast_enabled("cuda"):
        # As torch.nn's norms under autocast on a GPU.
        x, residual, weight, bias = (t if t is None else t.float() for t in (x, residual, weight, bias))  # pyright: ignore[reportAssignmentType]
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0:
        return _seen_through(x, residual, shape, weight, bias, spec)
    if _transformed() or torch._C._is_tracing() or not ordinary(x, residual, weight, bias):
        return _by_formula(x, residual, shape, weight, bias, spec)
    kernel = choice.choose(x, residual, weight, bias, spec).kernel
    if kernel is None:
        return _by_formula(x, residual, shape, weight, bias, spec)
    if not (torch.is_grad_enabled() and _differentiated(x, residual, weight, bias)):
        y, total, _ = forward(kernel, x, residual, shape, weight, bias, spec)
        return y if total is None else Added(total, y)
    if residual is None:
        return _apply_norm(x, weight, bias, kernel, shape, spec)
    return Added(*_apply_add_norm(x, residual, weight, bias, kernel, shape, spec))


def _by_formula(
    x: Tensor, residual: Tensor | None, shape: list[int], weight: Tensor | None, bias: Tensor | None, spec: NormSpec
) -> Any:
    """By PyTorch's own operations, which everything can differentiate and transform."""
    if residual is None:
        return torch_ops.norm(x, shape, weight, bias, spec)
    total = x + residual
    return Added(total, torch_ops.norm(total, shape, weight, bias, spec))


def _seen_through(
    x: Tensor, residual: Tensor | None, shape: list[int], weight: Tensor | None, bias: Tensor | None, spec: NormSpec
) -> Any:
    """One operator, where a fused kernel may run; which one is seen when it runs."""
    dtypes = x.dtype, None if weight is None else weight.dtype, None if bias is None else bias.dtype
    if choice.unfusable(*dtypes, spec) or torch.compiler.is_exporting() or _transformed():
        return _by_formula(x, residual, shape, weight, bias, spec)
    y, total, _ = torch.ops.normlab.norm(x, residual, weight, bias, shape, *operators.fields(spec))
    return y if residual is None else Added(total, y)
