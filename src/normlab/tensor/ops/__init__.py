"""The operations, by subject: each is its formula, its derivative and a function that applies it."""

from normlab.tensor.ops.arithmetic import add, div, linear, matmul, mul, neg, power, sub
from normlab.tensor.ops.elementwise import absolute, exp, gelu, log, maximum, minimum, relu, sigmoid, silu, sqrt, tanh
from normlab.tensor.ops.losses import cross_entropy, log_softmax, mse_loss, nll_loss, softmax
from normlab.tensor.ops.normalization import batch_norm, group_norm, layer_norm, rms_norm
from normlab.tensor.ops.reductions import amax, amin, cumsum, mean, total, var
from normlab.tensor.ops.selection import compare, dropout, embedding, getitem, masked_fill, where
from normlab.tensor.ops.shape import broadcast_to, cat, permute, reshape, stack, transpose

__all__ = [
    "absolute",
    "add",
    "amax",
    "amin",
    "batch_norm",
    "broadcast_to",
    "cat",
    "compare",
    "cross_entropy",
    "cumsum",
    "div",
    "dropout",
    "embedding",
    "exp",
    "gelu",
    "getitem",
    "group_norm",
    "layer_norm",
    "linear",
    "log",
    "log_softmax",
    "masked_fill",
    "matmul",
    "maximum",
    "mean",
    "minimum",
    "mse_loss",
    "mul",
    "neg",
    "nll_loss",
    "permute",
    "power",
    "relu",
    "reshape",
    "rms_norm",
    "sigmoid",
    "silu",
    "softmax",
    "sqrt",
    "stack",
    "sub",
    "tanh",
    "total",
    "transpose",
    "var",
    "where",
]
