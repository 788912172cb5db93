"""The measurements in half precision, against other implementations of the same arithmetic and against theory."""

import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from normlab.experiments.evidence import Evidence
from normlab.experiments.half_cases import CASES, HALVES, KINDS, LIBRARIES, STATS, Arm
from normlab.experiments.half_range import measure_ends, measure_sums, running_rms_norm
from normlab.experiments.half_results import halves_of, measure_halves
from normlab.experiments.halves import Errors, Point, compute, define, measure_lines, pose, relative_error
from normlab.experiments.stacks import StackResults
from normlab.layers.functional import layer_norm, rms_norm
from normlab.spec import NormSpec


@pytest.fixture
def given():
    """Input, weight and upstream gradient, drawn in float64."""
    torch.manual_seed(3)
    return torch.randn(4, 64), 1 + 0.1 * torch.randn(64), torch.randn(4, 64)


@pytest.mark.parametrize("arm", [arm for arm in CASES if arm.stats == "input"], ids=str)
def test_without_the_upcast_by_the_layer(given, arm):
    """The layer with a spec of the input's dtype rounds alike, but where a last digit takes a number over an edge."""
    x, weight, dy = (t.to(getattr(torch, arm.dtype)) for t in given)
    a, b = x.clone().requires_grad_(), weight.clone().requires_grad_()
    spec = NormSpec(arm.kind, eps=arm.eps, stats_dtype="input", bias=False)
    expected = rms_norm(a, [64], b, spec=spec) if arm.kind == "rmsnorm" else layer_norm(a, [64], b, spec=spec)
    gradients = torch.autograd.grad(expected, (a, b), dy)
    for got, want in zip(compute(arm, x, weight, dy), (expected.detach(), *gradients), strict=True):
        assert got.dtype == x.dtype
        # With the upcast it would be half a digit.
        assert relative_error(got, want.double()) < 0.1 * torch.finfo(x.dtype).eps


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_upcast_by_hand(kind):
    """float16 in NumPy, whose operations round one by one; a row of two numbers."""
    x = np.array([3.001, 1.002], dtype=np.float16)
    c = x if kind == "rmsnorm" else x - np.float16(x.astype(float).mean())
    v = np.float16(np.float16((c * c).astype(float).mean()) + 1e-5)
    y = c * np.float16(1 / np.sqrt(float(v)))
    got = compute(Arm(kind, "float16", "input"), torch.tensor(x)[None], torch.ones(2).half(), torch.zeros(1, 2).half())
    assert got[0][0].tolist() == y.tolist()


@pytest.mark.parametrize("dtype", HALVES)
def test_product_after_the_cast_is_llamas(given, dtype):
    x, weight, dy = (t.to(getattr(torch, dtype)) for t in given)
    llama = LlamaRMSNorm(64, eps=1e-5).to(x.dtype)
    llama.weight.data.copy_(weight)
    a = x.clone().requires_grad_()
    y = llama(a)
    expected = y.detach(), *torch.autograd.grad(y, (a, llama.weight), dy)
    for got, want in zip(compute(Arm("rmsnorm", dtype, product="input"), x, weight, dy), expected, strict=True):
        assert torch.equal(got, want)


def test_libraries(given):
    """In float32 all are the same to a few digits."""
    for kind in KINDS:
        expected = compute(Arm(kind, "float32"), *given)
        for library in LIBRARIES:
            for got, want in zip(compute(Arm(kind, "float32", library), *given), expected, strict=True):
                assert relative_error(got, want.double()) < 1e-6


def test_the_upcast_rounds_once(given):
    """Its errors are those of the exact results, rounded to the dtype."""
    for dtype in HALVES:
        for kind in KINDS:
            arm = Arm(kind, dtype)
            problem = pose(arm, 1.0, *given)
            assert problem is not None
            for got, exact, f in zip(compute(arm, *problem.given), problem.exact, fields(Errors), strict=True):
                assert relative_error(got, exact) == pytest.approx(getattr(problem.least, f.name), rel=0.05)


