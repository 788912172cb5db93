"""The CPU kernels on NumPy arrays, without PyTorch; where they cannot run, the same in NumPy's operations.

    forward(x, weight, bias, spec) -> y, kept
    backward(dy, kept)             -> dx, dweight, dbias

x, dy: (rows, n), contiguous, float32 or float64; weight, bias: (n,), contiguous; all of one dtype. What is computed
stands in `fused`. Nothing that is given is written to.
"""

import ctypes
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normlab.kernels import cpu_plan
from normlab.kernels.cpu_build import BuildError, unusable
from normlab.kernels.cpu_plan import EPSILON
from normlab.kernels.cpu_threads import threads
from normlab.spec import NormSpec

Array = NDArray[np.floating]

# `dtype.name` takes as long as a small norm.
NAMES = {np.dtype(np.float32): "float32", np.dtype(np.float64): "float64"}


class Kept(NamedTuple):
    """What the backward pass needs of the forward pass.

    Attributes:
        x, weight, spec: as given; `biased`: whether there was a bias.
        stats: for each row rstd, or for LayerNorm mean and rstd, in float64.
        addresses: of x, weight and stats.
    """

    x: Array
    weight: Array | None
    spec: NormSpec
    biased: bool
    stats: NDArray[np.float64]
    addresses: tuple[int, int, int]


def _address(array: Array | None) -> int:
    if array is None:
        return 0
    try:
        # In a quarter of the time that NumPy's own ways take.
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        # Arrays that must not be written to, and empty ones.
        return array.__array_interface__["data"][0]


def forward(x: Array, weight: Array | None, bias: Array | None, spec: NormSpec) -> tuple[Array, Kept]:
    """y, and what `backward` needs.

    Raises:
        TypeError: for parameters of another dtype than x: a kernel would read their memory as x's.
    """
    for p in (weight, bias):
        if p is not None and p.dtype != x.dtype:
            raise TypeError(f"weight and bias must have the dtype of x, {x.dtype}, got {p.dtype}")
    if x.size and unusable() is None:
        try:
            name = NAMES[x.dtype]
            w, b = name if weight is not None else "", name if bias is not None else ""
            plan = cpu_plan.forward_plan(name, w, b, False, spec, *x.shape, threads())
        except BuildError:
            pass
        else:
            y, stats = np.empty_like(x), np.empty((plan.rows, plan.columns))
            at = _address(x), _address(weight), _address(stats)
            cpu_plan.run_forward(plan, at[0], 0, at[1], _address(bias), _address(y), 0, at[2])
            return y, Kept(x, weight, spec, bias is not None, stats, at)
    y, stats = _plain_forward(x, weight, bias, spec)
    return y, Kept(x, weight, spec, bias is not None, stats, (0, 0, 0))


def backward(dy: Array, kept: Kept) -> tuple[Array, Array | None, Array | None]:
    """dx, dweight (None without a weight) and dbias (None without a bias), each of x's dtype."""
    x, weight, spec, biased, stats, at = kept
    if not at[0]:
        return _plain_backward(dy, x, weight, stats, spec, biased)
    n, size = x.shape[1], x.itemsize
    try:
        name = NAMES[x.dtype]
        w, b = name if weight is not None else "", name if biased else ""
        plan = cpu_plan.backward_plan(name, w, b, False, spec, *x.shape, threads())
    except BuildError:
        return _plain_backward(dy, x, weight, stats, spec, biased)
    dx = np.empty_like(x)
    # The sums that are returned, and behind them the sums of blocks.
    sums = n * ((weight is not None) + biased)
    room = np.empty(sums + plan.partial // size, x.dtype)
    start = _address(room)
    at_weight, at_bias = start if weight is not None else 0, start + size * (sums - n) if biased else 0
    cpu_plan.run_backward(
        plan, _address(dy), 0, at[0], at[1], at[2], _address(dx), start + size * sums, at_weight, at_bias
    )
    return dx, room[:n] if weight is not None else None, room[sums - n : sums] if biased else None


def _mean(rows: NDArray[Any]) -> NDArray[Any]:
    """Of each row, as a column; of a row without entries NaN, without NumPy's warning."""
    return np.mean(rows, axis=1, keepdims=True) if rows.shape[1] else np.full((len(rows), 1), np.nan)


def _plain_forward(x: Array, weight: Array | None, bias: Array | None, spec: NormSpec) -> tuple[Array, NDArray[Any]]:
    wide = x.astype(np.float64)
    mean = _mean(wide) if spec.kind == "layernorm" else np.zeros((len(x), 1))
    c = wide - mean
    eps = EPSILON[NAMES[x.dtype]] if spec.eps is None else spec.eps
    rstd = 1 / np.sqrt(_mean(c * c) + eps)
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
    dx = u - h * _mean(u * h)
    if layer:
        dx = dx - _mean(u)
    dweight = None if weight is None else np.sum(dy * h, 0).astype(weight.dtype)
    dbias = np.asarray(np.sum(dy, 0, dtype=np.float64), x.dtype) if biased else None
    return (rstd * dx).astype(x.dtype), dweight, dbias
