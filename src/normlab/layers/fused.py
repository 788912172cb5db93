"""The norms as differentiable functions of tensors of any shape, by whichever kernel fits.

There are two ways to the fused kernels. Eager calls take an autograd.Function, the cheapest that PyTorch offers to
Python; the usual call, checked in one go, comes to it by a shorter way (`at_once`). What looks through the code instead
of running it (torch.compile, fake tensors, tracing modes) meets the operator `normlab::norm`, which is registered with
torch.library and computes the same.

Where neither can be used, PyTorch's own operations compute the spec's formula: under transforms of torch.func and
forward-mode differentiation, which go through any operation of PyTorch's, and in programs that are written down for
use elsewhere, which must run without this library.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.autograd import forward_ad

from normlab.kernels import choice, cpu, plain, torch_ops
from normlab.kernels.fused import Forward
from normlab.layers import operators
from normlab.layers._fused import PLAIN, Added, are_stats, backward, extraordinary, forward, in_order
from normlab.spec import NormSpec


def transformed() -> bool:
    """Whether something differentiates or vectorizes what runs, beside autograd."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def transparent(x: Tensor, residual: Tensor | None, weight: Tensor | None, bias: Tensor | None) -> str | None:
    """Why PyTorch's own operations, which everything sees through, compute a call on these tensors, or None."""
    if torch._C._is_tracing():
        return "torch.jit.trace writes a program down that must run without normlab"
    if transformed():
        return "a transform of torch.func, or forward-mode differentiation, is at work"
    if (why := extraordinary(x, residual, weight, bias)) is not None:
        return why
    if torch.is_grad_enabled() and _differentiated(x, residual, weight, bias) and _unkept(x, residual):
        return "autograd does not keep a tensor that was made in inference mode"
    return None


class _Call(NamedTuple):
    """What the backward pass must know beside tensors."""

    kernel: choice.Passes
    shape: Sequence[int]
    spec: NormSpec
    weight: torch.dtype | None
    bias: torch.dtype | None
    plans: choice.Plans | None


def _call(
    kernel: choice.Passes,
    shape: Sequence[int],
    spec: NormSpec,
    weight: Tensor | None,
    bias: Tensor | None,
    plans: choice.Plans | None,
) -> _Call:
    dtypes = None if weight is None else weight.dtype, None if bias is None else bias.dtype
    return _Call(kernel, shape, spec, *dtypes, plans)


def _forward(
    ctx: Any, call: _Call, x: Tensor, residual: Tensor | None, weight: Tensor | None, bias: Tensor | None
) -> Forward:
    if call.plans is None:
        found = forward(call.kernel, x, residual, call.shape, weight, bias, call.spec)
    else:
        found = cpu.run_forward(call.plans.forward, x, residual, weight, bias)
    # The bias too, as the operator does: a checkpoint may meet one in the first pass and the other in the second.
    ctx.save_for_backward(x if residual is None else found.total, weight, bias, found.stats)
    ctx.call = call
    return found


def _backward(ctx: Any, dy: Tensor | None, dtotal: Tensor | None) -> Any:
    """The gradients of a call, by its own kernel, or differentiable ones where somebody wants to differentiate them."""
    total, weight, _, stats = ctx.saved_tensors
    kernel, shape, spec, weight_dtype, bias, plans = ctx.call
    if torch.compiler.is_compiling():
        # Compiled autograd, which cannot look through the questions below.
        return backward(plain, dy, dtotal, total, shape, weight, bias, stats, spec)
    plan = None if plans is None else plans.backward
    watched = torch.is_grad_enabled() or transformed() or torch._C._len_torch_dispatch_stack() > 0
    if (
        plan is not None
        and not watched
        and dtotal is None
        and dy is not None
        and in_order(dy, total, weight, stats)
        and total.dtype is dy.dtype
        and total.shape == dy.shape
        and (weight is None or (weight.dtype is weight_dtype and weight.shape == shape))
        and are_stats(stats, plan.rows, spec)
    ):
        return cpu.run_backward(plan, dy, None, total, weight, stats, bias)
    if weight is not None and weight.dtype is not weight_dtype:
        raise RuntimeError(f"weight was {weight_dtype} in the forward pass and is {weight.dtype} in the backward pass")
    return backward(plain if watched else kernel, dy, dtotal, total, shape, weight, bias, stats, spec)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Any, bias: Any, call: _Call) -> Tensor:
        return _forward(ctx, call, x, None, weight, bias).y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return *_backward(ctx, gradients[0], None), None


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor, weight: Any, bias: Any, call: _Call) -> Any:
        y, total, _ = _forward(ctx, call, x, residual, weight, bias)
        ctx.set_materialize_grads(False)
        return total, y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        dtotal, dy = gradients
        dx, dweight, dbias = _backward(ctx, dy, dtotal)
        return dx, dx, dweight, dbias, None


# `Function.apply` first looks for what torch.func wraps. Nothing of that comes here (`transformed`), and the search
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


def _unkept(x: Tensor, residual: Tensor | None) -> bool:
    """Whether autograd will not keep x for the backward pass. torch.nn.RMSNorm on the CPU does not ask it to."""
    return residual is None and x.is_inference()


def _gpu_autocast(x: Tensor) -> bool:
    return x.is_cuda and torch.is_autocast_enabled("cuda")


