"""The norms worked through for one row: mean, variance, s, h and y, and on the way back u, mean(u) and mean(u * h).

Everything is computed here from the formulas, in float64: the result and the gradients that stand beside it are the
operation's own.
"""

from dataclasses import dataclass

import numpy as np

from normlab.kernels.cpu_plan import EPSILON
from normlab.tensor.core import Array, Operation
from normlab.tensor.inside import text
from normlab.tensor.ops.normalization import BatchNorm, GroupNorm, RMSNorm, _RowNorm


@dataclass(frozen=True)
class First:
    """The first row of a norm.

    Attributes:
        where: which numbers the row consists of, in words.
        x: the row. Of BatchNorm and GroupNorm without their shape.
        gamma, beta: what belongs to each number of the row; None where there is none.
        mean: None for RMSNorm, which takes none.
        var: the variance, or for RMSNorm the mean square.
        s: 1 / sqrt(var + eps).
        root: how s came to be, in words.
        given: whether mean and var were given (BatchNorm in evaluation): no gradient flows through them.
    """

    where: str
    x: Array
    gamma: Array | None
    beta: Array | None
    mean: float | None
    var: float
    s: float
    root: str
    given: bool = False

    @property
    def h(self) -> Array:
        """The row, normalized."""
        return (self.x - (self.mean or 0.0)) * self.s

    @property
    def y(self) -> Array:
        """The result for the row."""
        y = self.h if self.gamma is None else self.h * self.gamma
        return y if self.beta is None else y + self.beta

    def u(self, dy: Array) -> Array:
        """The gradient of h."""
        return dy if self.gamma is None else dy * self.gamma

    def dx(self, dy: Array) -> Array:
        """The gradient of the row."""
        u, h = self.u(dy), self.h
        if self.given:
            return self.s * u
        return self.s * (u - (0.0 if self.mean is None else u.mean()) - h * np.mean(u * h))


def is_norm(node: Operation) -> bool:
    """Whether this file knows it."""
    return isinstance(node, _RowNorm | BatchNorm | GroupNorm)


def row_of(node: Operation, a: Array) -> Array:
    """Of an array in x's shape, or per-channel in BatchNorm's and GroupNorm's, the part that belongs to the row."""
    if isinstance(node, BatchNorm):
        return a[:, 0].reshape(-1)
    if isinstance(node, GroupNorm):
        return a[0, : a.shape[1] // node.groups].reshape(-1)
    assert isinstance(node, _RowNorm)
    return a.reshape(-1, int(np.prod(node.shape)))[0]


def first(node: Operation, arrays: list[Array]) -> First:
    """The first row, of at least one number."""
    wide = [np.asarray(a, np.float64) for a in arrays]
    x = row_of(node, wide[0])
    gamma, beta = [*(_parameter(node, p, wide[0]) for p in wide[1:]), None, None][:2]
    if isinstance(node, BatchNorm):
        mean, var = float(node.mean[0]), float(node.var[0])
        where = f"channel 1 of {wide[0].shape[1]}, {x.size} numbers"
        return _row(where, x, gamma, beta, mean, var, node.eps, not node.training)
    assert isinstance(node, _RowNorm | GroupNorm)
    spec = node.spec
    eps = EPSILON[arrays[0].dtype.name] if spec.eps is None else spec.eps
    rows = wide[0].size // x.size
    row, group = f"row 1 of {rows}", f"group 1 of {getattr(node, 'groups', 1)}, sample 1, {x.size} numbers"
    where = row if isinstance(node, _RowNorm) else group
    if isinstance(node, RMSNorm):
        if gamma is not None:
            gamma = gamma + spec.offset
        return _row(where, x, gamma, beta, None, float(np.mean(x * x)), eps)
    mean = float(x.mean())
    return _row(where, x, gamma, beta, mean, float(np.mean((x - mean) ** 2)), eps)


def _parameter(node: Operation, p: Array, x: Array) -> Array:
    if isinstance(node, _RowNorm):
        return p.reshape(-1)
    return row_of(node, np.broadcast_to(p.reshape(-1, *(1,) * (x.ndim - 2)), x.shape))


def _row(
    where: str,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    mean: float | None,
    var: float,
    eps: float,
    given: bool = False,
) -> First:
    root = f"1 / sqrt({text.number(var)} + {text.number(eps)})"
    return First(where, x, gamma, beta, mean, var, float(1 / np.sqrt(var + eps)), root, given)


def forward_lines(node: Operation, arrays: list[Array]) -> list[str]:
    """How the first row's result comes about."""
    row = first(node, arrays)
    parts = [("x", text.named_row(row.x))]
    if row.mean is None:
        parts.append(("mean(x^2)", _mean(np.square(row.x))))
    elif row.given:
        parts += [("m", f"{text.number(row.mean)}, the running mean"), ("v", text.number(row.var))]
    else:
        parts.append(("mean(x)", _mean(row.x)))
        parts.append(("var(x)", _mean(np.square(row.x - row.mean))))
    parts += [("s", f"{row.root} = {text.number(row.s)}"), ("h", text.named_row(row.h))]
    if row.gamma is not None:
        parts.append((_scale(node), text.named_row(row.gamma) + _offset(node)))
    if row.beta is not None:
        parts.append(("beta", text.named_row(row.beta)))
    return text.aligned([*parts, ("y", text.named_row(row.y))])


def backward_lines(node: Operation, arrays: list[Array], dy: Array) -> list[str]:
    """How the gradient by the first row comes about."""
    row, d = first(node, arrays), row_of(node, np.asarray(dy, np.float64))
    u, h = row.u(d), row.h
    parts = [("dy", text.named_row(d)), ("u", text.named_row(u))]
    if row.given:
        lines = text.aligned([*parts, ("dx = s * u", text.named_row(row.dx(d)))])
        return [*lines, "m and v were given: nothing flows back through them"]
    if row.mean is not None:
        parts.append(("mean(u)", f"{text.number(u.mean())}  (taken away: a shift of x changes nothing)"))
    parts.append(("mean(u * h)", f"{text.number(np.mean(u * h))}  (u along h, taken away: nor does its scale)"))
    return text.aligned(
        [*parts, ("h * mean(u * h)", text.named_row(h * np.mean(u * h))), ("dx", text.named_row(row.dx(d)))]
    )


def _scale(node: Operation) -> str:
    return "weight" if isinstance(node, RMSNorm) else "gamma"


def _offset(node: Operation) -> str:
    offset = node.spec.offset if isinstance(node, RMSNorm) else 0
    return f"  ({text.number(offset)} + what is stored)" if offset else ""


def _mean(values: Array) -> str:
    mean = text.number(values.mean())
    if values.size > 4:
        return f"{text.number(values.sum())} / {values.size} = {mean}"
    terms = " + ".join(text.number(v) for v in values).replace("+ -", "- ")
    return f"({terms}) / {values.size} = {mean}"
