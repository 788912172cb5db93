"""Every operation as nodes: passed by onnx's checker, and equal to the engine's result in onnxruntime."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from normlab.tensor import Operation, cat, maximum, minimum, ops, stack, where
from normlab.tensor.onnx import EMITTERS, export
from normlab.tensor.ops import arithmetic, elementwise, losses, normalization, reductions, selection, shape

SUBJECTS = (arithmetic, elementwise, losses, normalization, reductions, selection, shape)

MASK = np.array([[True, False, True], [False, False, True]])
IDS = np.array([[0, 2, 2], [3, 0, 2]])
TARGET = np.array([2, 0, 1, 2])
SOME = np.array([2, -100, 1, -100])
# Attributes of ONNX's nodes are float32; such an eps is the same number there.
EPS = 2.0**-17
PICK = np.array([[0, 1], [1, -1]])

# name: (function, shapes of its inputs)
Case = tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]
CASES: dict[str, Case] = {
    "add, broadcast": (lambda a, b: a + b, ((2, 1, 3), (4, 1))),
    "add a number": (lambda a: 2 + a, ((2, 3),)),
    "sub from a number": (lambda a: 2 - a, ((2, 3),)),
    "mul": (lambda a, b: a * b, ((2, 3), (2, 1))),
    "div": (lambda a, b: a / b, ((3,), (2, 3))),
    "neg": (lambda a: -a, ((2, 3),)),
    "abs": (abs, ((2, 3),)),
    "square": (lambda a: a**2, ((2, 3),)),
    "cube": (lambda a: a**3, ((2, 3),)),
    "power": (lambda a, b: (a * a) ** b, ((2, 3), (3,))),
    "a number to the power": (lambda b: 1.7**b, ((2, 3),)),
    "matmul": (lambda a, b: a @ b, ((2, 3), (3, 4))),
    "matmul, stacks broadcast": (lambda a, b: a @ b, ((5, 1, 2, 3), (6, 3, 4))),
    "matmul, vectors": (lambda a, b: a @ b, ((3,), (3,))),
    "matmul, vector and stack": (lambda a, b: a @ b, ((3,), (5, 3, 4))),
    "matmul, stack and vector": (lambda a, b: a @ b, ((5, 2, 3), (3,))),
    "linear": (ops.linear, ((5, 3), (4, 3), (4,))),
    "linear without bias": (ops.linear, ((5, 3), (4, 3))),
    "linear, stack": (ops.linear, ((2, 5, 3), (4, 3), (4,))),
    "linear, stack without bias": (ops.linear, ((2, 5, 3), (4, 3))),
    "linear, vector": (ops.linear, ((3,), (4, 3), (4,))),
    "exp": (lambda a: a.exp(), ((2, 3),)),
    "log": (lambda a: (a * a).log(), ((2, 3),)),
    "sqrt": (lambda a: (a * a).sqrt(), ((2, 3),)),
    "tanh": (lambda a: a.tanh(), ((2, 3),)),
    "sigmoid": (lambda a: a.sigmoid(), ((2, 3),)),
    "relu": (lambda a: a.relu(), ((2, 3),)),
    "silu": (ops.silu, ((2, 3),)),
    "gelu": (ops.gelu, ((2, 3),)),
    "gelu, tanh": (lambda a: ops.gelu(a, "tanh"), ((2, 3),)),
    "maximum": (maximum, ((2, 3), (3,))),
    "minimum": (minimum, ((2, 3), (3,))),
    "sum": (lambda a: a.sum(), ((2, 3),)),
    "sum of a number": (lambda a: a.sum(), ((),)),
    "sum over no axes": (lambda a: a.sum(()), ((2, 3),)),
    "sum, axis": (lambda a: a.sum(1), ((2, 3, 4),)),
    "sum, axes, kept": (lambda a: a.sum((0, -1), True), ((2, 3, 4),)),
    "mean": (lambda a: a.mean(), ((2, 3),)),
    "mean, axes": (lambda a: a.mean((0, 2)), ((2, 3, 4),)),
    "var": (lambda a: a.var(-1), ((2, 3, 4),)),
    "var, unbiased": (lambda a: a.var((0, 1), True, unbiased=True), ((2, 3, 4),)),
    "max": (lambda a: a.max(), ((2, 3),)),
    "max, axis": (lambda a: a.max(1), ((2, 3, 4),)),
    "min, axis, kept": (lambda a: a.min(0, True), ((2, 3),)),
    "cumsum": (lambda a: a.cumsum(1), ((2, 3, 4),)),
    "cumsum from the end of the axes": (lambda a: a.cumsum(-1), ((2, 3, 4),)),
    "reshape": (lambda a: a.reshape(3, -1), ((2, 3, 4),)),
    "reshape without numbers": (lambda a: a.reshape(0, 6), ((2, 0, 3),)),
    "flatten": (lambda a: a.flatten(1), ((2, 3, 4),)),
    "permute, negative": (lambda a: a.permute(-1, 0, -2), ((2, 3, 4),)),
    "T": (lambda a: a.T, ((2, 3),)),
    "broadcast_to": (lambda a: ops.broadcast_to(a, (4, 2, 3)), ((2, 1),)),
    "cat": (lambda a, b: cat([a, b, a], 1), ((2, 3), (2, 1))),
    "stack": (lambda a, b: stack([a, b, a], -1), ((2, 3), (2, 3))),
    "getitem, number": (lambda a: a[1], ((2, 3),)),
    "getitem, numbers": (lambda a: a[-1, :, np.int64(2)], ((2, 3, 4),)),
    "getitem, slices": (lambda a: a[:, 1:, None, ::2], ((2, 3, 4),)),
    "getitem, ellipsis": (lambda a: a[..., -3:-1], ((2, 3, 4),)),
    "getitem, new axes around a number": (lambda a: a[None, 1, ..., None], ((2, 3, 4),)),
    "getitem, out of bounds": (lambda a: a[-9:9, 5:], ((2, 3),)),
    "getitem, negative step": (lambda a: a[::-1, -1:0:-2], ((3, 4),)),
    "getitem, list": (lambda a: a[[0, 1, 1, 0, 1]], ((2, 3),)),
    "getitem, matrix of numbers": (lambda a: a[:, PICK], ((3, 2, 4),)),
    "getitem, two arrays": (lambda a: a[np.array([0, 0, 1]), np.array([2, 2, 1])], ((2, 3),)),
    "getitem, two arrays after a slice": (lambda a: a[1:, PICK, np.array([2, 0])], ((3, 2, 4),)),
    "getitem, arrays apart": (lambda a: a[PICK, :, np.array([2, 0])], ((2, 3, 4),)),
    "getitem, array and number apart": (lambda a: a[:, PICK, None, 1, ::2], ((3, 2, 2, 4),)),
    "getitem, array and number": (lambda a: a[:, 1, PICK], ((3, 2, 4, 2),)),
    "embedding": (lambda w: ops.embedding(w, IDS), ((5, 3),)),
    "embedding, narrow ids": (lambda w: ops.embedding(w, IDS.astype(np.uint8)), ((5, 3),)),
    "where": (lambda a, b: where(MASK, a, b), ((2, 3), (3,))),
    "where, greater": (lambda a, b: where(a > b, a, b), ((2, 3), (3,))),
    "where, not equal": (lambda a: where(a != a * a, a, 0.5), ((2, 3),)),
    "where, comparisons": (
        lambda a, b: where(a <= b, 1.0, 0.0) + where(a < 0, a, b) + where(b >= a, b, a) + where(a == b, 2.0, a),
        ((2, 3), (2, 3)),
    ),
    "where, a number": (lambda a: where(MASK, a, 0.5), ((2, 3),)),
    "masked_fill": (lambda a: a.masked_fill(MASK, -np.inf), ((2, 3),)),
    "softmax": (lambda a: a.softmax(), ((2, 3),)),
    "softmax, axis": (lambda a: a.softmax(1), ((2, 3, 4),)),
    "log_softmax": (lambda a: a.log_softmax(1), ((2, 3, 4),)),
    "cross_entropy": (lambda a: ops.cross_entropy(a, TARGET), ((4, 3),)),
    "cross_entropy, sum": (lambda a: ops.cross_entropy(a, TARGET, reduction="sum"), ((4, 3),)),
    "cross_entropy, ignored": (lambda a: ops.cross_entropy(a, SOME), ((4, 3),)),
    "cross_entropy, ignored class": (lambda a: ops.cross_entropy(a, TARGET, ignore_index=2), ((4, 3),)),
    "cross_entropy, none": (lambda a: ops.cross_entropy(a, SOME, reduction="none"), ((4, 3),)),
    "cross_entropy, images": (lambda a: ops.cross_entropy(a, IDS % 3, reduction="none"), ((2, 4, 3),)),
    "cross_entropy, smoothed": (lambda a: ops.cross_entropy(a, SOME, label_smoothing=0.1), ((4, 3),)),
    "cross_entropy, smoothed, sum": (
        lambda a: ops.cross_entropy(a, TARGET, label_smoothing=0.1, reduction="sum"),
        ((4, 3),),
    ),
    "cross_entropy, smoothed, none": (
        lambda a: ops.cross_entropy(a, SOME, label_smoothing=0.1, reduction="none"),
        ((4, 3),),
    ),
    "nll_loss": (lambda a: ops.nll_loss(a, SOME), ((4, 3),)),
    "nll_loss, none": (lambda a: ops.nll_loss(a, TARGET, reduction="none"), ((4, 3),)),
    "mse_loss": (ops.mse_loss, ((2, 3), (2, 3))),
    "mse_loss, sum": (lambda a, b: ops.mse_loss(a, b, reduction="sum"), ((2, 3), (2, 3))),
    "mse_loss, none": (lambda a, b: ops.mse_loss(a, b, reduction="none"), ((2, 3), (2, 3))),
    "layer_norm": (lambda x, w, b: ops.layer_norm(x, 4, w, b, EPS), ((2, 3, 4), (4,), (4,))),
    "layer_norm, two axes": (lambda x, w, b: ops.layer_norm(x, (3, 4), w, b, EPS), ((2, 3, 4), (3, 4), (3, 4))),
    "layer_norm, without beta": (lambda x, w: ops.layer_norm(x, 4, w, eps=0.125), ((3, 4), (4,))),
    "layer_norm, plain": (lambda x: ops.layer_norm(x, 4, eps=EPS), ((3, 4),)),
    "rms_norm": (lambda x, w: ops.rms_norm(x, 4, w, EPS), ((2, 3, 4), (4,))),
    "rms_norm, two axes": (lambda x, w: ops.rms_norm(x, (3, 4), w, EPS), ((2, 3, 4), (3, 4))),
    "rms_norm, plain, eps of the dtype": (lambda x: ops.rms_norm(x * 1e-4, 4, eps=None), ((3, 4),)),
    "batch_norm": (
        lambda x, w, b: ops.batch_norm(x, np.full(3, 0.3), np.full(3, 1.7), w, b, eps=0.125),
        ((2, 3, 4), (3,), (3,)),
    ),
    "batch_norm, plain": (lambda x: ops.batch_norm(x, np.full(3, 0.3), np.full(3, 1.7), eps=EPS), ((2, 3),)),
    "group_norm": (lambda x, w, b: ops.group_norm(x, 2, w, b, 0.125), ((2, 4, 3), (4,), (4,))),
    "group_norm, without space": (lambda x, w: ops.group_norm(x, 2, w, eps=EPS), ((3, 4), (4,))),
    "group_norm, plain": (lambda x: ops.group_norm(x, 4, eps=EPS), ((2, 4, 3, 2),)),
}


# onnxruntime 1.32 has no Erf for float64; onnx's reference has.
WITHOUT_KERNEL = {("gelu", "float64")}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_a_node_computes_what_the_operation_does(name, dtype, rng, runtimes):
    function, shapes = CASES[name]
    inputs = [rng.standard_normal(s).astype(dtype) for s in shapes]
    names = [f"x{i}" for i in range(len(inputs))]
    by = runtimes.by_reference if (name, dtype) in WITHOUT_KERNEL else runtimes.by_onnxruntime
    runtimes.agree(function, *inputs, input_names=names, by=by)


PARTS = st.one_of(
    st.integers(-2, 1),
    st.slices(3),
    st.none(),
    st.just(slice(None)),
    st.sampled_from([np.array([1, 0, -1]), np.array([[0], [1]]), np.array(1)]),
)


@settings(max_examples=150, deadline=None)
@given(parts=st.lists(PARTS, max_size=5), ellipsis=st.integers(0, 4) | st.none())
@example(parts=[slice(-3, -3, -1)], ellipsis=None)
@example(parts=[slice(None), 0, np.array([1, 0, -1])], ellipsis=2)
def test_any_index(parts, ellipsis, runtimes):
    """Numbers, slices, new axes and arrays in any order; where they stand apart decides where arrays' axes go."""
    x = np.arange(2.0 * 3 * 2).reshape(2, 3, 2)
    kept = [p for i, p in enumerate(parts) if p is None or sum(q is not None for q in parts[:i]) < x.ndim]
    if ellipsis is not None:
        kept.insert(ellipsis, Ellipsis)
    runtimes.agree(lambda x: x[tuple(kept)] + 0, x)


def test_an_eps_is_rounded_to_float32(rng, runtimes):
    x = rng.standard_normal((3, 4))

    def function(x):
        return ops.layer_norm(x, 4, eps=0.1)

    (y,), (expected,) = runtimes.by_onnxruntime(export(function, x), [x]), runtimes.results(function, [x])
    assert 1e-12 < np.abs(y / expected - 1).max() < 2**-24


def test_every_operation_has_a_node():
    defined = {
        thing
        for subject in SUBJECTS
        for name, thing in inspect.getmembers(subject, inspect.isclass)
        if issubclass(thing, Operation) and thing.__module__ == subject.__name__ and not name.startswith("_")
    }
    assert defined - EMITTERS.keys() == {selection.Dropout}
