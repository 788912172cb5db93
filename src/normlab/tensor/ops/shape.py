"""The same numbers in another shape or order, and several tensors as one."""

from collections.abc import Iterable, Sequence
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from normlab.tensor.core import Array, Operation, apply
from normlab.tensor.ops._operands import as_tensor

if TYPE_CHECKING:
    from normlab.tensor.core import Tensor


class Reshape(Operation):
    """Another shape."""

    view = True
    formula = "y = x in another shape"
    derivative = "dx = dy in the old shape"

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)

    def forward(self, x: Array) -> Array:
        """A view where that is possible."""
        self.before = x.shape
        return x.reshape(self.shape)

    def backward(self, dy: Array) -> Any:
        """Back."""
        return (dy.reshape(self.before),)


class Permute(Operation):
    """The axes in another order."""

    view = True
    formula = "y = x with its axes in another order"
    derivative = "dx = dy with its axes in the old order"

    def __init__(self, axes: Sequence[int]) -> None:
        self.axes = tuple(axes)

    def forward(self, x: Array) -> Array:
        """A view."""
        return x.transpose(self.axes)

    def backward(self, dy: Array) -> Any:
        """By the inverse permutation."""
        return (dy.transpose(np.argsort([a % dy.ndim for a in self.axes])),)


class BroadcastTo(Operation):
    """Repeated along axes of length 1, or along new ones."""

    view = True
    formula = "y = x, repeated"
    derivative = "dx = the sum of dy over what was repeated"

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)

    def forward(self, x: Array) -> Array:
        """A view."""
        return np.broadcast_to(x, self.shape)

    def backward(self, dy: Array) -> Any:
        """The engine adds it up."""
        return (dy,)


class Cat(Operation):
    """One after the other along an axis."""

    formula = "y = (x1, x2, ...) along an axis"
    derivative = "each gets its part of dy"

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, *xs: Array) -> Array:
        """All in one array."""
        y = np.concatenate(xs, axis=self.axis)
        self.ends = np.cumsum([x.shape[self.axis] for x in xs])[:-1]
        return y

    def backward(self, dy: Array) -> Any:
        """Cut at the same places."""
        return tuple(np.split(dy, self.ends, axis=self.axis))


class Stack(Operation):
    """Beside each other, along a new axis."""

    formula = "y = (x1, x2, ...) along a new axis"
    derivative = "each gets its slice of dy"

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, *xs: Array) -> Array:
        """All in one array."""
        return np.stack(xs, axis=self.axis)

    def backward(self, dy: Array) -> Any:
        """Slice by slice."""
        return tuple(np.moveaxis(dy, self.axis, 0))


def _numbers(given: tuple[Any, ...]) -> tuple[int, ...]:
    """Numbers, or one sequence of them."""
    return tuple(map(index, given[0] if len(given) == 1 and isinstance(given[0], Iterable) else given))


def reshape(x: Any, *shape: Any) -> "Tensor":
    """Another shape: sizes, or one tuple of them; -1 stands for what is left."""
    return apply(Reshape(_numbers(shape)), as_tensor(x))


def permute(x: Any, *axes: Any) -> "Tensor":
    """The axes in this order: numbers, or one tuple of them."""
    return apply(Permute(_numbers(axes)), as_tensor(x))


def transpose(x: Any, a: int, b: int) -> "Tensor":
    """Two axes exchanged, as torch.transpose."""
    x = as_tensor(x)
    for axis in (a, b):
        if not -x.ndim <= axis < x.ndim:
            raise ValueError(f"axes must be from {-x.ndim} to {x.ndim - 1} for shape {x.shape}, got {axis}")
    axes = list(range(x.ndim))
    axes[a], axes[b] = axes[b], axes[a]
    return apply(Permute(axes), x)


def broadcast_to(x: Any, shape: Sequence[int]) -> "Tensor":
    """Repeated to a shape."""
    return apply(BroadcastTo(shape), as_tensor(x))


def cat(tensors: "Sequence[Tensor]", axis: int = 0) -> "Tensor":
    """Tensors one after the other along an axis."""
    return apply(Cat(axis), *map(as_tensor, tensors))


def stack(tensors: "Sequence[Tensor]", axis: int = 0) -> "Tensor":
    """Tensors of one shape along a new axis."""
    return apply(Stack(axis), *map(as_tensor, tensors))
