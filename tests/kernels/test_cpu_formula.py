"""The CPU kernels beside the definitions, on every combination of what a call may leave out."""

import itertools
from typing import Any

import pytest
import torch

from normlab import functional
from normlab.norms import layernorm, rmsnorm

CALLS = [("rmsnorm", weighted, False) for weighted in (True, False)]
CALLS += [("layernorm", *given) for given in itertools.product((True, False), repeat=2)]


@pytest.mark.parametrize(("kind", "weighted", "biased"), CALLS)
@pytest.mark.parametrize("added", [True, False])
def test_any_parameter_may_be_missing(kind, weighted, biased, added):
    """In float64: a bound of 1e-12 is thousands of roundings of numbers around 10."""
    n, rows = 37, 21
    x, residual, dy, dtotal = (torch.randn(rows, n, dtype=torch.float64) for _ in range(4))
    weight, bias = (torch.randn(n, dtype=torch.float64) if given else None for given in (weighted, biased))
    total = x + residual if added else x
    leaves: list[Any] = [t.clone().requires_grad_() if t is not None else None for t in (x, residual, weight, bias)]
    parameters = leaves[2:3] if kind == "rmsnorm" else leaves[2:]
    name = "rms_norm" if kind == "rmsnorm" else "layer_norm"
    if added:
        got_total, y = getattr(functional, f"add_{name}")(*leaves[:2], [n], *parameters, eps=0.1)
        assert torch.equal(got_total, total)
        torch.autograd.backward([got_total, y], [dtotal, dy])
    else:
        y = getattr(functional, name)(leaves[0], [n], *parameters, eps=0.1)
        y.backward(dy)

    arrays: list[Any] = [None if t is None else t.numpy() for t in (total, weight, bias, dy)]
    definition: Any = rmsnorm if kind == "rmsnorm" else layernorm
    forward = definition.forward(*arrays[: 1 + len(parameters)], eps=0.1)
    gradients = definition.backward(arrays[3], arrays[0], arrays[1], eps=0.1)
    dx = torch.tensor(gradients.dx) + (dtotal if added else 0)
    bound = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(y.detach(), torch.tensor(forward), **bound)
    torch.testing.assert_close(leaves[0].grad, dx, **bound)
    if added:
        torch.testing.assert_close(leaves[1].grad, dx, **bound)
    if weighted:
        torch.testing.assert_close(leaves[2].grad, torch.tensor(gradients.dweight), **bound)
    if biased:
        torch.testing.assert_close(leaves[3].grad, torch.tensor(gradients.dbias), **bound)
