"""The CPU kernels at the edges: single roundings, what is not finite, whose memory is whose, autograd's promises."""

import itertools
from typing import Any

import pytest
import torch
from torch.autograd import gradgradcheck
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from normlab import functional

HALVES = [torch.bfloat16, torch.float16]
# Large enough for several threads, and for several blocks of dweight's sum; with a rest behind the last whole tile.
ROWS, N = 200, 101
NAMES = ["rms_norm", "layer_norm", "add_rms_norm", "add_layer_norm"]


def tensors(name, dtype=torch.float32, rows=ROWS, n=N):
    """{argument: tensor} of everything that a function takes."""
    given = {"input": torch.randn(rows, n)}
    if name.startswith("add"):
        given["residual"] = torch.randn(rows, n)
    given["weight"] = torch.randn(n)
    if "layer" in name:
        given["bias"] = torch.randn(n)
    return {key: t.to(dtype) for key, t in given.items()}


def call(name, given) -> Any:
    """(total, normed) or (normed,)."""
    tensors = {key: t for key, t in given.items() if key != "input"}
    result = getattr(functional, name)(given["input"], normalized_shape=given["input"].shape[-1:], **tensors)
    return tuple(result) if name.startswith("add") else (result,)


def gradients(name, given, upstream):
    """{argument: gradient}, by new leaves."""
    leaves = {key: t.detach().clone().requires_grad_() for key, t in given.items()}
    found = torch.autograd.grad(call(name, leaves), list(leaves.values()), upstream)
    return dict(zip(leaves, found, strict=True))


def upstream_of(name, given):
    return [torch.randn_like(given["input"]) for _ in range(1 + name.startswith("add"))]


@pytest.mark.parametrize("dtype", HALVES)
def test_the_sum_is_rounded_as_torch_rounds_it(dtype):
    """Every number of a half precision, with partners that make ties, carries, overflow and infinities."""
    every = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    info = torch.finfo(dtype)
    numbers = [0.0, -0.0, 1.0, -1.0 / 3, info.max, info.smallest_normal, info.smallest_normal * info.eps, 1 + info.eps]
    partners = [torch.tensor(number).to(dtype).expand_as(every) for number in (*numbers, torch.inf, torch.nan)]
    # One bit of each number's half a step: ties.
    partners += [(every.float() * info.eps / 2).to(dtype), every.flip(0), every[torch.randperm(len(every))]]
    for partner in partners:
        total = functional.add_rms_norm(every.view(-1, 256), partner.reshape(-1, 256), [256]).total.view(-1)
        expected = every + partner
        nan = expected.isnan()
        assert torch.equal(total.isnan(), nan)
        # As integers: also the sign of a zero.
        assert torch.equal(total.view(torch.int16)[~nan], expected.view(torch.int16)[~nan])


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("bits", [0x7FFFFFFF, -1, 0x7F800001, 0x7FC00000])
def test_no_rounding_makes_a_number_of_a_nan(dtype, bits):
    """Adding half a step to a NaN whose mantissa is all ones carries into its sign, and leaves a zero."""
    weight = torch.randn(33)
    weight[7] = torch.tensor(bits, dtype=torch.int32).view(torch.float32)
    x = torch.randn(5, 33).to(dtype).requires_grad_()
    y = functional.rms_norm(x, [33], weight)
    y.sum().backward()
    assert torch.equal(y.isnan(), weight.isnan().expand(5, 33))
    assert x.grad is not None
    assert x.grad.isnan().all()


@pytest.mark.parametrize("dtype", HALVES)
def test_a_nan_of_ones_in_half_precision_stays_one(dtype):
    x = torch.randn(5, 33).to(dtype)
    for bits in (0x7FFF, -1):
        x[2, 7] = torch.tensor(bits, dtype=torch.int16).view(dtype)
        y = functional.rms_norm(x, [33])
        assert y[2].isnan().all()
        assert y[[0, 1, 3, 4]].isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["input", "gradient"])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_stays_in_its_row(name, where, value):
    """Rows go four at a time, so that a neighbour's numbers are in the same registers' reach."""
    given = tensors(name)
    upstream = upstream_of(name, given)
    clean = [*call(name, given), gradients(name, given, upstream)["input"]]
    for row, column in ((0, 0), (6, 50), (ROWS - 1, N - 1)):
        spoiled, spoiled_upstream = {**given, "input": given["input"].clone()}, [t.clone() for t in upstream]
        (spoiled["input"] if where == "input" else spoiled_upstream[-1])[row, column] = value
        got = [*call(name, spoiled), gradients(name, spoiled, spoiled_upstream)["input"]]
        others = torch.arange(ROWS) != row
        for one, other in zip(got, clean, strict=True):
            assert torch.equal(one[others], other[others])
        assert not got[-1][row].isfinite().any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("expanded", [True, False])
def test_nothing_given_is_written_to_and_nothing_returned_is_shared(name, expanded):
    given = {key: t.requires_grad_() for key, t in tensors(name).items()}
    results = call(name, given)
    # As y.sum().backward() sends it: one number in memory for all.
    upstream = [torch.ones(()).expand(ROWS, N) for _ in results] if expanded else upstream_of(name, given)
    every = [*given.values(), *upstream]
    kept, versions = [t.detach().clone() for t in every], [t._version for t in every]
    found = torch.autograd.grad(results, list(given.values()), upstream)
    for before, after in zip(kept, every, strict=True):
        assert torch.equal(before, after)
    assert [t._version for t in every] == versions
    inside = {t.untyped_storage().data_ptr() for t in every}
    outside = [t.untyped_storage().data_ptr() for t in (*results, *found)]
    assert not inside & set(outside)
    # Input and residual have the same gradient, which may be one tensor; else each has memory of its own.
    assert len(set(outside)) >= len(outside) - name.startswith("add")


