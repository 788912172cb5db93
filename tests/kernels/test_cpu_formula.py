"""The CPU kernels beside the definitions: y, and every gradient from random upstream gradients."""

import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from normlab import NormSpec, functional
from normlab.norms import layernorm, rmsnorm

CALLS = [("rmsnorm", weighted, False) for weighted in (True, False)]
CALLS += [("layernorm", *given) for given in itertools.product((True, False), repeat=2)]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]

# Either side of the ends of registers, tiles (8, 16, 32 numbers), pieces of a row's sum (128 tiles), and the width
# from which few rows are shared among threads, each with one number of rows; then every way in which rows can be one
# alone, in fours, in a last block of one. Which lanes are read and which rows are taken together do not depend on each
# other, so that the product of the two would find no more.
WIDTHS = (1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 2047, 2049, 4097, 12289)
ROWS = (1, 4, 5, 9, 129)
SHAPES = [*zip((5, 9, 4, 1) * 4, WIDTHS, strict=True), *((rows, 33) for rows in ROWS), (129, 100), (17, 4097)]

# (weight's dtype, bias's dtype, fields of the spec); None where there is no parameter, "own" for the input's dtype.
VARIANTS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "weight alone": ("own", None, {"eps": None}),
    "bias alone": (None, "own", {"eps": 0.1}),
    "neither": (None, None, {"eps": None}),
    "offset": ("own", "own", {"offset": 1.0, "eps": 0.1}),
    "float32 parameters": (torch.float32, torch.float32, {}),
    "float32 weight alone": (torch.float32, None, {"eps": None}),
    "rounded first": ("own", "own", {"scale_dtype": "input"}),
    "rounded first, offset": ("own", "own", {"scale_dtype": "input", "offset": 1.0}),
}
# A rounding is a matter of half precision, and all the rest is the same code whatever it reads: each way once or twice.
CHOSEN = [(torch.bfloat16, name) for name in VARIANTS]
CHOSEN += [(torch.float16, name) for name in ("float32 parameters", "rounded first, offset")]
CHOSEN += [(torch.float32, name) for name in ("weight alone", "bias alone", "offset")]
CHOSEN += [(torch.float64, name) for name in ("weight alone", "offset")]


def unit(dtype: torch.dtype) -> float:
    """The unit roundoff."""
    return torch.finfo(dtype).eps / 2


class Expected(NamedTuple):
    """A result in float64, and the sizes of the terms that make each number of it, to which errors are relative."""

    value: Any
    terms: Any
    length: int


def compare(got: torch.Tensor, expected: Expected, x: torch.dtype, roundings: int) -> None:
    """Raise unless `got` is what rounding may make of the expected value.

    A sum of a row is of at most 128 numbers, one after another, in each lane, then pairwise, then in float64; one over
    rows of at most as many as there are. A derivative holds three such sums, among some elementwise operations, all
    in float32 (float64 for float64). Then come the roundings to half precision: one of the result, and those that the
    spec asks for.
    """
    wide = torch.float64 if x == torch.float64 else torch.float32
    relative = roundings * unit(got.dtype) + 3 * (expected.length + 16) * unit(wide)
    # Half a step of the subnormal numbers of float16.
    absolute = torch.finfo(got.dtype).smallest_normal * torch.finfo(got.dtype).eps
    excess = np.abs(got.detach().double().numpy() - expected.value) - relative * expected.terms - absolute
    assert np.max(excess) <= 0, (np.unravel_index(np.argmax(excess), excess.shape), np.max(excess))


def definition(kind: str, dy: Any, x: Any, weight: Any, bias: Any, dtotal: Any, eps: float, offset: float) -> Any:
    """{"y", "dx", "dweight", "dbias"} of the definition, from tensors."""
    dy, x, weight, bias, dtotal = (
        None if t is None else t.detach().double().numpy() for t in (dy, x, weight, bias, dtotal)
    )
    norm: Any = layernorm if kind == "layernorm" else rmsnorm
    options = {"eps": eps, "offset": offset}
    y = norm.forward(x, *((weight,) if kind == "rmsnorm" else (weight, bias)), **options)
    gradients = norm.backward(dy, x, weight, **options)
    m = np.mean(x, axis=1, keepdims=True) if kind == "layernorm" else 0.0
    s = 1 / np.sqrt(np.mean((x - m) ** 2, axis=1, keepdims=True) + eps)
    # The mean is subtracted, so that its rounding is one of the normalized value.
    h, g = (np.abs(x - m) + np.abs(m)) * s, 1.0 if weight is None else abs(offset) + np.abs(weight)
    u = np.abs(dy) * g
    means = np.mean(u * h, axis=1, keepdims=True), np.mean(u, axis=1, keepdims=True)
    added = 0.0 if dtotal is None else dtotal
    n, rows = min(x.shape[1], 128), x.shape[0]
    return {
        "y": Expected(y, h * g + (0 if bias is None else np.abs(bias)), n),
        "dx": Expected(gradients.dx + added, s * (u + h * means[0] + means[1]) + np.abs(added), n),
        "dweight": Expected(gradients.dweight, np.sum(np.abs(dy) * h, axis=0), n + rows),
        "dbias": Expected(np.sum(dy, axis=0), np.sum(np.abs(dy), axis=0), rows),
    }


