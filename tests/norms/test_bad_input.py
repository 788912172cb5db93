"""Bad input to a definition: one sentence that names the argument, what came and what is allowed."""

import re

import numpy as np
import pytest

from normlab.norms import batchnorm, layernorm, rmsnorm

X = np.ones((4, 6))
ROWS = [layernorm, rmsnorm]


@pytest.mark.parametrize("norm", ROWS)
@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (X, {"normalized_shape": (4,)}, "normalized_shape must be the trailing axes of x, (4, 6), got (4,)"),
        (X, {"normalized_shape": (2, 4, 6)}, "normalized_shape must be the trailing axes of x, (4, 6), got (2, 4, 6)"),
        (X, {"normalized_shape": ()}, "normalized_shape must be the trailing axes of x, (4, 6), got ()"),
        (3.0, {}, "normalized_shape must be the trailing axes of x, (), got ()"),
        (X, {"weight": np.ones(5)}, "weight must have shape (6,), got (5,)"),
        (X, {"weight": np.ones((1, 6))}, "weight must have shape (6,), got (1, 6)"),
        (X, {"weight": 2.0}, "weight must have shape (6,), got ()"),
        (X, {"eps": -1e-5}, "eps must be at least 0, got -1e-05"),
        (X, {"eps": float("nan")}, "eps must be finite, got nan"),
        (X, {"eps_place": "beside"}, "eps_place must be one of 'inside', 'outside', got 'beside'"),
    ],
)
def test_rows(norm, x, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        norm.forward(x, **options)
    with pytest.raises(ValueError, match=re.escape(message)):
        norm.backward(x, x, **options)


@pytest.mark.parametrize("norm", ROWS)
@pytest.mark.parametrize("eps", [True, "1e-5", np.ones(2)])
def test_an_eps_that_is_not_a_number(norm, eps):
    with pytest.raises(TypeError, match="eps must be a number, got"):
        norm.forward(X, eps=eps)


def test_normalized_shape_of_floats():
    with pytest.raises(TypeError):
        layernorm.forward(X, normalized_shape=(6.0,))  # pyright: ignore[reportArgumentType]


def test_a_bias_of_another_shape():
    with pytest.raises(ValueError, match=re.escape("bias must have shape (6,), got (4,)")):
        layernorm.forward(X, None, np.ones(4))


@pytest.mark.parametrize("norm", [layernorm, rmsnorm, batchnorm])
def test_an_upstream_gradient_of_another_shape(norm):
    with pytest.raises(ValueError, match=re.escape("dy must have the shape of x, (4, 6), got (6,)")):
        norm.backward(np.ones(6), X)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.ones(6), {}, "x must have shape (N, C) or (N, C, *space), got (6,)"),
        (X, {"weight": np.ones(4)}, "weight must have shape (6,), got (4,)"),
        (X, {"running_mean": np.ones(6)}, "running_mean and running_var must be given together"),
        (X, {"running_var": np.ones(6), "training": False}, "running_mean and running_var must be given together"),
        # Of one entry these would broadcast.
        (X, {"running_mean": np.ones(1), "running_var": np.ones(6)}, "running_mean must have shape (6,), got (1,)"),
        (X, {"running_mean": np.ones(6), "running_var": np.ones(1)}, "running_var must have shape (6,), got (1,)"),
        (np.ones((1, 6)), {}, "x must have more than 1 number per channel"),
        (np.ones((1, 6, 1)), {"training": False}, "x must have more than 1 number per channel"),
        (X, {"eps_place": ""}, "eps_place must be one of 'inside', 'outside', got ''"),
        (X, {"eps": float("inf")}, "eps must be finite, got inf"),
    ],
)
def test_batchnorm(x, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        batchnorm.forward(x, **options)
    with pytest.raises(ValueError, match=re.escape(message)):
        batchnorm.backward(x, x, **options)


def test_one_number_per_channel_is_fine_with_running_statistics():
    out = batchnorm.forward(np.full((1, 2), 5.0), None, None, np.ones(2), np.full(2, 4.0), training=False, eps=0)
    np.testing.assert_array_equal(out.y, [[2.0, 2.0]])
