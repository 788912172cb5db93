"""The edges of operations: dtypes side by side, single and no numbers, NaN, and arrays that change later."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from normlab.tensor import Tensor, layers, maximum, no_grad, ops, where

draw = np.random.default_rng(0).standard_normal
SINGLE = np.float32


def leaf(data: Any, dtype: Any = np.float64) -> Any:
    return Tensor(data, requires_grad=True, dtype=dtype)


BESIDE: dict[str, Any] = {
    "a number": 3,
    "a float": 0.5,
    "NumPy's integer": np.int64(3),
    "NumPy's float": np.float64(0.5),
    "an array of integers": np.arange(1, 4),
    "a tensor of integers": Tensor([1, 2, 3]),
    "booleans": np.array([True, False, True]),
    "a comparison": Tensor([1.0, 2.0, 3.0]) > 1.5,
}


@pytest.mark.parametrize("name", BESIDE)
def test_float32_beside(name: str) -> None:
    x, other = leaf(draw((2, 3)), SINGLE), BESIDE[name]
    for y in (x + other, other - x, x * other, other / (x * x + 1), maximum(x, other), where(True, x, other)):
        assert y.dtype == np.float32
        assert y.requires_grad
    (x * other).sum().backward()
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad, np.broadcast_to(np.asarray(Tensor(other).data, SINGLE), (2, 3)))


def test_dtypes_that_a_tensor_does_not_have() -> None:
    for other in (np.ones(3, np.float16), np.ones(3, np.longdouble), 1j):
        with pytest.raises(TypeError, match=r"^an array must be float32, float64, integers or booleans, got "):
            _ = leaf(np.ones(3)) * other


ZERO_D: dict[str, Any] = {
    **{
        name: getattr(ops, name) for name in ("exp", "tanh", "sigmoid", "relu", "silu", "gelu", "mean", "total", "amax")
    },
    "softmax": ops.softmax,
    "negation": lambda x: -x,
    "square": lambda x: x**2,
    "power": lambda x: x**1.5,
    "dropout": ops.dropout,
    "masked_fill": lambda x: x.masked_fill(False, 0.0),
    "index": lambda x: x[()],
    "reshape": lambda x: x.reshape(1, 1).T,
    "var": lambda x: x.var(),
}


@pytest.mark.parametrize("name", ZERO_D)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_single_number_has_an_array_as_its_gradient(name: str, dtype: Any) -> None:
    x = leaf(0.5, dtype)
    for _ in range(2):
        y = ZERO_D[name](x)
        assert isinstance(y.data, np.ndarray)
        y.backward()
        assert isinstance(x.grad, np.ndarray)
        assert (x.grad.shape, x.grad.dtype) == ((), dtype)


def test_a_parameter_may_be_a_single_number() -> None:
    scale = leaf(2.0)
    (Tensor(np.arange(3.0)) * scale).sum().backward()
    np.testing.assert_array_equal(scale.grad, 3)
    assert isinstance(scale.grad, np.ndarray)


def test_attention_over_no_samples_and_no_time() -> None:
    for causal in (False, True):
        attention = layers.MultiHeadAttention(4, 2, causal=causal)
        for shape in ((0, 3, 4), (2, 0, 4)):
            x = leaf(np.zeros(shape))
            y = attention(x)
            y.backward(np.zeros(shape))
            assert y.shape == x.grad.shape == shape


@pytest.mark.parametrize("function", ["relu", "sigmoid", "tanh", "softmax"])
def test_a_number_that_is_none_stays_one(function: str) -> None:
    x = leaf([[1.0, np.nan, -1.0]])
    given: Any = torch.tensor(x.data, requires_grad=True)
    y = getattr(ops, function)(x)
    want = torch.softmax(given, -1) if function == "softmax" else getattr(torch, function)(given)
    y.backward(np.ones((1, 3)))
    want.backward(torch.ones(1, 3, dtype=torch.float64))
    np.testing.assert_allclose(y.data, want.detach(), rtol=1e-14)
    np.testing.assert_allclose(x.grad, given.grad, rtol=1e-14)


def test_relu_stops_an_infinite_gradient() -> None:
    x = leaf([-1.0, 0.0, 2.0])
    x.relu().backward(np.full(3, np.inf))
    np.testing.assert_array_equal(x.grad, [0, 0, np.inf])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_far_out(dtype: Any) -> None:
    numbers = np.array([-1e4, -100, -20, 20, 100, 1e4], dtype)
    for ours, theirs in (
        (ops.sigmoid, torch.sigmoid),
        (ops.silu, F.silu),
        (ops.gelu, F.gelu),
        (ops.tanh, torch.tanh),
        (lambda x: ops.gelu(x, "tanh"), lambda x: F.gelu(x, approximate="tanh")),
    ):
        x = leaf(numbers, dtype)
        given: Any = torch.tensor(numbers, requires_grad=True)
        y, want = ours(x), theirs(given)
        with np.errstate(under="ignore"):
            y.backward(np.ones(6))
        want.backward(torch.ones(6, dtype=given.dtype))
        np.testing.assert_allclose(y.data, want.detach(), rtol=1e-5, atol=1e-35)
        np.testing.assert_allclose(x.grad, given.grad, rtol=1e-5, atol=1e-35)


HELD: dict[str, Any] = {
    "an operand": (np.array([1.0, 2.0, 3.0]), lambda x, a: x * a),
    "indices": (np.array([0, 2, 2]), lambda x, a: x[a] * 2),
    "an index of several": (np.array([0, 2, 2]), lambda x, a: x[a, None] * 2),
    "ids": (np.array([0, 2, 2]), lambda x, a: ops.embedding(x.reshape(3, 1), a)),
    "a condition": (np.array([True, False, True]), lambda x, a: where(a, x, x * 3)),
    "a mask": (np.array([True, False, True]), lambda x, a: x.masked_fill(a, 0.0)),
    "targets": (np.array(2), lambda x, a: ops.cross_entropy(x, a)),
    "wanted numbers": (np.array([1.0, 2.0, 3.0]), ops.mse_loss),
}


@pytest.mark.parametrize("name", HELD)
def test_arrays_may_hold_other_numbers_before_backward(name: str) -> None:
    array, function = HELD[name]
    array = array.copy()
    x, other = leaf([0.3, -0.2, 0.7]), leaf([0.3, -0.2, 0.7])
    function(x, array.copy()).sum().backward()
    y = function(other, array).sum()
    array[...] = 0
    y.backward()
    np.testing.assert_array_equal(other.grad, x.grad)
    with no_grad():
        assert function(x, array).node is None


def test_a_mask_may_be_a_tensor() -> None:
    attention = layers.MultiHeadAttention(4, 2, causal=True)
    x, mask = Tensor(draw((1, 3, 4))), np.array([False, True, False])
    np.testing.assert_array_equal(attention(x, Tensor(mask)).data, attention(x, mask).data)


def test_axes_of_numpys_integers() -> None:
    x = Tensor(draw((2, 3, 4)))
    np.testing.assert_array_equal(x.sum(np.int64(1)).data, x.sum(1).data)  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(x.mean(np.arange(2).tolist()).data, x.mean((0, 1)).data)
