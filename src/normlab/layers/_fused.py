"""Forward and backward of a norm on tensors of any shape, by a kernel that takes rows.

A kernel takes addresses, so nothing reaches one that was not looked at: not the arguments of a call, and not what comes
out of autograd's keeping either, which hooks and `module.to` may have changed since.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from normlab.kernels import plain
from normlab.kernels.choice import Passes
from normlab.kernels.fused import Backward, Forward
from normlab.layers._rows import dense, extents
from normlab.spec import NormSpec


class Added(NamedTuple):
    """What a norm with a residual gives.

    Attributes:
        total: input + residual.
        normed: the norm of total.
    """

    total: Tensor
    normed: Tensor


def forward(
    kernel: Passes,
    x: Tensor,
    residual: Tensor | None,
    shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    spec: NormSpec,
) -> Forward:
    """See `normlab.kernels.fused`."""
    rows, n = extents(x, shape)
    return kernel.forward(dense(x), dense(residual), dense(weight), dense(bias), rows, n, spec)


def backward(
    kernel: Passes,
    dy: Tensor | None,
    dtotal: Tensor | None,
    total: Tensor,
    shape: Sequence[int],
    weight: Tensor | None,
    bias_dtype: torch.dtype | None,
    stats: Tensor,
    spec: NormSpec,
) -> Backward:
    """The gradients. dy or dtotal may be missing.

    Raises:
        RuntimeError: for tensors that are no longer those of the forward pass.
    """
    if dy is None:
        return Backward(dtotal, None, None)  # pyright: ignore[reportArgumentType]
    _check_kept("input", total, dy.shape, dy.dtype)
    if weight is not None:
        _check_kept("weight", weight, shape, weight.dtype)
    if dtotal is not None:
        _check_kept("input", total, dtotal.shape, dtotal.dtype)
    rows, n = extents(total, shape)
    if kernel is not plain and (not ordinary(dy, dtotal, total, weight, stats) or not are_stats(stats, rows, spec)):
        # These take the statistics again.
        kernel = plain
    if kernel is not plain:
        dy, dtotal, total, weight, stats = dense(dy), dense(dtotal), dense(total), dense(weight), dense(stats)
    found = kernel.backward(dy, dtotal, total, weight, stats, bias_dtype, rows, n, spec)
    if len(shape) == 1 or found.dbias is None:
        return found
    return found._replace(dbias=found.dbias.view(shape))


def are_stats(kept: Tensor, rows: int, spec: NormSpec) -> bool:
    """Whether these are statistics as a kernel writes them: one or two float64 a row."""
    return kept.dtype is torch.float64 and kept.shape == (rows, 1 + (spec.kind == "layernorm"))


def _check_kept(name: str, kept: Tensor, shape: Sequence[int], dtype: torch.dtype) -> None:
    """Raise RuntimeError where a tensor has changed between the passes."""
    if kept.dtype != dtype or list(kept.shape) != list(shape):
        before, now = (f"{d} of shape {list(s)}" for d, s in ((dtype, shape), (kept.dtype, kept.shape)))
        raise RuntimeError(f"{name} was {before} in the forward pass and is {now} in the backward pass")


PLAIN = (Tensor, torch.nn.Parameter)


def extraordinary(*tensors: Tensor | None) -> str | None:
    """Why a kernel may not read the memory of all, or None: they must be on one device, of no subclass, which has its
    own idea of what an operation does, and none of PyTorch's tensors without memory of their own (batches of vmap,
    zeros that are not written down).

    Raises:
        RuntimeError: for a tensor whose storage was given back (`resize_(0)`), at which PyTorch's own operations on
            the CPU end the process.
    """
    device = None
    for t in tensors:
        if t is None:
            continue
        if type(t) not in PLAIN:
            return f"{type(t).__name__} is a subclass of torch.Tensor, which may change what an operation does"
        if t.layout is not torch.strided:
            return f"the layout of a tensor is {str(t.layout).removeprefix('torch.')}"
        if not torch._C._has_storage(t) or t._is_zerotensor():
            return "a tensor has no memory of its own"
        device = t.device if device is None else device
        if t.device != device:
            return f"the tensors are on different devices, {device} and {t.device}"
        if not t.data_ptr() and t.numel() and not t.is_meta:
            raise RuntimeError(f"a tensor of shape {list(t.shape)} has no memory: its storage was given back")
    return None


def ordinary(*tensors: Tensor | None) -> bool:
    """Whether a kernel may read the memory of all: see `extraordinary`."""
    return extraordinary(*tensors) is None


def in_order(*tensors: Tensor | None) -> bool:
    """Whether all are `ordinary`, hold numbers, are on the CPU, and lie there as a kernel takes them (`dense`): all in
    one look."""
    for t in tensors:
        if t is not None and not (
            type(t) in PLAIN
            and t.is_cpu
            and torch._C._has_storage(t)
            and t.is_contiguous()
            and not t.is_neg()
            and not t._is_zerotensor()
            and t.data_ptr()
        ):
            return False
    return True