def draw(rows: int, n: int, dtype: torch.dtype, *parameters: Any) -> Any:
    """(x, residual, dy, dtotal, *parameters)."""
    made = [torch.randn(rows, n) * 2 + 0.5, *(torch.randn(rows, n) for _ in range(3))]
    vectors = [None if p is None else torch.randn(n).to(dtype if p == "own" else p) for p in parameters]
    return *(t.to(dtype) for t in made), *vectors


def leaf(t: Any) -> Any:
    return None if t is None else t.clone().requires_grad_()


@pytest.mark.parametrize("kind", ["rmsnorm", "layernorm"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_shape(kind, dtype):
    """With a residual, and gradients through both results."""
    for rows, n in SHAPES:
        x, residual, dy, dtotal, weight, bias = draw(rows, n, dtype, "own", "own" if kind == "layernorm" else None)
        given = {"x": x, "residual": residual, "weight": weight, "bias": bias}
        leaves = {name: leaf(t) for name, t in given.items()}
        parameters = [leaves[name] for name in ("weight", "bias") if leaves[name] is not None]
        norm = functional.add_rms_norm if kind == "rmsnorm" else functional.add_layer_norm
        total, y = norm(leaves["x"], leaves["residual"], [n], *parameters, eps=1e-5)
        torch.autograd.backward([total, y], [dtotal, dy])
        assert torch.equal(total, x + residual)
        assert torch.equal(leaves["x"].grad, leaves["residual"].grad)
        expected = definition(kind, dy, total, weight, bias, dtotal, 1e-5, 0.0)
        compare(y, expected["y"], dtype, 1)
        compare(leaves["x"].grad, expected["dx"], dtype, 1)
        for name in ("weight", "bias"):
            if leaves[name] is not None:
                compare(leaves[name].grad, expected[f"d{name}"], dtype, 1)


@pytest.mark.parametrize(("dtype", "variant"), CHOSEN)
@pytest.mark.parametrize("kind", ["rmsnorm", "layernorm"])
def test_every_way_to_scale(kind, dtype, variant):
    *parameters, fields = VARIANTS[variant]
    if kind == "rmsnorm":
        parameters = [parameters[0], None]
    spec = NormSpec(kind, **fields)
    eps = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps if spec.eps is None else spec.eps
    # The normalized value, the scale, their product and the sum with the bias.
    roundings = 4 if spec.scale_dtype == "input" else 1
    for rows, n in ((5, 33), (129, 100)):
        x, _, dy, _, weight, bias = draw(rows, n, dtype, *parameters)
        x_leaf, *leaves = leaf(x), leaf(weight), leaf(bias)
        norm = functional.rms_norm if kind == "rmsnorm" else functional.layer_norm
        y = norm(x_leaf, [n], *leaves[: 1 if kind == "rmsnorm" else 2], spec=spec)
        y.backward(dy)
        expected = definition(kind, dy, x, weight, bias, None, eps, spec.offset)
        compare(y, expected["y"], dtype, roundings)
        compare(x_leaf.grad, expected["dx"], dtype, roundings)
        for name, parameter in zip(("dweight", "dbias"), leaves, strict=True):
            if parameter is not None:
                assert parameter.grad.dtype == parameter.dtype
                compare(parameter.grad, expected[name], dtype, 1)


def far_out(x: torch.Tensor) -> torch.Tensor:
    """Rows whose first numbers say nothing of the others, beside ordinary ones and one with a single spike."""
    x[::3, :40] += 1e3
    x[1, 0] += 1e5
    return x


OFFSETS = {
    "mean 0": lambda x: x,
    "mean 1e4": lambda x: x + 1e4,
    "mean 1e6": lambda x: x + 1e6,
    "deviation 1e-3": lambda x: 1e-3 * x + 3,
    "first numbers far out": far_out,
}


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("n", [40, 1024, 5000])
@pytest.mark.parametrize("offset", OFFSETS)
def test_a_mean_far_from_zero_costs_no_digits(offset, n, added):
    """float32 holds such rows with three digits behind the point, or with one. From these the results are right to
    nearly all of their seven, which takes a mean that has more; PyTorch's are right to three, or to one.
    """
    x, residual, dy = OFFSETS[offset](torch.randn(65, n)), torch.randn(65, n), torch.randn(65, n)
    weight, bias = torch.randn(n), torch.randn(n)
    total = x + residual if added else x
    expected = definition("layernorm", dy, total, weight, bias, None, 1e-5, 0.0)
    leaves = [leaf(t) for t in (x, weight, bias)]
    if added:
        y = functional.add_layer_norm(leaves[0], residual, [n], *leaves[1:]).normed
    else:
        y = functional.layer_norm(leaves[0], [n], *leaves[1:])
    y.backward(dy)
    for name, got in (("y", y.detach()), *zip(("dx", "dweight", "dbias"), (t.grad for t in leaves), strict=True)):
        wanted = expected[name].value
        error = np.sqrt(np.mean((got.double().numpy() - wanted) ** 2) / np.mean(wanted**2))
        assert error < 5e-7, (name, error)


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
