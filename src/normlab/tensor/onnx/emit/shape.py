"""Other shapes and orders, and several tensors as one."""

import numpy as np

from normlab.tensor.core import Operation
from normlab.tensor.onnx.graph import Call, Emitter
from normlab.tensor.ops import shape


def _reshape(operation: shape.Reshape, call: Call) -> str:
    return call.graph.reshape(call.names[0], call.input_shapes(), call.shapes)


def _permute(operation: shape.Permute, call: Call) -> str:
    return call.graph.node("Transpose", *call.names, perm=[a % call.result.ndim for a in operation.axes])


def _broadcast_to(operation: shape.BroadcastTo, call: Call) -> str:
    return call.graph.expand(call.names[0], call.input_shapes(), call.shapes)


def _cat(operation: shape.Cat, call: Call) -> str:
    return call.graph.node("Concat", *call.alike(), axis=operation.axis)


def _stack(operation: shape.Stack, call: Call) -> str:
    axis = call.graph.constant([operation.axis], np.int64)
    return call.graph.node(
        "Concat", *(call.graph.node("Unsqueeze", x, axis) for x in call.alike()), axis=operation.axis
    )


EMITTERS: dict[type[Operation], Emitter] = {
    shape.Reshape: _reshape,
    shape.Permute: _permute,
    shape.BroadcastTo: _broadcast_to,
    shape.Cat: _cat,
    shape.Stack: _stack,
}
