"""eps outside the square root, and the offset of the scale: what torch's functions do not have.

The reference is torch's autograd of the formula. sqrt has no derivative at 0, so autograd gives NaN for a row of
zeros; the norm itself has one there, 1 / eps times the identity (the factor's own change is of second order).
"""

import numpy as np
import pytest
import torch

from normlab.norms import batchnorm, layernorm, rmsnorm


def formula(x, g, b, eps, axes, center, eps_place):
    c = x - x.mean(axes, keepdim=True) if center else x
    v = c.square().mean(axes, keepdim=True)
    y = c / (v.sqrt() + eps) if eps_place == "outside" else c / (v + eps).sqrt()
    return y * g + (0.0 if b is None else b)


SETTINGS = [(place, offset) for place in ("inside", "outside") for offset in (0.0, 1.0, -0.5)]


@pytest.mark.parametrize(("eps_place", "offset"), SETTINGS)
@pytest.mark.parametrize("eps", [1e-5, 0.0, 0.5])
@pytest.mark.parametrize(("shape", "normalized"), [((4, 7), (7,)), ((2, 3, 4), (3, 4)), ((1, 2), (2,))])
def test_rmsnorm(shape, normalized, eps, eps_place, offset, rng, close, sizes, torch_gradients):
    x, dy, weight = rng.normal(size=shape), rng.normal(size=shape), rng.normal(size=normalized)
    axes = tuple(range(-len(normalized), 0))
    y, dx, dw = torch_gradients(lambda x, w: formula(x, offset + w, None, eps, axes, False, eps_place), dy, x, weight)
    options = {"eps": eps, "eps_place": eps_place, "offset": offset, "normalized_shape": normalized}
    size = sizes(x, dy, offset + weight, eps, axes=axes, center=False)
    ours = rmsnorm.backward(dy, x, weight, **options)
    close(rmsnorm.forward(x, weight, **options), y, terms=size["y"], length=x.size)
    close(ours.dx, dx, terms=size["dx"], length=x.size)
    close(ours.dweight, dw, terms=size["dweight"], length=x.size)


@pytest.mark.parametrize(("eps_place", "offset"), SETTINGS)
@pytest.mark.parametrize("eps", [1e-5, 0.0, 0.5])
@pytest.mark.parametrize(("shape", "normalized"), [((4, 7), (7,)), ((2, 3, 4), (3, 4)), ((1, 2), (2,))])
def test_layernorm(shape, normalized, eps, eps_place, offset, rng, close, sizes, torch_gradients):
    x, dy = rng.normal(size=(2, *shape))
    weight, bias = rng.normal(size=(2, *normalized))
    axes = tuple(range(-len(normalized), 0))
    y, dx, dw, db = torch_gradients(
        lambda x, w, b: formula(x, offset + w, b, eps, axes, True, eps_place), dy, x, weight, bias
    )
    options = {"eps": eps, "eps_place": eps_place, "offset": offset, "normalized_shape": normalized}
    size = sizes(x, dy, offset + weight, eps, axes=axes, center=True)
    kappa = size["kappa"]
    ours = layernorm.backward(dy, x, weight, **options)
    close(layernorm.forward(x, weight, bias, **options), y, terms=size["y"] + 5, length=x.size, kappa=kappa)
    close(ours.dx, dx, terms=size["dx"], length=x.size, kappa=kappa)
    close(ours.dweight, dw, terms=size["dweight"], length=x.size, kappa=kappa)
    close(ours.dbias, db, terms=size["dbias"], length=x.size)


@pytest.mark.parametrize(("eps_place", "offset"), SETTINGS)
@pytest.mark.parametrize("eps", [1e-5, 0.5])
@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 4)])
def test_batchnorm(shape, eps, eps_place, offset, rng, close, sizes, torch_gradients):
    x, dy = rng.normal(size=(2, *shape))
    weight, bias = rng.normal(size=(2, 3))
    axes, column = (0, *range(2, x.ndim)), (1, 3) + (1,) * (x.ndim - 2)
    y, dx, dw, db = torch_gradients(
        lambda x, w, b: formula(x, (offset + w).view(column), b.view(column), eps, axes, True, eps_place),
        dy, x, weight, bias,
    )  # fmt: skip
    options = {"eps": eps, "eps_place": eps_place, "offset": offset}
    size = sizes(x, dy, (offset + weight).reshape(column), eps, axes=axes, center=True)
    kappa = size["kappa"]
    ours = batchnorm.backward(dy, x, weight, **options)
    close(batchnorm.forward(x, weight, bias, **options).y, y, terms=size["y"] + 5, length=x.size, kappa=kappa)
    close(ours.dx, dx, terms=size["dx"], length=x.size, kappa=kappa)
    close(ours.dweight, dw, terms=size["dweight"], length=x.size, kappa=kappa)
    close(ours.dbias, db, terms=size["dbias"], length=x.size)


