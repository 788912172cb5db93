"""LayerNorm's and RMSNorm's definitions against torch in float64: the value and every gradient."""

import numpy as np
import pytest
import torch.nn.functional as F

from normlab.norms import layernorm, rmsnorm

# Sizes that need something of their own: no leading axis, one row, one column, one number, several normalized
# axes, all axes, odd widths around the SIMD sizes of a fast implementation, no rows, no columns.
SHAPES = [
    ((4, 8), (8,)),
    ((8,), (8,)),
    ((1, 8), (8,)),
    ((5, 1), (1,)),
    ((1, 1), (1,)),
    ((2, 3, 5), (3, 5)),
    ((2, 3, 4, 5), (3, 4, 5)),
    ((3, 5), (3, 5)),
    ((2, 3, 7), (7,)),
    ((3, 31), (31,)),
    ((2, 257), (257,)),
    ((0, 8), (8,)),
    ((2, 0, 3), (3,)),
    ((3, 0), (0,)),
]
EPS = [1e-5, None, 0.0, 1e-2, 1e4]
FLOAT64_EPS = 2.0**-52  # what eps=None stands for


def draw(rng, shape, normalized):
    x = rng.normal(0.5, 2.0, shape)
    dy = rng.normal(size=shape)
    weight, bias = rng.normal(size=normalized), rng.normal(size=normalized)
    return x, dy, weight, bias


@pytest.mark.parametrize("eps", EPS)
@pytest.mark.parametrize(("shape", "normalized"), SHAPES)
@pytest.mark.parametrize("affine", ["weight", "none"])
def test_rmsnorm(shape, normalized, eps, affine, rng, close, sizes, torch_gradients):
    x, dy, weight, _ = draw(rng, shape, normalized)
    w = weight if affine == "weight" else None
    y, dx, dw = torch_gradients(lambda x, w: F.rms_norm(x, normalized, w, eps), dy, x, w)

    axes = tuple(range(-len(normalized), 0))
    size = sizes(x, dy, 1.0 if w is None else w, eps, axes=axes, center=False)
    n = max(int(np.prod(normalized)), x.size // max(int(np.prod(normalized)), 1))
    ours = rmsnorm.backward(dy, x, w, eps=eps, normalized_shape=normalized)
    close(rmsnorm.forward(x, w, eps=eps, normalized_shape=normalized), y, terms=size["y"], length=n)
    close(ours.dx, dx, terms=size["dx"], length=n)
    if w is not None:
        close(ours.dweight, dw, terms=size["dweight"], length=n)


# The variance of one number is 0: without an eps its norm is 0 / 0, see test_zero_over_zero.
@pytest.mark.parametrize(
    ("shape", "normalized", "eps"), [(*s, e) for s in SHAPES for e in EPS if e != 0 or np.prod(s[1]) != 1]
)
@pytest.mark.parametrize("affine", ["weight and bias", "weight", "none"])
def test_layernorm(shape, normalized, eps, affine, rng, close, sizes, torch_gradients):
    x, dy, weight, bias = draw(rng, shape, normalized)
    w = weight if "weight" in affine else None
    b = bias if "bias" in affine else None
    e = FLOAT64_EPS if eps is None else eps
    y, dx, dw, db = torch_gradients(lambda x, w, b: F.layer_norm(x, normalized, w, b, e), dy, x, w, b)

    axes = tuple(range(-len(normalized), 0))
    size = sizes(x, dy, 1.0 if w is None else w, eps, axes=axes, center=True)
    n = max(int(np.prod(normalized)), x.size // max(int(np.prod(normalized)), 1))
    ours = layernorm.backward(dy, x, w, eps=eps, normalized_shape=normalized)
    value = layernorm.forward(x, w, b, eps=eps, normalized_shape=normalized)
    top_bias = 0.0 if b is None else float(np.max(np.abs(b), initial=0.0))
    close(value, y, terms=size["y"] + top_bias, length=n, kappa=size["kappa"])
    close(ours.dx, dx, terms=size["dx"], length=n, kappa=size["kappa"])
    if w is not None:
        close(ours.dweight, dw, terms=size["dweight"], length=n, kappa=size["kappa"])
    if b is not None:
        close(ours.dbias, db, terms=size["dbias"], length=n)


@pytest.mark.parametrize("norm", [layernorm, rmsnorm])
def test_the_gradients_keep_the_shape_of_what_they_belong_to(norm, rng):
    x, dy, weight, _ = draw(rng, (2, 3, 4, 5), (4, 5))
    gradients = norm.backward(dy, x, weight, normalized_shape=(4, 5))
    assert gradients.dx.shape == (2, 3, 4, 5)
    assert {g.shape for g in gradients[1:]} == {(4, 5)}


@pytest.mark.parametrize("norm", [layernorm, rmsnorm])
@pytest.mark.parametrize("normalized", [5, np.int64(5), (5,), [5], None])
def test_ways_to_name_the_last_axis(norm, normalized, rng):
    x, dy, weight, _ = draw(rng, (4, 5), (5,))
    value = norm.forward(x, weight, normalized_shape=normalized)
    np.testing.assert_array_equal(value, norm.forward(x, weight, normalized_shape=(5,)))
    gradients = norm.backward(dy, x, weight, normalized_shape=normalized)
    for got, want in zip(gradients, norm.backward(dy, x, weight, normalized_shape=(5,)), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("norm", [layernorm, rmsnorm])
@pytest.mark.parametrize("rows", [np.zeros((2, 4)), np.full((2, 4), 3.0), np.full((2, 1), 3.0)])
def test_zero_over_zero(norm, rows):
    """Without an eps a row that has nothing to divide by is NaN, as in torch, and NumPy says so."""
    if norm is rmsnorm and rows.any():
        np.testing.assert_allclose(norm.forward(rows, eps=0), 1.0, rtol=1e-15)
        return
    with pytest.warns(RuntimeWarning):
        y = norm.forward(rows, eps=0)
    assert np.isnan(y).all()


@pytest.mark.parametrize("norm", [layernorm, rmsnorm])
def test_any_float_input_is_computed_in_float64_and_left_alone(norm, rng):
    x, dy, weight, _ = draw(rng, (4, 6), (6,))
    x, dy, weight = (a.astype(np.float16).T.copy().T for a in (x, dy, weight))  # also not C-contiguous
    kept = [a.copy() for a in (x, dy, weight)]
    y, gradients = norm.forward(x, weight), norm.backward(dy, x, weight)
    wide = [np.ascontiguousarray(a, dtype=np.float64) for a in (x, dy, weight)]
    np.testing.assert_array_equal(y, norm.forward(wide[0], wide[2]))
    for got, want in zip(gradients, norm.backward(wide[1], wide[0], wide[2]), strict=True):
        assert got.dtype == np.float64
        np.testing.assert_array_equal(got, want)
    for before, after in zip(kept, (x, dy, weight), strict=True):
        np.testing.assert_array_equal(before, after)
