"""What sets the kinds beyond the first three apart, and how they meet: invariances, special cases, edges."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from normlab.norms import (
    adaptive,
    batchnorm,
    crmsnorm,
    dyt,
    groupnorm,
    instancenorm,
    l2norm,
    layernorm,
    prmsnorm,
    rmsnorm,
    scalenorm,
)

UNIT = 2.0**-53
ROWS = [scalenorm, l2norm, crmsnorm, prmsnorm, dyt]
SCALE_FREE = [scalenorm, l2norm, crmsnorm, prmsnorm]  # y does not change when a row is rescaled, up to eps
exact = settings(deadline=None, derandomize=True, max_examples=60)


@st.composite
def batches(draw):
    """(x, dy): x of any scale that leaves its square within float64, dy around 1."""
    rows, n = draw(st.integers(1, 5)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.normal(size=(rows, n)) * 10.0 ** draw(st.integers(-130, 130)), rng.normal(size=(rows, n))


@pytest.mark.parametrize("norm", SCALE_FREE)
@given(data=st.data(), power=st.integers(-40, 40))
@exact
def test_without_eps_rescaling_by_a_power_of_two_changes_no_bit(norm, data, power):
    x, dy = data.draw(batches())
    moved = x * 2.0**power
    np.testing.assert_array_equal(norm.forward(moved, eps=0), norm.forward(x, eps=0))
    np.testing.assert_array_equal(norm.backward(dy, moved, eps=0).dx * 2.0**power, norm.backward(dy, x, eps=0).dx)


@pytest.mark.parametrize("norm", SCALE_FREE)
@given(data=st.data())
@exact
def test_without_eps_the_gradient_has_no_component_along_the_row(norm, data):
    x, dy = data.draw(batches())
    dx = norm.backward(dy, x, eps=0).dx
    h = np.abs(norm.forward(x, eps=0))
    n = x.shape[1]
    # x * dx = h * (u - h' * sum(u * h') / count): sums of n terms of at most |h| |u|, for each of the n numbers added;
    # a partial RMS and a sum that nearly cancels make h as large as they are small.
    size = h.max(1) * np.abs(dy).max(1) * (1 + h.max(1) ** 2 * n)
    assert np.all(np.abs((x * dx).sum(1)) <= 8 * n * n * UNIT * size)


@given(data=st.data())
@exact
def test_l2norm_has_length_1_and_scalenorm_length_g(data):
    x, _ = data.draw(batches())
    n = x.shape[1]
    np.testing.assert_allclose((l2norm.forward(x, eps=0) ** 2).sum(1), 1, rtol=4 * (n + 4) * UNIT)
    np.testing.assert_allclose((scalenorm.forward(x, 3.0, eps=0) ** 2).sum(1), 9, rtol=4 * (n + 4) * UNIT)
    # With g = sqrt(n), where it begins, ScaleNorm is RMSNorm.
    np.testing.assert_allclose(scalenorm.forward(x, eps=0), rmsnorm.forward(x, eps=0), rtol=2 * (n + 8) * UNIT)


def test_a_length_at_the_floor_is_a_rows_own():
    """At the tie the two derivatives differ; torch takes the one from above."""
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    leaf = torch.tensor(x, requires_grad=True)
    y = F.normalize(leaf, dim=-1, eps=5.0)
    (dx,) = torch.autograd.grad(y, leaf, torch.ones(2, 2, dtype=torch.float64))
    np.testing.assert_allclose(l2norm.backward(np.ones((2, 2)), x, eps=5.0).dx, dx, atol=1e-16)
    np.testing.assert_allclose(l2norm.forward(x, eps=5.0), x / 5, rtol=2 * UNIT)


@pytest.mark.parametrize("norm", [scalenorm, l2norm])
def test_the_derivative_at_a_row_of_zeros_is_that_of_the_floor(norm, rng):
    dy = rng.normal(size=(2, 4))
    scale = 2.0 if norm is scalenorm else 1.0  # sqrt(4)
    np.testing.assert_allclose(norm.backward(dy, np.zeros((2, 4)), eps=1e-3).dx, dy * scale * 1e3, rtol=1e-15)


@pytest.mark.parametrize("eps_place", ["inside", "outside"])
@pytest.mark.parametrize("eps", [1e-5, None, 0.3])
@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_crmsnorm_is_layernorm_of_the_recovered_vector(n, eps, eps_place, rng):
    x, dy = rng.normal(size=(2, 5, n))
    weight = rng.normal(size=n)
    options = {"eps": eps, "eps_place": eps_place}
    whole = crmsnorm.recover(x)
    assert whole.shape == (5, n + 1)
    np.testing.assert_allclose(whole.sum(-1), 0, atol=4 * n * UNIT * np.abs(x).sum(-1).max())
    y = layernorm.forward(whole, np.append(weight, 0.0), **options)[:, :-1]
    np.testing.assert_allclose(crmsnorm.forward(x, weight, **options), y, rtol=0, atol=20 * (n + 8) * UNIT)

    # The last entry is minus the sum: what flows back to it flows back, negated, to all others.
    full = layernorm.backward(np.pad(dy, ((0, 0), (0, 1))), whole, np.append(weight, 0.0), **options)
    ours = crmsnorm.backward(dy, x, weight, **options)
    top = np.abs(full.dx).max() + 1
    np.testing.assert_allclose(ours.dx, full.dx[:, :-1] - full.dx[:, -1:], rtol=0, atol=20 * (n + 8) * UNIT * top)
    np.testing.assert_allclose(ours.dweight, full.dweight[:-1], rtol=0, atol=100 * (n + 8) * UNIT)


def test_compressing_keeps_all_but_the_mean(rng):
    x = rng.normal(3.0, 1.0, (4, 9))
    short = crmsnorm.compress(x)
    assert short.shape == (4, 8)
    np.testing.assert_allclose(crmsnorm.recover(short), x - x.mean(-1, keepdims=True), rtol=0, atol=1e-14)
    np.testing.assert_allclose(crmsnorm.compress(crmsnorm.recover(short)), short, rtol=0, atol=1e-14)
    np.testing.assert_allclose(crmsnorm.forward(short), layernorm.forward(x)[:, :-1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("eps_place", ["inside", "outside"])
def test_the_whole_fraction_is_rmsnorm(eps_place, rng):
    x, dy = rng.normal(size=(2, 5, 9))
    weight = rng.normal(size=9)
    options = {"eps_place": eps_place, "offset": 1.0}
    np.testing.assert_array_equal(
        prmsnorm.forward(x, weight, fraction=1, **options), rmsnorm.forward(x, weight, **options)
    )
    ours, theirs = prmsnorm.backward(dy, x, weight, fraction=1, **options), rmsnorm.backward(dy, x, weight, **options)
    np.testing.assert_allclose(ours.dx, theirs.dx, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(ours.dweight, theirs.dweight)


@pytest.mark.parametrize(
    ("n", "fraction", "m"),
    [
        (768, 0.0625, 48),  # the paper's share
        (16, 0.0625, 1),
        (17, 0.0625, 2),  # rounded up
        (5, 0.0625, 1),
        (100, 0.07, 7),  # 7.000000000000001 in floating point
        (10, 0.3, 3),
        (3, 1 / 3, 1),
        (9, 1.0, 9),
        (9, 1, 9),
        (9, 1e-300, 1),
        (0, 0.5, 0),
    ],
)
def test_how_many_entries_a_fraction_is(n, fraction, m, rng):
    assert prmsnorm.count(n, fraction) == m
    x = rng.normal(size=(2, n))
    if n:
        changed = x.copy()
        changed[:, m:] = 7.0  # beyond the first m nothing acts on the others
        y, moved = prmsnorm.forward(x, fraction=fraction), prmsnorm.forward(changed, fraction=fraction)
        np.testing.assert_array_equal(y[:, :m], moved[:, :m])
        np.testing.assert_allclose((y[:, :m] ** 2).mean(1), 1, rtol=1e-2)  # but for eps


@given(data=st.data(), alpha=st.floats(-100, 100))
@exact
def test_dyt_is_bounded_and_odd(data, alpha):
    x, dy = data.draw(batches())
    weight = dy[0]
    y = dyt.forward(x, alpha, weight)
    assert np.all(np.abs(y) <= np.abs(weight))
    np.testing.assert_array_equal(dyt.forward(-x, alpha, weight), -y)
    assert np.all(np.isfinite(dyt.backward(dy, x, alpha, weight).dx))


def test_dyt_near_and_far_from_0():
    x = np.array([[1e-9, 300.0, -300.0, 400.0]])
    np.testing.assert_allclose(dyt.forward(x, 0.5), [[5e-10, 1, -1, 1]], rtol=1e-15)
    # tanh' = 4 e^(-2 |z|) far out, where 1 - tanh^2 is 0 to the last digit.
    slope = dyt.backward(np.ones_like(x), x, 0.5).dx
    np.testing.assert_allclose(slope, 0.5 * np.array([[1, *(4 * np.exp([-300.0, -300.0, -400.0]))]]), rtol=1e-14)


@pytest.mark.parametrize("options", [{}, {"eps": 0.5, "eps_place": "outside"}, {"offset": 1.0}])
def test_group_norms_meet_layernorm_and_instancenorm(options, rng):
    x, dy = rng.normal(100.0, 2.0, (3, 4, 5)), rng.normal(size=(3, 4, 5))
    weight, bias = rng.normal(size=(2, 4))
    one, per = groupnorm.forward(x, 1, **options), groupnorm.forward(x, 4, weight, bias, **options)
    np.testing.assert_array_equal(one, layernorm.forward(x, normalized_shape=(4, 5), **options))
    np.testing.assert_array_equal(per, instancenorm.forward(x, weight, bias, **options).y)
    np.testing.assert_array_equal(
        groupnorm.backward(dy, x, 1, **options).dx, layernorm.backward(dy, x, normalized_shape=(4, 5), **options).dx
    )
    for got, want in zip(
        groupnorm.backward(dy, x, 4, weight, **options), instancenorm.backward(dy, x, weight, **options), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_instancenorm_of_one_sample_is_batchnorm(rng):
    x, dy = rng.normal(size=(2, 1, 4, 6))
    weight, bias, mean = rng.normal(size=(3, 4))
    var = rng.uniform(0.5, 2, 4)
    for training in (True, False):
        ours = instancenorm.forward(x, weight, bias, mean, var, training=training)
        for got, want in zip(ours, batchnorm.forward(x, weight, bias, mean, var, training=training), strict=True):
            np.testing.assert_array_equal(got, want)
        ours = instancenorm.backward(dy, x, weight, mean, var, training=training)
        for got, want in zip(ours, batchnorm.backward(dy, x, weight, mean, var, training=training), strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(3, 2, 4), (2, 3, 2, 3), (1, 1, 2)])
@pytest.mark.parametrize("training", [True, False])
def test_instancenorm_is_torchs_with_its_running_statistics(shape, training, rng, close):
    x = rng.normal(1.0, 2.0, shape)
    mean, var = rng.normal(size=shape[1]), rng.uniform(0.5, 2, shape[1])
    moved = [torch.tensor(mean), torch.tensor(var)]
    y = F.instance_norm(torch.tensor(x), moved[0], moved[1], None, None, training, 0.3)
    ours: Any = instancenorm.forward(x, None, None, mean, var, training=training, momentum=0.3)
    close(ours.y, y, terms=20.0, length=x.size, kappa=10.0)
    close(ours.running_mean, moved[0], terms=10.0, length=x.size)
    close(ours.running_var, moved[1], terms=100.0, length=x.size)
    assert not np.shares_memory(ours.running_mean, mean)
    biased: Any = instancenorm.forward(x, None, None, mean, var, momentum=1.0, unbiased_running_var=False)
    np.testing.assert_allclose(biased.running_var, x.reshape(*shape[:2], -1).var(-1).mean(0), rtol=1e-14)


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 3, 0), (2, 0, 4)])
def test_without_numbers_instancenorm_leaves_the_running_statistics(shape, rng):
    mean, var = np.full(shape[1], 0.5), np.full(shape[1], 2.0)
    out = instancenorm.forward(np.empty(shape), None, None, mean, var)
    np.testing.assert_array_equal(out.running_mean, mean)
    np.testing.assert_array_equal(out.running_var, var)
    gradients = instancenorm.backward(np.empty(shape), np.empty(shape))
    assert [g.shape for g in gradients] == [shape, shape[1:2], shape[1:2]]
    assert not gradients.dweight.any()


@pytest.mark.parametrize("shape", [(0, 4), (0, 4, 3), (2, 4, 0), (2, 0, 3)])
def test_without_numbers_groupnorm_is_empty(shape):
    assert groupnorm.forward(np.empty(shape), 2).shape == shape
    gradients = groupnorm.backward(np.empty(shape), np.empty(shape), 2)
    assert [g.shape for g in gradients] == [shape, shape[1:2], shape[1:2]]
    assert not gradients.dweight.any()


@pytest.mark.parametrize("norm", ROWS)
@pytest.mark.parametrize("shape", [(0, 8), (3, 0), (2, 0, 3)])
def test_sizes_of_zero(norm, shape):
    x = np.empty(shape)
    assert norm.forward(x).shape == shape
    gradients = norm.backward(x, x)
    assert gradients.dx.shape == shape
    assert not any(np.any(g) for g in gradients[1:])


@pytest.mark.parametrize("norm", ROWS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # inf * 0 and inf - inf
def test_what_is_not_finite_stays_in_its_row(norm, value, rng):
    x, dy = rng.normal(size=(2, 4, 5))
    spoiled = x.copy()
    spoiled[1, 0] = value
    for got, want in (
        (norm.forward(spoiled), norm.forward(x)),
        (norm.backward(dy, spoiled).dx, norm.backward(dy, x).dx),
    ):
        np.testing.assert_array_equal(got[[0, 2, 3]], want[[0, 2, 3]])


@pytest.mark.parametrize("norm", ROWS)
def test_several_normalized_axes_are_one_flat_row(norm, rng):
    x, dy = rng.normal(size=(2, 2, 3, 4))
    flat = norm.forward(x.reshape(2, 12))
    np.testing.assert_array_equal(norm.forward(x, normalized_shape=(3, 4)), flat.reshape(x.shape))
    gradients, wide = norm.backward(dy.reshape(2, 12), x.reshape(2, 12)), norm.backward(dy, x, normalized_shape=(3, 4))
    for got, want in zip(wide, gradients, strict=True):
        np.testing.assert_array_equal(got.ravel(), want.ravel())


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
@pytest.mark.parametrize("options", [{}, {"weight": np.arange(4.0), "offset": 1.0, "eps": 0.1}])
def test_with_a_projection_of_zeros_adaptive_is_plain(kind, options, rng):
    x, c = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 5))
    plain = {"layernorm": layernorm, "rmsnorm": rmsnorm}[kind]
    y = adaptive.forward(x, c, np.zeros((8, 5)), np.zeros(8), kind=kind, **options)
    np.testing.assert_array_equal(y, plain.forward(x, **options))
    dy = rng.normal(size=x.shape)
    gradients = adaptive.backward(dy, x, c, np.zeros((8, 5)), np.zeros(8), kind=kind, **options)
    np.testing.assert_array_equal(gradients.dx, plain.backward(dy, x, **options).dx)
    assert not gradients.dcondition.any()


def test_adaptive_with_a_norm_that_has_parameters_of_its_own(rng, torch_gradients):
    x, c, w, b = (rng.normal(size=s) for s in ((2, 3, 4), (2, 5), (8, 5), (8,)))
    weight, bias, dy = rng.normal(size=4), rng.normal(size=4), rng.normal(size=(2, 3, 4))

    def formula(x, c, w, b):
        shift, scale = F.linear(F.silu(c), w, b)[:, None].chunk(2, -1)
        return F.layer_norm(x, [4], torch.tensor(weight), torch.tensor(bias)) * (1 + scale) + shift

    value, *theirs = torch_gradients(formula, dy, x, c, w, b)
    options = {"weight": weight, "bias": bias}
    np.testing.assert_allclose(adaptive.forward(x, c, w, b, **options), value, rtol=0, atol=1e-13)
    for got, want in zip(adaptive.backward(dy, x, c, w, b, **options), theirs, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def test_adaptive_far_out_in_the_silu():
    """silu(-1000) is -0, without a warning about the exponential."""
    x, c = np.ones((1, 2)) * [1.0, -1.0], np.array([[-1000.0, 1000.0]])
    y = adaptive.forward(x, c, np.ones((4, 2)) * 1e-3, np.zeros(4), eps=0)
    np.testing.assert_allclose(y, [[3.0, -1.0]], rtol=1e-15)
