"""A Tensor is an array that remembers how it was computed; backward() goes back over that and fills in `grad`.

Three things make an autograd engine:

    Operation   one step: `forward` on arrays, and `backward`, which turns the gradient of its result into the
                gradients of its inputs by the chain rule. It keeps what the second needs of the first.
    apply       carries out a step, and keeps it as the result's `node` where a gradient will be wanted.
    backward    visits the steps in the opposite order of their making, adding up what flows into each tensor.

A step is made after everything that it is computed from, so the numbers that steps are given when they are made are a
topological order: going back from the highest, a tensor's gradient is complete before it is passed on. (An order in
which a tensor is visited as soon as one of its uses was, is wrong for `h + tanh(h)`.)
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from normlab.tensor.broadcasting import unbroadcast
from normlab.tensor.mode import mode

Array = NDArray[Any]
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

# Steps, and assignments of new data, are numbered in the order in which they happen.
_numbers = count(1)


class Operation:
    """One step of a computation; a subclass for each kind of step, an instance for each time that it is done.

    Attributes:
        forward: takes the inputs' arrays and gives the result, a new array or a view; what `backward` needs is kept in
            attributes.
        formula, derivative: what it computes and what flows back, in words of mathematics: x are the inputs, y is the
            result, dy the gradient of the loss by y.
        view: whether the result may lie in the memory of the first input.
        inputs: the tensors that it was applied to.
        needs: for each of them whether its gradient is wanted.
        number: in the order of making.
    """

    forward: Callable[..., Any]
    formula: ClassVar[str] = ""
    derivative: ClassVar[str] = ""
    view: ClassVar[bool] = False
    inputs: "tuple[Tensor, ...]"
    needs: tuple[bool, ...]
    number: int

    def backward(self, dy: Array) -> Any:
        """A gradient for each input, of the result's (broadcast) shape or the input's; None for what is not needed.

        dy is not written to, and nothing that was kept is returned: its memory would become somebody's `grad`.
        """
        raise NotImplementedError

    @property
    def name(self) -> str:
        """Of the kind of step."""
        return type(self).__name__

    @property
    def remembered(self) -> bool:
        """Whether it can be gone back over: it was done where a gradient was wanted, and was not freed since."""
        return "inputs" in vars(self)


def apply(operation: Operation, *inputs: "Tensor") -> "Tensor":
    """The result of a step, which is remembered if a gradient is wanted of any of its inputs."""
    if mode.observer is not None:
        return mode.observer.forward(operation, inputs)
    return _apply(operation, inputs)


def _apply(operation: Operation, inputs: "tuple[Tensor, ...]") -> "Tensor":
    if operation.remembered:
        raise RuntimeError(f"this {operation.name} was applied already: each step is an Operation of its own")
    needs = tuple([t.requires_grad for t in inputs])
    wanted = mode.recording and True in needs
    operation.needs = needs if wanted else (False,) * len(needs)
    try:
        result = wrap(operation.forward(*[t._data for t in inputs]))
    except ValueError as error:
        shapes = " and ".join(str(t._data.shape) for t in inputs)
        raise ValueError(f"{operation.name} cannot take shape {shapes}: {error}") from error
    if wanted:
        operation.inputs, operation.number = inputs, next(_numbers)
        result.requires_grad, result.node = True, operation
    if operation.view:
        result._stamp = inputs[0]._stamp
    return result


def wrap(data: Any) -> "Tensor":
    """A Tensor around an array, as it is."""
    tensor = Tensor.__new__(Tensor)
    tensor._data = data if isinstance(data, np.ndarray) else np.asarray(data)
    tensor.grad = tensor.node = None
    tensor.requires_grad = tensor._retained = False
    tensor._stamp = [0]
    return tensor


def _history(result: "Tensor") -> "list[Tensor]":
    """What `result` was computed from, itself first, and each tensor before those that it was computed from."""
    found, waiting = {id(result): result}, [result]
    while waiting:
        node = waiting.pop().node
        if node is None:
            continue
        if not node.remembered:
            raise RuntimeError(
                f"the graph of this {node.name} was freed by an earlier backward(); "
                "say retain_graph=True there to go back over it again"
            )
        for t in node.inputs:
            if t.requires_grad and id(t) not in found:
                found[id(t)] = t
                waiting.append(t)
    return sorted(found.values(), key=lambda t: t.node.number if t.node else 0, reverse=True)


def _passed_on(node: Operation, result: "Tensor", dy: Array) -> Sequence[Array | None]:
    """The gradients of a step's inputs."""
    for t in (result, *node.inputs):
        if t._stamp[0] > node.number:
            what = "the result" if t is result else "an input"
            raise RuntimeError(
                f"{what} of {node.name}, of shape {t.shape}, was given other numbers after it had been used: "
                "its gradient would be that of another computation"
            )
    if mode.observer is not None:
        return mode.observer.backward(node, dy)
    return node.backward(dy)


