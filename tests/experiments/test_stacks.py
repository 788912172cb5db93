"""The measurements on stacks, against a computation written out by hand."""

import math

import torch

from normlab import NormSpec
from normlab.experiments.stacks import BATCH, measure, overflow
from normlab.models import StackConfig


def config(**changes):
    defaults = {"depth": 3, "width": 32, "activation": "relu", "gain": 1.5}
    return StackConfig(**(defaults | changes))


def test_measure_by_hand():
    c = config(norm=NormSpec("rmsnorm"), norm_place="after")
    torch.manual_seed(7)
    for _ in range(3):
        torch.nn.Linear(32, 32, bias=False)  # the layers draw their default weights first
    weights = [torch.empty(32, 32).normal_(std=1.5 / 32**0.5) for _ in range(3)]
    x = torch.randn(BATCH, 32)
    upstream = torch.randn(BATCH, 32)

    h, outputs = x.double(), []
    for w in weights:
        z = (h @ w.double().T).relu()
        h = z / (z.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        h.requires_grad_() if not h.requires_grad else h.retain_grad()
        outputs.append(h)
    outputs[-1].backward(upstream.double())

    m = measure(c, seed=7)
    # The stack runs in float32: rounding of 32-term sums.
    for i, out in enumerate(outputs):
        assert math.isclose(m.std[i], out.std(correction=0).item(), rel_tol=1e-5)
        assert math.isclose(m.rms[i], out.pow(2).mean().sqrt().item(), rel_tol=1e-5)
        assert out.grad is not None
        assert math.isclose(m.gradient[i], out.grad.pow(2).mean().sqrt().item(), rel_tol=1e-5)


def test_same_seed_same_bits_for_any_thread_count():
    first = measure(config(), seed=3)
    torch.set_num_threads(2)
    assert measure(config(), seed=3) == first
    assert measure(config(), seed=4) != first


def test_float16_overflows_to_inf_then_nan_and_a_norm_prevents_it():
    c = config(depth=14, gain=4 * 2**0.5)
    o = overflow("float16", c, torch.float16, seeds=[0, 1])
    for rms, inf, nan in zip(o.rms, o.first_inf, o.first_nan, strict=True):
        assert inf is not None
        assert nan is not None
        assert inf <= nan <= inf + 2
        assert all(math.isfinite(r) for r in rms[: inf - 1])
        assert not math.isfinite(rms[inf - 1])
        assert math.isnan(rms[-1])
    normed = config(depth=14, gain=4 * 2**0.5, norm=NormSpec("rmsnorm"), norm_place="before")
    o = overflow("normed", normed, torch.float16, seeds=[0, 1])
    assert o.first_inf == o.first_nan == (None, None)


def test_float32_does_not_overflow_where_float16_does():
    o = overflow("float32", config(depth=14, gain=4 * 2**0.5), torch.float32, seeds=[0])
    assert o.first_inf == (None,)
