"""step(): backward() one operation at a time, each with what arrives, what is passed on, and what waits elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from rich.console import Console
from rich.text import Text

from normlab.tensor import core
from normlab.tensor.broadcasting import unbroadcast
from normlab.tensor.core import Array, Tensor
from normlab.tensor.inside import text
from normlab.tensor.inside.facts import LEAF, Names, by_identity, rms
from normlab.tensor.inside.graphs import ordered
from normlab.tensor.inside.operands import names_of

# As many of the gradients that wait elsewhere are shown.
SHOWN = 6


@dataclass(frozen=True)
class Passed:
    """A gradient on its way.

    Attributes:
        to: whose gradient it is: "12 Linear", or a leaf's name.
        variable: what the operation's formula calls that input; "" for a gradient that waits.
        gradient: in the shape of the tensor; None where none is wanted.
        summed: the broadcast shape that it was added up from; None where nothing was repeated.
    """

    to: str
    variable: str
    gradient: Array | None
    summed: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Step:
    """One operation on the way back, or a leaf at which gradients have arrived.

    Attributes:
        number: of the step, from 1.
        of: how many there are at most; an operation that no gradient reaches is passed over.
        operation: "Linear", or "leaf".
        name: "12 Linear" with the number in `graph`, or the leaf's name.
        formula, derivative: of the operation.
        dy: the gradient of its result, complete. At a leaf: what this backward() adds to `grad`.
        passed: the gradient for each input.
        waiting: what has arrived at the tensors that are still to come, these gradients included.
        total: at a leaf its `grad` now; None at operations.
    """

    number: int
    of: int
    operation: str
    name: str
    formula: str
    derivative: str
    dy: Array
    passed: tuple[Passed, ...]
    waiting: tuple[Passed, ...]
    total: Array | None = None

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        head = f"step {self.number} of {self.of}: "
        if self.total is not None:
            lines = [head + f"leaf {self.name}, whose gradient is complete", *_shown("  arrived", self.dy)]
            if np.array_equal(self.total, self.dy, equal_nan=True):
                return "\n".join([*lines, "  which is its grad now"])
            return "\n".join([*lines, *_shown("  and, with what was there, its grad is now", self.total)])
        formulas = [*text.clauses(self.formula), *text.clauses(self.derivative)]
        lines = [head + self.name, *(f"  {part}" for f in formulas if f for part in text.wrapped(f))]
        lines += _shown("  dy", self.dy)
        for p in self.passed:
            if p.gradient is not None:
                lines += _shown(f"  d{p.variable} to {p.to}", p.gradient)
                lines += [f"    added up from the broadcast shape {text.shape(p.summed)}"] if p.summed else []
        if self.waiting:
            lines += ["  arrived so far at", *(f"    {p.to}: {_size(p.gradient)}" for p in self.waiting[:SHOWN])]
        if len(self.waiting) > SHOWN:
            lines.append(f"    and {len(self.waiting) - SHOWN} more")
        return "\n".join(lines)

    def __rich__(self) -> Text:
        head, *rest = str(self).split("\n")
        return Text.assemble((head + "\n", "bold"), "\n".join(rest))

    def _repr_html_(self) -> str:
        return text.preformatted(str(self))


def _size(gradient: Array | None) -> str:
    return "" if gradient is None else f"{text.shape(gradient.shape)}, RMS {text.rms(*rms(gradient))}"


def _shown(what: str, gradient: Array) -> list[str]:
    if not gradient.shape:
        return [f"{what} = {text.number(gradient.item())}"]
    return [f"{what}   {_size(gradient)}", *(f"      {line}" for line in text.array(gradient))]


class Steps(Iterator[Step]):
    """The steps of one backward(), each carried out when it is asked for; after the last every `grad` is filled in."""

    def __init__(self, steps: Iterator[Step]) -> None:
        self._steps = steps

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Step:
        return next(self._steps)

    def interactive(self, console: Console | None = None) -> None:
        """In a terminal: Enter for the next step, q to stop, with backward() half done."""
        console = console or Console()
        for shown in self:
            console.print(shown)
            if shown.number == shown.of:
                break
            try:
                answer = console.input("Enter: next, q: stop > ")
            except EOFError:
                answer = "q"
            if answer.strip().lower().startswith("q"):
                console.print("Stopped: the leaves do not have their gradients.")
                return
        # The generator has something to do after its last step too.
        for _ in self:
            pass
        console.print("Done: every leaf has its gradient.")


def step(
    result: Tensor, gradient: ArrayLike | Tensor | None = None, *, names: Names = None, retain_graph: bool = False
) -> Steps:
    """Go back over the graph of `result` as backward() does, one operation at a time.

        for s in step(loss, names=model):
            print(s)

    Args:
        result, gradient, retain_graph: as in `Tensor.backward`.
        names: a module, or names with their tensors, for the leaves.

    Raises:
        RuntimeError: as `Tensor.backward`, at once; for data that was assigned after it had been used, at its step.
    """
    if not isinstance(result, Tensor):
        raise TypeError(f"result must be a Tensor, got {type(result).__name__}")
    seed = core.first_gradient(result, gradient)
    called = by_identity(names)
    names_by_id: dict[int, str] = {}
    for i, t in enumerate(ordered(result)):
        names_by_id[id(t)] = f"{i} {t.node.name}" if t.node else called.get(id(t), f"{i} {LEAF}")
    return Steps(_steps(result, seed, names_by_id, retain_graph))


def _steps(result: Tensor, seed: Array, names: dict[int, str], retain_graph: bool) -> Iterator[Step]:
    of = len(core._history(result))
    for number, (tensor, dy, gradients, arrived) in enumerate(core.walk(result, seed, retain_graph=retain_graph), 1):
        node = tensor.node
        name = names[id(tensor)]
        if node is None:
            yield Step(number, of, LEAF, name, "", "", dy, (), (), tensor.grad)
            continue
        passed = []
        for variable, t, g in zip(names_of(node), node.inputs, gradients, strict=True):
            wanted = g if t.requires_grad else None
            summed = None if wanted is None or wanted.shape == t.shape else wanted.shape
            reduced = None if wanted is None else np.asarray(unbroadcast(wanted, t.shape), t.dtype)
            passed.append(Passed(names.get(id(t), "constant"), variable, reduced, summed))
        waiting = tuple(Passed(names[i], "", g) for i, g in arrived.items())
        yield Step(
            number, of, node.name, name, node.formula, node.derivative, dy, tuple(passed), waiting
        )  # fmt: skip
