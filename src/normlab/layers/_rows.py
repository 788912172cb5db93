"""Tensors of any shape as the rows that the kernels take."""

from collections.abc import Sequence

from torch import Tensor


def count(shape: Sequence[int]) -> int:
    """How many numbers."""
    n = 1
    for size in shape:
        n *= size
    return n


def rows_of(x: Tensor, n: int) -> Tensor:
    """x as contiguous (rows, n). Without elements: (0, n), as there is nothing to compute."""
    if x.dim() != 2 or x.shape[1] != n:
        x = x.reshape(x.numel() // max(n, 1), n)
    return x if x.is_contiguous() else x.contiguous()


def flat(p: Tensor | None) -> Tensor | None:
    """A parameter as a contiguous vector."""
    if p is None or (p.dim() == 1 and p.is_contiguous()):
        return p
    return p.contiguous().view(-1)
