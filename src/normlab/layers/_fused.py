"""Forward and backward of a norm on tensors of any shape, by a kernel that takes rows."""

from typing import NamedTuple

import torch
from torch import Tensor

from normlab.kernels.choice import Passes
from normlab.kernels.fused import Backward
from normlab.layers._rows import flat, rows_of
from normlab.spec import NormSpec


class Added(NamedTuple):
    """What a norm with a residual gives.

    Attributes:
        total: input + residual.
        normed: the norm of total.
    """

    total: Tensor
    normed: Tensor


def _shaped(result: Tensor, shape: torch.Size) -> Tensor:
    """A new tensor of (rows, n) in another shape, and not as a view: what is returned may be written to."""
    return result if result.shape == shape else result.resize_(shape)


def forward(
    kernel: Passes,
    x: Tensor,
    residual: Tensor | None,
    shape: list[int],
    weight: Tensor | None,
    bias: Tensor | None,
    spec: NormSpec,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """(y, total, stats)."""
    added = None if residual is None else rows_of(residual, shape)
    y, total, stats = kernel.forward(rows_of(x, shape), added, flat(weight), flat(bias), spec)
    return _shaped(y, x.shape), None if total is None else _shaped(total, x.shape), stats


def backward(
    kernel: Passes,
    dy: Tensor | None,
    dtotal: Tensor | None,
    total: Tensor,
    shape: list[int],
    weight: Tensor | None,
    bias: Tensor | None,
    stats: Tensor,
    spec: NormSpec,
) -> Backward:
    """The gradients. dy or dtotal may be missing."""
    if dy is None:
        return Backward(dtotal, None, None)  # pyright: ignore[reportArgumentType]
    dx, dweight, dbias = kernel.backward(
        rows_of(dy, shape),
        None if dtotal is None else rows_of(dtotal, shape),
        rows_of(total, shape),
        flat(weight),
        stats,
        spec,
        None if bias is None else bias.dtype,
    )
    if len(shape) > 1:
        dweight, dbias = (None if g is None else g.view(shape) for g in (dweight, dbias))
    return Backward(dx if dx.shape == total.shape else dx.view(total.shape), dweight, dbias)


PLAIN = (Tensor, torch.nn.Parameter)


def ordinary(*tensors: Tensor | None) -> bool:
    """Whether a kernel may read the memory of all: no subclass, which has its own idea of what an operation does, and
    none of PyTorch's tensors without memory of their own (batches of vmap, zeros that are not written down)."""
    for t in tensors:
        if t is None:
            continue
        if type(t) not in PLAIN or not torch._C._has_storage(t) or t.layout is not torch.strided or t._is_zerotensor():
            return False
    return True
