"""Operations worked through with their own numbers: what the formula says, with numbers in the place of letters."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from normlab.tensor.core import Array, Operation
from normlab.tensor.inside import text, worked_norms
from normlab.tensor.inside.operands import names_of
from normlab.tensor.ops import arithmetic, elementwise, losses, selection

# A sum is written out up to this many terms.
TERMS = 4

ELEMENTWISE = (
    *(arithmetic.Add, arithmetic.Sub, arithmetic.Mul, arithmetic.Div, arithmetic.Neg, arithmetic.Pow),
    *(elementwise.Exp, elementwise.Log, elementwise.Sqrt, elementwise.Abs, elementwise.Tanh, elementwise.Sigmoid),
    *(elementwise.ReLU, elementwise.SiLU, elementwise.GELU, elementwise.GELUTanh),
    *(elementwise.Maximum, elementwise.Minimum, selection.Where, selection.MaskedFill, selection.Dropout),
)
# Letters of a formula that are neither inputs nor the result.
OTHERS: dict[type[Operation], Callable[[Any], dict[str, Any]]] = {
    elementwise.SiLU: lambda node: {"s": node.s},
    elementwise.GELU: lambda node: {"P": node.p},
    elementwise.GELUTanh: lambda node: {"t": node.t, "k": math.sqrt(2 / math.pi)},
    selection.Where: lambda node: {"c": node.condition},
    selection.MaskedFill: lambda node: {"m": node.mask, "value": node.value},
    selection.Dropout: lambda node: {"k": np.asarray(node.mask > 0, int), "p": node.p},
}


def forward_lines(node: Operation, arrays: list[Array], y: Array) -> tuple[str, list[str]]:
    """For which part of the result, and a line for each thing that is computed; empty for what is not known here."""
    if not y.size or not all(a.size for a in arrays):
        return "", []
    if worked_norms.is_norm(node):
        return worked_norms.first(node, arrays).where, worked_norms.forward_lines(node, arrays)
    if type(node) in ELEMENTWISE:
        letters = _letters(node, arrays, y)
        return _first(y), [_filled(c, letters) for c in reversed(list(text.clauses(node.formula)))]
    if isinstance(node, arithmetic.Linear | arithmetic.MatMul):
        return _first(y), _product(node, arrays, y)
    if isinstance(node, losses.Softmax | losses.LogSoftmax):
        return "row 1", _softmax(node, arrays[0], y)
    if isinstance(node, losses.CrossEntropy):
        return _cross_entropy(node, arrays[0])
    return "", []


def backward_lines(
    node: Operation, arrays: list[Array], y: Array, dy: Array, gradients: list[Array | None]
) -> list[str]:
    """The same on the way back."""
    if not y.size or not all(a.size for a in arrays):
        return []
    if worked_norms.is_norm(node):
        return worked_norms.backward_lines(node, arrays, dy)
    if type(node) in ELEMENTWISE:
        letters = _letters(node, arrays, y) | {"dy": dy.flat[0]}
        for name, g in zip(names_of(node), gradients, strict=True):
            if g is not None:
                letters["d" + name] = g.flat[0]
        clauses = [c for c in re.split(r"[,;]  ", node.derivative) if c.split(" = ")[0] in letters]
        return [_filled(c, letters) for c in clauses]
    if isinstance(node, arithmetic.Linear):
        return _linear_back(arrays, dy, node.needs)
    if isinstance(node, losses.Softmax | losses.LogSoftmax):
        return _softmax_back(node, y, dy)
    if isinstance(node, losses.CrossEntropy):
        return _cross_entropy_back(node, dy, gradients[0])
    return []


def _first(y: Array) -> str:
    return f"element [{', '.join('0' * y.ndim)}]" if y.ndim else ""


def _letters(node: Operation, arrays: list[Array], y: Array) -> dict[str, Any]:
    """The first number of each."""
    letters: dict[str, Any] = dict(zip(names_of(node), arrays, strict=True)) | {"y": y}
    letters |= OTHERS.get(type(node), lambda _: {})(node)
    return {name: np.asarray(value).flat[0] for name, value in letters.items()}


def _filled(clause: str, letters: dict[str, Any]) -> str:
    """y = a + b = 1 + 2 = 3."""
    left, _, right = clause.partition(" = ")
    # Words ("a where c, else b") do not go on with "=".
    words = "else" in right

    def put(match: re.Match[str]) -> str:
        if match[0] not in letters:
            return match[0]
        written = text.number(letters[match[0]])
        return f"({written})" if written.startswith("-") and not words else written

    numbers = re.sub(r"[A-Za-z]\w*", put, right)
    parts = [clause] + ([numbers] if numbers != right else [])
    return (":  " if words else " = ").join([*parts, *([text.number(letters[left])] if left in letters else [])])


def _dot(a: Array, b: Array, more: str = "") -> str:
    terms = [f"{text.number(x)} * {text.number(z)}" for x, z in zip(a[:TERMS], b[:TERMS], strict=True)]
    terms += [f"... ({len(a)} products)"] if len(a) > TERMS else []
    return " + ".join([*terms, *([more] if more else [])]).replace("* -", "* (-").replace("+ -", "- ")


def _closed(line: str) -> str:
    # A negative factor is put in brackets: "2 * (-3".
    return re.sub(r"\(-([\d.e+-]+|inf|nan)", r"(-\1)", line)


def _product(node: Operation, arrays: list[Array], y: Array) -> list[str]:
    a, b = arrays[:2]
    linear = isinstance(node, arithmetic.Linear)
    row = a.reshape(-1, a.shape[-1])[0]
    column = b[0] if linear else b if b.ndim == 1 else b.reshape(-1, *b.shape[-2:])[0][:, 0]
    more = text.number(arrays[2][0]) if linear and len(arrays) > 2 else ""
    return ["y = " + _closed(_dot(row, column, more)) + f" = {text.number(y.flat[0])}"]


def _linear_back(arrays: list[Array], dy: Array, needs: tuple[bool, ...]) -> list[str]:
    x, weight = arrays[0].reshape(-1, arrays[0].shape[-1]), arrays[1]
    d = dy.reshape(-1, dy.shape[-1])
    lines = []
    for name, wanted, a, b in (("dx", needs[0], d[0], weight[:, 0]), ("dW", needs[1], d[:, 0], x[:, 0])):
        if wanted:
            lines.append(f"{name}[0, 0] = {_closed(_dot(a, b))} = {text.number(np.dot(a, b))}")
    return lines


def _softmax(node: Any, x: Array, y: Array) -> list[str]:
    row, result = (np.moveaxis(a, node.axis, -1).reshape(-1, a.shape[node.axis])[0] for a in (x, y))
    largest = row.max()
    e = np.exp(row - largest)
    parts = [("x", text.named_row(row)), ("max(x)", text.number(largest)), ("exp(x - max(x))", text.named_row(e))]
    parts.append(("their sum", text.number(e.sum())))
    if isinstance(node, losses.LogSoftmax):
        parts.append(("log(sum(exp(x)))", text.number(largest + np.log(e.sum()))))
    return text.aligned([*parts, ("y", text.named_row(result))])


def _softmax_back(node: Any, y: Array, dy: Array) -> list[str]:
    row, d = (np.moveaxis(a, node.axis, -1).reshape(-1, a.shape[node.axis])[0] for a in (y, dy))
    if isinstance(node, losses.LogSoftmax):
        dx = d - np.exp(row) * d.sum()
        return text.aligned([("sum(dy)", text.number(d.sum())), ("dx", text.named_row(dx))])
    total = np.sum(d * row)
    parts = [("sum(dy * y)", text.number(total)), ("dy - sum(dy * y)", text.named_row(d - total))]
    return text.aligned([*parts, ("dx", text.named_row(row * (d - total)))])


def _cross_entropy(node: losses.CrossEntropy, x: Array) -> tuple[str, list[str]]:
    counting = np.flatnonzero(node.counts)
    if not counting.size:
        return "", ["no row counts"]
    i = counting[0]
    p, target = node.p[i], int(node.target[i])
    # Not the logarithm of p, which may be too small for a number.
    z = x[i] - x[i].max()
    log_p = z - np.log(np.exp(z).sum())
    loss = f"-log {text.number(p[target])} = {text.number(-log_p[target])}"
    parts = [("p", text.named_row(p)), ("target", str(target)), (f"-log p[{target}]", loss)]
    if node.smoothing:
        parts.append(("-mean(log p)", f"{text.number(-log_p.mean())}, which counts s = {text.number(node.smoothing)}"))
    words = {"mean": "y is the mean over", "sum": "y is the sum over", "none": "y has a number for each of"}
    return f"row {i + 1}", [*text.aligned(parts), f"{words[node.reduction]} the {counting.size} rows that count"]


def _cross_entropy_back(node: losses.CrossEntropy, dy: Array, gradient: Array | None) -> list[str]:
    counting = np.flatnonzero(node.counts)
    if not counting.size or gradient is None:
        return []
    i = counting[0]
    q = np.full(node.p.shape[1], node.smoothing / node.p.shape[1])
    q[int(node.target[i])] += 1 - node.smoothing
    rows = f" and {node.n} rows" if node.reduction == "mean" else ""
    d = dy[i] if node.reduction == "none" else dy
    parts = [("q", text.named_row(q)), ("p - q", text.named_row(node.p[i] - q)), ("dx", text.named_row(gradient[i]))]
    return [*text.aligned(parts), f"for dy = {text.number(d)}{rows}"]
