"""The plain stack: linear, norm, activation and nothing else."""

import math
from typing import Any

import pytest
import torch

from normlab.models import PlainStack, StackConfig
from normlab.spec import NormSpec

BY_HAND = {
    "relu": lambda z: z * (z > 0),
    "gelu": lambda z: z * 0.5 * (1 + torch.erf(z / math.sqrt(2))),
    "silu": lambda z: z / (1 + torch.exp(-z)),
    "tanh": lambda z: (torch.exp(2 * z) - 1) / (torch.exp(2 * z) + 1),
    "linear": lambda z: z,
}


def build(**changes):
    base: dict[str, Any] = {"depth": 3, "width": 16, "activation": "relu", "gain": 1.0}
    return PlainStack(StackConfig(**(base | changes)))


def normed(x, p, i, spec):
    if spec.kind == "none":
        return x
    if spec.kind == "layernorm":
        x = x - x.mean(-1, keepdim=True)
    y = x / torch.sqrt(x.square().mean(-1, keepdim=True) + spec.eps) * p[f"norms.{i}.weight"]
    return y + p[f"norms.{i}.bias"] if spec.kind == "layernorm" else y


@pytest.mark.parametrize("norm_place", ["none", "before", "after"])
@pytest.mark.parametrize("activation", BY_HAND)
def test_layers_by_hand(norm, norm_place, activation, randomized, assert_close):
    model = randomized(build(norm=norm, norm_place=norm_place, activation=activation).to(torch.float64))
    p = dict(model.named_parameters())
    x = torch.randn(5, 16, dtype=torch.float64)
    layers = model.layers(x)
    assert torch.equal(model(x), layers[-1][1])
    assert len(layers) == 3
    for i, (z, h) in enumerate(layers):
        expected = x @ p[f"linears.{i}.weight"].T
        if norm_place == "before":
            expected = normed(expected, p, i, norm)
        assert_close(z, expected)
        expected = BY_HAND[activation](expected)
        if norm_place == "after":
            expected = normed(expected, p, i, norm)
        assert_close(h, expected)
        x = h


@pytest.mark.parametrize(("norm_place", "norms"), [("none", 0), ("before", 3), ("after", 3)])
def test_parameters(norm_place, norms):
    model = build(norm_place=norm_place, norm=NormSpec("layernorm"))
    linear = {f"linears.{i}.weight": (16, 16) for i in range(3)}
    scale = {f"norms.{i}.{part}": (16,) for i in range(norms) for part in ("weight", "bias")}
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == linear | scale
    model(torch.randn(4, 16)).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("shape", [(16,), (0, 16), (1, 16), (2, 3, 16)])
def test_rows_in_rows_out(shape):
    model = build(norm_place="before")
    assert model(torch.randn(shape)).shape == shape


@pytest.mark.parametrize("gain", [0.5, 1.0, math.sqrt(2)])
def test_standard_deviation_of_the_weights(gain):
    model = build(width=128, gain=gain)
    for weight in model.parameters():
        z = weight.detach().double() * math.sqrt(128) / gain
        # Within 5 standard errors of N(0, 1).
        assert abs(z.mean()) < 5 / 128
        assert abs(z.std() - 1) < 5 / (128 * math.sqrt(2))


@pytest.mark.parametrize(("activation", "kept"), [("linear", 1.0), ("relu", 0.5)])
@pytest.mark.parametrize("gain", [0.5, 1.0, math.sqrt(2)])
def test_mean_squares_of_the_first_layer(activation, kept, gain):
    """gain^2 times the input's, of which a ReLU keeps half: with He's gain of sqrt(2) the input's own."""
    z, h = build(width=512, activation=activation, gain=gain).layers(torch.randn(512, 512))[0]
    # 512^2 weights and as many inputs, each mean square of n normal numbers off by sqrt(2 / n): 5 standard errors.
    assert z.square().mean().item() == pytest.approx(gain**2, rel=5 * 2 / 512)
    assert h.square().mean().item() == pytest.approx(kept * gain**2, rel=5 * 3 / 512)


@pytest.mark.parametrize("gain", [0.1, 10.0])
def test_a_norm_hides_the_gain(gain, assert_close):
    spec = NormSpec("layernorm", eps=0.0)
    x = torch.randn(6, 16, dtype=torch.float64)
    for norm_place, seen in (("before", 0), ("after", 1)):
        model = build(norm=spec, norm_place=norm_place, gain=gain).to(torch.float64)
        for layer in model.layers(x):
            assert_close(layer[seen].mean(-1), torch.zeros_like(x[:, 0]), scale=torch.ones(()))
            assert_close(layer[seen].square().mean(-1), torch.ones_like(x[:, 0]))


def test_a_seed_decides_every_weight():
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        models.append(build())
    one, same, other = (m.state_dict() for m in models)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)
