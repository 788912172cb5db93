"""An ONNX graph in the making, from two traces of one function: nodes, constants, and the names of values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from normlab.tensor.core import Array
from normlab.tensor.onnx.trace import Source, Step, Trace, Traced

Shape = tuple[int, ...]

# What is so small that two constants with the same numbers may as well be one.
SMALL = 64


@dataclass(frozen=True, slots=True)
class Batch:
    """The axis of any size: its size in the two traces, and an input that has it as its first axis."""

    first: int
    second: int
    name: str


class Graph:
    """What an emitter writes to.

    Args:
        first, second: the traces; the graph is that of the first.
        input_names: of its inputs.
        named: names of parameters, by the id of their array.
        batch: None where all sizes are fixed.

    Attributes:
        nodes, initializers: for the model.
        operation: the name of the one that is being written down.
    """

    def __init__(
        self, first: Trace, second: Trace, input_names: Sequence[str], named: Mapping[int, str], batch: Batch | None
    ) -> None:
        self.first, self.second, self.batch, self._named = first, second, batch, named
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.operation = "the function"
        self._names: dict[Source, str] = {("input", i): name for i, name in enumerate(input_names)}
        self._taken = set(input_names)
        # With the array, so that its id stays its own.
        self._constants: dict[Any, tuple[str, Array]] = {}

    def unique(self, name: str) -> str:
        """The name, or the name with a number after it."""
        found, i = name, 1
        while found in self._taken:
            found, i = f"{name}_{i}", i + 1
        self._taken.add(found)
        return found

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; the name of its result. An input "" is left out."""
        result = self.unique(kind.lower())
        self.nodes.append(helper.make_node(kind, inputs, [result], name=f"node_{result}", **attributes))
        return result

    def constant(self, value: Any, dtype: Any = None) -> str:
        """The name of an array that is always the same: a parameter's own, or a new one."""
        array = np.asarray(value, dtype)
        key = id(array) if id(array) in self._named or array.nbytes > SMALL else _content(array)
        if key not in self._constants:
            name = self.unique(self._named.get(id(array), "constant"))
            self.initializers.append(numpy_helper.from_array(np.array(array, order="C"), name))
            self._constants[key] = name, array
        return self._constants[key][0]

    def value(self, first: Array, second: Array) -> str:
        """The name of what is `first` in the one trace and `second` in the other: an input, a result or a constant.

        Raises:
            ValueError: when it depends on the inputs in another way than by operations.
        """
        source = self.first.source(first)
        if source is None and id(first) not in self._named:
            source = self.first.reshaped_source(first)
            if source is not None and self.second.reshaped_source(second) != source:
                source = None
        elif source is not None and self.second.source(second) != source:
            source = None
        if source is None:
            casts = getattr(first, "cast_of", None), getattr(second, "cast_of", None)
            if casts[0] is not None and casts[1] is not None:
                return self.cast(self.value(casts[0], casts[1]), casts[0].dtype, first.dtype)
            if isinstance(first, Traced) or not _equal(first, second):
                raise ValueError(
                    f"{self.operation} uses an array that was computed from the inputs outside of the operations on "
                    "tensors (from their size, by NumPy or by a comparison): it cannot be exported, "
                    "for there it would always be that of the example"
                )
            return self.constant(first)
        name = self._names[source]
        known = self.first.of(source).shape, self.second.of(source).shape
        return name if known[0] == first.shape else self.reshape(name, known, (first.shape, second.shape))

    def call(self, i: int) -> "Call":
        """The i-th step."""
        first, second = self.first.steps[i], self.second.steps[i]
        self.operation = first.operation.name
        names = tuple(map(self.value, first.inputs, second.inputs))
        return Call(self, first, second, names)

    def remember(self, i: int, name: str) -> None:
        """What the i-th step's result is called."""
        self._names["step", i] = name

    def reshape(self, name: str, before: tuple[Shape, Shape], after: tuple[Shape, Shape]) -> str:
        """Another shape; (first, second) each.

        Raises:
            ValueError: when several of its sizes depend on the batch.
        """
        if before == after:
            return name
        if after[0] == after[1]:
            return self.node("Reshape", name, self.constant(np.array(after[0], np.int64)), allowzero=int(0 in after[0]))
        sizes: list[int] = []
        for i, (a, b) in enumerate(zip(*after, strict=True)):
            kept = i < len(before[0]) and (before[0][i], before[1][i]) == (a, b)
            # 0 stands for the size that it has already, -1 for what is left.
            sizes.append(a if a == b else 0 if kept else -1)
        if sizes.count(-1) > 1 or 0 in after[0]:
            raise ValueError(f"{self.operation} gives shape {after[0]}, several of whose sizes depend on the batch")
        return self.node("Reshape", name, self.constant(np.array(sizes, np.int64)))

    def expand(self, name: str, before: tuple[Shape, Shape], after: tuple[Shape, Shape]) -> str:
        """Repeated to a shape; (first, second) each.

        Raises:
            ValueError: when a size depends on the batch and is not the batch's.
        """
        new = len(after[0]) - len(before[0])
        parts: list[str] = []
        for i, (a, b) in enumerate(zip(*after, strict=True)):
            if a == b:
                parts.append(self.constant([a], np.int64))
            elif i >= new and (before[0][i - new], before[1][i - new]) == (a, b):
                parts.append(self.constant([1], np.int64))
            elif self.batch is not None and (a, b) == (self.batch.first, self.batch.second):
                parts.append(self.node("Shape", self.batch.name, start=0, end=1))
            else:
                raise ValueError(f"{self.operation} gives shape {after[0]}, a size of which depends on the batch")
        if after[0] == after[1]:
            return self.node("Expand", name, self.constant(np.array(after[0], np.int64)))
        return self.node("Expand", name, self.node("Concat", *parts, axis=0))

    def cast(self, name: str, before: Any, after: Any) -> str:
        """Another dtype, where it is another."""
        if np.dtype(before) == np.dtype(after):
            return name
        return self.node("Cast", name, to=helper.np_dtype_to_tensor_dtype(np.dtype(after)))

    def prune(self, outputs: Sequence[str]) -> None:
        """Leave out what no output depends on."""
        needed = set(outputs)
        kept: list[onnx.NodeProto] = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                kept.append(node)
        self.nodes = kept[::-1]
        self.initializers = [constant for constant in self.initializers if constant.name in needed]


