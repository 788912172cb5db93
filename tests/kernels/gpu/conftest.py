"""What the tests of the Triton kernels share: random calls, the definitions in float64, one error bound.

The files here are run by `../test_gpu.py`, each in a process of its own.
"""

import os
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from normlab.kernels import gpu
from normlab.norms import layernorm, rmsnorm
from normlab.spec import NormSpec

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
DEVICE = "cuda" if torch.cuda.is_available() and "TRITON_INTERPRET" not in os.environ else "cpu"


class Call(NamedTuple):
    """The arguments of a forward and a backward pass."""

    spec: NormSpec
    x: Tensor
    dy: Tensor
    residual: Tensor | None = None
    dtotal: Tensor | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None


class Result(NamedTuple):
    y: Tensor
    total: Tensor | None
    stats: Tensor
    dx: Tensor
    dweight: Tensor | None
    dbias: Tensor | None


def _make(
    kind: Any,
    rows: int,
    n: int,
    dtype: torch.dtype,
    parameters: torch.dtype | None = None,
    residual: bool = False,
    dtotal: bool = False,
    mean: float = 0.5,
    **spec: Any,
) -> Call:
    """Random arguments; `parameters` is the dtype of weight and bias, None for none.

    dy has a mean and goes with x, or the means of u and u * h would be 0 up to chance, and an error in them not seen.
    """

    def normal(shape: tuple[int, ...], dtype: torch.dtype, mean: float = 0.0) -> Tensor:
        return (torch.randn(shape, dtype=torch.float64) + mean).to(device=DEVICE, dtype=dtype)

    shape = (rows, n)
    x = normal(shape, dtype, mean)
    return Call(
        NormSpec(kind, **spec),
        x,
        (normal(shape, torch.float64, 1.0) + x.double() - mean).to(dtype),
        normal(shape, dtype) if residual else None,
        normal(shape, dtype) if dtotal else None,
        None if parameters is None else normal((n,), parameters, 1.0),
        None if parameters is None or kind == "rmsnorm" else normal((n,), parameters),
    )


def _run(call: Call) -> Result:
    spec, x, dy, residual, dtotal, weight, bias = call
    assert gpu.refusal(x, residual, weight, bias, spec) is None
    y, total, stats = gpu.forward(x, residual, weight, bias, x.shape[0], x.shape[1], spec)
    normalized = x if total is None else total
    bias_dtype = None if bias is None else bias.dtype
    gradients = gpu.backward(dy, dtotal, normalized, weight, stats, bias_dtype, x.shape[0], x.shape[1], spec)
    return Result(y, total, stats, *gradients)


def wide_of(dtype: torch.dtype) -> torch.dtype:
    """The dtype of statistics and arithmetic."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def top(a: Any) -> float:
    return float(np.max(np.abs(a), initial=0.0))


def _check_sum(actual: Tensor, expected: Any, terms: float, length: int, computed_in: torch.dtype) -> None:
    """Raise unless a tensor is what rounding may make of the expected value.

    A sum of n numbers in any order is off by at most n * u times the size of its terms, u being the unit roundoff of
    the dtype of the sum: float32 for half precision. The formulas nest two such sums among about 16 elementwise
    operations. What is half precision is rounded thrice: the normalized value, its product, the sum with the bias.
    The size of the mean does not come in, because the kernels center what they sum.
    """
    unit = torch.finfo(actual.dtype).eps / 2
    wide = torch.finfo(wide_of(computed_in)).eps / 2
    bound = terms * (3 * unit + 2 * (length + 16) * wide)
    got = actual.double().cpu().numpy()
    assert got.shape == np.shape(expected)
    np.testing.assert_allclose(got, expected, rtol=0, atol=bound)


def _check(call: Call, result: Result, shift: float = 0.0) -> None:
    """Compare every output with the definition in float64; for LayerNorm of x - shift, which is the same."""
    spec, x, *_ = call
    normalized = x if call.residual is None else x + call.residual
    if call.residual is None:
        assert result.total is None
    else:
        torch.testing.assert_close(result.total, normalized, rtol=0, atol=0)
    rows, n = x.shape
    options: dict[str, Any] = {
        "offset": spec.offset,
        "eps": spec.eps if spec.eps is not None else torch.finfo(wide_of(x.dtype)).eps,
    }
    total, dy = (t.double().cpu().numpy() for t in (normalized, call.dy))
    dtotal, weight, bias = (
        None if t is None else t.double().cpu().numpy() for t in (call.dtotal, call.weight, call.bias)
    )
    total = total - shift
    if spec.kind == "rmsnorm":
        y = rmsnorm.forward(total, weight, **options)
        gradients: Any = rmsnorm.backward(dy, total, weight, **options)
        m = 0.0
    else:
        y = layernorm.forward(total, weight, bias, **options)
        gradients = layernorm.backward(dy, total, weight, **options)
        m = np.mean(total, axis=1, keepdims=True)
    s = 1 / np.sqrt(np.mean((total - m) ** 2, axis=1, keepdims=True) + options["eps"])
    g = 1.0 if weight is None else spec.offset + weight
    h = (total - m) * s
    extra = 0.0 if dtotal is None else dtotal
    _check_sum(result.y, y, top(h * g) + 1 + (0 if bias is None else top(bias)), n, x.dtype)
    _check_sum(result.dx, gradients.dx + extra, top(s * dy * g) * (1 + top(h)) + top(extra), n, x.dtype)
    sums = float(np.max(np.sum(np.abs(dy), axis=0)))
    if weight is None:
        assert result.dweight is None
    else:
        assert result.dweight is not None
        assert result.dweight.dtype == call.weight.dtype  # pyright: ignore[reportOptionalMemberAccess]
        _check_sum(result.dweight, gradients.dweight, (top(h) + 1) * sums, n + rows, x.dtype)
    if bias is None:
        assert result.dbias is None
    else:
        assert result.dbias is not None
        assert result.dbias.dtype == call.bias.dtype  # pyright: ignore[reportOptionalMemberAccess]
        _check_sum(result.dbias, gradients.dbias, sums, rows, x.dtype)


def _bits(a: Result | Tensor | None) -> Any:
    """Something that is equal only for the same bits, NaN included."""
    if isinstance(a, Result):
        return [_bits(t) for t in a]
    return None if a is None else a.contiguous().cpu().view(torch.uint8).numpy().tobytes()


@pytest.fixture(params=["rmsnorm", "layernorm"])
def kind(request):
    return request.param


@pytest.fixture(params=DTYPES, ids=lambda d: str(d).removeprefix("torch."))
def dtype(request):
    return request.param


@pytest.fixture(scope="session")
def device():
    return DEVICE


@pytest.fixture(scope="session")
def make():
    return _make


@pytest.fixture(scope="session")
def run():
    return _run


@pytest.fixture(scope="session")
def check():
    return _check


@pytest.fixture(scope="session")
def check_sum():
    return _check_sum


@pytest.fixture(scope="session")
def bits():
    return _bits
