"""Which kernel runs a call of rms_norm or layer_norm, and why: the questions that `fused.norm` asks, and answers."""

from typing import NamedTuple

import torch
from torch import Tensor

from normlab.kernels import choice, cpu, cpu_plan, cpu_threads
from normlab.kernels.cpu_build import BuildError
from normlab.layers import fused
from normlab.layers._rows import extents, in_parts
from normlab.layers.functional import check_tensor
from normlab.spec import NormSpec


class Explanation(NamedTuple):
    """Which kernel runs a call, and why: "numba", "triton" or "torch"."""

    kernel: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kernel}: {self.reason}"


def _check_types(
    x: Tensor, spec: NormSpec, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None
) -> None:
    if not isinstance(spec, NormSpec):
        raise TypeError(f"spec must be a NormSpec (that of a layer is layer.spec), got {type(spec).__name__}")
    check_tensor("x", x)
    for name, t in (("weight", weight), ("bias", bias), ("residual", residual)):
        if t is not None:
            check_tensor(name, t)
    if residual is not None and residual.dtype != x.dtype:
        raise TypeError(f"residual must have the dtype of x, {x.dtype}, got {residual.dtype}")


def _check_shapes(
    x: Tensor, spec: NormSpec, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None
) -> None:
    if residual is not None and residual.shape != x.shape:
        raise ValueError(f"residual must have the shape of x, {list(x.shape)}, got {list(residual.shape)}")
    if spec.kind not in ("rmsnorm", "layernorm"):
        return
    if not x.dim():
        raise ValueError("x must have an axis to normalize over, got one number, of shape []")
    if spec.kind == "rmsnorm" and bias is not None:
        raise ValueError("bias must be None for kind 'rmsnorm', which has none, got a tensor")
    shape = next((list(p.shape) for p in (weight, bias) if p is not None), None)
    for name, p in (("weight", weight), ("bias", bias)):
        if p is not None and (not shape or list(p.shape) != shape or list(x.shape[-len(shape) :]) != shape):
            raise ValueError(
                f"{name} must have the shape of the axes of x that are normalized, the last of {list(x.shape)}, "
                f"got {list(p.shape)}"
            )


def explain(
    x: Tensor,
    *,
    spec: NormSpec,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
) -> Explanation:
    """Which kernel would run this call of `rms_norm`, `layer_norm` or their add_ forms, made here and now, and why.

    "numba" and "triton" are fused kernels, "torch" are PyTorch's own operations. The answer is that of the place where
    it is asked: inside a function that torch.func transforms, torch.jit.trace writes down or torch.export exports, it
    is another than outside. Machine code for the CPU that is not there yet is compiled, since that may fail.

    It speaks of the forward pass. The backward pass runs on the same kernels, unless its gradients are to be
    differentiated again: then on PyTorch's operations.

    Args:
        x: the input, of the dtype and on the device in question. Without weight and bias its last axis is normalized.
        spec: what is computed; that of a layer is `layer.spec`.
        weight, bias, residual: as in the call.

    Returns:
        (kernel, reason); as text, "kernel: reason".

    Raises:
        TypeError: for what is no tensor, or of a dtype that the norms do not take (they take float16, bfloat16,
            float32 and float64), a residual of another dtype than x, or a spec that is no NormSpec.
        ValueError: for shapes that do not belong together, and a bias of an RMSNorm.

    >>> normlab.explain(torch.randn(4, 8), spec=normlab.NormSpec("rmsnorm"))
    Explanation(kernel='numba', reason='fused')
    """
    _check_types(x, spec, weight, bias, residual)
    if torch.compiler.is_exporting():
        return Explanation("torch", "torch.export writes a program down that must run without normlab")
    if residual is None and in_parts(x):
        parts = x.unbind()
        if not parts:
            return Explanation("torch", "a nested tensor without parts")
        return explain(parts[0], spec=spec, weight=weight, bias=bias)
    x, residual, weight, bias = fused.autocast(x, residual, weight, bias, spec)
    why = fused.transparent(x, residual, weight, bias)
    if not torch._C._is_tracing():
        # There, a comparison of sizes would become a constant of the traced program.
        _check_shapes(x, spec, weight, bias, residual)
    if why:
        return Explanation("torch", why)
    kernel, reason = choice.choose(x, residual, weight, bias, spec)
    if kernel is cpu and x.numel():
        kernel, reason = _compiled(x, residual, weight, bias, spec)
    return Explanation("torch" if kernel is None else kernel.NAME, reason)


def _compiled(
    x: Tensor, residual: Tensor | None, weight: Tensor | None, bias: Tensor | None, spec: NormSpec
) -> choice.Choice:
    """What runs a call that the CPU kernels take: they, if they can be compiled."""
    parameter = bias if weight is None else weight
    rows, n = extents(x, x.shape[-1:] if parameter is None else parameter.shape)
    names = ("" if t is None else cpu.NAMES[t.dtype] for t in (x, weight, bias))
    try:
        cpu_plan.forward_plan(*names, residual is not None, spec, rows, n, cpu_threads.threads())
    except BuildError as error:
        return choice.Choice(None, f"the kernel could not be compiled: {error}")
    return choice.Choice(cpu, "fused")
