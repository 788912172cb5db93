"""Tensors of any shape as the rows that the kernels take."""

from collections.abc import Sequence

from torch import Tensor


def count(shape: Sequence[int]) -> int:
    """How many numbers."""
    n = 1
    for size in shape:
        n *= size
    return n


def rows_of(x: Tensor, shape: Sequence[int]) -> Tensor:
    """x as contiguous (rows, n), n numbers in the trailing axes `shape`."""
    if x.dim() != 2 or len(shape) != 1:
        x = x.reshape(count(x.shape[: x.dim() - len(shape)]), count(shape))
    return _plain(x if x.is_contiguous() else x.contiguous())


def _plain(x: Tensor) -> Tensor:
    """With the numbers in its memory that it stands for: the imaginary part of a conjugate has the opposite ones."""
    return x.resolve_neg() if x.is_neg() else x


def flat(p: Tensor | None) -> Tensor | None:
    """A parameter as a contiguous vector."""
    if p is None:
        return None
    return _plain(p if p.dim() == 1 and p.is_contiguous() else p.contiguous().view(-1))