@pytest.mark.parametrize(("eps_place", "offset"), SETTINGS)
def test_batchnorm_in_evaluation(eps_place, offset, rng, torch_gradients):
    x, dy = rng.normal(size=(2, 4, 3))
    weight, bias, mean = rng.normal(size=(3, 3))
    var = rng.uniform(0.5, 2, 3)
    s = 1 / np.sqrt(var + 0.5) if eps_place == "inside" else 1 / (np.sqrt(var) + 0.5)
    y, dx, dw, db = torch_gradients(
        lambda x, w, b: (x - torch.tensor(mean)) * torch.tensor(s) * (offset + w) + b, dy, x, weight, bias
    )
    options = {"training": False, "eps": 0.5, "eps_place": eps_place, "offset": offset}
    ours = batchnorm.backward(dy, x, weight, mean, var, **options)
    value = batchnorm.forward(x, weight, bias, mean, var, **options).y
    for got, want in zip((value, *ours), (y, dx, dw, db), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-14)  # a dozen roundings of numbers around 1


@pytest.mark.parametrize("norm", [rmsnorm, layernorm])
@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_a_row_that_is_zero_once_centred(norm, eps, rng, torch_gradients):
    """y = 0 there, and dx = u / eps (LayerNorm: less its mean); the other rows do not notice."""
    x, dy, weight = rng.normal(size=(3, 6)), rng.normal(size=(3, 6)), rng.normal(size=6)
    x[1] = 0.0 if norm is rmsnorm else 0.75
    options = {"eps": eps, "eps_place": "outside"}
    gradients = norm.backward(dy, x, weight, **options)
    u = dy[1] * weight
    expected = (u if norm is rmsnorm else u - u.mean()) / eps
    np.testing.assert_array_equal(norm.forward(x, weight, **options)[1], 0)
    np.testing.assert_allclose(gradients.dx[1], expected, rtol=1e-14, atol=1e-14 / eps)

    others = norm.backward(dy[[0, 2]], x[[0, 2]], weight, **options)
    np.testing.assert_array_equal(gradients.dx[[0, 2]], others.dx)
    np.testing.assert_allclose(gradients.dweight, others.dweight, rtol=1e-14)

    # The difference quotient says so too. Its step must be small beside eps: what it neglects is step / eps.
    step = 1e-9 * eps
    for i in range(6):
        up, down = x.copy(), x.copy()
        up[1, i] += step
        down[1, i] -= step
        quotient = np.sum(dy[1] * (norm.forward(up, weight, **options) - norm.forward(down, weight, **options))[1])
        if norm is rmsnorm:  # beside 0.75 the step of a LayerNorm row would be lost in rounding
            np.testing.assert_allclose(quotient / (2 * step), expected[i], rtol=1e-8)


@pytest.mark.parametrize("norm", [rmsnorm, layernorm])
@pytest.mark.parametrize("eps_place", ["inside", "outside"])
def test_none_is_the_machine_epsilon(norm, eps_place, rng):
    x = rng.normal(size=(3, 4)) * 1e-8  # so small that the eps decides
    np.testing.assert_array_equal(
        norm.forward(x, eps=None, eps_place=eps_place), norm.forward(x, eps=2.0**-52, eps_place=eps_place)
    )
    assert not np.allclose(norm.forward(x, eps=None, eps_place=eps_place), norm.forward(x, eps_place=eps_place))


@pytest.mark.parametrize("offset", [1.0, 0.1, -3.0, 1e20])
def test_without_a_weight_the_offset_is_not_used(offset, rng):
    x = rng.normal(size=(3, 4))
    for forward in (rmsnorm.forward, layernorm.forward, lambda x, **k: batchnorm.forward(x, **k).y):
        np.testing.assert_array_equal(forward(x, offset=offset), forward(x))
    for norm in (rmsnorm, layernorm, batchnorm):
        np.testing.assert_array_equal(norm.backward(x, x**2, offset=offset).dx, norm.backward(x, x**2).dx)
