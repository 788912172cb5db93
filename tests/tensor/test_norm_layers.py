"""The norms as layers: large means, running statistics, dtypes, and numbers that are none."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from normlab.spec import NormSpec
from normlab.tensor import Tensor, layers, no_grad, ops
from normlab.tensor.bridge import from_torch

draw = np.random.default_rng(0).standard_normal
NORMS: dict[str, Any] = {
    "LayerNorm": layers.LayerNorm,
    "RMSNorm": layers.RMSNorm,
    "GroupNorm": lambda n: layers.GroupNorm(1, n),
    "BatchNorm": layers.BatchNorm,
}


def test_layer_norm_of_a_transposed_tensor_and_its_gradient() -> None:
    module = nn.LayerNorm([3, 4]).double()
    x, dy = draw((4, 3, 2)), draw((2, 3, 4))
    given: Any = torch.tensor(x, requires_grad=True)
    module(given.permute(2, 1, 0)).backward(torch.tensor(dy))
    leaf: Any = Tensor(x, requires_grad=True)
    from_torch(module)(leaf.permute(2, 1, 0)).backward(dy)
    np.testing.assert_allclose(leaf.grad, given.grad, rtol=1e-12, atol=1e-12)


def test_a_large_mean_leaves_the_digits_that_the_input_has() -> None:
    # Numbers near 1e4 are 1e-3 apart in float32: what is asked for is the norm of the numbers as they are.
    x = (1e4 + draw((64, 32))).astype(np.float32)
    exact = x.astype(np.float64)
    for axis, y in (
        (1, ops.layer_norm(Tensor(x), 32)),
        (1, ops.group_norm(Tensor(x), 1)),
        (0, ops.batch_norm(Tensor(x))),
    ):
        c = exact - exact.mean(axis, keepdims=True)
        want = c / np.sqrt(np.mean(c * c, axis, keepdims=True) + 1e-5)
        assert y.dtype == np.float32
        assert np.abs(y.data - want).max() < 6e-4  # half the distance between two such numbers is 5e-4


@pytest.mark.parametrize(
    ("shapes", "make"),
    [
        (((7, 3), (2, 3), (5, 3)), nn.BatchNorm1d),
        (((4, 3, 5), (2, 3, 5), (6, 3, 2)), nn.BatchNorm1d),
        (((2, 3, 4, 5), (3, 3, 4, 5), (2, 3, 1, 1)), nn.BatchNorm2d),
    ],
)
@pytest.mark.parametrize("momentum", [0.1, 0.7, 1.0, 0.0])
def test_running_statistics_over_batches(shapes: Any, make: Any, momentum: float) -> None:
    module = make(3, momentum=momentum).double()
    parent = nn.Sequential(nn.Identity(), nn.Sequential(module))
    ours: Any = from_torch(parent)
    bn = ours[1][0]
    for shape in shapes:
        x = draw(shape) * 2 + 1
        y, want = ours(Tensor(x)), parent(torch.tensor(x))
        np.testing.assert_allclose(y.data, want.detach(), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(bn.running_mean, module.running_mean, rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(bn.running_var, module.running_var, rtol=1e-13, atol=1e-15)
    parent.eval()
    ours.eval()
    before = bn.running_mean.copy(), bn.running_var.copy()
    x = draw(shapes[0])
    np.testing.assert_allclose(ours(Tensor(x)).data, parent(torch.tensor(x)).detach(), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(before, (bn.running_mean, bn.running_var))


def test_batch_statistics_with_the_textbook_running_variance() -> None:
    bn: Any = layers.BatchNorm(3, momentum=0.25, unbiased_running_var=False)
    x = draw((8, 3))
    bn(Tensor(x))
    np.testing.assert_allclose(bn.running_mean, 0.25 * x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(bn.running_var, 0.75 + 0.25 * x.var(0), rtol=1e-13)


def test_batch_norm_needs_two_numbers_and_survives_none() -> None:
    bn: Any = layers.BatchNorm(3)
    with pytest.raises(ValueError, match=r"^x must hold more than 1 number per channel .*, got shape \(1, 3\)$"):
        bn(Tensor(draw((1, 3))))
    x: Any = Tensor(np.zeros((0, 3)), requires_grad=True)
    bn(x).backward(np.zeros((0, 3)))
    assert x.grad.shape == (0, 3)
    np.testing.assert_array_equal(bn.running_mean, 0)
    np.testing.assert_array_equal(bn.running_var, 1)
    np.testing.assert_array_equal(bn.gamma.grad, 0)


def test_without_recording_the_running_statistics_move_all_the_same() -> None:
    bn: Any = layers.BatchNorm(3)
    with no_grad():
        bn(Tensor(draw((5, 3)) + 4))
    assert np.all(bn.running_mean > 0.2)


@pytest.mark.parametrize("make", NORMS.values(), ids=NORMS.keys())
def test_eps_may_be_set_later(make: Any) -> None:
    norm, x = make(3), Tensor(draw((4, 3)))
    before = norm(x).data
    norm.eps = 100.0
    assert np.abs(norm(x).data).max() < 0.2 * np.abs(before).max()
    assert "eps=100.0" in repr(norm)


@pytest.mark.parametrize("make", NORMS.values(), ids=NORMS.keys())
def test_a_norm_has_the_dtype_of_what_it_normalizes(make: Any) -> None:
    x: Any = Tensor(draw((4, 3)), requires_grad=True, dtype=np.float32)
    norm = make(3)
    y = norm(x)
    y.backward(np.ones((4, 3)))
    assert y.dtype == x.grad.dtype == np.float32
    assert all(p.grad.dtype == p.dtype == np.float64 for p in norm.parameters())
    for one, other in ((np.float32, np.float64), (np.float64, np.float32)):
        # Numbers that float32 has too, so that both computations are of the same.
        given = draw((4, 3)).astype(np.float32)
        exact, mixed = make(3), make(3)
        found = []
        for layer, dtypes in ((exact, (np.float64, np.float64)), (mixed, (one, other))):
            x = Tensor(given, requires_grad=True, dtype=dtypes[0])
            for i, name in enumerate(n for n in ("gamma", "beta", "weight") if getattr(layer, n, None) is not None):
                setattr(layer, name, Tensor(np.arange(3) - i - 0.5, requires_grad=True, dtype=dtypes[1]))
            y = layer(x)
            y.backward(given[::-1])
            found.append([y.data, x.grad, *(p.grad for p in layer.parameters())])
        for got, want in zip(*found[::-1], strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)
    with pytest.raises(TypeError, match=r"^x must be float32 or float64, got int64$"):
        norm(Tensor([[1, 2, 3], [4, 5, 6]]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_none_stays_in_its_row(bad: float) -> None:
    x = draw((4, 6))
    x[1, 2] = bad
    with np.errstate(invalid="ignore"):
        y = layers.LayerNorm(6)(Tensor(x)).data
    assert np.isnan(y[1]).any()
    assert np.isfinite(y[[0, 2, 3]]).all()


def test_specs_that_the_engine_does_not_have() -> None:
    x = Tensor(draw((4, 3)))
    for function, kind, spec in (
        (ops.rms_norm, "rmsnorm", NormSpec("rmsnorm", eps_place="outside")),
        (ops.rms_norm, "rmsnorm", NormSpec("layernorm")),
        (ops.layer_norm, "layernorm", NormSpec("layernorm", eps_place="outside")),
    ):
        with pytest.raises(
            ValueError, match=rf'^spec must be of kind \'{kind}\' with eps_place "inside", got NormSpec'
        ):
            function(x, 3, spec=spec)


def test_running_statistics_that_do_not_fit() -> None:
    x = Tensor(draw((4, 3)))
    mean, var = np.zeros(3), np.ones(3)
    one, tensor = np.ones(1), Tensor(var)
    given: Any
    for given, error, sentence in (
        ((one, var), ValueError, r"running_mean must have shape \(3,\), the channels of x, got \(1,\)"),
        ((mean, tensor), TypeError, "running_var must be an array of float32 or float64, got Tensor"),
        ((np.zeros(3, int), var), TypeError, "running_mean must be an array of float32 or float64, got numpy.ndarray"),
    ):
        with pytest.raises(error, match=sentence):
            ops.batch_norm(x, *given, training=True)
    with pytest.raises(TypeError, match="momentum must be a number"):
        ops.batch_norm(x, mean, var, training=True, momentum=None)  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(mean, 0)
