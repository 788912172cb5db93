"""Functions of single numbers: exp, log, sqrt and the activations."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from normlab.tensor.core import Array, Operation, apply
from normlab.tensor.ops._operands import as_tensor, pair

if TYPE_CHECKING:
    from normlab.tensor.core import Tensor


# A formula with several terms goes over so many numbers at a time: what it makes on the way stays in the caches.
PIECE = 1 << 14


def _in_pieces(formula: Callable[..., Array], *arrays: Array) -> Array:
    """formula(*arrays), for arrays of one shape and dtype; as if it had been computed at once."""
    if arrays[0].size <= PIECE:
        return formula(*arrays)
    result = np.empty(arrays[0].shape, arrays[0].dtype)
    flat, out = [a.reshape(-1) for a in arrays], result.reshape(-1)
    for start in range(0, out.size, PIECE):
        here = slice(start, start + PIECE)
        out[here] = formula(*[a[here] for a in flat])
    return result


class Exp(Operation):
    """e ** x."""

    formula = "y = exp(x)"
    derivative = "dx = dy * y"

    def forward(self, x: Array) -> Array:
        """The exponential."""
        self.y = np.exp(x)
        return self.y

    def backward(self, dy: Array) -> Any:
        """It is its own derivative."""
        return (dy * self.y,)


class Log(Operation):
    """The natural logarithm."""

    formula = "y = log(x)"
    derivative = "dx = dy / x"

    def forward(self, x: Array) -> Array:
        """The logarithm."""
        self.x = x
        return np.log(x)

    def backward(self, dy: Array) -> Any:
        """By 1 / x."""
        return (dy / self.x,)


class Sqrt(Operation):
    """The square root."""

    formula = "y = sqrt(x)"
    derivative = "dx = dy / (2 * y)"

    def forward(self, x: Array) -> Array:
        """The root."""
        self.y = np.sqrt(x)
        return self.y

    def backward(self, dy: Array) -> Any:
        """By half the root's inverse."""
        return (dy / (2 * self.y),)


class Abs(Operation):
    """|x|."""

    formula = "y = |x|"
    derivative = "dx = dy * sign(x)"

    def forward(self, x: Array) -> Array:
        """The size."""
        self.x = x
        return np.abs(x)

    def backward(self, dy: Array) -> Any:
        """0 at 0, as in torch."""
        return (dy * np.sign(self.x),)


class Tanh(Operation):
    """The hyperbolic tangent."""

    formula = "y = tanh(x)"
    derivative = "dx = dy * (1 - y^2)"

    def forward(self, x: Array) -> Array:
        """Between -1 and 1."""
        self.y = np.tanh(x)
        return self.y

    def backward(self, dy: Array) -> Any:
        """From the result alone."""
        return (dy * (1 - self.y * self.y),)


def _logistic(x: Array) -> Array:
    # exp of a negative number only, so that nothing overflows.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


class Sigmoid(Operation):
    """1 / (1 + exp(-x))."""

    formula = "y = 1 / (1 + exp(-x))"
    derivative = "dx = dy * y * (1 - y)"

    def forward(self, x: Array) -> Array:
        """Between 0 and 1."""
        self.y = _logistic(x)
        return self.y

    def backward(self, dy: Array) -> Any:
        """From the result alone."""
        return (dy * self.y * (1 - self.y),)


class ReLU(Operation):
    """max(x, 0)."""

    formula = "y = max(x, 0)"
    derivative = "dx = dy where x > 0, else 0"

    def forward(self, x: Array) -> Array:
        """The positive part; NaN stays NaN."""
        self.y = np.maximum(x, 0)
        return self.y

    def backward(self, dy: Array) -> Any:
        """0 at 0, and all of it where x is NaN, as in torch."""
        return (np.where(self.y <= 0, dy.dtype.type(0), dy),)


class SiLU(Operation):
    """x * sigmoid(x) (Elfwing et al. 2017, arXiv:1702.03118)."""

    formula = "y = x * s,  s = 1 / (1 + exp(-x))"
    derivative = "dx = dy * (s + y * (1 - s))"

    def forward(self, x: Array) -> Array:
        """The input, gated by itself."""
        self.s = _in_pieces(_logistic, x)
        self.y = x * self.s
        return self.y

    def backward(self, dy: Array) -> Any:
        """By the product rule."""
        return (_in_pieces(lambda d, s, y: d * (s + y * (1 - s)), dy, self.s, self.y),)