def walk(
    result: "Tensor", gradient: Array, *, retain_graph: bool
) -> "Iterator[tuple[Tensor, Array, Sequence[Array | None], dict[int, Array]]]":
    """Add to `grad` of every leaf that `result` was computed from, stopping at each tensor that a gradient reaches.

    Gives the tensor, its gradient, what its operation has passed on (nothing for a leaf), and what has arrived at
    other tensors, by id.
    """
    arrived: dict[int, Array] = {id(result): gradient}
    # The arrays that tensors have as their `grad` now: no two share one.
    owned = {id(gradient)}
    for tensor in _history(result):
        dy = arrived.pop(id(tensor), None)
        if dy is None:
            continue
        node = tensor.node
        if node is None or tensor._retained:
            if tensor.grad is not None:
                tensor.grad = np.asarray(tensor.grad + dy)
            else:
                shared = node is not None or id(dy) in owned or dy.base is not None
                tensor.grad = np.array(dy) if shared else dy
                owned.add(id(tensor.grad))
        if node is None:
            yield tensor, dy, (), arrived
            continue
        gradients = _passed_on(node, tensor, dy)
        for t, g in zip(node.inputs, gradients, strict=True):
            if g is None or not t.requires_grad:
                continue
            data = t._data
            if g.shape != data.shape or g.dtype is not data.dtype or type(g) is not np.ndarray:
                shape, g = g.shape, np.asarray(unbroadcast(g, data.shape), data.dtype)
                if g.shape != data.shape:
                    raise ValueError(f"{node.name} gave an input of shape {data.shape} a gradient of shape {shape}")
            before = arrived.get(id(t))
            # A new array, for `before` may be another tensor's gradient too.
            arrived[id(t)] = g if before is None else np.asarray(before + g)
        yield tensor, dy, gradients, arrived
        # Their memory is for the next step.
        del dy, gradients
        if not retain_graph:
            vars(node).clear()


def first_gradient(result: "Tensor", gradient: "ArrayLike | Tensor | None") -> Array:
    """The gradient that going back from `result` begins with, checked."""
    if not result.requires_grad:
        raise RuntimeError("backward() of a tensor that does not require a gradient, and nothing of it does")
    if gradient is None:
        if result._data.size != 1:
            raise RuntimeError(f"backward() of a tensor of shape {result.shape} needs a gradient of that shape")
        gradient = np.ones_like(result._data)
    array = np.asarray(gradient._data if isinstance(gradient, Tensor) else gradient, result._data.dtype)
    if array.shape != result._data.shape:
        raise ValueError(f"gradient must have the shape of the tensor, {result.shape}, got {array.shape}")
    return array


# What a Tensor can do is made of what stands above.
from normlab.tensor.operators import Operators  # noqa: E402


class Tensor(Operators):
    """An array with a memory: `data`, and after backward() `grad`.

    Args:
        data: numbers, copied. Floating-point arrays are float32 or float64 and stay what they are; integers and
            booleans serve as indices and masks.
        requires_grad: whether backward() is to fill in `grad`.
        dtype: to convert to.

    Attributes:
        grad: an array of the shape of data, or None; each backward() adds to it.
        node: the Operation that it is the result of; None for what the user made.

    Raises:
        TypeError: for other dtypes, or a gradient of integers.
    """

    __slots__ = ("__weakref__", "_data", "_retained", "_stamp", "grad", "node", "requires_grad")
    # array + tensor is the tensor's business.
    __array_ufunc__ = None

    _data: Array
    grad: Array | None
    node: Operation | None
    requires_grad: bool

    def __init__(self, data: "ArrayLike | Tensor", requires_grad: bool = False, dtype: DTypeLike | None = None) -> None:
        array = np.array(data._data if isinstance(data, Tensor) else data, dtype)
        if array.dtype.kind not in "iub" and array.dtype not in FLOATS:
            raise TypeError(f"data must be float32, float64, integers or booleans, got {array.dtype}")
        if requires_grad and array.dtype.kind != "f":
            raise TypeError(f"only floating-point tensors have a gradient, got {array.dtype} with requires_grad=True")
        self._data, self.grad, self.node = array, None, None
        self.requires_grad, self._retained, self._stamp = requires_grad, False, [0]

    @property
    def data(self) -> Array:
        """The numbers. Assigning others (`t.data -= 0.1 * t.grad` does so) keeps shape and dtype; a graph that has
        used the old ones refuses to go back."""
        return self._data

    @data.setter
    def data(self, new: Array) -> None:
        if np.shape(new) != self._data.shape:
            raise ValueError(f"data must keep its shape {self._data.shape}, got {np.shape(new)}")
        if new is self._data:
            self.changed()
        else:
            self._data, self._stamp = np.array(new, self._data.dtype), [next(_numbers)]

    def changed(self) -> None:
        """To be said after numbers of `data` were changed in place, as `t.data[0] = 1` does, so that a graph that has
        used the old ones refuses to go back."""
        self._stamp[0] = next(_numbers)

    def backward(self, gradient: "ArrayLike | Tensor | None" = None, *, retain_graph: bool = False) -> None:
        """Add d(self)/d(leaf) to the `grad` of every leaf with requires_grad that self was computed from.

        Threads may go back over graphs of their own; a leaf that several share needs a lock around this.

        Args:
            gradient: of the final loss by self; 1 where self is a single number.
            retain_graph: keep the graph, so that it can be gone back over again.

        Raises:
            RuntimeError: when there is nothing to go back over, no gradient for many numbers, a freed graph, or data
                that was assigned after it had been used.
        """
        # As a loop would, but nothing is held on to from one step to the next.
        deque(walk(self, first_gradient(self, gradient), retain_graph=retain_graph), maxlen=0)

    def retain_grad(self) -> Self:
        """Have backward() fill in `grad` here too, though it is the result of something."""
        self._retained = True
        return self

    def _suffix(self) -> str:
        made = f", by {self.node.name}" if self.node else ", requires_grad=True" if self.requires_grad else ""
        return f", dtype={self._data.dtype}{made}"

    def detach(self) -> "Tensor":
        """The same numbers (not a copy) without their history."""
        tensor = wrap(self._data)
        tensor._stamp = self._stamp
        return tensor

    def zero_grad(self) -> None:
        """Forget `grad`."""
        self.grad = None
