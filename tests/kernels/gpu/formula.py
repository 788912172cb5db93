"""Every output of the Triton kernels against the definitions in float64, with random upstream gradients."""

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

from normlab.kernels import gpu_launch
from normlab.spec import NormSpec

HALVES = [torch.bfloat16, torch.float16]
# The interpreter computes with NumPy, which warns where a GPU says nothing.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.mark.parametrize("parameters", ["none", "own", "float32", "bfloat16"])
def test_parameters_of_every_dtype(kind, dtype, parameters, make, run, check):
    parameter_dtype = {"none": None, "own": dtype}.get(parameters, getattr(torch, parameters, None))
    call = make(kind, 5, 33, dtype, parameter_dtype)
    check(call, run(call))


@pytest.mark.parametrize("dtotal", [False, True])
def test_residual(kind, dtype, dtotal, make, run, check):
    call = make(kind, 5, 48, dtype, dtype, residual=True, dtotal=dtotal)
    check(call, run(call))


def test_the_stream_s_gradient_without_a_residual(kind, dtype, make, run, check):
    call = make(kind, 3, 48, dtype, dtype, dtotal=True)
    check(call, run(call))


# gemma: a scale around 1; llama, t5: rounded to the input's dtype before the scale is applied.
@pytest.mark.parametrize("options", [{"offset": 1.0}, {"scale_dtype": "input"}, {"scale_dtype": "weight"}], ids=str)
def test_casts_and_offset(kind, dtype, options, make, run, check):
    call = make(kind, 5, 40, dtype, dtype, **options)
    check(call, run(call))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_rounding_after_every_step(kind, dtype, offset, make, run):
    call = make(kind, 8, 64, dtype, dtype, scale_dtype="input", offset=offset)
    exact = NormSpec(kind, scale_dtype="stats")
    h = run(call._replace(spec=exact, x=call.x.double(), weight=None, bias=None)).y.to(dtype)
    expected = h * (call.weight + offset)
    expected = expected if call.bias is None else expected + call.bias
    # The normalized value is off by 1e-6 in float32; few values are that near the middle of two half-precision ones.
    assert (run(call).y == expected).double().mean() > 0.98


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_is_rounded_to_nearest(kind, dtype, make, run):
    call = make(kind, 8, 64, dtype, torch.float32, dtotal=True)
    half = run(call)
    exact = run(call._replace(x=call.x.double(), dy=call.dy.double(), dtotal=call.dtotal.double()))
    for got, expected in ((half.y, exact.y), (half.dx, exact.dx)):
        assert (got == expected.to(dtype)).double().mean() > 0.98


def test_eps_of_none_is_the_dtype_s(kind, dtype, make, run, check):
    call = make(kind, 3, 16, dtype, dtype, eps=None)
    small = call._replace(x=call.x * 1e-4)
    check(small, run(small))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 129, 1000, 1024, 4097])
def test_widths(kind, n, make, run, check):
    call = make(kind, 3, n, torch.float32, torch.float32, residual=True, dtotal=True)
    check(call, run(call))


@pytest.mark.parametrize("rows", [1, 31, 32, 33, 200])
def test_numbers_of_rows(kind, rows, make, run, check):
    call = make(kind, rows, 33, torch.float32, torch.float32)
    check(call, run(call))


def test_more_programs_than_are_added_at_a_time(kind, make, run, check, monkeypatch):
    monkeypatch.setattr(gpu_launch, "SUMMED", 128)
    call = make(kind, 20, 600, torch.float32, torch.float32)
    assert gpu_launch.backward_plan(20, 600, 4, kind == "layernorm").programs > 128 // 32
    check(call, run(call))


# The shortest rows that take each way through the backward pass; the forward pass loops beyond 64 KB.
@pytest.mark.parametrize(
    ("kind", "dtype", "n", "way"),
    [
        ("layernorm", torch.bfloat16, 9000, "halves"),
        ("rmsnorm", torch.bfloat16, 33000, "chunks"),
        ("layernorm", torch.float32, 17000, "chunks"),
        ("rmsnorm", torch.float64, 9000, "chunks"),
        ("layernorm", torch.float64, 9000, "chunks"),
    ],
)
@pytest.mark.parametrize("mean", [0.5, 1e4])
def test_long_rows(kind, dtype, n, way, mean, make, run, check):
    plan = gpu_launch.backward_plan(2, n, dtype.itemsize, kind == "layernorm")
    assert way == ("chunks" if plan.in_chunks else "halves" if plan.splits > 1 else "whole")
    if mean == 1e4 and dtype.itemsize == 2:
        pytest.skip("half precision cannot hold a mean of 1e4 with a deviation of 1")
    call = make(kind, 2, n, dtype, dtype, residual=True, dtotal=True, mean=mean)
    check(call, run(call))


def test_a_first_chunk_unlike_the_rest(make, run, check):
    call = make("layernorm", 2, 17000, torch.float32, torch.float32)
    call.x[:, : gpu_launch.looped_tile(4).block] += 1e4
    check(call, run(call))


# In float32, where the mean, kept in float64, has digits to spare.
@pytest.mark.parametrize("n", [64, 1000])
@pytest.mark.parametrize("mean", [1e4, 1e6])
def test_large_mean_small_deviation(kind, n, mean, make, run, check):
    call = make(kind, 4, n, torch.float32, torch.float32, mean=mean)
    result = run(call)
    if kind == "rmsnorm":
        check(call, result)
    else:
        # The definition would lose digits of its own here. Taking the mean away is exact.
        check(call, result, shift=mean)
        exact = (call.x.double() - mean).mean(1) + mean
        assert (result.stats[:, 0] - exact).abs().max() < 1e-6


@pytest.mark.parametrize("shape", [(0, 8), (3, 0), (0, 0)])
def test_empty(kind, dtype, shape, make, run):
    rows, n = shape
    call = make(kind, rows, n, dtype, dtype, residual=True, dtotal=True)
    result = run(call)
    assert result.y.shape == result.dx.shape == shape
    assert not any(t is not None and t.isnan().any() for t in result)
    assert result.dweight is not None
    assert result.dweight.tolist() == [0.0] * n


def test_a_zero_row(kind, dtype, make, run, check):
    call = make(kind, 3, 16, dtype, dtype)
    call.x[1] = 0
    check(call, run(call))
