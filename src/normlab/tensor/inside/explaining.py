"""explain(): one operation with its formula, its derivative and its own numbers worked through."""

import copy
import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from rich.text import Text

from normlab.tensor.broadcasting import unbroadcast
from normlab.tensor.core import Array, Operation, Tensor
from normlab.tensor.inside import text, worked
from normlab.tensor.inside.facts import rms
from normlab.tensor.inside.operands import names_of
from normlab.tensor.ops.selection import Dropout


@dataclass(frozen=True)
class Explanation:
    """What there is to say of a tensor or an operation; print it.

    Attributes:
        title: what it is.
        summary: in a sentence; may be empty.
        sections: (heading, lines) of each part.
    """

    title: str
    summary: str
    sections: tuple[tuple[str, tuple[str, ...]], ...]

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        lines = [self.title, *(text.wrapped(self.summary) if self.summary else [])]
        for heading, body in self.sections:
            lines += ["", heading, *(f"  {part}".rstrip() for line in body for part in text.wrapped(line))]
        return "\n".join(lines)

    def __rich__(self) -> Text:
        shown = Text.assemble((self.title, "bold"), ("\n" + self.summary if self.summary else "", "dim"))
        for heading, body in self.sections:
            shown.append("\n\n").append(heading, style="bold cyan")
            shown.append("".join(f"\n  {part}" for line in body for part in text.wrapped(line)))
        return shown

    def _repr_html_(self) -> str:
        return text.preformatted(str(self))


def explain(what: Tensor | Operation, *, dy: ArrayLike | Tensor | None = None) -> Explanation:
    """How a tensor came about: its operation's formula, derivative, shapes and numbers.

    Small arrays are shown whole, of larger ones the first row. Norms, products, softmax, the cross-entropy and
    functions of single numbers are worked through.

    Args:
        what: a tensor, or its `node`.
        dy: the gradient of the result, in its shape; brings the gradient by each input along.

    Raises:
        TypeError: for something else.
        ValueError: for a dy of another shape.
        RuntimeError: for a dy when there is nothing to go back over: a leaf, or a graph that was freed.
    """
    if isinstance(what, Tensor):
        if what.node is None:
            return _leaf(what, dy)
        return _operation(what.node, what.data, dy)
    if not isinstance(what, Operation):
        raise TypeError(f"a Tensor or an Operation was expected, got {type(what).__name__}")
    return _operation(what, None, dy)


def _leaf(tensor: Tensor, dy: Any) -> Explanation:
    if dy is not None:
        raise RuntimeError("dy has nowhere to go from here: this tensor was given, or computed without a gradient")
    if tensor.requires_grad:
        title, summary = "leaf", "It was given, not computed. backward() adds the gradient of the loss by it to grad."
    else:
        title, summary = "constant", "It was given, or computed where no gradient was wanted; none flows into it."
    sections = [_section("numbers", tensor.data)]
    if tensor.grad is not None:
        sections.append(_section("grad", tensor.grad))
    elif tensor.requires_grad:
        sections.append(("grad", ("None: no backward() has reached it",)))
    return Explanation(title, summary, tuple(sections))


def _operation(node: Operation, y: Array | None, dy: Any) -> Explanation:
    sections: list[tuple[str, tuple[str, ...]]] = []
    for heading, formula in (("forward", node.formula), ("backward", node.derivative)):
        if formula:
            sections.append((heading, tuple(text.clauses(formula))))
    if not node.remembered:
        missing = (
            f"the graph of this {node.name} was freed by an earlier backward(), or none was kept; "
            "say retain_graph=True there to see what it was computed from"
        )
        if dy is not None:
            raise RuntimeError(missing)
        sections.append(("inputs", (missing,)))
        if y is not None:
            sections.append(_section("result", y))
        return Explanation(node.name, _summary(node), tuple(sections))
    arrays = [t.data for t in node.inputs]
    y = _result(node, arrays) if y is None else y
    names = names_of(node)
    lines = []
    for name, t in zip(names, node.inputs, strict=True):
        made = f", by {t.node.name}" if t.node else ", a leaf" if t.requires_grad else ""
        lines += _described(name, t.data, made)
        if t._stamp[0] > node.number:
            lines.append(f"! {name} was given other numbers after it had been used: these are not those of the result")
    sections.append(("inputs", tuple(lines)))
    # Of NaN and infinite numbers no warning is due here: they are shown.
    with np.errstate(all="ignore"):
        where, forward = worked.forward_lines(node, arrays, y)
    if forward:
        sections.append((f"worked through{', ' + where if where else ''}", tuple(forward)))
    sections.append(("result", tuple(_described("y", y))))
    if dy is not None:
        sections += _gradients(node, names, arrays, y, dy, where)
    return Explanation(node.name, _summary(node), tuple(sections))


def _gradients(
    node: Operation, names: list[str], arrays: list[Array], y: Array, dy: Any, where: str
) -> list[tuple[str, tuple[str, ...]]]:
    dy = np.asarray(dy.data if isinstance(dy, Tensor) else dy, y.dtype)
    if dy.shape != y.shape:
        raise ValueError(f"dy must have the shape of the result, {y.shape}, got {dy.shape}")
    gradients = list(node.backward(dy))
    with np.errstate(all="ignore"):
        backward = worked.backward_lines(node, arrays, y, dy, gradients)
    lines = _described("dy", dy)
    for name, t, g in zip(names, node.inputs, gradients, strict=True):
        if g is None or not t.requires_grad:
            lines.append(f"d{name}   not wanted")
            continue
        summed = f", added up from {text.shape(g.shape)}" if g.shape != t.shape else ""
        lines += _described(f"d{name}", unbroadcast(g, t.shape), summed)
    found = [("gradients", tuple(lines))]
    if backward:
        found.insert(0, (f"worked back{', ' + where if where else ''}", tuple(backward)))
    return found


def _result(node: Operation, arrays: list[Array]) -> Array:
    """What it gave; an operation does not keep that, so it is done again, by another with the same settings."""
    if isinstance(node, Dropout):
        # Which would draw another mask.
        return arrays[0] * node.mask
    return np.asarray(copy.copy(node).forward(*arrays))


def _summary(node: Operation) -> str:
    return (inspect.getdoc(type(node)) or "").split("\n")[0]


def _described(name: str, values: Array, more: str = "") -> list[str]:
    if not values.shape:
        return [f"{name} = {text.number(values.item())}{more}"]
    head = f"{name}   {text.shape(values.shape)} {values.dtype.name}, RMS {text.rms(*rms(values))}{more}"
    return [head, *(f"    {line}" for line in text.array(values))]


def _section(heading: str, values: Array) -> tuple[str, tuple[str, ...]]:
    size = f"{text.shape(values.shape)} {values.dtype.name}, RMS {text.rms(*rms(values))}"
    return heading, (size, *text.array(values))
