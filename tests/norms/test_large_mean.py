"""A large mean with a small variance, where a variance by E[x^2] - E[x]^2 loses everything.

The reference is exact: rational arithmetic on the very doubles, and a square root of 50 digits.
"""

from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from normlab.norms import batchnorm, layernorm, rmsnorm

UNIT = 2.0**-53


def exact_sqrt(value: Fraction) -> Fraction:
    with localcontext(prec=50):
        return Fraction((Decimal(value.numerator) / Decimal(value.denominator)).sqrt())


def exact_layernorm(x, dy, eps):
    """(y, dx) of one row without parameters, rounded to float64 once, at the end."""
    row, up = [Fraction(float(a)) for a in x], [Fraction(float(a)) for a in dy]
    n = len(row)
    m = sum(row, Fraction(0)) / n
    c = [a - m for a in row]
    v = sum((a * a for a in c), Fraction(0)) / n + Fraction(eps)
    s = 1 / exact_sqrt(v)
    uc = sum(a * b for a, b in zip(up, c, strict=True)) / n
    mean_up = sum(up) / n
    y = [float(a * s) for a in c]
    dx = [float(s * (b - mean_up) - s / v * a * uc) for a, b in zip(c, up, strict=True)]
    return np.array(y), np.array(dx)


@pytest.mark.parametrize("mean", [0.0, 1e4, -1e6, 1e8])
@pytest.mark.parametrize("n", [2, 33, 256])
@pytest.mark.parametrize("norm", [layernorm, batchnorm])
def test_large_mean(norm, n, mean, rng):
    x, dy = rng.normal(mean, 1.0, n), rng.normal(size=n)
    y, dx = exact_layernorm(x, dy, 1e-5)
    if norm is layernorm:
        got, gradient = norm.forward(x), norm.backward(dy, x).dx
    else:
        got, gradient = norm.forward(x[:, None]).y[:, 0], norm.backward(dy[:, None], x[:, None]).dx[:, 0]
    # To move x by its own rounding error moves x - mean by that of the largest number, UNIT * |x|: no method that
    # rounds x - mean to float64 can promise less. The mean of n numbers, summed pairwise, adds log2(n) of these,
    # and both are divided by the standard deviation.
    kappa = max(np.abs(x).max() / x.std(), 1)
    bound = (4 + np.log2(n)) * UNIT * kappa
    np.testing.assert_allclose(got, y, rtol=0, atol=bound * np.abs(y).max())
    np.testing.assert_allclose(gradient, dx, rtol=0, atol=4 * bound * np.abs(dy).max() / x.std())


def test_the_bound_tells_the_one_pass_variance_apart(rng):
    """The same bound is missed by far when the variance is E[x^2] - E[x]^2."""
    x = rng.normal(1e6, 1.0, 256)
    y, _ = exact_layernorm(x, x, 1e-5)
    one_pass = (x - x.mean()) / np.sqrt((x**2).mean() - x.mean() ** 2 + 1e-5)
    kappa = np.abs(x).max() / x.std()
    assert np.abs(one_pass - y).max() > 100 * 12 * UNIT * kappa * np.abs(y).max()


@pytest.mark.parametrize("scale", [1e-140, 1e-20, 1e20, 1e140])
def test_rmsnorm_is_exact_at_any_scale_whose_square_is_a_number(scale, rng):
    x = rng.normal(size=64) * scale
    row = [Fraction(float(a)) for a in x]
    root = exact_sqrt(sum((a * a for a in row), Fraction(0)) / 64)
    # Square, sum of 64 in pairs, division, root, reciprocal, product: 12 roundings at most.
    np.testing.assert_allclose(rmsnorm.forward(x, eps=0), [float(a / root) for a in row], rtol=12 * UNIT)
