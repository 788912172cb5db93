"""record(): every operation is timed and measured while it happens, forward and backward.

A recording keeps facts (shapes, root mean squares, times) and no arrays: it can be asked after backward() has freed
the graph, and it does not keep a graph alive.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import Any

from normlab.tensor import core
from normlab.tensor.core import Array, Operation, Tensor
from normlab.tensor.inside.facts import LEAF, Names, Node, by_identity, node_of, rms
from normlab.tensor.inside.graphs import Graph


class Recording:
    """What happened inside `with record() as recording:`, in its order.

    Attributes:
        nodes: the facts of each tensor: the result of every operation, and each leaf at its first use.

    Gradients of results are those of the last backward() in the block; a leaf's is its `grad` at the end of the block.
    """

    def __init__(self, outer: Any = None) -> None:
        self.nodes: list[Node] = []
        self._outer = outer
        self._open = True
        # A tensor is known by its id as long as it lives: another may get the id later.
        self._places: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        # Of operations by the engine's number, which is never given twice.
        self._numbers: dict[int, int] = {}

    def forward(self, operation: Operation, inputs: tuple[Tensor, ...]) -> Tensor:
        """The engine's call for each operation: carry it out, and take its time."""
        start = perf_counter()
        result = self._outer.forward(operation, inputs) if self._outer is not None else core._apply(operation, inputs)
        elapsed = perf_counter() - start
        numbers = tuple([self._place(t) for t in inputs])
        self._keep(result, node_of(result, len(self.nodes), numbers, operation, seconds=elapsed))
        return result

    def backward(self, node: Operation, dy: Array) -> Any:
        """The engine's call for each operation on the way back."""
        start = perf_counter()
        gradients = self._outer.backward(node, dy) if self._outer is not None else node.backward(dy)
        elapsed = perf_counter() - start
        number = self._numbers.get(node.number)
        if number is not None:
            fact = self.nodes[number]
            self.nodes[number] = replace(fact, gradient_rms=rms(dy)[0], backward_seconds=elapsed)
        return gradients

    def number_of(self, tensor: Tensor) -> int | None:
        """The place of a tensor in `nodes`; None if it was not there."""
        ref, number = self._places.get(id(tensor), (None, None))
        return number if ref is not None and ref() is tensor else None

    def graph(self, result: Tensor | None = None, names: Names = None) -> Graph:
        """The graph of `result`, or of all that was recorded.

        Args:
            result: a tensor that was computed in the block.
            names: a module, or names with their tensors, for the leaves.

        Raises:
            ValueError: for a tensor that was not seen.
        """
        if self._open:
            self._measure_leaves()
        given = by_identity(names)
        called: dict[int, str] = {}
        for identity, name in given.items():
            ref, number = self._places.get(identity, (None, -1))
            if ref is not None and ref() is not None:
                called[number] = name
        if result is None:
            wanted = range(len(self.nodes))
        else:
            last = self.number_of(result)
            if last is None:
                raise ValueError("result must be a tensor that was computed or used in the recording, it was not seen")
            wanted = sorted(self._ancestors(last))
        new = {old: i for i, old in enumerate(wanted)}
        return Graph(
            tuple(
                replace(
                    self.nodes[old],
                    number=i,
                    inputs=tuple(new[j] for j in self.nodes[old].inputs),
                    name=called.get(old, self.nodes[old].name),
                )
                for old, i in new.items()
            )
        )

    def _ancestors(self, last: int) -> set[int]:
        found, waiting = {last}, [last]
        while waiting:
            for j in self.nodes[waiting.pop()].inputs:
                if j not in found:
                    found.add(j)
                    waiting.append(j)
        return found

    def _place(self, tensor: Tensor) -> int:
        number = self.number_of(tensor)
        if number is None:
            number = len(self.nodes)
            self._keep(tensor, node_of(tensor, number))
        return number

    def _keep(self, tensor: Tensor, fact: Node) -> None:
        # A grad that is there already is of another backward().
        self.nodes.append(replace(fact, gradient_rms=None))
        self._places[id(tensor)] = weakref.ref(tensor), fact.number
        if tensor.node is not None and tensor.node.remembered:
            self._numbers[tensor.node.number] = fact.number

    def _measure_leaves(self) -> None:
        for ref, number in self._places.values():
            fact, tensor = self.nodes[number], ref()
            if fact.operation == LEAF and tensor is not None and tensor.grad is not None:
                self.nodes[number] = replace(fact, gradient_rms=rms(tensor.grad)[0])

    def _close(self) -> None:
        self._measure_leaves()
        self._open = False


@contextmanager
def record() -> Iterator[Recording]:
    """Within this context every operation of this thread is timed and measured.

        with record() as recording:
            loss = model(x).sum()
            loss.backward()
        print(recording.graph(names=model))

    Recordings may stand in each other; the outer one sees all.
    """
    outer = core.mode.observer
    recording = Recording(outer)
    core.mode.observer = recording
    try:
        yield recording
    finally:
        core.mode.observer = outer
        recording._close()