@pytest.mark.parametrize("name", ["add_rms_norm", "add_layer_norm"])
def test_the_gradients_of_input_and_residual_can_be_accumulated(name):
    """They are equal; as `grad` of two leaves they must not be one tensor, or a second step would count twice."""
    given = {key: t.requires_grad_() for key, t in tensors(name).items()}
    upstream = upstream_of(name, given)
    torch.autograd.backward(call(name, given), upstream)
    once = {key: t.grad.clone() for key, t in given.items() if t.grad is not None}
    assert len(once) == len(given)
    torch.autograd.backward(call(name, given), upstream)
    for key, t in given.items():
        assert t.grad is not None
        assert torch.equal(t.grad, 2 * once[key]), key


@pytest.mark.parametrize("name", NAMES)
def test_hooks_on_saved_tensors(name):
    """They pack what is kept for the way back, as offloading to a disk does; here into NumPy arrays."""
    given = tensors(name)
    upstream = upstream_of(name, given)
    expected = gradients(name, given, upstream)
    packed = []

    def pack(t):
        packed.append(t)
        return t.detach().numpy().copy()

    with saved_tensors_hooks(pack, torch.from_numpy):
        got = gradients(name, given, upstream)
    assert packed
    for key, t in expected.items():
        assert torch.equal(got[key], t)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_checkpoints(name, reentrant):
    given = tensors(name)
    upstream = upstream_of(name, given)
    expected = gradients(name, given, upstream)
    leaves = {key: t.clone().requires_grad_() for key, t in given.items()}

    def norm(*values):
        return call(name, dict(zip(leaves, values, strict=True)))

    torch.autograd.backward(checkpoint(norm, *leaves.values(), use_reentrant=reentrant), upstream)
    for key, t in leaves.items():
        assert t.grad is not None
        assert torch.equal(t.grad, expected[key])


@pytest.mark.parametrize("which", ["input", "weight"])
def test_a_change_in_place_before_the_way_back_is_noticed(which):
    given = tensors("rms_norm")
    leaves = {key: t.requires_grad_() for key, t in given.items()}
    changed = {key: t * 1 for key, t in leaves.items()}
    (y,) = call("rms_norm", changed)
    changed[which].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("name", ["add_rms_norm", "add_layer_norm"])
def test_a_change_of_the_sum_in_place_is_noticed(name):
    """total is what is kept for the way back, and what a residual stream is tempted to write to."""
    given = {key: t.requires_grad_() for key, t in tensors(name).items()}
    total, y = call(name, given)
    total.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("name", NAMES)
def test_only_what_is_asked_for_has_a_gradient(name):
    given = tensors(name)
    upstream = upstream_of(name, given)
    expected = gradients(name, given, upstream)
    for count in range(len(given) + 1):
        for asked in itertools.combinations(given, count):
            leaves = {key: t.clone().requires_grad_(key in asked) for key, t in given.items()}
            results = call(name, leaves)
            from_sum = bool({"input", "residual"} & set(asked))
            assert results[-1].requires_grad == bool(asked)
            if not asked:
                continue
            # Autograd may say of the sum that it has a gradient, where only a parameter has.
            used = [i for i, t in enumerate(results) if t.requires_grad and (from_sum or t is results[-1])]
            torch.autograd.backward([results[i] for i in used], [upstream[i] for i in used])
            for key, t in leaves.items():
                assert (t.grad is not None) == (key in asked)
                if t.grad is not None:
                    assert torch.equal(t.grad, expected[key]), (asked, key)


@pytest.mark.parametrize("through", ["total", "normed", "both"])
@pytest.mark.parametrize("name", ["add_rms_norm", "add_layer_norm"])
def test_second_derivatives_with_a_residual(name, through):
    """In float64, by torch's own numerical check: those of the functions without a residual are tested elsewhere."""
    given = tensors(name, torch.float64, 3, 4)
    leaves = {key: t.requires_grad_() for key, t in given.items()}

    def norm(*values):
        total, normed = call(name, dict(zip(leaves, values, strict=True)))
        # A product, since a sum alone has no second derivative.
        return {"total": total * total, "normed": normed, "both": total * normed}[through]

    used = list(leaves.values())[:2] if through == "total" else list(leaves.values())
    rest = list(leaves.values())[len(used) :]
    assert gradgradcheck(lambda *values: norm(*values, *(t.detach() for t in rest)), used)


@pytest.mark.parametrize("name", ["add_rms_norm", "add_layer_norm"])
@pytest.mark.parametrize("through", [0, 1])
def test_a_result_without_a_gradient(name, through):
    """Only one of the two results is used: the other's gradient is none, and counts as zero."""
    given = tensors(name)
    upstream = upstream_of(name, given)
    zeros = [t if i == through else torch.zeros_like(t) for i, t in enumerate(upstream)]
    expected = gradients(name, given, zeros)
    leaves = {key: t.clone().requires_grad_() for key, t in given.items()}
    found = torch.autograd.grad(
        call(name, leaves)[through], list(leaves.values()), upstream[through], allow_unused=True
    )
    for got, want in zip(found, expected.values(), strict=True):
        assert got is None or torch.equal(got, want)
    assert found[0] is not None
