"""scales(): the size of what each layer of a module gives, and of the gradient that comes back to it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from normlab.tensor.core import Tensor
from normlab.tensor.inside import text
from normlab.tensor.inside.recording import Recording, record
from normlab.tensor.layers.module import Module


@dataclass(frozen=True, slots=True)
class Scale:
    """A call of one layer.

    Attributes:
        name, kind: the layer's path and class.
        shape: of its result.
        rms: the root mean square of its result's finite numbers.
        non_finite: how many of them are not finite.
        gradient_rms: the same of the gradient by its result; None where none came.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    rms: float
    non_finite: int
    gradient_rms: float | None


@dataclass(frozen=True)
class Scales:
    """The layers of a module in the order in which they finished.

    Attributes:
        layers: one for each call of a layer that gave a tensor.
    """

    layers: tuple[Scale, ...]

    def table(self) -> Table:
        """A line for each layer."""
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        table.add_column("layer", overflow="fold")
        table.add_column("kind", overflow="fold")
        table.add_column("shape", no_wrap=True)
        table.add_column("RMS of\nresult", justify="right", no_wrap=True)
        table.add_column("RMS of\ngradient", justify="right", no_wrap=True)
        for s in self.layers:
            cells = (s.name or "(all)", s.kind, text.shape(s.shape))
            table.add_row(*map(Text, cells), text.rms(s.rms, s.non_finite), text.rms(s.gradient_rms))
        if any(s.non_finite for s in self.layers):
            table.caption, table.caption_justify = "! of the finite numbers: others are NaN or infinite", "left"
        return table

    def __rich__(self) -> Table:
        return self.table()

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return text.plain(self.table())

    def _repr_html_(self) -> str:
        return text.preformatted(str(self))


def scales(module: Module, *inputs: Any, loss: Callable[[Any], Tensor] | None = None) -> Scales:
    """Run a module forward and backward once, and measure every layer.

    Gradients and running statistics of the module are afterwards what they were.

    Args:
        module: a layer or a model.
        inputs: what it is called with.
        loss: from its result to a single number. Without one, a gradient of normal random numbers (always the same)
            is sent back, so that gradients are relative to one of RMS 1 at the result.

    Raises:
        TypeError: when the result is no tensor, and there is no loss.
    """
    seen: list[tuple[str, Module, int]] = []
    with _kept(module, inputs), record() as recording, _watched(module, recording, seen):
        result = module(*inputs)
        if loss is not None:
            result = loss(result)
        if not isinstance(result, Tensor):
            raise TypeError(f"the result must be a Tensor, got {type(result).__name__}: give a loss")
        if result.requires_grad:
            seed = None if loss is not None else np.random.default_rng(0).standard_normal(result.shape)
            result.backward(seed)
    calls: list[Scale] = []
    for name, layer, number in seen:
        fact = recording.nodes[number]
        calls.append(Scale(name, type(layer).__name__, fact.shape, fact.rms, fact.non_finite, fact.gradient_rms))
    return Scales(tuple(calls))


@contextmanager
def _watched(module: Module, recording: Recording, seen: list[tuple[str, Module, int]]) -> Iterator[None]:
    """Each layer's forward is followed by a note of where its result stands in the recording."""

    def watch(name: str, layer: Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*inputs: Any, **options: Any) -> Any:
            result = forward(*inputs, **options)
            if isinstance(result, Tensor):
                number = recording.number_of(result)
                if number is not None:
                    seen.append((name, layer, number))
            return result

        return watched

    # A layer may stand at several paths: it is watched once, under the first.
    layers = {id(layer): (name, layer) for name, layer in reversed(list(module.named_modules()))}
    before = {i: vars(layer).get("forward") for i, (_, layer) in layers.items()}
    for name, layer in layers.values():
        layer.forward = watch(name, layer, layer.forward)
    try:
        yield
    finally:
        for i, (_, layer) in layers.items():
            own = before[i]
            if own is None:
                del layer.forward
            else:
                layer.forward = own


@contextmanager
def _kept(module: Module, inputs: tuple[Any, ...]) -> Iterator[None]:
    """Gradients and buffers are put back."""
    parameters = [*module.parameters(), *(x for x in inputs if isinstance(x, Tensor))]
    gradients = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    buffers = [(m, name, getattr(m, name)) for m in module.modules() for name in m.buffers]
    arrays = [None if value is None else np.array(value) for _, _, value in buffers]
    try:
        yield
    finally:
        for p, gradient in zip(parameters, gradients, strict=True):
            p.grad = gradient
        for (m, name, value), array in zip(buffers, arrays, strict=True):
            # Into the same array, which others may hold too.
            if value is not None:
                value[...] = array
            setattr(m, name, value)
