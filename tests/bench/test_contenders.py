"""Contenders compute the same thing on the same tensors, and leave these as they are; the bytes that must move."""

from typing import Any

import pytest
import torch

from normlab.bench import contenders
from normlab.bench.cases import MODES, OPS, Case
from normlab.bench.contenders import COMPILED, FORMULA, OURS, TORCH, TWO_STEPS, forwards, inputs, step
from normlab.bench.empty import empty

TOLERANCE = {"float32": 1e-5, "float64": 1e-12, "bfloat16": 2e-2, "float16": 3e-3}


def case(op: Any = "rms_norm", mode: Any = "forward+backward", dtype: Any = "float32", rows=6, dim=16) -> Case:
    return Case(op, mode, dtype, rows, dim)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("op", OPS)
def test_all_agree(op, mode, dtype):
    c = case(op, mode, dtype)
    data = inputs(c)
    found, notes = forwards(c, data)
    assert not notes
    assert set(found) == {OURS, TORCH} | ({TWO_STEPS} if c.adds else {FORMULA})
    exact_case = case(op, mode, "float64")
    exact = inputs(exact_case)
    with torch.no_grad():
        for mine, theirs in zip((*exact.wanted, *exact.gradients), (*data.wanted, *data.gradients), strict=True):
            mine.copy_(theirs)
    reference = step(exact_case, forwards(exact_case, exact)[0][TORCH], exact)()
    for name, forward in found.items():
        results = step(c, forward, data)()
        assert len(results) == len(reference), name
        for result, wanted in zip(results, reference, strict=True):
            assert result.dtype == getattr(torch, dtype), name
            torch.testing.assert_close(
                result.double(), wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * 4, msg=name
            )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("op", OPS)
def test_the_empty_call_gives_tensors_of_the_same_kind(op, mode):
    c = case(op, mode)
    data = inputs(c)
    mine, norms = (step(c, forward, data)() for forward in (empty(data), forwards(c, data)[0][OURS]))
    assert [(t.shape, t.dtype, t.requires_grad) for t in mine] == [(t.shape, t.dtype, t.requires_grad) for t in norms]


@pytest.mark.parametrize("op", OPS)
def test_none_changes_its_inputs_or_leaves_gradients(op):
    c = case(op)
    data = inputs(c)
    tensors = (*data.wanted, *data.gradients)
    before = [t.detach().clone() for t in tensors]
    calls = {name: step(c, forward, data) for name, forward in forwards(c, data)[0].items()}
    for call in (*calls.values(), step(c, empty(data), data), contenders.copy(data)):
        call()
        call()
    for t, kept in zip(tensors, before, strict=True):
        assert torch.equal(t, kept)
        assert t.grad is None


def test_the_forward_pass_keeps_nothing_for_a_backward_pass():
    c = case(mode="forward")
    data = inputs(c)
    for forward in forwards(c, data)[0].values():
        assert all(not y.requires_grad for y in step(c, forward, data)())


def test_inputs_are_the_same_every_time():
    first, second = inputs(case("add_layer_norm")), inputs(case("add_layer_norm"))
    for a, b in zip((*first.wanted, *first.gradients), (*second.wanted, *second.gradients), strict=True):
        assert torch.equal(a, b)


def test_who_cannot_take_part_is_named(monkeypatch):
    def broken(*args):
        raise RuntimeError("no compiler\nand more words")

    monkeypatch.setattr(contenders, "_compiled", broken)
    c = case()
    found, notes = forwards(c, inputs(c), compiled=True)
    assert COMPILED not in found
    assert notes == [f"torch.compile does not take part in {c}: no compiler"]


def test_who_is_compiled_takes_part(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda f, dynamic: f)
    c = case("layer_norm")
    found, notes = forwards(c, inputs(c), compiled=True)
    assert (COMPILED in found, notes) == (True, [])


@pytest.mark.parametrize(
    ("op", "mode", "tensors", "vectors"),
    [
        ("rms_norm", "forward", 2, 1),
        ("layer_norm", "forward", 2, 2),
        ("rms_norm", "forward+backward", 5, 3),
        ("layer_norm", "forward+backward", 5, 5),
        ("add_rms_norm", "forward", 4, 1),
        ("add_layer_norm", "forward+backward", 8, 5),
    ],
)
def test_bytes_that_must_move(op, mode, tensors, vectors):
    c = case(op, mode, "bfloat16", rows=10, dim=8)
    assert c.tensor_bytes == 160
    assert c.bytes_moved == tensors * 160 + vectors * 16
    assert c.bytes_copied == 320
