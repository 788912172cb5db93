"""The Triton kernels at the sizes that they are for. The interpreter would take hours, so these tests need a GPU."""

import pytest
import torch
from torch import Tensor


def assert_within(actual: Tensor, expected: Tensor, terms: Tensor, length: int) -> None:
    """As conftest's `check_sum` for bfloat16, on the GPU, and for the random data here: the rounding errors of n terms
    then add up to about the root of n, not n.
    """
    bound = terms * (3 * 2**-9 + 8 * (length**0.5 + 16) * 2**-24)
    error = (actual.double() - expected).abs()
    assert not error.isnan().any()
    assert (error <= bound).all(), f"off by {float((error - bound).max())} more than {float(terms.max())} allows"


@pytest.mark.parametrize("parameters", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("n", [256, 1000, 4096, 8192, 16384, 32768])
def test_sizes_of_real_models(kind, n, parameters, make, run):
    rows = 2**27 // n
    call = make(kind, rows, n, torch.bfloat16, parameters)
    result = run(call)

    x = call.x.double()
    m = x.mean(1, keepdim=True) if kind == "layernorm" else 0.0
    rstd = torch.rsqrt((x - m).pow(2).mean(1, keepdim=True) + 1e-5)
    h = (x - m) * rstd
    y = h * call.weight.double()
    if call.bias is not None:
        y += call.bias.double()
    assert_within(result.y, y, y.abs().max() + 5, n)
    del x, y
    u = call.dy.double() * call.weight.double()
    c1 = u.mean(1, keepdim=True) if kind == "layernorm" else 0.0
    dx = rstd * (u - c1 - h * (u * h).mean(1, keepdim=True))
    assert_within(result.dx, dx, (rstd * u).abs().max() * (1 + h.abs().max()), n)
    del dx, u
    dy = call.dy.double()
    dweight = (dy * h).sum(0)
    assert_within(result.dweight, dweight, dweight.abs() + rows**0.5, rows)
    if call.bias is not None:
        assert_within(result.dbias, dy.sum(0), dy.sum(0).abs() + rows**0.5, rows)


def test_offsets_beyond_32_bits(kind, make, run, bits):
    rows, n = 2**19 + 3, 4096
    x = torch.randn(rows, n, dtype=torch.bfloat16, device="cuda")
    call = make(kind, 3, n, torch.bfloat16, torch.bfloat16)
    last = run(call._replace(x=x[-3:].contiguous(), dy=x[-3:].contiguous()))
    result = run(call._replace(x=x, dy=x))
    for name in ("y", "dx", "stats"):
        assert bits(getattr(result, name)[-3:]) == bits(getattr(last, name))


def test_another_device_than_the_current_one(kind, make, run, bits):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    call = make(kind, 4, 64, torch.float32, torch.float32)
    other = call._replace(**{k: t.to("cuda:1") for k, t in call._asdict().items() if isinstance(t, Tensor)})
    assert bits(run(other)) == bits(run(call))
