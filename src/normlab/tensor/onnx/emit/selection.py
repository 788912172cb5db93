"""Embedding, masks, and indexing by slices and by arrays.

An index is written down in three steps. New axes are made first, so that each part of the index stands for one axis.
Then slices are cut. Then numbers and arrays of numbers are looked up.
"""

from typing import Any

import numpy as np

from normlab.tensor.core import Operation
from normlab.tensor.onnx.graph import Call, Emitter
from normlab.tensor.ops import selection

FAR = np.iinfo(np.int64)


def _embedding(operation: selection.Embedding, call: Call) -> str:
    ids = call.graph.cast(call.value(lambda o: o.ids), operation.ids.dtype, np.int64)
    return call.graph.node("Gather", *call.names, ids, axis=0)


# ONNX has no "not equal": there it is followed by Not.
COMPARISONS = {
    np.equal: "Equal",
    np.not_equal: "Equal",
    np.less: "Less",
    np.less_equal: "LessOrEqual",
    np.greater: "Greater",
    np.greater_equal: "GreaterOrEqual",
}


def _compare(operation: selection.Compare, call: Call) -> str:
    result = call.graph.node(COMPARISONS[operation.function], *call.cast(np.result_type(*call.inputs)))
    return call.graph.node("Not", result) if operation.function is np.not_equal else result


def _where(operation: selection.Where, call: Call) -> str:
    condition = call.graph.cast(call.value(lambda o: o.condition), operation.condition.dtype, np.bool_)
    return call.graph.node("Where", condition, *call.alike())


def _masked_fill(operation: selection.MaskedFill, call: Call) -> str:
    graph = call.graph
    mask = graph.cast(call.value(lambda o: o.mask), operation.mask.dtype, np.bool_)
    return graph.node("Where", mask, graph.constant(operation.value, call.result.dtype), *call.names)


def _parts(index: Any, ndim: int) -> list[Any]:
    """The parts of an index without Ellipsis; new axes are None."""
    parts: list[Any] = list(index) if isinstance(index, tuple) else [index]
    axes = ndim - sum(part is not None and part is not Ellipsis for part in parts)
    at = next((i for i, part in enumerate(parts) if part is Ellipsis), len(parts))
    return [*parts[:at], *[slice(None)] * axes, *parts[at + 1 :]]


def _apart(index: Any) -> bool:
    """Whether an Ellipsis stands between numbers and arrays. Their axes then come first, as if there were a slice, even
    where it stands for no axis."""
    parts = index if isinstance(index, tuple) else (index,)
    looked_up = [i for i, p in enumerate(parts) if not isinstance(p, slice | None) and p is not Ellipsis]
    return any(p is Ellipsis and looked_up and looked_up[0] < i < looked_up[-1] for i, p in enumerate(parts))


def _get_item(operation: selection.GetItem, call: Call) -> str:
    (x,) = call.names
    graph, ndim = call.graph, call.inputs[0].ndim
    parts = _parts(operation.index, ndim)
    others = _parts(getattr(call.second.operation, "index", None), ndim)
    if any(np.asarray(part).dtype == np.bool_ for part in parts if not isinstance(part, slice | None)):
        raise NotImplementedError(
            "GetItem by a mask cannot be exported: the shape of its result depends on numbers; "
            "use where() or masked_fill()"
        )
    new = [i for i, part in enumerate(parts) if part is None]
    if new:
        x = graph.node("Unsqueeze", x, graph.constant(np.array(new, np.int64)))
    cut: list[Any] = [slice(None) if part is None else part for part in parts]
    x = _slices(x, cut, _sizes(parts, call.inputs[0].shape), _sizes(others, call.second.inputs[0].shape), call)
    arrays = [i for i, part in enumerate(cut) if not isinstance(part, slice)]
    if all(np.ndim(parts[i]) == 0 for i in arrays):
        # From the last one on, for each takes its axis away.
        for i in reversed(arrays):
            x = graph.node("Gather", x, _numbers(parts[i], others[i], call), axis=i)
        return x
    if len(arrays) == 1:
        (i,) = arrays
        return graph.node("Gather", x, _numbers(parts[i], others[i], call), axis=i)
    return _gather_nd(x, parts, others, arrays, call, apart=_apart(operation.index))


def _numbers(first: Any, second: Any, call: Call) -> str:
    array = np.asanyarray(first)
    return call.graph.cast(call.graph.value(array, np.asanyarray(second)), array.dtype, np.int64)


def _sizes(parts: list[Any], shape: tuple[int, ...]) -> list[int]:
    """Of the axis that each part of an index stands for."""
    left = iter(shape)
    return [1 if part is None else next(left) for part in parts]


def _slices(x: str, parts: list[Any], sizes: list[int], others: list[int], call: Call) -> str:
    cut = [(i, part) for i, part in enumerate(parts) if isinstance(part, slice) and part != slice(None)]
    if not cut:
        return x
    starts, ends, steps = [], [], []
    for i, part in cut:
        step = 1 if part.step is None else part.step
        if step < 0 and sizes[i] == others[i]:
            # Backwards ONNX and NumPy differ in where a start before the first number is moved to.
            chosen = range(*part.indices(sizes[i]))
            first, last = (chosen.start, chosen.stop) if chosen else (0, 0)
            part = slice(first, last if last >= 0 else FAR.min, step if chosen else 1)
            step = part.step
        first, last = (0, FAR.max) if step > 0 else (FAR.max, FAR.min)
        starts.append(first if part.start is None else part.start)
        ends.append(last if part.stop is None else part.stop)
        steps.append(step)
    lists = (starts, ends, [i for i, _ in cut], steps)
    return call.graph.node("Slice", x, *(call.graph.constant(np.array(list_, np.int64)) for list_ in lists))


def _gather_nd(x: str, parts: list[Any], others: list[Any], arrays: list[int], call: Call, *, apart: bool) -> str:
    """Several arrays, which are broadcast against each other; their axes come first, or where they stood together."""
    graph = call.graph
    shapes = [np.broadcast_shapes(*(np.shape(p[i]) for i in arrays)) for p in (parts, others)]
    columns = []
    for i in arrays:
        before = np.shape(parts[i]), np.shape(others[i])
        column = graph.expand(_numbers(parts[i], others[i], call), before, (shapes[0], shapes[1]))
        columns.append(graph.node("Unsqueeze", column, graph.constant([-1], np.int64)))
    rest = [i for i in range(len(parts)) if i not in arrays]
    x = graph.node("Transpose", x, perm=[*arrays, *rest])
    x = graph.node("GatherND", x, graph.node("Concat", *columns, axis=-1))
    if apart or arrays != list(range(arrays[0], arrays[-1] + 1)) or not arrays[0]:
        return x
    block, before = len(shapes[0]), arrays[0]
    order = [*range(block, block + before), *range(block), *range(block + before, block + len(rest))]
    return graph.node("Transpose", x, perm=order)


EMITTERS: dict[type[Operation], Emitter] = {
    selection.Compare: _compare,
    selection.Embedding: _embedding,
    selection.Where: _where,
    selection.MaskedFill: _masked_fill,
    selection.GetItem: _get_item,
}
