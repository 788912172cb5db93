"""Initializations: the moments that torch's have, the seed, and what is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from normlab.tensor import Tensor, manual_seed
from normlab.tensor.nn import init

SHAPES = ((300, 200), (40, 60, 5, 5))
RANDOM: dict[str, dict[str, Any]] = {
    "uniform_": {"a": -0.5, "b": 2.0},
    "normal_": {"mean": 1.0, "std": 3.0},
    "xavier_uniform_": {"gain": 1.5},
    "xavier_normal_": {},
    "kaiming_uniform_": {"nonlinearity": "relu"},
    "kaiming_uniform_ ": {"a": 5**0.5},
    "kaiming_normal_": {"mode": "fan_out", "nonlinearity": "tanh"},
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", RANDOM)
def test_moments_are_torchs(name: str, shape: tuple[int, ...]) -> None:
    manual_seed(0)
    ours: Any = getattr(init, name.strip())(Tensor(np.zeros(shape)), **RANDOM[name]).data
    theirs = getattr(torch.nn.init, name.strip())(torch.empty(shape, dtype=torch.float64), **RANDOM[name]).numpy()
    # 60,000 numbers: both means are known to 0.4% of the standard deviation, both deviations to 0.3%.
    assert abs(ours.mean() - theirs.mean()) < 0.03 * theirs.std()
    assert ours.std() == pytest.approx(theirs.std(), rel=0.02)
    assert abs(ours).max() == pytest.approx(abs(theirs).max(), rel=0.001 if "uniform" in name else 0.3)


@pytest.mark.parametrize("name", RANDOM)
def test_the_seed_gives_the_same_numbers(name: str) -> None:
    function: Callable[..., Tensor] = getattr(init, name.strip())
    found = []
    for _ in range(2):
        manual_seed(3)
        found.append(function(Tensor(np.zeros((4, 5)), True, np.float32), **RANDOM[name]))
    np.testing.assert_array_equal(found[0].data, found[1].data)
    assert found[0].dtype == np.float32
    assert found[0].requires_grad


def test_constants() -> None:
    t = Tensor(np.zeros((2, 3)), True)
    assert init.ones_(t) is t
    np.testing.assert_array_equal(t.data, 1)
    np.testing.assert_array_equal(init.constant_(t, -2).data, -2)
    np.testing.assert_array_equal(init.zeros_(t).data, 0)


@pytest.mark.parametrize("name", ["linear", "sigmoid", "tanh", "relu", "leaky_relu"])
def test_gains_are_torchs(name: Any) -> None:
    assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)


def test_what_is_refused() -> None:
    weight: Any = Tensor(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"at least 2 axes has inputs and outputs, got shape \(3,\)"):
        init.xavier_normal_(Tensor(np.zeros(3)))
    mode: Any = "fan"
    with pytest.raises(ValueError, match='mode must be "fan_in" or "fan_out", got \'fan\''):
        init.kaiming_normal_(weight, mode=mode)
    with pytest.raises(
        ValueError, match="nonlinearity must be one of linear, sigmoid, tanh, relu, leaky_relu, got 'gelu'"
    ):
        init.kaiming_normal_(weight, nonlinearity="gelu")
