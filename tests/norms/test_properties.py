"""What the definitions say of themselves, over shapes and scales drawn by hypothesis."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normlab.norms import batchnorm, layernorm, rmsnorm

UNIT = 2.0**-53
exact = settings(deadline=None, derandomize=True, max_examples=60)


@st.composite
def batches(draw):
    """(x, dy, weight): x of any scale that leaves its square within float64, dy and weight around 1."""
    rows, n = draw(st.integers(1, 6)), draw(st.integers(2, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = 10.0 ** draw(st.integers(-130, 130))
    return rng.normal(size=(rows, n)) * scale, rng.normal(size=(rows, n)), rng.normal(size=n)


def rows_first(norm, a):
    """BatchNorm's rows are columns."""
    return a.T if norm is batchnorm else a


def backward(norm, dy, x, weight, **options):
    return rows_first(norm, norm.backward(rows_first(norm, dy), rows_first(norm, x), weight, **options).dx)


def forward(norm, x, **options):
    y = norm.forward(rows_first(norm, x), **options)
    return y.y.T if norm is batchnorm else y


@pytest.mark.parametrize("norm", [layernorm, batchnorm])
@pytest.mark.parametrize("options", [{}, {"eps": 0}, {"eps_place": "outside"}])
@given(data=st.data())
@exact
def test_the_gradient_has_no_component_along_a_shift(norm, options, data):
    x, dy, weight = data.draw(batches())
    dx = backward(norm, dy, x, None if norm is batchnorm else weight, **options)
    # n numbers are added, each made of terms that cancel: the sizes before cancelling are s * |u|.
    u = np.abs(dy if norm is batchnorm else dy * weight)
    n = x.shape[1]
    eps = options.get("eps", 1e-5)
    s = 1 / (x.std(1) + eps) if "eps_place" in options else 1 / np.sqrt(x.var(1) + eps)
    assert np.all(np.abs(dx.sum(1)) <= 8 * n * UNIT * s * u.max(1) * n)


@pytest.mark.parametrize("norm", [rmsnorm, layernorm, batchnorm])
@pytest.mark.parametrize("eps_place", ["inside", "outside"])
@given(data=st.data())
@exact
def test_without_eps_the_gradient_has_no_component_along_the_row(norm, eps_place, data):
    x, dy, weight = data.draw(batches())
    w = None if norm is batchnorm else weight
    dx = backward(norm, dy, x, w, eps=0, eps_place=eps_place)
    c = x if norm is rmsnorm else x - x.mean(1, keepdims=True)
    u = np.abs(dy if w is None else dy * w)
    n = x.shape[1]
    s = 1 / np.sqrt((c**2).mean(1))
    kappa = np.abs(x).max(1) * s  # centring a row loses digits when its mean is large, as two numbers' may be
    assert np.all(np.abs((c * dx).sum(1)) <= 8 * n * UNIT * kappa * np.abs(c).max(1) * s * u.max(1) * n)


@pytest.mark.parametrize("norm", [rmsnorm, layernorm, batchnorm])
@given(data=st.data(), power=st.integers(-40, 40))
@exact
def test_without_eps_rescaling_by_a_power_of_two_changes_no_bit(norm, data, power):
    x, dy, _ = data.draw(batches())
    np.testing.assert_array_equal(forward(norm, x * 2.0**power, eps=0), forward(norm, x, eps=0))
    np.testing.assert_array_equal(
        backward(norm, dy, x * 2.0**power, None, eps=0) * 2.0**power, backward(norm, dy, x, None, eps=0)
    )


@pytest.mark.parametrize("norm", [rmsnorm, layernorm, batchnorm])
@given(data=st.data())
@exact
def test_without_eps_the_output_has_unit_variance(norm, data):
    x, _, _ = data.draw(batches())
    y = forward(norm, x, eps=0)
    n = x.shape[1]
    np.testing.assert_allclose((y**2).mean(1), 1, rtol=4 * n * UNIT)
    if norm is not rmsnorm:
        kappa = np.abs(x).max(1) / x.std(1)
        assert np.all(np.abs(y.mean(1)) <= 4 * n * UNIT * kappa)


@pytest.mark.parametrize("norm", [rmsnorm, layernorm])
@given(data=st.data())
@exact
def test_a_row_does_not_depend_on_the_rows_around_it(norm, data):
    x, dy, weight = data.draw(batches())
    for i in range(len(x)):
        np.testing.assert_array_equal(norm.forward(x, weight)[i], norm.forward(x[i], weight))
        np.testing.assert_array_equal(norm.backward(dy, x, weight).dx[i], norm.backward(dy[i], x[i], weight).dx)


@pytest.mark.parametrize("norm", [rmsnorm, layernorm, batchnorm])
@given(data=st.data())
@exact
def test_backward_is_linear_in_the_upstream_gradient(norm, data):
    x, dy, weight = data.draw(batches())
    w = weight if norm is not batchnorm else None
    two = backward(norm, 2 * dy, x, w)
    np.testing.assert_array_equal(two, 2 * backward(norm, dy, x, w))
    np.testing.assert_array_equal(backward(norm, 0 * dy, x, w), np.zeros_like(x))
