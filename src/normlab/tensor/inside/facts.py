"""What is known of one step of a computation, as plain data: a Node; and the root mean square that it is judged by."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from normlab.tensor.core import Array, Operation, Tensor
from normlab.tensor.inside.text import number as written
from normlab.tensor.layers.module import Module

# What stands as a Node's operation where none made it.
LEAF, CONSTANT, EARLIER = "leaf", "constant", "earlier"

Names = Mapping[str, Tensor] | Module | None


@dataclass(frozen=True, slots=True)
class Node:
    """A tensor of a computation, and the operation that made it.

    Attributes:
        number: its place in the graph's nodes; inputs have smaller ones.
        operation: "Linear"; "leaf" (which gets a gradient) or "constant" for what was given; "earlier" for what was
            computed before a recording began.
        name: where one was given; a constant of one number is named by that.
        inputs: the numbers of the nodes that it was computed from.
        shape, dtype, bytes: of the result.
        rms: the root mean square of the result's finite numbers; NaN where there are none.
        non_finite: how many of its numbers are NaN or infinite.
        gradient_rms: the same of the gradient of the loss by the result; None where it was not seen.
        forward_seconds, backward_seconds: how long the operation took; None where it was not timed.
        formula, derivative: of the operation, in words of mathematics.
    """

    number: int
    operation: str
    name: str
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    rms: float
    non_finite: int = 0
    gradient_rms: float | None = None
    forward_seconds: float | None = None
    backward_seconds: float | None = None
    formula: str = ""
    derivative: str = ""

    @property
    def is_leaf(self) -> bool:
        """Whether it was given, not computed here."""
        return not self.inputs

    @property
    def label(self) -> str:
        """What to call it: a leaf by its name where it has one, an operation by what it is and its name."""
        if self.is_leaf:
            return self.name or self.operation
        return f"{self.operation} {self.name}" if self.name else self.operation


def rms(array: Array) -> tuple[float, int]:
    """sqrt(mean(x^2)) over the finite numbers of an array, in float64, and how many are not finite."""
    x = np.asarray(array, np.float64).ravel()
    with np.errstate(all="ignore"):
        squares = float(np.dot(x, x))
    # In this range nothing of weight has overflowed or vanished on the way.
    if 1e-250 < squares < 1e300:
        return float(np.sqrt(squares / x.size)), 0
    finite = np.isfinite(x)
    others = int(x.size - np.count_nonzero(finite))
    x = x[finite]
    if not x.size:
        return float("nan"), others
    largest = float(np.abs(x).max())
    if largest == 0:
        return 0.0, others
    x = x / largest
    return largest * float(np.sqrt(np.dot(x, x) / x.size)), others


def node_of(
    tensor: Tensor,
    number: int,
    inputs: tuple[int, ...] = (),
    operation: Operation | None = None,
    *,
    name: str = "",
    seconds: float | None = None,
) -> Node:
    """The facts of a tensor as they are now."""
    data = tensor.data
    size, non_finite = rms(data)
    if operation is None:
        earlier = tensor.node is not None
        kind = EARLIER if earlier else LEAF if tensor.requires_grad else CONSTANT
        if not name and kind == CONSTANT and data.size == 1:
            name = written(data.item())
        if earlier and not name and tensor.node is not None:
            name = f"earlier {tensor.node.name}"
    else:
        kind = operation.name
    return Node(
        number=number,
        operation=kind,
        name=name,
        inputs=inputs,
        shape=data.shape,
        dtype=data.dtype.name,
        bytes=data.nbytes,
        rms=size,
        non_finite=non_finite,
        gradient_rms=None if tensor.grad is None else rms(tensor.grad)[0],
        forward_seconds=seconds,
        formula=operation.formula if operation else "",
        derivative=operation.derivative if operation else "",
    )


def by_identity(names: Names) -> dict[int, str]:
    """The name of each tensor, by id.

    Raises:
        TypeError: for what is neither a module nor names with their tensors.
    """
    if names is None:
        return {}
    pairs: Any = names.named_parameters() if isinstance(names, Module) else None
    if pairs is None:
        if not isinstance(names, Mapping):
            raise TypeError(f"names must be a module or a dict of names and tensors, got {type(names).__name__}")
        pairs = names.items()
    found: dict[int, str] = {}
    for name, tensor in pairs:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"names must lead to tensors, got {type(tensor).__name__} for {name!r}")
        found.setdefault(id(tensor), name)
    return found
