"""Some of the numbers: indexing, masks, the embedding, dropout."""

from typing import TYPE_CHECKING, Any

import numpy as np

from normlab.tensor import core
from normlab.tensor.core import Array, Operation, apply
from normlab.tensor.ops._operands import as_tensor, held, pair
from normlab.tensor.random import generator

if TYPE_CHECKING:
    from normlab.tensor.core import Tensor


def add_at_rows(out: Array, rows: Array, values: Array) -> None:
    """out[rows[i]] += values[i], for all i; rows may repeat. Sorted, so that equal ones are added in one sweep."""
    if not rows.size:
        return
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    out[ordered[starts]] += np.add.reduceat(values[order], starts, axis=0)


class GetItem(Operation):
    """x[index], with any index of NumPy's."""

    view = True
    formula = "y = x[index]"
    derivative = "dx = dy at the index, added up where it repeats; 0 elsewhere"

    def __init__(self, index: Any) -> None:
        self.index = index
        parts = index if isinstance(index, tuple) else (index,)
        self.simple = all(p is None or p is Ellipsis or isinstance(p, int | slice) for p in parts)

    def forward(self, x: Array) -> Array:
        """A view for slices, a copy for arrays of indices."""
        self.shape = x.shape
        try:
            return x[self.index]
        except IndexError as error:
            raise IndexError(f"a tensor of shape {x.shape} has no element [{self.index!r}]: {error}") from error

    def backward(self, dy: Array) -> Any:
        """Into an array of zeros."""
        dx = np.zeros(self.shape, dy.dtype)
        if self.simple:
            dx[self.index] = dy
        else:
            np.add.at(dx, self.index, dy)
        return (dx,)


class Embedding(Operation):
    """Rows of a table."""

    formula = "y_i = weight[id_i]"
    derivative = "dweight[k] = the sum of dy_i over all i with id_i = k"

    def __init__(self, ids: Array) -> None:
        self.ids = ids

    def forward(self, weight: Array) -> Array:
        """(*ids, dim)."""
        self.shape = weight.shape
        return weight[self.ids]

    def backward(self, dy: Array) -> Any:
        """Every use of a row counts."""
        dweight = np.zeros(self.shape, dy.dtype)
        add_at_rows(dweight, self.ids.reshape(-1), dy.reshape(-1, self.shape[1]))
        return (dweight,)


class Where(Operation):
    """a where the condition holds, else b."""

    formula = "y = a where c, else b"
    derivative = "da = dy where c, else 0;  db = 0 where c, else dy"

    def __init__(self, condition: Array) -> None:
        self.condition = condition

    def forward(self, a: Array, b: Array) -> Array:
        """Element by element."""
        return np.where(self.condition, a, b)

    def backward(self, dy: Array) -> Any:
        """To the one that was taken."""
        zero = dy.dtype.type(0)
        return np.where(self.condition, dy, zero), np.where(self.condition, zero, dy)


class MaskedFill(Operation):
    """A number in place of those under a mask."""

    formula = "y = value where m, else x"
    derivative = "dx = 0 where m, else dy"

    def __init__(self, mask: Array, value: float) -> None:
        self.mask, self.value = mask, value

    def forward(self, x: Array) -> Array:
        """In x's dtype."""
        return np.where(self.mask, x.dtype.type(self.value), x)

    def backward(self, dy: Array) -> Any:
        """To those that were left."""
        return (np.where(self.mask, dy.dtype.type(0), dy),)


class Dropout(Operation):
    """Numbers are dropped with probability p, the others scaled up so that the mean stays (Srivastava et al. 2014)."""

    formula = "y = x * k / (1 - p),  k = 0 with probability p, else 1"
    derivative = "dx = dy * k / (1 - p)"

    def __init__(self, p: float) -> None:
        self.p = p

    def forward(self, x: Array) -> Array:
        """By a mask of this call's own."""
        keep = generator().random(x.shape, dtype=x.dtype) >= self.p
        self.mask = keep * x.dtype.type(0 if self.p == 1 else 1 / (1 - self.p))
        return x * self.mask

    def backward(self, dy: Array) -> Any:
        """By the same mask."""
        return (dy * self.mask,)


class Compare(Operation):
    """A comparison, element by element."""

    formula = "y = whether a < b (or another comparison of NumPy's)"
    derivative = "none: a small step changes nothing"

    def __init__(self, function: Any) -> None:
        self.function = function

    def forward(self, a: Array, b: Array) -> Array:
        """Booleans."""
        return self.function(a, b)

    def backward(self, dy: Array) -> Any:
        """Never asked for."""
        return None, None


def _array(x: Any) -> Array:
    return held(x._data if isinstance(x, core.Tensor) else x)


def _part(index: Any) -> Any:
    """A part of an index, as the step may keep it."""
    if isinstance(index, list):
        return held(index, None if index else np.intp)
    return _array(index) if isinstance(index, core.Tensor | np.ndarray) else index


def _mask(name: str, x: Any) -> Array:
    mask = _array(x)
    if mask.dtype != np.bool_:
        raise TypeError(f"{name} must be booleans, got {mask.dtype}")
    return mask


def compare(function: Any, a: Any, b: Any) -> "Tensor":
    """A comparison of NumPy's, element by element: booleans, without a gradient."""
    a, b = pair(a, b)
    # Without their history: booleans have no gradient.
    return apply(Compare(function), a.detach(), b.detach())


def getitem(x: "Tensor", index: Any) -> "Tensor":
    """x[index]; tensors of integers or booleans may stand in the index."""
    return apply(GetItem(tuple(map(_part, index)) if isinstance(index, tuple) else _part(index)), x)


def embedding(weight: "Tensor", ids: Any) -> "Tensor":
    """weight[ids].

    Args:
        weight: shape (entries, dim).
        ids: integers of any shape, from 0 to entries - 1.

    Raises:
        TypeError: for ids that are no integers.
        IndexError: for an id outside of the table.
    """
    ids = _array(ids)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"ids must be integers, got {ids.dtype}")
    entries = weight.shape[0]
    if ids.size and (ids.min() < 0 or ids.max() >= entries):
        raise IndexError(f"ids must be from 0 to {entries - 1}, got {ids.min()} to {ids.max()}")
    return apply(Embedding(ids), weight)


def where(condition: Any, a: Any, b: Any) -> "Tensor":
    """a where the condition holds, else b."""
    return apply(Where(_mask("condition", condition)), *pair(a, b))


def masked_fill(x: Any, mask: Any, value: float) -> "Tensor":
    """value where the mask holds, else x."""
    return apply(MaskedFill(_mask("mask", mask), value), as_tensor(x))


def dropout(x: "Tensor", p: float = 0.5, training: bool = True) -> "Tensor":
    """Drop numbers with probability p, in training.

    Raises:
        ValueError: for a p outside of [0, 1].
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p must be from 0 to 1, got {p}")
    x = as_tensor(x)
    return apply(Dropout(p), x) if training and p > 0 else x
