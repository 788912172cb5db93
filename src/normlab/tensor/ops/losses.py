"""softmax and what is measured by it."""

from typing import TYPE_CHECKING, Any

import numpy as np

from normlab.tensor import core
from normlab.tensor.core import Array, Operation, apply
from normlab.tensor.ops._operands import as_tensor, held

if TYPE_CHECKING:
    from normlab.tensor.core import Tensor

UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
REDUCTIONS = ("mean", "sum", "none")


class Softmax(Operation):
    """exp(x), divided by its sum along an axis."""

    formula = "y = exp(x) / sum(exp(x))"
    derivative = "dx = y * (dy - sum(dy * y))"

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Array) -> Array:
        """Of x minus its largest, which changes nothing and cannot overflow."""
        # An array even of a single number, and of an axis without numbers too.
        y = np.asarray(x - np.maximum.reduce(x, axis=self.axis, keepdims=True, initial=-np.inf))
        np.exp(y, out=y)
        y /= np.add.reduce(y, axis=self.axis, keepdims=True)
        self.y = y
        return y

    def backward(self, dy: Array) -> Any:
        """From the result alone."""
        dx = dy * self.y
        dx -= self.y * np.add.reduce(dx, axis=self.axis, keepdims=True)
        return (dx,)


class LogSoftmax(Operation):
    """The logarithm of softmax."""

    formula = "y = x - log(sum(exp(x)))"
    derivative = "dx = dy - exp(y) * sum(dy)"

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Array) -> Array:
        """Of x minus its largest, which changes nothing and cannot overflow."""
        z = x - np.maximum.reduce(x, axis=self.axis, keepdims=True, initial=-np.inf)
        self.y = z - np.log(np.add.reduce(np.exp(z), axis=self.axis, keepdims=True))
        return self.y

    def backward(self, dy: Array) -> Any:
        """From the result alone."""
        return (dy - np.exp(self.y) * np.add.reduce(dy, axis=self.axis, keepdims=True),)


class CrossEntropy(Operation):
    """How unlikely the right classes are under softmax of the logits.

    Args:
        target: (rows,), the right class of each row.
        ignore_index: rows with this target do not count and get no gradient.
        smoothing: this share of the target is spread over all classes (Szegedy et al. 2015, arXiv:1512.00567).
        reduction: "mean" over the rows that count, "sum", or "none".
    """

    formula = "y = -sum(q * log p),  p = softmax(x),  q = (1 - s) * onehot(target) + s / classes"
    derivative = "dx = dy * (p - q), divided by the number of rows for the mean"

    def __init__(self, target: Array, ignore_index: int, smoothing: float, reduction: str) -> None:
        self.target, self.smoothing, self.reduction = target, smoothing, reduction
        self.ignore_index, self.counts = ignore_index, target != ignore_index

    def forward(self, x: Array) -> Array:
        """x: (rows, classes)."""
        self.n = np.count_nonzero(self.counts)
        self.all = self.n == len(x)
        # Of an ignored row any class will do.
        self.at = np.arange(len(x)), self.target if self.all else np.where(self.counts, self.target, 0)
        z = x - np.maximum.reduce(x, axis=1, keepdims=True)
        p = np.exp(z)
        sums = np.add.reduce(p, axis=1, keepdims=True)
        p /= sums
        self.p = p
        log_sums = np.log(sums[:, 0])
        losses = log_sums - z[self.at]
        if self.smoothing:
            losses = (1 - self.smoothing) * losses + self.smoothing * (log_sums - z.mean(1))
        if not self.all:
            losses = np.where(self.counts, losses, x.dtype.type(0))
        if self.reduction == "none":
            return losses
        total = np.add.reduce(losses)
        if self.reduction == "sum":
            return total
        return total / x.dtype.type(self.n) if self.n else np.asarray(np.nan, x.dtype)

    def backward(self, dy: Array) -> Any:
        """p - q, a row at a time."""
        dx = self.p.copy()
        if self.smoothing:
            dx -= self.smoothing / dx.shape[1]
        dx[self.at] -= 1 - self.smoothing
        scale = dy[:, None] if self.reduction == "none" else dy / max(self.n, 1) if self.reduction == "mean" else dy
        dx *= scale if self.all else np.where(self.counts[:, None], scale, dx.dtype.type(0))
        return (dx,)


class NLL(Operation):
    """Minus the log-probability of the right class."""

    formula = "y = -x[target]"
    derivative = "dx[target] = -dy, divided by the number of rows for the mean; 0 elsewhere"

    def __init__(self, target: Array, ignore_index: int, reduction: str) -> None:
        self.target, self.reduction = target, reduction
        self.ignore_index, self.counts = ignore_index, target != ignore_index

    def forward(self, x: Array) -> Array:
        """x: (rows, classes), log-probabilities."""
        self.shape = x.shape
        self.at = np.arange(len(x)), np.where(self.counts, self.target, 0)
        losses = np.where(self.counts, -x[self.at], x.dtype.type(0))
        if self.reduction == "none":
            return losses
        self.n = np.count_nonzero(self.counts) if self.reduction == "mean" else 1
        total = np.add.reduce(losses)
        return total / x.dtype.type(self.n) if self.n else np.asarray(np.nan, x.dtype)

    def backward(self, dy: Array) -> Any:
        """One number a row."""
        dx = np.zeros(self.shape, dy.dtype)
        scale = dy if self.reduction == "none" else dy / max(self.n, 1)
        dx[self.at] = np.where(self.counts, -scale, dx.dtype.type(0))
        return (dx,)


