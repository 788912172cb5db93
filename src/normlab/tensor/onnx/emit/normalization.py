"""The norms, each as ONNX's own node.

ONNX takes the statistics of LayerNormalization, RMSNormalization and GroupNormalization in the dtype that `stash_type`
says, float32 unless told otherwise; for float64 it must be told. eps is float32 in any case, so that a float64 model
may differ by 3e-8 * eps / (var + eps) of a result.
"""

from typing import Any

import numpy as np
from onnx import helper

from normlab.spec import NormSpec
from normlab.tensor.core import Operation
from normlab.tensor.onnx.graph import Call, Emitter
from normlab.tensor.ops import normalization


def _attributes(spec: NormSpec, call: Call) -> dict[str, Any]:
    dtype = call.inputs[0].dtype
    eps = float(np.finfo(dtype).eps) if spec.eps is None else spec.eps
    return {"epsilon": eps, "stash_type": helper.np_dtype_to_tensor_dtype(dtype)}


def _parameters(call: Call, shape: tuple[int, ...], offset: float = 0.0) -> tuple[str, str, list[str]]:
    """x, the scale (which ONNX asks for) and, if there is one, the bias."""
    dtype = call.inputs[0].dtype
    x, *parameters = call.cast(dtype)
    if not parameters:
        return x, call.graph.constant(np.ones(shape, dtype)), []
    scale, *bias = parameters
    if offset:
        scale = call.graph.node("Add", scale, call.graph.constant(offset, dtype))
    return x, scale, bias


def _layer_norm(operation: normalization.LayerNorm, call: Call) -> str:
    x, scale, bias = _parameters(call, operation.shape, operation.spec.offset)
    attributes = _attributes(operation.spec, call)
    return call.graph.node("LayerNormalization", x, scale, *bias, axis=-len(operation.shape), **attributes)


def _rms_norm(operation: normalization.RMSNorm, call: Call) -> str:
    x, scale, _ = _parameters(call, operation.shape, operation.spec.offset)
    attributes = _attributes(operation.spec, call)
    return call.graph.node("RMSNormalization", x, scale, axis=-len(operation.shape), **attributes)


def _batch_norm(operation: normalization.BatchNorm, call: Call) -> str:
    """In evaluation; in training it would have to hand out the running statistics too."""
    graph, dtype = call.graph, call.inputs[0].dtype
    channels = call.inputs[0].shape[1:2]
    x, scale, bias = _parameters(call, channels)
    statistics = [
        graph.cast(call.value(lambda o: o.mean), np.asarray(operation.mean).dtype, dtype),
        graph.cast(call.value(lambda o: o.var), np.asarray(operation.var).dtype, dtype),
    ]
    bias = bias or [graph.constant(np.zeros(channels, dtype))]
    return graph.node("BatchNormalization", x, scale, *bias, *statistics, epsilon=operation.eps)


def _group_norm(operation: normalization.GroupNorm, call: Call) -> str:
    channels = call.inputs[0].shape[1:2]
    x, scale, bias = _parameters(call, channels)
    bias = bias or [call.graph.constant(np.zeros(channels, call.inputs[0].dtype))]
    attributes = _attributes(operation.spec, call)
    return call.graph.node("GroupNormalization", x, scale, *bias, num_groups=operation.groups, **attributes)


EMITTERS: dict[type[Operation], Emitter] = {
    normalization.LayerNorm: _layer_norm,
    normalization.RMSNorm: _rms_norm,
    normalization.BatchNorm: _batch_norm,
    normalization.GroupNorm: _group_norm,
}
