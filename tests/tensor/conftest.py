"""Two second opinions on a gradient, as the fixture `opinions`: PyTorch's, and finite differences."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from normlab.tensor import Tensor

Array = NDArray[np.float64]


def ours(function: Callable[..., Tensor], inputs: Sequence[Array], dy: Array | None) -> tuple[Array, list[Array]]:
    """The result, and the gradients of sum(dy * result)."""
    tensors = [Tensor(x, requires_grad=True) for x in inputs]
    y = function(*tensors)
    y.backward(np.ones(y.shape) if dy is None else dy)
    gradients = []
    for t in tensors:
        assert t.grad is not None
        assert t.grad.shape == t.shape
        gradients.append(t.grad)
    return y.data, gradients


def torchs(function: Callable[..., Any], inputs: Sequence[Array], dy: Array) -> tuple[Array, list[Array]]:
    """The same by PyTorch."""
    tensors = [torch.tensor(x, requires_grad=True) for x in inputs]
    y = function(*tensors)
    gradients = torch.autograd.grad(y, tensors, torch.tensor(dy), allow_unused=True)
    return y.detach().numpy(), [
        np.zeros(x.shape) if g is None else g.numpy() for x, g in zip(inputs, gradients, strict=True)
    ]


def differences(function: Callable[..., Tensor], inputs: Sequence[Array], dy: Array, step: float = 1e-6) -> list[Array]:
    """By central differences: accurate to about step^2, and to 1e-16 / step."""
    found = []
    for i, x in enumerate(inputs):
        gradient = np.zeros(x.shape)
        for at in np.ndindex(x.shape):
            sides = []
            for h in (step, -step):
                moved = [a.copy() for a in inputs]
                moved[i][at] += h
                sides.append(function(*[Tensor(a) for a in moved]).data)
            gradient[at] = np.sum(dy * (sides[0] - sides[1])) / (2 * step)
        found.append(gradient)
    return found


@pytest.fixture(scope="session")
def opinions() -> SimpleNamespace:
    """The three functions of this file."""
    return SimpleNamespace(ours=ours, torchs=torchs, differences=differences)
