"""Forward and backward of a norm on tensors of any shape: by a fused kernel, or by the formula."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from normlab.kernels import Kernel, torch_ops
from normlab.kernels.fused import Backward
from normlab.layers._rows import count, flat, rows_of
from normlab.spec import NormSpec


class Added(NamedTuple):
    """What a norm with a residual gives.

    Attributes:
        total: input + residual.
        normed: the norm of total.
    """

    total: Tensor
    normed: Tensor


def formula(
    x: Tensor, residual: Tensor | None, shape: list[int], weight: Tensor | None, bias: Tensor | None, spec: NormSpec
) -> Added:
    """By PyTorch's own operations, which everything can differentiate and transform."""
    total = x if residual is None else x + residual
    return Added(total, torch_ops.norm(total, shape, weight, bias, spec))


def forward(
    kernel: Kernel,
    x: Tensor,
    residual: Tensor | None,
    shape: list[int],
    weight: Tensor | None,
    bias: Tensor | None,
    spec: NormSpec,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """(y, total, stats) by a fused kernel."""
    n = count(shape)
    added = None if residual is None else rows_of(residual, n)
    y, total, stats = kernel.forward(rows_of(x, n), added, flat(weight), flat(bias), spec)
    if y.shape != x.shape:
        y, total = y.view(x.shape), None if total is None else total.view(x.shape)
    return y, total, stats


def backward(
    kernel: Kernel,
    dy: Tensor | None,
    dtotal: Tensor | None,
    total: Tensor,
    shape: list[int],
    weight: Tensor | None,
    bias: Tensor | None,
    stats: Tensor,
    spec: NormSpec,
) -> Backward:
    """The gradients by a fused kernel. dy or dtotal may be missing."""
    if dy is None:
        return Backward(dtotal, None, None)  # pyright: ignore[reportArgumentType]
    n = count(shape)
    dx, dweight, dbias = kernel.backward(
        rows_of(dy, n),
        None if dtotal is None else rows_of(dtotal, n),
        rows_of(total, n),
        flat(weight),
        stats,
        spec,
        None if bias is None else bias.dtype,
    )
    if len(shape) > 1:
        dweight, dbias = (None if g is None else g.view(shape) for g in (dweight, dbias))
    return Backward(dx if dx.shape == total.shape else dx.view(total.shape), dweight, dbias)


def gradients_by_formula(
    dy: Tensor | None,
    dtotal: Tensor | None,
    total: Tensor,
    shape: list[int],
    weight: Tensor | None,
    bias: Tensor | None,
    spec: NormSpec,
    *,
    create_graph: bool,
) -> Backward:
    """The gradients by the formula; with `create_graph` they can be differentiated again."""
    given: dict[str, Any] = {"x": total, "weight": weight, "bias": bias}
    found: dict[str, Any] = {}
    with torch.enable_grad():
        if not create_graph:
            given = {k: None if t is None else t.detach().requires_grad_() for k, t in given.items()}
        wanted = {k: t for k, t in given.items() if t is not None and t.requires_grad}
        if dy is not None and wanted:
            y = torch_ops.norm(given["x"], shape, given["weight"], given["bias"], spec)
            gradients = torch.autograd.grad(y, list(wanted.values()), dy, create_graph=create_graph, allow_unused=True)
            found = dict(zip(wanted, gradients, strict=True))
    dx = found.get("x")
    if dtotal is not None:
        dx = dtotal if dx is None else dx + dtotal
    return Backward(dx, found.get("weight"), found.get("bias"))  # pyright: ignore[reportArgumentType]