class GELU(Operation):
    """x times the probability that a normal number is below it (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""

    formula = "y = x * P,  P = (1 + erf(x / sqrt(2))) / 2"
    derivative = "dx = dy * (P + x * exp(-x^2 / 2) / sqrt(2 pi))"

    def forward(self, x: Array) -> Array:
        """The exact form."""
        from scipy.special import ndtr

        self.x, self.p = x, ndtr(x)
        return x * self.p

    def backward(self, dy: Array) -> Any:
        """By the product rule; the density is the derivative of P."""
        k = 1 / math.sqrt(2 * math.pi)
        return (_in_pieces(lambda d, x, p: d * (p + x * (k * np.exp(-0.5 * x * x))), dy, self.x, self.p),)


class GELUTanh(Operation):
    """The form of GELU that GPT-2 uses, by a hyperbolic tangent."""

    formula = "y = x * (1 + t) / 2,  t = tanh(k * (x + 0.044715 * x^3)),  k = sqrt(2 / pi)"
    derivative = "dx = dy * ((1 + t) / 2 + x * (1 - t^2) * k * (1 + 3 * 0.044715 * x^2) / 2)"

    def forward(self, x: Array) -> Array:
        """The approximate form."""
        k = math.sqrt(2 / math.pi)
        self.x, self.t = x, _in_pieces(lambda x: np.tanh(x * (k + (0.044715 * k) * (x * x))), x)
        return _in_pieces(lambda x, t: 0.5 * x * (1 + t), x, self.t)

    def backward(self, dy: Array) -> Any:
        """By the product rule and the chain rule."""
        k = math.sqrt(2 / math.pi)

        def slope(x: Array, t: Array) -> Array:
            return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * (k + (3 * 0.044715 * k) * (x * x))

        return (_in_pieces(lambda d, x, t: d * slope(x, t), dy, self.x, self.t),)


class Maximum(Operation):
    """The larger of two numbers."""

    formula = "y = max(a, b)"
    derivative = "the gradient goes to the larger; half to each where they are equal"

    def forward(self, a: Array, b: Array) -> Array:
        """Element by element."""
        self.a, self.b = a, b
        return np.maximum(a, b)

    def backward(self, dy: Array) -> Any:
        """As in torch."""
        a, b = self.a, self.b
        # Not a > b: a NaN is neither larger nor smaller, and sends the gradient to both.
        return tuple(dy * np.where(a == b, 0.5, side).astype(dy.dtype) for side in (~(a < b), ~(b < a)))


class Minimum(Maximum):
    """The smaller of two numbers."""

    formula = "y = min(a, b)"
    derivative = "the gradient goes to the smaller; half to each where they are equal"

    def forward(self, a: Array, b: Array) -> Array:
        """Element by element."""
        self.a, self.b = b, a
        return np.minimum(a, b)


def exp(x: Any) -> "Tensor":
    """e ** x."""
    return apply(Exp(), as_tensor(x))


def log(x: Any) -> "Tensor":
    """The natural logarithm."""
    return apply(Log(), as_tensor(x))


def sqrt(x: Any) -> "Tensor":
    """The square root."""
    return apply(Sqrt(), as_tensor(x))


def absolute(x: Any) -> "Tensor":
    """|x|."""
    return apply(Abs(), as_tensor(x))


def tanh(x: Any) -> "Tensor":
    """The hyperbolic tangent."""
    return apply(Tanh(), as_tensor(x))


def sigmoid(x: Any) -> "Tensor":
    """1 / (1 + exp(-x))."""
    return apply(Sigmoid(), as_tensor(x))


def relu(x: Any) -> "Tensor":
    """max(x, 0)."""
    return apply(ReLU(), as_tensor(x))


def silu(x: Any) -> "Tensor":
    """x * sigmoid(x)."""
    return apply(SiLU(), as_tensor(x))


def gelu(x: Any, approximate: str = "none") -> "Tensor":
    """GELU: exact, or with approximate="tanh" in the form of GPT-2.

    Raises:
        ValueError: for another word.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f'approximate must be "none" or "tanh", got {approximate!r}')
    return apply(GELU() if approximate == "none" else GELUTanh(), as_tensor(x))


def maximum(a: Any, b: Any) -> "Tensor":
    """The larger, element by element."""
    return apply(Maximum(), *pair(a, b))


def minimum(a: Any, b: Any) -> "Tensor":
    """The smaller, element by element."""
    return apply(Minimum(), *pair(a, b))
