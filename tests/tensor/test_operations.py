"""Every operation, forward and backward, against PyTorch in float64 and against finite differences."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from normlab.tensor import Tensor, cat, maximum, minimum, ops, stack, where

MASK = np.array([[True, False, True], [False, False, True]])
IDS = np.array([[0, 2, 2], [3, 0, 2]])
TARGET = np.array([2, 0, 1, 2])

# name: (ours, PyTorch's, shapes of the inputs)
Case = tuple[Callable[..., Any], Callable[..., Any], tuple[tuple[int, ...], ...]]
CASES: dict[str, Case] = {
    "add": (lambda a, b: a + b, lambda a, b: a + b, ((2, 3), (2, 3))),
    "add, broadcast": (lambda a, b: a + b, lambda a, b: a + b, ((2, 1, 3), (4, 1))),
    "add a number": (lambda a: 2 + a, lambda a: 2 + a, ((2, 3),)),
    "sub": (lambda a, b: a - b, lambda a, b: a - b, ((2, 3), (3,))),
    "sub from a number": (lambda a: 2 - a, lambda a: 2 - a, ((2, 3),)),
    "mul": (lambda a, b: a * b, lambda a, b: a * b, ((2, 3), (2, 1))),
    "div": (lambda a, b: a / b, lambda a, b: a / b, ((3,), (2, 3))),
    "a number over": (lambda a: 2 / a, lambda a: 2 / a, ((2, 3),)),
    "neg": (lambda a: -a, lambda a: -a, ((2, 3),)),
    "abs": (abs, abs, ((2, 3),)),
    "square": (lambda a: a**2, lambda a: a**2, ((2, 3),)),
    "cube": (lambda a: a**3, lambda a: a**3, ((2, 3),)),
    "power": (lambda a, b: (a * a) ** b, lambda a, b: (a * a) ** b, ((2, 3), (3,))),
    "a number to the power": (lambda b: 1.7**b, lambda b: 1.7**b, ((2, 3),)),
    "matmul": (lambda a, b: a @ b, lambda a, b: a @ b, ((2, 3), (3, 4))),
    "matmul, stacks": (lambda a, b: a @ b, lambda a, b: a @ b, ((5, 2, 3), (5, 3, 4))),
    "matmul, one matrix for a stack": (lambda a, b: a @ b, lambda a, b: a @ b, ((5, 2, 3), (3, 4))),
    "matmul, a stack for one matrix": (lambda a, b: a @ b, lambda a, b: a @ b, ((2, 3), (5, 3, 4))),
    "matmul, stacks broadcast": (lambda a, b: a @ b, lambda a, b: a @ b, ((5, 1, 2, 3), (6, 3, 4))),
    "matmul, vectors": (lambda a, b: a @ b, lambda a, b: a @ b, ((3,), (3,))),
    "matmul, vector and matrix": (lambda a, b: a @ b, lambda a, b: a @ b, ((3,), (3, 4))),
    "matmul, matrix and vector": (lambda a, b: a @ b, lambda a, b: a @ b, ((2, 3), (3,))),
    "matmul, vector and stack": (lambda a, b: a @ b, lambda a, b: a @ b, ((3,), (5, 3, 4))),
    "matmul, stack and vector": (lambda a, b: a @ b, lambda a, b: a @ b, ((5, 2, 3), (3,))),
    "linear": (ops.linear, F.linear, ((2, 5, 3), (4, 3), (4,))),
    "linear without bias": (ops.linear, F.linear, ((5, 3), (4, 3))),
    "exp": (lambda a: a.exp(), torch.exp, ((2, 3),)),
    "log": (lambda a: (a * a).log(), lambda a: (a * a).log(), ((2, 3),)),
    "sqrt": (lambda a: (a * a + 1).sqrt(), lambda a: (a * a + 1).sqrt(), ((2, 3),)),
    "tanh": (lambda a: a.tanh(), torch.tanh, ((2, 3),)),
    "sigmoid": (lambda a: a.sigmoid(), torch.sigmoid, ((2, 3),)),
    "relu": (lambda a: a.relu(), torch.relu, ((2, 3),)),
    "silu": (ops.silu, F.silu, ((2, 3),)),
    "gelu": (ops.gelu, F.gelu, ((2, 3),)),
    "gelu, tanh": (lambda a: ops.gelu(a, "tanh"), lambda a: F.gelu(a, approximate="tanh"), ((2, 3),)),
    "maximum": (maximum, torch.maximum, ((2, 3), (3,))),
    "minimum": (minimum, torch.minimum, ((2, 3), (3,))),
    "sum": (lambda a: a.sum(), torch.sum, ((2, 3),)),
    "sum, axis": (lambda a: a.sum(1), lambda a: a.sum(1), ((2, 3, 4),)),
    "sum, axes, kept": (lambda a: a.sum((0, -1), True), lambda a: a.sum((0, -1), keepdim=True), ((2, 3, 4),)),
    "mean": (lambda a: a.mean(), torch.mean, ((2, 3),)),
    "mean, axes": (lambda a: a.mean((0, 2)), lambda a: a.mean((0, 2)), ((2, 3, 4),)),
    "var": (lambda a: a.var(-1), lambda a: a.var(-1, correction=0), ((2, 3, 4),)),
    "var, unbiased": (
        lambda a: a.var((0, 1), True, unbiased=True),
        lambda a: a.var((0, 1), keepdim=True),
        ((2, 3, 4),),
    ),
    "max": (lambda a: a.max(), torch.amax, ((2, 3),)),
    "max, axis": (lambda a: a.max(1), lambda a: a.amax(1), ((2, 3, 4),)),
    "min, axis, kept": (lambda a: a.min(0, True), lambda a: a.amin(0, keepdim=True), ((2, 3),)),
    "cumsum": (lambda a: a.cumsum(1), lambda a: a.cumsum(1), ((2, 3, 4),)),
    "reshape": (lambda a: a.reshape(3, -1), lambda a: a.reshape(3, -1), ((2, 3, 4),)),
    "flatten": (lambda a: a.flatten(1), lambda a: a.flatten(1), ((2, 3, 4),)),
    "permute": (lambda a: a.permute(2, 0, 1), lambda a: a.permute(2, 0, 1), ((2, 3, 4),)),
    "permute, negative": (lambda a: a.permute(-1, 0, -2), lambda a: a.permute(-1, 0, -2), ((2, 3, 4),)),
    "transpose": (lambda a: a.transpose(0, -1), lambda a: a.transpose(0, -1), ((2, 3, 4),)),
    "T": (lambda a: a.T, lambda a: a.T, ((2, 3),)),
    "broadcast_to": (lambda a: ops.broadcast_to(a, (4, 2, 3)), lambda a: a.expand(4, 2, 3), ((2, 1),)),
    "cat": (lambda a, b: cat([a, b, a], 1), lambda a, b: torch.cat([a, b, a], 1), ((2, 3), (2, 1))),
    "stack": (lambda a, b: stack([a, b, a], -1), lambda a, b: torch.stack([a, b, a], -1), ((2, 3), (2, 3))),
    "getitem, number": (lambda a: a[1], lambda a: a[1], ((2, 3),)),
    "getitem, slices": (lambda a: a[:, 1:, None, ::2], lambda a: a[:, 1:, None, ::2], ((2, 3, 4),)),
    "getitem, negative step": (lambda a: a[::-1], lambda a: a.flip(0), ((3, 2),)),
    "getitem, repeated": (lambda a: a[[0, 1, 1, 0, 1]], lambda a: a[[0, 1, 1, 0, 1]], ((2, 3),)),
    "getitem, two arrays": (
        lambda a: a[np.array([0, 0, 1]), np.array([2, 2, 1])],
        lambda a: a[[0, 0, 1], [2, 2, 1]],
        ((2, 3),),
    ),
    "getitem, mask": (lambda a: a[MASK], lambda a: a[torch.tensor(MASK)], ((2, 3),)),
    "embedding": (lambda w: ops.embedding(w, IDS), lambda w: F.embedding(torch.tensor(IDS), w), ((5, 3),)),
    "where": (lambda a, b: where(MASK, a, b), lambda a, b: torch.where(torch.tensor(MASK), a, b), ((2, 3), (3,))),
    "masked_fill": (
        lambda a: a.masked_fill(MASK, -1.5),
        lambda a: a.masked_fill(torch.tensor(MASK), -1.5),
        ((2, 3),),
    ),
    "softmax": (lambda a: a.softmax(), lambda a: a.softmax(-1), ((2, 3),)),
    "softmax, axis": (lambda a: a.softmax(1), lambda a: a.softmax(1), ((2, 3, 4),)),
    "log_softmax": (lambda a: a.log_softmax(1), lambda a: a.log_softmax(1), ((2, 3, 4),)),
    "cross_entropy": (
        lambda a: ops.cross_entropy(a, TARGET),
        lambda a: F.cross_entropy(a, torch.tensor(TARGET)),
        ((4, 3),),
    ),
    "nll_loss": (lambda a: ops.nll_loss(a, TARGET), lambda a: F.nll_loss(a, torch.tensor(TARGET)), ((4, 3),)),
    "mse_loss": (ops.mse_loss, F.mse_loss, ((2, 3), (2, 3))),
    "mse_loss, none": (
        lambda a, b: ops.mse_loss(a, b, reduction="none"),
        lambda a, b: F.mse_loss(a, b, reduction="none"),
        ((2, 3), (2, 3)),
    ),
    "layer_norm": (
        lambda x, w, b: ops.layer_norm(x, 4, w, b),
        lambda x, w, b: F.layer_norm(x, (4,), w, b),
        ((2, 3, 4), (4,), (4,)),
    ),
    "layer_norm, two axes": (
        lambda x, w, b: ops.layer_norm(x, (3, 4), w, b),
        lambda x, w, b: F.layer_norm(x, (3, 4), w, b),
        ((2, 3, 4), (3, 4), (3, 4)),
    ),
    "layer_norm, plain": (lambda x: ops.layer_norm(x, 4), lambda x: F.layer_norm(x, (4,)), ((3, 4),)),
    "rms_norm": (
        lambda x, w: ops.rms_norm(x, 4, w, 1e-5),
        lambda x, w: F.rms_norm(x, (4,), w, 1e-5),
        ((2, 3, 4), (4,)),
    ),
    "batch_norm": (
        lambda x, w, b: ops.batch_norm(x, gamma=w, beta=b, training=True),
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        ((5, 3), (3,), (3,)),
    ),
    "batch_norm, images": (
        lambda x, w, b: ops.batch_norm(x, gamma=w, beta=b, training=True),
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        ((2, 3, 2, 2), (3,), (3,)),
    ),
    "batch_norm, evaluation": (
        lambda x, w, b: ops.batch_norm(x, np.full(3, 0.3), np.full(3, 1.7), w, b),
        lambda x, w, b: F.batch_norm(
            x, torch.full((3,), 0.3, dtype=torch.float64), torch.full((3,), 1.7, dtype=torch.float64), w, b
        ),
        ((2, 3, 4), (3,), (3,)),
    ),
    "group_norm": (
        lambda x, w, b: ops.group_norm(x, 2, w, b),
        lambda x, w, b: F.group_norm(x, 2, w, b),
        ((2, 4, 3), (4,), (4,)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_result_and_gradients_are_torchs(name: str, opinions: Any) -> None:
    function, reference, shapes = CASES[name]
    draw = np.random.default_rng(0).standard_normal
    inputs = [draw(shape) for shape in shapes]
    dy = draw(function(*[Tensor(x) for x in inputs]).shape)
    y, gradients = opinions.ours(function, inputs, dy)
    want, wanted = opinions.torchs(reference, inputs, dy)
    np.testing.assert_allclose(y, want, rtol=1e-12, atol=1e-12)
    for got, expected in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_the_slopes(name: str, opinions: Any) -> None:
    function, _, shapes = CASES[name]
    draw = np.random.default_rng(1).standard_normal
    inputs = [draw(shape) for shape in shapes]
    dy = draw(function(*[Tensor(x) for x in inputs]).shape)
    for got, slope in zip(
        opinions.ours(function, inputs, dy)[1], opinions.differences(function, inputs, dy), strict=True
    ):
        np.testing.assert_allclose(got, slope, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_nothing_given_is_written_to_and_no_gradient_is_shared(name: str) -> None:
    function, _, shapes = CASES[name]
    draw = np.random.default_rng(2).standard_normal
    tensors = [Tensor(draw(shape), requires_grad=True) for shape in shapes]
    before = [t.data.copy() for t in tensors]
    y = function(*tensors)
    dy = draw(y.shape)
    kept = dy.copy()
    y.backward(dy)
    np.testing.assert_array_equal(dy, kept)
    arrays = [dy, y.data, *(t.data for t in tensors), *(t.grad for t in tensors)]
    for t, old in zip(tensors, before, strict=True):
        np.testing.assert_array_equal(t.data, old)
        assert t.grad is not None
        assert t.grad.flags.writeable
        assert sum(np.shares_memory(t.grad, other) for other in arrays) == 1


@pytest.mark.parametrize("name", CASES)
def test_float32_stays_float32(name: str) -> None:
    function, _, shapes = CASES[name]
    draw = np.random.default_rng(3).standard_normal
    tensors = [Tensor(draw(shape), requires_grad=True, dtype=np.float32) for shape in shapes]
    y = function(*tensors)
    assert y.dtype == np.float32
    y.backward(np.ones(y.shape))
    for t in tensors:
        assert t.grad is not None
        assert t.grad.dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(
    shapes=hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3, min_side=0),
    sign=st.sampled_from("+-*/"),
)
def test_broadcasting_is_undone(shapes: Any, sign: str, opinions: Any) -> None:
    draw = np.random.default_rng(4).standard_normal
    inputs = [draw(shape) + 3 for shape in shapes.input_shapes]
    functions: dict[str, Callable[..., Any]] = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "/": lambda a, b: a / b,
    }
    dy = draw(shapes.result_shape)
    y, gradients = opinions.ours(functions[sign], inputs, dy)
    want, wanted = opinions.torchs(functions[sign], inputs, dy)
    np.testing.assert_allclose(y, want, rtol=1e-12)
    for got, expected in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(shapes=hnp.mutually_broadcastable_shapes(signature="(m?,n),(n,p?)->(m?,p?)", max_dims=2, max_side=3, min_side=0))
def test_matmul_of_all_shapes(shapes: Any, opinions: Any) -> None:
    draw = np.random.default_rng(5).standard_normal
    inputs = [draw(shape) for shape in shapes.input_shapes]
    dy = draw(shapes.result_shape)
    y, gradients = opinions.ours(lambda a, b: a @ b, inputs, dy)
    want, wanted = opinions.torchs(lambda a, b: a @ b, inputs, dy)
    np.testing.assert_allclose(y, want, rtol=1e-12, atol=1e-12)
    for got, expected in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)