@dataclass(frozen=True, slots=True)
class Call:
    """A step that is to be written down.

    Attributes:
        graph: where to.
        first, second: the step in the two traces.
        names: of its inputs.
    """

    graph: Graph
    first: Step
    second: Step
    names: tuple[str, ...]

    @property
    def inputs(self) -> tuple[Array, ...]:
        """The example's inputs of the step."""
        return self.first.inputs

    @property
    def result(self) -> Array:
        """The example's result of the step."""
        return self.first.result

    @property
    def shapes(self) -> tuple[Shape, Shape]:
        """Of the result, in the two traces."""
        return self.first.result.shape, self.second.result.shape

    def input_shapes(self, i: int = 0) -> tuple[Shape, Shape]:
        """Of an input, in the two traces."""
        return self.first.inputs[i].shape, self.second.inputs[i].shape

    def value(self, array: Callable[[Any], Any]) -> str:
        """The name of an array that the operation holds; `array` takes it out."""
        return self.graph.value(np.asanyarray(array(self.first.operation)), np.asanyarray(array(self.second.operation)))

    def cast(self, dtype: Any) -> list[str]:
        """The inputs in a dtype."""
        return [self.graph.cast(name, x.dtype, dtype) for name, x in zip(self.names, self.inputs, strict=True)]

    def alike(self) -> list[str]:
        """The inputs in the result's dtype: ONNX does not mix them."""
        return self.cast(self.result.dtype)


Emitter = Callable[[Any, Call], str]


def _content(array: Array) -> tuple[str, Shape, bytes]:
    return array.dtype.str, array.shape, array.tobytes()


def _equal(a: Array, b: Array) -> bool:
    return a is b or (a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
