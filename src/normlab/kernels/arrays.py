"""The CPU kernels on NumPy arrays, without PyTorch; where they cannot run, the same in NumPy's operations.

    forward(x, weight, bias, spec)                        -> y, stats
    backward(dy, x, weight, stats, spec, biased)          -> dx, dweight, dbias

x, dy: (rows, n), contiguous, float32 or float64, both of one dtype; weight, bias: (n,), contiguous. What is computed
stands in `fused`; stats are as there. Nothing that is given is written to.
"""

import numpy as np
from numpy.typing import NDArray

from normlab.kernels import cpu_plan
from normlab.kernels.cpu_build import BuildError, unusable
from normlab.kernels.cpu_plan import EPSILON
from normlab.spec import NormSpec

Array = NDArray[np.floating]


def _address(array: Array | None) -> int:
    return 0 if array is None else array.__array_interface__["data"][0]


def _name(array: Array | None) -> str:
    return "" if array is None else array.dtype.name


def forward(x: Array, weight: Array | None, bias: Array | None, spec: NormSpec) -> tuple[Array, Array]:
    """y, and for each row rstd, or for LayerNorm mean and rstd, in float64."""
    rows, n = x.shape
    if not x.size or unusable() is not None:
        return _plain_forward(x, weight, bias, spec)
    plan = cpu_plan.plan(_name(x), _name(weight), _name(bias), False, False, spec)
    y, stats = np.empty_like(x), np.empty((rows, 1 + plan.forward.layer))
    try:
        cpu_plan.run_forward(
            plan, rows, n, _address(x), 0, _address(weight), _address(bias), _address(y), 0, _address(stats)
        )
    except BuildError:
        return _plain_forward(x, weight, bias, spec)
    return y, stats


def backward(
    dy: Array, x: Array, weight: Array | None, stats: Array, spec: NormSpec, biased: bool
) -> tuple[Array, Array | None, Array | None]:
    """dx, dweight (None without a weight) and dbias (None unless there is a bias), each of x's dtype."""
    rows, n = x.shape
    if not x.size or unusable() is not None:
        return _plain_backward(dy, x, weight, stats, spec, biased)
    name = _name(x)
    plan = cpu_plan.plan(name, _name(weight), name if biased else "", False, False, spec)
    dx = np.empty_like(x)
    dweight = None if weight is None else np.empty_like(weight)
    dbias = np.empty(n, x.dtype) if biased else None
    partial = np.empty(cpu_plan.partial_length(rows, n, (weight is not None) + biased), x.dtype)
    try:
        cpu_plan.run_backward(
            plan, rows, n, _address(dy), 0, _address(x), _address(weight), _address(stats), _address(dx),
            _address(partial), _address(dweight), _address(dbias),
        )  # fmt: skip
    except BuildError:
        return _plain_backward(dy, x, weight, stats, spec, biased)
    return dx, dweight, dbias


def _plain_forward(x: Array, weight: Array | None, bias: Array | None, spec: NormSpec) -> tuple[Array, Array]:
    wide = x.astype(np.float64)
    mean = wide.mean(1, keepdims=True) if spec.kind == "layernorm" else np.zeros((len(x), 1))
    c = wide - mean
    eps = EPSILON[x.dtype.name] if spec.eps is None else spec.eps
    rstd = 1 / np.sqrt(np.mean(c * c, 1, keepdims=True) + eps)
    y = c * rstd
    if weight is not None:
        y = y * (spec.offset + weight)
    if bias is not None:
        y = y + bias
    return y.astype(x.dtype), np.hstack((mean, rstd)) if spec.kind == "layernorm" else rstd


def _plain_backward(
    dy: Array, x: Array, weight: Array | None, stats: Array, spec: NormSpec, biased: bool
) -> tuple[Array, Array | None, Array | None]:
    layer = spec.kind == "layernorm"
    rstd = stats[:, -1:]
    h = (x - stats[:, :1] if layer else x) * rstd
    u = dy if weight is None else dy * (spec.offset + weight)
    dx = u - h * np.mean(u * h, 1, keepdims=True)
    if layer:
        dx = dx - u.mean(1, keepdims=True)
    dweight = None if weight is None else np.sum(dy * h, 0).astype(weight.dtype)
    dbias = np.asarray(np.sum(dy, 0, dtype=np.float64), x.dtype) if biased else None
    return (rstd * dx).astype(x.dtype), dweight, dbias
