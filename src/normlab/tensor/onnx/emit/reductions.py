"""Many numbers to few."""

import numpy as np

from normlab.tensor.core import Operation
from normlab.tensor.onnx.graph import Call, Emitter
from normlab.tensor.ops import reductions


def _reduction(kind: str) -> Emitter:
    """A node over the operation's axes."""

    def emit(operation: reductions._Reduction, call: Call) -> str:
        (x,) = call.alike()
        ndim, axis = call.inputs[0].ndim, operation.axis
        axes = range(ndim) if axis is None else [axis] if isinstance(axis, int) else axis
        if not len(axes):
            # To ONNX, no axes are all axes.
            return call.graph.node("Identity", x)
        at = call.graph.constant(np.array([a % ndim for a in axes], np.int64))
        return call.graph.node(kind, x, at, keepdims=int(operation.keepdims))

    return emit


def _cumsum(operation: reductions.CumSum, call: Call) -> str:
    (x,) = call.alike()
    return call.graph.node("CumSum", x, call.graph.constant(operation.axis, np.int64))


EMITTERS: dict[type[Operation], Emitter] = {
    reductions.Sum: _reduction("ReduceSum"),
    reductions.Mean: _reduction("ReduceMean"),
    reductions.Max: _reduction("ReduceMax"),
    reductions.Min: _reduction("ReduceMin"),
    reductions.CumSum: _cumsum,
}
