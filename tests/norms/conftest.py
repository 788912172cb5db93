"""What the tests of the definitions share: one error bound, and torch's gradients of any expression."""

from typing import Any

import numpy as np
import pytest
import torch

UNIT = 2.0**-53  # float64's unit roundoff


def _close(actual: Any, expected: Any, *, terms: float, length: int, kappa: float = 1.0) -> None:
    """Raise unless two float64 results agree up to what rounding may do to either of them.

    A sum of `length` numbers is off by at most length * UNIT times the size of its `terms`; the backward formulas
    nest two such sums among about 16 elementwise operations. `kappa`, the size of x over its standard deviation,
    is the condition number of centring: what a relative change of UNIT in x does to x - mean(x).
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2 * (length + 16) * UNIT * terms * max(kappa, 1.0))


def _sizes(x: Any, dy: Any, g: Any, eps: float | None, *, axes: tuple[int, ...], center: bool) -> dict[str, Any]:
    """The size of the terms that y, dx and dweight are made of, and kappa."""
    m = np.mean(x, axis=axes, keepdims=True) if center and x.size else 0.0
    v = np.mean((x - m) ** 2, axis=axes, keepdims=True) if x.size else np.ones(1)
    s = 1 / np.sqrt(v + (2.0**-52 if eps is None else eps))
    normed = (x - m) * s

    def top(a: Any) -> float:
        return float(np.max(np.abs(a), initial=0.0))

    # A normalized number of size 0 still carries the error of the subtraction it came from: hence the 1s.
    return {
        "y": top(normed * g) + 1,
        "dx": top(s * dy * g),
        "dweight": (top(normed) + 1) * float(np.sum(np.abs(dy))),
        "dbias": float(np.sum(np.abs(dy))),
        "kappa": top(x * s) if center else 1.0,
    }


def _gradients(function: Any, dy: Any, *arrays: Any) -> tuple[Any, ...]:
    """(function(*arrays), the gradient of sum(dy * it) by every array that is not None), all by torch in float64."""
    leaves = [None if a is None else torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in arrays]
    y = function(*leaves)
    grads = iter(torch.autograd.grad(y, [leaf for leaf in leaves if leaf is not None], torch.tensor(dy)))
    return y.detach().numpy(), *(None if leaf is None else next(grads).numpy() for leaf in leaves)


@pytest.fixture(scope="session")
def close():
    return _close


@pytest.fixture(scope="session")
def sizes():
    return _sizes


@pytest.fixture(scope="session")
def torch_gradients():
    return _gradients
