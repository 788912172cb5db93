"""What a function of tensors computes, as a list of steps.

The engine lets an observer look on at every step. What it cannot see is what a function does with arrays beside the
operations (`x.data > 0`), and which sizes and numbers came from the inputs. So a function is run twice, the second
time on other numbers and, where the batch may have any size, on a larger one: what differs between the two traces
depends on the inputs. And the arrays of the steps are `Traced`, which NumPy hands on to what it computes of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from normlab.tensor import core
from normlab.tensor.core import Array, Operation, Tensor
from normlab.tensor.mode import no_grad

# (what, which): ("input", 0) or ("step", 12).
Source = tuple[str, int]


class Traced(np.ndarray):
    """An array that depends on the inputs; so does what NumPy computes of it.

    Attributes:
        cast_of: the array that this is in another dtype: operations change integers beside floating-point numbers.
    """

    cast_of: "Traced | None" = None

    def __bool__(self) -> bool:
        raise ValueError("a branch that an input's numbers decide cannot be exported: use where()")

    def astype(self, *arguments: Any, **options: Any) -> Any:
        """In another dtype."""
        result: Any = super().astype(*arguments, **options)
        result.cast_of = self
        return _fixed(result)


def _fixed(array: Array) -> Array:
    """Not to be written to: what is changed in place is no longer what the steps say."""
    array.flags.writeable = False
    return array


@dataclass(frozen=True, slots=True)
class Step:
    """An operation that was done.

    Attributes:
        operation: as it was after the step.
        settings: its attributes before, which say what it is to do.
        inputs, result: arrays.
    """

    operation: Operation
    settings: Mapping[str, Any]
    inputs: tuple[Array, ...]
    result: Array


def _place(array: Array) -> tuple[int, int, str] | None:
    """Where the numbers of a contiguous array lie; two that lie there differ in shape alone."""
    if not array.size or not array.flags.c_contiguous:
        return None
    return array.__array_interface__["data"][0], array.size, array.dtype.str


@dataclass
class Trace:
    """The steps from the inputs to the outputs."""

    inputs: tuple[Array, ...]
    steps: list[Step] = field(default_factory=list)
    outputs: tuple[Array, ...] = ()

    def __post_init__(self) -> None:
        # All of these arrays are kept by the trace, so that an id or an address means one array.
        self._by_id: dict[int, Source] = {}
        self._by_place: dict[tuple[int, int, str], Source] = {}
        for i, array in enumerate(self.inputs):
            self._learn(array, ("input", i))

    def _learn(self, array: Array, source: Source) -> None:
        self._by_id[id(array)] = source
        place = _place(array)
        if place is not None:
            self._by_place[place] = source

    def add(self, step: Step) -> None:
        """One more step."""
        self.steps.append(step)
        self._learn(step.result, ("step", len(self.steps) - 1))

    def source(self, array: Array) -> Source | None:
        """Which input or step this array is."""
        return self._by_id.get(id(array))

    def reshaped_source(self, array: Array) -> Source | None:
        """Which input or step has its numbers where this array has them, perhaps in another shape."""
        place = _place(array)
        return None if place is None else self._by_place.get(place)

    def of(self, source: Source) -> Array:
        """The array of an input or a step."""
        what, which = source
        return self.inputs[which] if what == "input" else self.steps[which].result


class _Tracer:
    """The observer."""

    def __init__(self, trace: Trace, check: Callable[[Operation], None]) -> None:
        self.trace, self.check = trace, check

    def forward(self, operation: Operation, inputs: tuple[Tensor, ...]) -> Tensor:
        """Do a step and write it down, if it may be exported."""
        self.check(operation)
        settings = dict(vars(operation))
        result = core._apply(operation, inputs)
        result._data = _fixed(result._data.view(Traced))
        self.trace.add(Step(operation, settings, tuple(t._data for t in inputs), result._data))
        return result

    def backward(self, node: Operation, dy: Array) -> Any:
        """Nothing to see."""
        return node.backward(dy)


@contextmanager
def _observed(observer: _Tracer) -> Iterator[None]:
    before, core.mode.observer = core.mode.observer, observer
    try:
        # Without gradients, operations keep ids and masks as they come instead of copies, by which they are known.
        with no_grad():
            yield
    finally:
        core.mode.observer = before


def trace(function: Callable[..., Any], inputs: Sequence[Array | Tensor], check: Callable[[Operation], None]) -> Trace:
    """Run a function on copies of the inputs.

    Args:
        function: of tensors and arrays, to a tensor or several.
        inputs: floating-point arrays are given as tensors, others as what they are.
        check: raises for an operation that is not to be done.

    Raises:
        TypeError: when it gives something else.
    """
    arrays = [_fixed(np.array(x._data if isinstance(x, Tensor) else x).view(Traced)) for x in inputs]
    found = Trace(tuple(arrays))
    given = [
        core.wrap(a) if isinstance(x, Tensor) or a.dtype.kind == "f" else a for x, a in zip(inputs, arrays, strict=True)
    ]
    with _observed(_Tracer(found, check)):
        results = function(*given)
    results = tuple(results) if isinstance(results, tuple | list) else (results,)
    for result in results:
        if not isinstance(result, Tensor):
            raise TypeError(f"the function must give a tensor or a tuple of tensors, got {type(result).__name__}")
    found.outputs = tuple(result._data for result in results)
    return found


def other_inputs(inputs: Sequence[Array | Tensor], more_rows: Sequence[bool]) -> list[Array | Tensor]:
    """Inputs of the same kind, with other numbers; those with `more_rows` with a longer first axis."""
    return [_other(x, more) for x, more in zip(inputs, more_rows, strict=True)]


def _other(x: Array | Tensor, more: bool) -> Array | Tensor:
    array = x._data if isinstance(x, Tensor) else np.asarray(x)
    # The numbers stay within what the function can take: the same ones elsewhere, a little nearer to 0.
    other = np.flip(array, 0) if array.ndim else array
    if np.array_equal(other, array):
        other = np.flip(array)
    if array.dtype.kind == "f":
        other = other * array.dtype.type(0.875)
    elif array.dtype.kind == "b":
        other = ~other
    if more:
        # Twice as many and one: one more would not tell a half of it from a fixed size.
        other = other[np.arange(2 * len(other) + 1) % len(other)]
    return core.wrap(np.array(other)) if isinstance(x, Tensor) else np.array(other)


def same(a: Any, b: Any) -> bool:
    """Whether two settings are the same; arrays in them are not looked at."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, slice):
        return same((a.start, a.stop, a.step), (b.start, b.stop, b.step))
    return a is b or bool(a == b) or (isinstance(a, float | np.floating) and bool(np.isnan(a) and np.isnan(b)))
