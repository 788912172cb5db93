"""Tensors of any shape as the rows that the kernels take."""

from collections.abc import Callable, Sequence
from typing import overload

import torch
from torch import Tensor


def count(shape: Sequence[int]) -> int:
    """How many numbers."""
    n = 1
    for size in shape:
        n *= size
    return n


def extents(x: Tensor, shape: Sequence[int]) -> tuple[int, int]:
    """(rows, n): of how many numbers in the trailing axes `shape` a row consists, and how many rows there are."""
    n = shape[0] if len(shape) == 1 else count(shape)
    return x.numel() // n if n else count(x.shape[: x.dim() - len(shape)]), n


@overload
def dense(t: Tensor) -> Tensor: ...
@overload
def dense(t: None) -> None: ...
def dense(t: Tensor | None) -> Tensor | None:
    """Contiguous, and with the numbers in its memory that it stands for: the imaginary part of a conjugate has the
    opposite ones."""
    return t if t is None or (t.is_contiguous() and not t.is_neg()) else t.contiguous().resolve_neg()


def in_parts(x: Tensor) -> bool:
    """Whether x is a nested tensor that has no shape. (Those with the layout torch.jagged have one.)"""
    return x.is_nested and x.layout is torch.strided


def by_parts(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The nested tensor of what a function makes of each part of x."""
    return torch.nested.as_nested_tensor([function(part) for part in x.unbind()])
