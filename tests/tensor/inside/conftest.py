"""Graphs of every shape to look into, as fixtures and functions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from normlab.tensor import Tensor, ops
from normlab.tensor.layers import GELU, LayerNorm, Linear, Module, Sequential


def leaf(*shape: int, seed: int = 0, dtype: Any = np.float64) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True, dtype=dtype)


def small_model() -> Module:
    return Sequential(Linear(3, 4), LayerNorm(4), GELU(), Linear(4, 2))


def small_loss(model: Module) -> Tensor:
    x = Tensor(np.random.default_rng(5).standard_normal((6, 3)))
    return ops.cross_entropy(model(x), [0, 1, 0, 1, 1, 0])


def diamond(x: Tensor, y: Tensor) -> Tensor:
    """Uses twice, broadcasting, views, a constant, and a part that no gradient reaches."""
    h = x * y
    z = ops.cat([h + h.tanh(), h @ h.T @ h], axis=0)
    return (z.reshape(-1)[1:7] * 0.5 - h.sum()).mean() + (x - x).sum()


@pytest.fixture(name="leaf")
def leaf_fixture() -> Callable[..., Tensor]:
    return leaf


@pytest.fixture(name="diamond")
def diamond_fixture() -> Callable[..., Tensor]:
    return diamond


@pytest.fixture
def model() -> Module:
    return small_model()


@pytest.fixture
def loss(model: Module) -> Tensor:
    return small_loss(model)
