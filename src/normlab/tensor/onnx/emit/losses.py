"""softmax and the losses."""

import numpy as np

from normlab.tensor.core import Operation
from normlab.tensor.onnx.graph import Call, Emitter
from normlab.tensor.ops import losses

Classified = losses.CrossEntropy | losses.NLL


def _softmax(operation: losses.Softmax, call: Call) -> str:
    return call.graph.node("Softmax", *call.alike(), axis=operation.axis)


def _log_softmax(operation: losses.LogSoftmax, call: Call) -> str:
    return call.graph.node("LogSoftmax", *call.alike(), axis=operation.axis)


def _target(operation: Classified, call: Call) -> str:
    return call.graph.cast(call.value(lambda o: o.target), operation.target.dtype, np.int64)


def _cross_entropy(operation: losses.CrossEntropy, call: Call) -> str:
    target, ignored = _target(operation, call), operation.ignore_index
    if operation.smoothing:
        return _smoothed(operation, call, target, ignored)
    return call.graph.node(
        "SoftmaxCrossEntropyLoss", *call.names, target, reduction=operation.reduction, ignore_index=ignored
    )


def _smoothed(operation: losses.CrossEntropy, call: Call, target: str, ignored: int) -> str:
    """-(1 - s) log p[target] - s mean(log p), for which ONNX has no node, of the rows that count."""
    graph, dtype, s = call.graph, call.result.dtype, operation.smoothing
    log_p = graph.node("LogSoftmax", *call.names, axis=1)
    right = graph.node("NegativeLogLikelihoodLoss", log_p, target, reduction="none", ignore_index=ignored)
    mean = graph.node("ReduceMean", log_p, graph.constant([1], np.int64), keepdims=0)
    counts = graph.node("Not", graph.node("Equal", target, graph.constant(ignored, np.int64)))
    mean = graph.node("Where", counts, mean, graph.constant(0, dtype))
    summands = (graph.node("Mul", x, graph.constant(f, dtype)) for x, f in ((right, 1 - s), (mean, -s)))
    y = graph.node("Add", *summands)
    if operation.reduction == "none":
        return y
    y = graph.node("ReduceSum", y, keepdims=0)
    if operation.reduction == "sum":
        return y
    return graph.node("Div", y, graph.node("ReduceSum", graph.cast(counts, np.bool_, dtype), keepdims=0))


def _nll(operation: losses.NLL, call: Call) -> str:
    target, ignored = _target(operation, call), operation.ignore_index
    return call.graph.node(
        "NegativeLogLikelihoodLoss", *call.names, target, reduction=operation.reduction, ignore_index=ignored
    )


def _mse(operation: losses.MSE, call: Call) -> str:
    difference = call.graph.node("Sub", *call.alike())
    squares = call.graph.node("Mul", difference, difference)
    if operation.reduction == "none":
        return squares
    return call.graph.node("ReduceMean" if operation.reduction == "mean" else "ReduceSum", squares, keepdims=0)


EMITTERS: dict[type[Operation], Emitter] = {
    losses.Softmax: _softmax,
    losses.LogSoftmax: _log_softmax,
    losses.CrossEntropy: _cross_entropy,
    losses.NLL: _nll,
    losses.MSE: _mse,
}
