"""+ - * / ** @ and the linear layer.

Operands are broadcast as in NumPy. A gradient is given in the broadcast shape; the engine adds up what was repeated.
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from normlab.tensor.broadcasting import sum_leading, unbroadcast
from normlab.tensor.core import Array, Operation, apply
from normlab.tensor.ops._operands import as_tensor, pair

if TYPE_CHECKING:
    from normlab.tensor.core import Tensor


class Add(Operation):
    """a + b."""

    formula = "y = a + b"
    derivative = "da = dy,  db = dy"

    def forward(self, a: Array, b: Array) -> Array:
        """The sum."""
        return a + b

    def backward(self, dy: Array) -> Any:
        """The gradient goes to both, unchanged."""
        return dy, dy


class Sub(Operation):
    """a - b."""

    formula = "y = a - b"
    derivative = "da = dy,  db = -dy"

    def forward(self, a: Array, b: Array) -> Array:
        """The difference."""
        return a - b

    def backward(self, dy: Array) -> Any:
        """With the sign that each has."""
        return dy, -dy if self.needs[1] else None


class Mul(Operation):
    """a * b, element by element."""

    formula = "y = a * b"
    derivative = "da = dy * b,  db = dy * a"

    def forward(self, a: Array, b: Array) -> Array:
        """The product."""
        self.a, self.b = a, b
        return a * b

    def backward(self, dy: Array) -> Any:
        """Each times the other."""
        return dy * self.b if self.needs[0] else None, dy * self.a if self.needs[1] else None


class Div(Operation):
    """a / b."""

    formula = "y = a / b"
    derivative = "da = dy / b,  db = -dy * y / b"

    def forward(self, a: Array, b: Array) -> Array:
        """The quotient."""
        self.b, self.y = b, a / b
        return self.y

    def backward(self, dy: Array) -> Any:
        """By the quotient rule."""
        da = dy / self.b
        return da, -da * self.y if self.needs[1] else None


class Neg(Operation):
    """-a."""

    formula = "y = -a"
    derivative = "da = -dy"

    def forward(self, a: Array) -> Array:
        """The opposite."""
        return -a

    def backward(self, dy: Array) -> Any:
        """The sign once more."""
        return (-dy,)


class Pow(Operation):
    """a ** b."""

    formula = "y = a ** b"
    derivative = "da = dy * b * a**(b-1),  db = dy * y * log(a)"

    def forward(self, a: Array, b: Array) -> Array:
        """The power."""
        self.a, self.b, self.y = a, b, np.square(a) if b.ndim == 0 and b == 2 else a**b
        return self.y

    def backward(self, dy: Array) -> Any:
        """0 for a ** 0, and by the exponent of 0 ** b, as in torch."""
        a, b = self.a, self.b
        da = db = None
        if self.needs[0]:
            da = dy * (2 * a if b.ndim == 0 and b == 2 else np.where(b == 0, 0, b * a ** np.where(b == 0, 1, b - 1)))
        if self.needs[1]:
            db = dy * self.y * np.log(np.where((a == 0) & (b >= 0), 1, a))
        return da, db


def _matrix(x: Array) -> Array:
    """All axes but the last as one. (-1 would have no meaning for an array without numbers.)"""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


class MatMul(Operation):
    """a @ b: matrices, stacks of them that are broadcast against each other, or vectors."""

    formula = "y = a @ b"
    derivative = "da = dy @ b^T,  db = a^T @ dy"

    def forward(self, a: Array, b: Array) -> Array:
        """The product of matrices."""
        self.a, self.b = a, b
        return a @ b

    def backward(self, dy: Array) -> Any:
        """A vector counts as the matrix of one row (a) or one column (b) that NumPy makes of it."""
        a, b = self.a, self.b
        if a.ndim == 1:
            dy = dy[..., None, :] if b.ndim > 1 else dy[..., None]
        if b.ndim == 1:
            dy = dy[..., None]
        a2, b2 = a[None, :] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b
        da = db = None
        if self.needs[0]:
            da = unbroadcast(dy @ b2.swapaxes(-1, -2), a2.shape).reshape(a.shape)
        if self.needs[1]:
            if b2.ndim == 2 and a2.ndim > 2:
                # One matrix for a whole stack: one product, instead of a stack of them to add up.
                db = _matrix(a2).T @ _matrix(dy)
            else:
                db = unbroadcast(a2.swapaxes(-1, -2) @ dy, b2.shape)
            db = db.reshape(b.shape)
        return da, db


class Linear(Operation):
    """The linear layer: x @ weight^T + bias, with weight of shape (out, in) as in torch."""

    formula = "y = x @ W^T + b"
    derivative = "dx = dy @ W,  dW = dy^T @ x,  db = sum of dy over rows"

    def forward(self, x: Array, weight: Array, *bias: Array) -> Array:
        """All rows in one product."""
        self.x, self.weight, self.shape = _matrix(x), weight, x.shape
        y = self.x @ weight.T
        if bias:
            y += bias[0]
        return y.reshape(*x.shape[:-1], weight.shape[0])

    def backward(self, dy: Array) -> Any:
        """As the derivative says, over the rows of all axes but the last."""
        dy = _matrix(dy)
        dx = (dy @ self.weight).reshape(self.shape) if self.needs[0] else None
        dweight = dy.T @ self.x if self.needs[1] else None
        return dx, dweight, *(sum_leading(dy, 1) for _ in self.needs[2:])


def add(a: Any, b: Any) -> "Tensor":
    """a + b."""
    return apply(Add(), *pair(a, b))


def sub(a: Any, b: Any) -> "Tensor":
    """a - b."""
    return apply(Sub(), *pair(a, b))


def mul(a: Any, b: Any) -> "Tensor":
    """a * b."""
    return apply(Mul(), *pair(a, b))


def div(a: Any, b: Any) -> "Tensor":
    """a / b."""
    return apply(Div(), *pair(a, b))


def neg(a: Any) -> "Tensor":
    """-a."""
    return apply(Neg(), as_tensor(a))


def power(a: Any, b: Any) -> "Tensor":
    """a ** b."""
    return apply(Pow(), *pair(a, b))


def matmul(a: Any, b: Any) -> "Tensor":
    """a @ b."""
    return apply(MatMul(), *pair(a, b))


def linear(x: "Tensor", weight: "Tensor", bias: "Tensor | None" = None) -> "Tensor":
    """x @ weight^T + bias.

    Args:
        x: shape (*, in).
        weight: shape (out, in).
        bias: shape (out,).
    """
    x = as_tensor(x, weight)
    return apply(Linear(), x, weight) if bias is None else apply(Linear(), x, weight, bias)
