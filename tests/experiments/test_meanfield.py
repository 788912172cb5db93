"""The predictions against closed forms, and against wide stacks."""

from typing import Any

import numpy as np
import pytest

from normlab import NormSpec
from normlab.experiments.meanfield import ACTIVATIONS, nearest_stack, predict
from normlab.experiments.stack_cases import PUBLISHED
from normlab.experiments.stacks import measure
from normlab.models import StackConfig
from normlab.models.stack import ACTIVATIONS as TORCH_ACTIVATIONS


def stack(activation="relu", gain=1.0, kind: Any = "layernorm", place: Any = "none", depth=8, width=256):
    return StackConfig(
        depth=depth, width=width, activation=activation, gain=gain, norm=NormSpec(kind), norm_place=place
    )


def test_relu_without_norm_in_closed_form():
    for gain in (0.7, 1.0, 2**0.5, 3.0):
        p = predict(stack(gain=gain))
        layers = np.arange(1, 9)
        # E[relu^2] = q/2, so each layer multiplies the mean square, and the squared gradient, by gain^2 / 2.
        np.testing.assert_allclose(p.rms, (gain / 2**0.5) ** layers, rtol=1e-6)
        np.testing.assert_allclose(p.gradient, (gain / 2**0.5) ** (8 - layers), rtol=1e-6)
        # E[relu] is integrated across its kink: the trapezoid errs by step^2 / 12 * density = 3e-6 there.
        np.testing.assert_allclose(np.array(p.std) / p.rms, np.sqrt(1 - 1 / np.pi), rtol=1e-5)


def test_linear_without_norm_in_closed_form():
    p = predict(stack("linear", 1.3))
    np.testing.assert_allclose(p.std, 1.3 ** np.arange(1, 9), rtol=1e-6)
    np.testing.assert_allclose(p.gradient, 1.3 ** np.arange(7, -1, -1), rtol=1e-6)


@pytest.mark.parametrize("gain", [0.5, 1.0, 4.0])
def test_layernorm_after_relu_multiplies_gradients_whatever_the_gain(gain):
    p = predict(stack(gain=gain, place="after"))
    ratio = np.array(p.gradient[:-1]) / p.gradient[1:]
    np.testing.assert_allclose(ratio, np.sqrt(np.pi / (np.pi - 1)), rtol=1e-5)
    np.testing.assert_allclose(p.std, 1.0, rtol=1e-12)


@pytest.mark.parametrize("place", ["before", "after"])
def test_rmsnorm_around_relu_keeps_gradients(place):
    np.testing.assert_allclose(predict(stack(kind="rmsnorm", place=place)).gradient, 1.0, rtol=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_are_derivatives_of_torchs_activations(name):
    import torch

    z = torch.linspace(-4, 4, 80, dtype=torch.float64, requires_grad=True)  # even: not on ReLU's kink
    y = TORCH_ACTIVATIONS[name](z)
    (slope,) = torch.autograd.grad(y.sum(), z)
    a, derivative = ACTIVATIONS[name]
    np.testing.assert_allclose(a(z.detach().numpy()), y.detach().numpy(), atol=1e-12)
    np.testing.assert_allclose(derivative(z.detach().numpy()), slope.numpy(), atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
@pytest.mark.parametrize(
    ("kind", "place"),
    [("none", "none"), ("layernorm", "before"), ("rmsnorm", "before"), ("layernorm", "after"), ("rmsnorm", "after")],
)
def test_wide_stacks_measure_what_is_predicted(activation, kind, place):
    config = stack(activation, 1.2, kind, place, depth=4, width=1024)
    p, m = predict(config), measure(config, seed=0)
    # Fluctuations are of order 1/sqrt(width) = 3% a layer.
    np.testing.assert_allclose(m.std, p.std, rtol=0.1)
    np.testing.assert_allclose(m.rms, p.rms, rtol=0.1)
    np.testing.assert_allclose(m.entering_std, p.entering_std, rtol=0.1)
    np.testing.assert_allclose(m.gradient, p.gradient, rtol=0.1)


def test_nearest_stack_finds_a_stack_again():
    config = stack("tanh", 1.37, depth=6)
    sequence = dict(enumerate(predict(config).std, 1))
    fit = nearest_stack(sequence, width=256)
    assert (fit.config.activation, fit.config.gain, fit.quantity) == ("tanh", 1.37, "output")
    assert fit.error < 1e-9


def test_no_stack_gives_the_published_sequence():
    fit = nearest_stack(PUBLISHED, width=256)
    assert fit.config.activation == "gelu"
    assert fit.error > 0.2
