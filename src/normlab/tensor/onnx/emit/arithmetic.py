"""+ - * / ** @, the linear layer, and functions of single numbers."""

import math

import numpy as np

from normlab.tensor.core import Operation
from normlab.tensor.onnx.graph import Call, Emitter
from normlab.tensor.ops import arithmetic, elementwise


def _same_name(kind: str) -> Emitter:
    """A node that does just what the operation does."""

    def emit(operation: Operation, call: Call) -> str:
        return call.graph.node(kind, *call.alike())

    return emit


def _linear(operation: arithmetic.Linear, call: Call) -> str:
    """Gemm for a matrix; a stack of matrices has no Gemm."""
    graph, (x, weight, *bias) = call.graph, call.alike()
    if call.inputs[0].ndim == 2:
        return graph.node("Gemm", x, weight, *bias, transB=1)
    y = graph.node("MatMul", x, graph.node("Transpose", weight, perm=[1, 0]))
    return graph.node("Add", y, *bias) if bias else y


def _silu(operation: elementwise.SiLU, call: Call) -> str:
    """Swish came with opset 24."""
    (x,) = call.alike()
    return call.graph.node("Mul", x, call.graph.node("Sigmoid", x))


def _gelu(operation: elementwise.GELU, call: Call) -> str:
    (x,) = call.alike()
    if call.result.dtype != np.float64:
        return call.graph.node("Gelu", x)
    # Runtimes that take ONNX's Gelu apart have its constants in float32.
    return _gated(x, call.graph.node("Erf", _times(x, math.sqrt(0.5), call)), call)


def _gelu_tanh(operation: elementwise.GELUTanh, call: Call) -> str:
    (x,) = call.alike()
    graph = call.graph
    if call.result.dtype != np.float64:
        return graph.node("Gelu", x, approximate="tanh")
    cubic = _times(graph.node("Mul", x, graph.node("Mul", x, x)), 0.044715, call)
    inner = _times(graph.node("Add", x, cubic), math.sqrt(2 / math.pi), call)
    return _gated(x, graph.node("Tanh", inner), call)


def _times(x: str, factor: float, call: Call) -> str:
    return call.graph.node("Mul", x, call.graph.constant(factor, call.result.dtype))


def _gated(x: str, t: str, call: Call) -> str:
    """x * (1 + t) / 2."""
    one = call.graph.constant(1, call.result.dtype)
    return _times(call.graph.node("Mul", x, call.graph.node("Add", t, one)), 0.5, call)


def _pow(operation: arithmetic.Pow, call: Call) -> str:
    x, exponent = call.alike()
    if call.inputs[1].ndim == 0 and call.inputs[1] == 2 and call.result.dtype.kind == "f":
        # As the engine has it, and exact.
        return call.graph.node("Mul", x, x)
    return call.graph.node("Pow", x, exponent)


def _relu(operation: elementwise.ReLU, call: Call) -> str:
    if call.result.dtype.kind == "u":
        return call.graph.node("Identity", *call.names)
    return call.graph.node("Relu", *call.alike())


def _neg(operation: arithmetic.Neg, call: Call) -> str:
    if call.result.dtype.kind == "u":
        return call.graph.node("Sub", call.graph.constant(np.zeros((), call.result.dtype)), *call.names)
    return call.graph.node("Neg", *call.names)


EMITTERS: dict[type[Operation], Emitter] = {
    arithmetic.Add: _same_name("Add"),
    arithmetic.Sub: _same_name("Sub"),
    arithmetic.Mul: _same_name("Mul"),
    arithmetic.Div: _same_name("Div"),
    arithmetic.Neg: _neg,
    arithmetic.Pow: _pow,
    arithmetic.MatMul: _same_name("MatMul"),
    arithmetic.Linear: _linear,
    elementwise.Exp: _same_name("Exp"),
    elementwise.Log: _same_name("Log"),
    elementwise.Sqrt: _same_name("Sqrt"),
    elementwise.Abs: _same_name("Abs"),
    elementwise.Tanh: _same_name("Tanh"),
    elementwise.Sigmoid: _same_name("Sigmoid"),
    elementwise.ReLU: _relu,
    elementwise.SiLU: _silu,
    elementwise.GELU: _gelu,
    elementwise.GELUTanh: _gelu_tanh,
    elementwise.Maximum: _same_name("Max"),
    elementwise.Minimum: _same_name("Min"),
}
