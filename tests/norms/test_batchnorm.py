"""BatchNorm's definition against torch in float64: value, every gradient, the running statistics."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from normlab.norms import batchnorm, layernorm

# (N, C) and (N, C, *space); two numbers a channel, where the n / (n - 1) of the running variance is 2; one channel;
# one image; an empty batch and empty space.
SHAPES = [(2, 3), (7, 5), (5, 1), (5, 4, 3), (1, 3, 2), (3, 2, 4, 5), (1, 1, 1, 2), (2, 3, 2, 3, 2)]
EMPTY = [(0, 3), (0, 3, 4), (2, 3, 0)]
EPS = [1e-5, None, 1e-2, 1e4]


def draw(rng, shape):
    x, dy = rng.normal(0.5, 2.0, shape), rng.normal(size=shape)
    weight, bias, mean = rng.normal(size=(3, shape[1]))
    return x, dy, weight, bias, mean, rng.uniform(0.5, 2.0, shape[1])


def column(a, shape):
    return np.reshape(a, (1, -1) + (1,) * (len(shape) - 2))


@pytest.mark.parametrize("eps", EPS)
@pytest.mark.parametrize("shape", SHAPES + EMPTY)
@pytest.mark.parametrize("affine", ["weight and bias", "none"])
@pytest.mark.parametrize("mode", ["training", "training without running statistics", "evaluation"])
def test_batchnorm(shape, eps, affine, mode, rng, close, sizes, torch_gradients):
    x, dy, weight, bias, mean, var = draw(rng, shape)
    w, b = (weight, bias) if affine != "none" else (None, None)
    running: Any = (None, None) if "without" in mode else (mean, var)
    moved: Any = [None if r is None else torch.tensor(r) for r in running]
    training = mode != "evaluation"
    e = 2.0**-52 if eps is None else eps
    y, dx, dw, db = torch_gradients(
        lambda x, w, b: F.batch_norm(x, moved[0], moved[1], w, b, training, 0.3, e), dy, x, w, b
    )

    ours = batchnorm.forward(x, w, b, *running, training=training, momentum=0.3, eps=eps)
    gradients = batchnorm.backward(dy, x, w, *running, training=training, eps=eps)
    n = x.size // max(shape[1], 1)
    g = 1.0 if w is None else column(w, shape)
    size = sizes(x, dy, g, eps, axes=(0, *range(2, x.ndim)), center=True)
    if not training:  # the running variance, at least 0.5, takes the place of the batch's
        largest = float(np.max(np.abs(x), initial=0.0)) + 3
        size = {**size, "y": 1 + largest * 5, "dx": 5.0, "dweight": 2 * largest * size["dbias"], "kappa": largest}
    close(ours.y, y, terms=size["y"] + 5, length=n, kappa=size["kappa"])
    close(gradients.dx, dx, terms=size["dx"], length=n, kappa=size["kappa"])
    if w is not None:
        close(gradients.dweight, dw, terms=size["dweight"], length=n, kappa=size["kappa"])
        close(gradients.dbias, db, terms=size["dbias"], length=n)
    if running[0] is None:
        assert ours.running_mean is None
        assert ours.running_var is None
    else:
        top = float(np.max(np.abs(x), initial=1.0))
        close(ours.running_mean, moved[0], terms=top, length=n)
        close(ours.running_var, moved[1], terms=top**2, length=n)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5)])
def test_the_running_variance_is_unbiased_unless_asked_otherwise(shape, rng):
    x, _, _, _, mean, var = draw(rng, shape)
    axes = (0, *range(2, x.ndim))
    for unbiased, ddof in ((True, 1), (False, 0)):
        out: Any = batchnorm.forward(x, None, None, mean, var, momentum=0.25, unbiased_running_var=unbiased)
        np.testing.assert_allclose(out.running_mean, 0.75 * mean + 0.25 * x.mean(axes), rtol=1e-14)
        np.testing.assert_allclose(out.running_var, 0.75 * var + 0.25 * x.var(axes, ddof=ddof), rtol=1e-14)


def test_evaluation_leaves_the_running_statistics_alone_and_hands_out_copies(rng):
    x, _, _, _, mean, var = draw(rng, (4, 3))
    out: Any = batchnorm.forward(x, None, None, mean, var, training=False)
    np.testing.assert_array_equal(out.running_mean, mean)
    np.testing.assert_array_equal(out.running_var, var)
    assert not np.shares_memory(out.running_mean, mean)
    assert not np.shares_memory(out.running_var, var)


def test_training_returns_new_arrays_and_changes_none(rng):
    given = draw(rng, (4, 3, 2))
    kept = [a.copy() for a in given]
    x, dy, weight, bias, mean, var = given
    batchnorm.forward(x, weight, bias, mean, var)
    batchnorm.backward(dy, x, weight, mean, var)
    for before, after in zip(kept, given, strict=True):
        np.testing.assert_array_equal(before, after)


def test_evaluation_without_running_statistics_takes_the_batch(rng):
    x, dy, weight, bias, _, _ = draw(rng, (6, 3))
    np.testing.assert_array_equal(
        batchnorm.forward(x, weight, bias, training=False).y, batchnorm.forward(x, weight, bias).y
    )
    for got, want in zip(
        batchnorm.backward(dy, x, weight, training=False), batchnorm.backward(dy, x, weight), strict=True
    ):
        np.testing.assert_array_equal(got, want)


def test_a_channel_is_a_row_of_layernorm(rng):
    """The two definitions share their formula, so transposing turns one into the other."""
    x, dy = rng.normal(size=(2, 6, 4))
    np.testing.assert_allclose(batchnorm.forward(x).y, layernorm.forward(x.T).T, rtol=1e-14)
    np.testing.assert_allclose(batchnorm.backward(dy, x).dx, layernorm.backward(dy.T, x.T).dx.T, rtol=1e-13)


def test_no_channels():
    """torch refuses a weight without entries; the formula has nothing against it."""
    out = batchnorm.forward(np.empty((3, 0)), np.empty(0), np.empty(0), np.empty(0), np.empty(0))
    assert [a.shape for a in out if a is not None] == [(3, 0), (0,), (0,)]
    gradients = batchnorm.backward(np.empty((3, 0)), np.empty((3, 0)), np.empty(0))
    assert [g.shape for g in gradients] == [(3, 0), (0,), (0,)]