class MSE(Operation):
    """The mean squared difference."""

    formula = "y = mean((x - t)^2)"
    derivative = "dx = dy * 2 * (x - t) / n,  dt = -dx"

    def __init__(self, reduction: str) -> None:
        self.reduction = reduction

    def forward(self, x: Array, t: Array) -> Array:
        """Over all numbers."""
        self.difference = x - t
        squares = np.square(self.difference)
        if self.reduction == "none":
            return squares
        self.n = squares.size if self.reduction == "mean" else 1
        return np.add.reduce(squares, axis=None) / squares.dtype.type(self.n) if self.n else squares.dtype.type(np.nan)

    def backward(self, dy: Array) -> Any:
        """Opposite for the two."""
        dx = (2 if self.reduction == "none" else 2 / max(self.n, 1)) * dy * self.difference
        return dx, -dx if self.needs[1] else None


def softmax(x: Any, axis: int = -1) -> "Tensor":
    """exp(x) / sum(exp(x)) along an axis."""
    return apply(Softmax(axis), as_tensor(x))


def log_softmax(x: Any, axis: int = -1) -> "Tensor":
    """log(softmax(x)) along an axis."""
    return apply(LogSoftmax(axis), as_tensor(x))


def _rows_of_classes(input: "Tensor", target: Any, ignore_index: int, reduction: str) -> "tuple[Tensor, Array]":
    """The input as (rows, classes) and the target as (rows,), from torch's shapes: classes stand on axis 1."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    target = target._data if isinstance(target, core.Tensor) else np.asarray(target)
    target = held(target, target.dtype.newbyteorder("="))
    if target.dtype.kind not in "iu":
        raise TypeError(f"target must hold the numbers of classes, got {target.dtype}")
    input = as_tensor(input)
    axis = 1 if input.ndim > 1 else 0
    wanted = input.shape[:axis] + input.shape[axis + 1 :]
    if input.ndim == 0 or target.shape != wanted:
        raise ValueError(
            f"target must have shape {wanted}, that of input, {input.shape}, without its classes on axis {axis}, "
            f"got {target.shape}"
        )
    classes = input.shape[axis]
    counts = target != ignore_index
    given = target if counts.all() else target[counts]
    # As unsigned numbers the negative ones are the largest: one comparison for both ends.
    if given.size and np.maximum.reduce(given.view(UNSIGNED[given.itemsize]), axis=None) >= classes:
        raise ValueError(f"target must be from 0 to {classes - 1}, got {given.min()} to {given.max()}")
    if input.ndim != 2:
        order = [*range(axis), *range(axis + 1, input.ndim), axis]
        input = input.permute(order).reshape(-1, classes)
    return input, target.reshape(-1)


def _shaped(losses: "Tensor", target: Any, reduction: str) -> "Tensor":
    return losses if reduction != "none" or losses.shape == np.shape(target) else losses.reshape(np.shape(target))


def cross_entropy(
    input: "Tensor",
    target: Any,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> "Tensor":
    """-log(softmax(input)[target]), as torch.nn.functional.cross_entropy.

    Args:
        input: logits, shape (classes,), (N, classes) or (N, classes, *).
        target: the right classes, shape (), (N,) or (N, *).
        ignore_index: a target that does not count.
        label_smoothing: share of the target that is spread over all classes, from 0 to 1.
        reduction: "mean" over the targets that count, "sum" or "none".

    Raises:
        TypeError, ValueError: one sentence on the argument that does not fit.
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be from 0 to 1, got {label_smoothing}")
    rows, wanted = _rows_of_classes(input, target, ignore_index, reduction)
    return _shaped(apply(CrossEntropy(wanted, ignore_index, label_smoothing, reduction), rows), target, reduction)


def nll_loss(input: "Tensor", target: Any, *, ignore_index: int = -100, reduction: str = "mean") -> "Tensor":
    """-input[target]; input holds log-probabilities, in the shapes of `cross_entropy`."""
    rows, wanted = _rows_of_classes(input, target, ignore_index, reduction)
    return _shaped(apply(NLL(wanted, ignore_index, reduction), rows), target, reduction)


def mse_loss(input: "Tensor", target: Any, *, reduction: str = "mean") -> "Tensor":
    """mean((input - target)^2).

    Raises:
        ValueError: for shapes that differ (they would be broadcast, which is hardly ever meant).
    """
    target = as_tensor(target, input)
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    if target.shape != input.shape:
        raise ValueError(f"target must have the shape of input, {input.shape}, got {target.shape}")
    return apply(MSE(reduction), input, target)