def autocast(
    x: Tensor, residual: Tensor | None, weight: Tensor | None, bias: Tensor | None, spec: NormSpec
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Half precision in float32 under autocast on a GPU, where torch.nn's norms take it so; float64 stays, as there.
    Specs of modules that multiply in another dtype than the statistics' keep to it."""
    if spec.scale_dtype != "stats" or not _gpu_autocast(x):
        return x, residual, weight, bias
    given = (x, residual, weight, bias)
    return tuple(t.float() if t is not None and t.dtype in torch_ops.HALVES else t for t in given)  # pyright: ignore[reportReturnType]


def norm(
    x: Tensor, residual: Tensor | None, shape: list[int], weight: Tensor | None, bias: Tensor | None, spec: NormSpec
) -> Any:
    """The norm of x over the trailing axes `shape`; with a residual Added, from x + residual."""
    cast = autocast(x, residual, weight, bias, spec)
    if residual is not None and cast[0].dtype != x.dtype:
        # Autocast leaves an addition alone: the sum is in half precision, and the norm of it in float32.
        total = x + residual
        return Added(total, norm(total, None, shape, weight, bias, spec))
    x, residual, weight, bias = cast
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0:
        return _seen_through(x, residual, shape, weight, bias, spec)
    if transparent(x, residual, weight, bias):
        return _by_formula(x, residual, shape, weight, bias, spec)
    kernel = choice.choose(x, residual, weight, bias, spec).kernel
    if kernel is None:
        return _by_formula(x, residual, shape, weight, bias, spec)
    if not (torch.is_grad_enabled() and _differentiated(x, residual, weight, bias)):
        y, total, _ = forward(kernel, x, residual, shape, weight, bias, spec)
        return y if total is None else Added(total, y)
    return _apply(x, residual, weight, bias, _call(kernel, shape, spec, weight, bias, None))


def _apply(x: Tensor, residual: Tensor | None, weight: Tensor | None, bias: Tensor | None, call: _Call) -> Any:
    if residual is None:
        return _apply_norm(x, weight, bias, call)
    return Added(*_apply_add_norm(x, residual, weight, bias, call))


def at_once(
    x: Any, residual: Any, normalized_shape: Any, weight: Tensor | None, bias: Tensor | None, spec: NormSpec
) -> Any:
    """The norm, checked and computed, of a usual call: over the last axis of tensors that lie in memory as they should,
    on the CPU, while nothing looks on. None for any other call, which `norm` takes when its arguments are checked.

    Nothing is computed here that `norm` would not compute. All questions are asked in this one function and answered by
    few, because for a small tensor the time of a norm is the time of its questions.
    """
    if (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
        or torch._C._is_tracing()
        or forward_ad._current_level >= 0
        or not isinstance(normalized_shape, tuple)
        or len(normalized_shape) != 1
        or x is None
        or not in_order(x, residual, weight, bias)
        or x.is_nested
    ):
        return None
    (n,) = normalized_shape
    shape, numbers = x.shape, x.numel()
    if (
        not numbers
        or not shape
        or type(n) is not int
        or shape[-1] != n
        or (weight is not None and weight.shape != normalized_shape)
        or (bias is not None and bias.shape != normalized_shape)
        or (residual is not None and (residual.shape != shape or residual.dtype != x.dtype))
    ):
        return None
    wanted = torch.is_grad_enabled() and _differentiated(x, residual, weight, bias)
    plans = choice.plans_on_cpu(x, residual, weight, bias, numbers // n, n, spec, wanted)
    if plans is None:
        return None
    if wanted:
        if _unkept(x, residual):
            return None
        return _apply(x, residual, weight, bias, _call(cpu, normalized_shape, spec, weight, bias, plans))
    y, total, _ = cpu.run_forward(plans.forward, x, residual, weight, bias)
    return y if total is None else Added(total, y)


def _by_formula(
    x: Tensor, residual: Tensor | None, shape: list[int], weight: Tensor | None, bias: Tensor | None, spec: NormSpec
) -> Any:
    """By PyTorch's own operations, which everything can differentiate and transform."""
    if residual is None:
        return torch_ops.norm(x, shape, weight, bias, spec)
    total = x + residual
    return Added(total, torch_ops.norm(total, shape, weight, bias, spec))


# What stands for a plain tensor while code is looked through. Other classes know PyTorch's operations, not ours.
STANDING_FOR = (*PLAIN, FakeTensor, FunctionalTensor)


def _seen_through(
    x: Tensor, residual: Tensor | None, shape: list[int], weight: Tensor | None, bias: Tensor | None, spec: NormSpec
) -> Any:
    """One operator, where a fused kernel may run; which one is seen when it runs."""
    dtypes = x.dtype, None if weight is None else weight.dtype, None if bias is None else bias.dtype
    classes = [type(t) for t in (x, residual, weight, bias) if t is not None]
    if (
        choice.unfusable(*dtypes, spec)
        or torch.compiler.is_exporting()
        or transformed()
        or any(c not in STANDING_FOR for c in classes)
    ):
        return _by_formula(x, residual, shape, weight, bias, spec)
    y, total, _ = torch.ops.normlab.norm(x, residual, weight, bias, shape, *operators.fields(spec))
    return y if residual is None else Added(total, y)
