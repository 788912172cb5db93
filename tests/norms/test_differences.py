"""A second opinion on every derivative that knows nothing of torch: differences.

The complex step d/dx f(x) = Im f(x + ih) / h has no cancellation, so with h = 1e-100 it is exact to rounding; it
needs the formula in complex arithmetic, written here once more. Central differences need nothing but the
definition's own forward, and cost digits.
"""

import numpy as np
import pytest

from normlab.norms import batchnorm, layernorm, rmsnorm

EPS = 0.05  # large enough to matter in every derivative
SHAPES = [
    (layernorm, (3, 5)),
    (layernorm, (1, 4)),
    (rmsnorm, (3, 5)),
    (rmsnorm, (2, 1)),
    (batchnorm, (5, 3)),
    (batchnorm, (2, 1)),
]


def formula(x, weight, bias, *, center, eps_place, offset):
    c = x - x.mean(-1, keepdims=True) if center else x
    v = (c * c).mean(-1, keepdims=True)
    s = 1 / np.sqrt(v + EPS) if eps_place == "inside" else 1 / (np.sqrt(v) + EPS)
    return c * s * (offset + weight) + bias


def complex_step(function, array):
    """The gradient of function(array), a number."""
    out = np.empty(array.shape)
    for i in np.ndindex(out.shape):
        moved = array.astype(np.complex128)
        moved[i] += 1e-100j
        out[i] = function(moved).imag / 1e-100
    return out


def central(function, array, step):
    """The same from both sides, in real arithmetic."""
    out = np.empty(array.shape)
    for i in np.ndindex(out.shape):
        up, down = array.copy(), array.copy()
        up[i] += step
        down[i] -= step
        out[i] = (function(up) - function(down)) / (2 * step)
    return out


@pytest.mark.parametrize(("norm", "shape"), SHAPES)
@pytest.mark.parametrize("eps_place", ["inside", "outside"])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_complex_step(norm, shape, eps_place, offset, rng):
    x, dy = rng.normal(size=(2, *shape))
    weight, bias = rng.normal(size=(2, shape[1]))

    def loss(x, weight, bias):
        settings = {"center": norm is not rmsnorm, "eps_place": eps_place, "offset": offset}
        if norm is batchnorm:
            return np.sum(dy.T * formula(x.T, weight[:, None], bias[:, None], **settings))
        return np.sum(dy * formula(x, weight, bias, **settings))

    ours = norm.backward(dy, x, weight, eps=EPS, eps_place=eps_place, offset=offset)
    theirs = [
        complex_step(lambda x: loss(x, weight, bias), x),
        complex_step(lambda weight: loss(x, weight, bias), weight),
        complex_step(lambda bias: loss(x, weight, bias), bias),
    ]
    for got, want in zip(ours, theirs[: len(ours)], strict=True):
        # About twenty roundings of numbers up to 1 / EPS.
        np.testing.assert_allclose(got, want, rtol=0, atol=20 * 2.0**-53 / EPS)


@pytest.mark.parametrize(
    ("norm", "shape", "training"),
    [(*case, True) for case in SHAPES] + [(norm, shape, False) for norm, shape in SHAPES if norm is batchnorm],
)
def test_central_differences(norm, shape, training, rng):
    x, dy = rng.normal(size=(2, *shape))
    weight, bias = rng.normal(size=(2, shape[1]))
    mode, running = {}, ()
    if norm is batchnorm:
        mode, running = {"training": training}, (rng.normal(size=shape[1]), rng.uniform(0.5, 2, shape[1]))

    def loss(x, weight, bias):
        parameters = (weight,) if norm is rmsnorm else (weight, bias)
        y = norm.forward(x, *parameters, *running, eps=EPS, **mode)
        return np.sum(dy * (y.y if norm is batchnorm else y))

    # Truncation step^2 * |f'''| (up to EPS^-1.5 = 90) and rounding UNIT * |f| / step: together below 1e-8.
    step = 3e-6
    ours = norm.backward(dy, x, weight, *running, eps=EPS, **mode)
    theirs = [
        central(lambda x: loss(x, weight, bias), x, step),
        central(lambda weight: loss(x, weight, bias), weight, step),
        central(lambda bias: loss(x, weight, bias), bias, step),
    ]
    for got, want in zip(ours, theirs[: len(ours)], strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-8)