def test_the_definition_sees_the_rounded_input(given):
    problem = pose(Arm("rmsnorm", "bfloat16"), 0.1, *given)
    assert problem is not None
    x, weight, dy = problem.given
    assert x.dtype == weight.dtype == dy.dtype == torch.bfloat16
    y = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    assert torch.allclose(problem.exact[0], y, rtol=1e-14)
    assert torch.allclose(define("rmsnorm", 1e-5, x, weight, dy)[0], y, rtol=1e-14)


def test_relative_error():
    exact = torch.tensor([3.0, 4.0]).double()
    assert relative_error(torch.tensor([3.0, 4.0]).half(), exact) == 0
    assert relative_error(torch.tensor([3.5, 4.0]), exact) == 0.1
    assert relative_error(torch.tensor([math.inf, 4.0]), exact) == math.inf
    assert relative_error(torch.tensor([math.nan, 4.0]), exact) == math.inf
    assert relative_error(torch.zeros(2), torch.zeros(2).double()) == math.inf


def test_what_a_dtype_cannot_hold(given):
    """The input overflows float16; or all of it is 0."""
    assert pose(Arm("rmsnorm", "float16"), 1e6, *given) is None
    problem = pose(Arm("rmsnorm", "float16"), 1e-10, *given)
    assert problem is not None
    assert problem.least.y == problem.least.dweight == math.inf
    fine, none = Errors(1.0, 1.0, 1.0), Errors(1.0, math.inf, 1.0)
    assert Point((none,), (fine,)).exists
    assert not Point((fine, fine), (fine, none)).exists


def test_lines_are_complete_and_seeded():
    torch.set_num_threads(2)
    first, again = measure_lines([5]), measure_lines([5])
    assert first == again
    assert {arm: tuple(points) for arm, points in first.items()} == CASES
    assert measure_lines([6])[Arm("rmsnorm", "float16")] != first[Arm("rmsnorm", "float16")]
    # The draws are those of the seed alone: a second seed changes nothing of the first.
    both = measure_lines([6, 5])
    assert all(p.errors[1] == first[arm][scale].errors[0] for arm, ps in both.items() for scale, p in ps.items())


def test_ends_of_float16():
    """Found from below, within 0.2%."""
    for ends in measure_ends(range(2)):
        for largest, smallest in zip(ends.largest, ends.smallest, strict=True):
            if ends.stats == "float32":
                assert largest == math.inf
                assert smallest == 0
                assert ends.beyond == ""
            else:
                # x^2 rounds to infinity from 65520 on. LayerNorm's mean is rounded first.
                assert largest == pytest.approx(65520**0.5, rel=2e-3 if ends.kind == "rmsnorm" else 4e-3)
                assert 0.5 * 2**-12 < smallest < 2 * 2**-12
                assert ends.beyond == "0"
    assert [(e.kind, e.stats) for e in measure_ends([0])] == [(kind, stats) for kind in KINDS for stats in STATS]


def test_a_running_sum_in_half_precision_stalls():
    """In bfloat16 256 + 1 is 256: of 4096 ones only 256 are counted."""
    x = torch.ones(1, 4096, dtype=torch.bfloat16)
    assert running_rms_norm(x, 0.0)[0, 0] == 4
    assert running_rms_norm(x[:, :256], 0.0)[0, 0] == 1
    assert running_rms_norm(x.half(), 0.0)[0, 0] == pytest.approx(2**0.5, rel=1e-3)


def test_sums():
    for s in measure_sums(range(2)):
        assert len(s.half) == len(s.single) == 2
        assert all(h > 2 * one for h, one in zip(s.half, s.single, strict=True))


def test_evidence_hands_out_what_was_measured(tiny):
    results = measure_halves(range(1))
    evidence = Evidence(tiny, [], results)
    assert halves_of(evidence) is results
    with pytest.raises(ValueError, match=r"^evidence must hold StackResults, got HalfResults$"):
        evidence.of(StackResults)
    with pytest.raises(ValueError, match=r"^evidence must hold HalfResults, got NoneType$"):
        halves_of(Evidence(tiny))
