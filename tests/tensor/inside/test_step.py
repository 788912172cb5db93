"""step(): the same bits as backward(), one operation at a time."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from normlab.tensor import Tensor, ops
from normlab.tensor.inside import record, step
from normlab.tensor.layers import Module, Transformer

Make = Callable[..., Tensor]
OPERATIONS: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a + b,
    lambda a, b: a * b,
    lambda a, _: a.tanh(),
    lambda a, b: a - b * 2.0,
]


def test_gradients_are_the_bits_of_backward(leaf: Make, diamond: Make) -> None:
    gradients = []
    for stepped in (False, True):
        x, y = leaf(3, 3), leaf(3, seed=1)
        for _ in range(2):
            # The second time gradients are added to those that are there.
            result = diamond(x, y)
            if stepped:
                assert len(list(step(result))) > 10
            else:
                result.backward()
        gradients.append((x.grad, y.grad))
    for back, by_step in zip(*gradients, strict=True):
        np.testing.assert_array_equal(back, by_step)


def test_a_model_gets_the_bits_of_backward() -> None:
    model = Transformer(11, n_layers=1, dim=8, n_heads=2, context=5)
    ids = np.arange(10).reshape(2, 5)
    found = []
    for go in (Tensor.backward, lambda loss: list(step(loss))):
        model.zero_grad()
        go(ops.cross_entropy(model(ids).reshape(-1, 11), ids.reshape(-1)))
        found.append({name: p.grad for name, p in model.named_parameters()})
    assert found[0].keys() == found[1].keys()
    for name in found[0]:
        np.testing.assert_array_equal(found[0][name], found[1][name])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_any_graph_gets_the_bits_of_backward(program: list[tuple[int, int, int]]) -> None:
    rng = np.random.default_rng(0)
    given = (((2, 3), np.float32), ((3,), np.float64), ((2, 1), np.float32))
    starts = [rng.standard_normal(shape).astype(dtype) for shape, dtype in given]
    gradients = []
    for stepped in (False, True):
        leaves = [Tensor(s, requires_grad=True) for s in starts]
        made: list[Any] = list(leaves)
        for kind, i, j in program:
            a, b = made[i % len(made)], made[j % len(made)]
            made.append(OPERATIONS[kind](a, b))
        result = made[-1].retain_grad()
        dy = np.ones(result.shape)
        if stepped:
            list(step(result, dy))
        else:
            result.backward(dy)
        gradients.append([t.grad for t in (*leaves, result)])
    for back, by_step in zip(*gradients, strict=True):
        assert (back is None) == (by_step is None)
        if back is not None:
            assert back.dtype == by_step.dtype
            np.testing.assert_array_equal(back, by_step)


def test_what_a_step_says(leaf: Make) -> None:
    a, b = leaf(2, 3), leaf(3, seed=1)
    y = (a * b).sum()
    first, second, *leaves = step(y, names={"a": a, "b": b})
    assert (first.operation, second.operation) == ("Sum", "Mul")
    assert (first.number, first.of, len(leaves)) == (1, 4, 2)
    np.testing.assert_array_equal(first.dy, 1.0)
    assert first.passed[0].to == "2 Mul"
    np.testing.assert_array_equal(second.dy, np.ones((2, 3)))
    da, db = second.passed
    assert db.gradient is not None
    assert (da.variable, da.to, db.variable, db.to) == ("a", "a", "b", "b")
    np.testing.assert_array_equal(da.gradient, np.broadcast_to(b.data, (2, 3)))
    np.testing.assert_allclose(db.gradient, a.data.sum(0))
    assert (da.summed, db.summed) == (None, (2, 3))
    assert {p.to for p in second.waiting} == {"a", "b"}
    assert {s.name for s in leaves} == {"a", "b"}
    for s in leaves:
        np.testing.assert_array_equal(s.total, {"a": a, "b": b}[s.name].grad)
    text = str(second)
    assert text.startswith("step 2 of 4: 2 Mul\n  y = a * b\n  da = dy * b\n  db = dy * a\n  dy   2×3, RMS 1\n")
    assert "added up from the broadcast shape 2×3" in text
    assert "arrived so far at" in text
    assert "which is its grad now" in str(leaves[0])
    assert second._repr_html_().startswith("<pre")


def test_a_leaf_shows_what_was_there_before(leaf: Make) -> None:
    x = leaf(2)
    x.grad = np.ones(2)
    last = list(step((x * 2.0).sum()))[-1]
    np.testing.assert_array_equal(last.dy, [2, 2])
    np.testing.assert_array_equal(last.total, [3, 3])
    assert "with what was there, its grad is now" in str(last)


def test_a_gradient_of_two_uses_waits_until_it_is_complete(leaf: Make) -> None:
    x = leaf(2)
    h = x * 3.0
    steps = list(step((h + h.tanh()).sum()))
    assert [s.operation for s in steps] == ["Sum", "Add", "Tanh", "Mul", "leaf"]
    assert any(p.to == "2 Mul" for p in steps[1].waiting)
    np.testing.assert_allclose(steps[3].dy, 1 + 1 - np.tanh(h.data) ** 2)


def test_nothing_happens_before_it_is_asked_for(leaf: Make) -> None:
    x = leaf(2)
    steps = step((x * 2.0).sum())
    next(steps)
    assert x.grad is None
    list(steps)
    np.testing.assert_array_equal(x.grad, [2, 2])


def test_the_graph_is_freed_or_kept_as_by_backward(leaf: Make) -> None:
    x = leaf(2)
    y = (x * x).sum()
    list(step(y, retain_graph=True))
    list(step(y))
    assert x.grad is not None
    np.testing.assert_allclose(x.grad, 4 * x.data)
    with pytest.raises(RuntimeError, match=r"was freed by an earlier backward"):
        step(y)


def test_refusals_are_those_of_backward(leaf: Make) -> None:
    x = leaf(2)
    with pytest.raises(TypeError, match="result must be a Tensor"):
        step(x.data)  # pyright: ignore[reportArgumentType]
    with pytest.raises(RuntimeError, match="does not require a gradient"):
        step(Tensor([1.0]))
    with pytest.raises(RuntimeError, match=r"shape \(2,\) needs a gradient"):
        step(x * 2.0)
    with pytest.raises(ValueError, match=r"gradient must have the shape of the tensor, \(2,\), got \(3,\)"):
        step(x * 2.0, np.ones(3))
    y = (x * x).sum()
    x.data = np.zeros(2)
    steps = step(y)
    next(steps)
    with pytest.raises(RuntimeError, match="was given other numbers after it had been used"):
        next(steps)


def test_a_recording_sees_steps_too(leaf: Make) -> None:
    x = leaf(2)
    with record() as recording:
        list(step((x * 2.0).sum()))
    assert all(n.backward_seconds is not None for n in recording.graph().operations)


def interactive(answers: str, loss: Tensor, monkeypatch: pytest.MonkeyPatch) -> str:
    console = Console(file=io.StringIO(), width=80)
    monkeypatch.setattr("sys.stdin", io.StringIO(answers))
    step(loss).interactive(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_in_a_terminal_enter_goes_on(loss: Tensor, model: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = interactive("\n" * 50, loss, monkeypatch)
    assert "Done: every leaf has its gradient." in shown
    assert all(p.grad is not None for p in model.parameters())
    assert shown.count("step ") == 11
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("answers", ["\nq\n", ""])
def test_in_a_terminal_q_stops(answers: str, loss: Tensor, model: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Stopped: the leaves do not have their gradients." in interactive(answers, loss, monkeypatch)
    assert all(p.grad is None for p in model.parameters())
