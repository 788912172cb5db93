"""What is asked of the code, and what came of it: the child's answer, read with distrust."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from normlab.learn.sandbox.wire import Answer, Asked, Numbers, Result, Returned

Array = NDArray[np.float64]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A function that the code defines, and what to call it with.

    Attributes:
        function: its name.
        arguments: arrays (float64) and numbers by name, in the order in which they are passed.
        returns: the shapes of what it returns, by name: one array, or a tuple of several.
        upstream: None for a function of arrays. A gradient for a function of `normlab.tensor.Tensor`: it is called
            with Tensors in the place of the arrays and returns one; then `returns` names that, and the gradients of the
            arrays, in their order.
    """

    function: str
    arguments: Mapping[str, Array | float]
    returns: Mapping[str, Shape]
    upstream: Array | None = None

    def __post_init__(self) -> None:
        arrays = sum(isinstance(v, np.ndarray) for v in self.arguments.values())
        if self.upstream is not None and len(self.returns) != 1 + arrays:
            raise ValueError(f"returns must name the result and {arrays} gradients, got {', '.join(self.returns)}")

    def asked(self) -> Asked:
        """As it is sent."""
        values = tuple((n, Numbers.of(v) if isinstance(v, np.ndarray) else float(v)) for n, v in self.arguments.items())
        return Asked(
            self.function, values, len(self.returns), None if self.upstream is None else Numbers.of(self.upstream)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What came of the code.

    Attributes:
        results: for each call what it returned, by the names of `Call.returns`; empty when there was trouble.
        trouble: one sentence, or None. It may hold words of the code's own, without control characters.
        printed: the beginning of what the code printed, likewise.
    """

    results: tuple[dict[str, Array], ...] = ()
    trouble: str | None = None
    printed: str = ""


class Unfit(Exception):
    """A result that is not what was asked for: one sentence."""


def read(answer: Answer, calls: tuple[Call, ...]) -> tuple[dict[str, Array], ...]:
    """The arrays of an answer without trouble.

    Raises:
        Unfit: for a result of another type or shape, and for an argument that was written to.
    """
    if len(answer.returned) != len(calls):
        raise Unfit("the code wrote into the channel of its results")
    return tuple(_results(call, returned) for call, returned in zip(calls, answer.returned, strict=True))


def _results(call: Call, returned: Returned) -> dict[str, Array]:
    name, results = call.function, returned.results
    if call.upstream is None and len(call.returns) > 1 and returned.count != len(call.returns):
        listed = f"({', '.join(call.returns)})"
        if returned.count is None:
            got = _kind(results[0]) if results else "nothing"
            raise Unfit(f"{name} returned {got}, expected {len(call.returns)} arrays: {listed}")
        raise Unfit(f"{name} returned {returned.count} results, expected {len(call.returns)}: {listed}")
    if len(results) != len(call.returns):
        raise Unfit("the code wrote into the channel of its results")
    found = {}
    for i, ((what, shape), result) in enumerate(zip(call.returns.items(), results, strict=True)):
        if call.upstream is not None and i and result.type == "NoneType":
            raise Unfit(f"no gradient reaches {_differentiated(call, i)}: the graph is cut on the way to it")
        as_what = "" if len(call.returns) == 1 or (call.upstream is not None and not i) else f" as {what}"
        fitting = result.type == "ndarray" and result.dtype == "float64" and result.shape == shape
        if not fitting:
            expected = f"an array of shape {shape}" + ("" if result.dtype in ("", "float64") else " of float64")
            raise Unfit(f"{name} returned {_kind(result)}{as_what}, expected {expected}")
        try:
            found[what] = Numbers(shape, result.data).array()
        except ValueError:
            raise Unfit("the code wrote into the channel of its results") from None
    if returned.changed:
        raise Unfit(f"{name} has changed its argument {returned.changed[0]}: it must leave it as it is")
    return found


def _differentiated(call: Call, place: int) -> str:
    return [name for name, v in call.arguments.items() if isinstance(v, np.ndarray)][place - 1]


def _kind(result: Result) -> str:
    """What was returned, in words."""
    if result.type == "NoneType":
        return "None"
    if result.type == "ndarray":
        dtype = "" if result.dtype == "float64" else f" of {result.dtype}"
        return f"an array of shape {result.shape}{dtype}"
    article = "an" if result.type[:1].lower() in "aeiou" else "a"
    return f"{article} {result.type}"
