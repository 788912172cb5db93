"""record(): times, sizes and gradients; nothing else changes, and nothing is kept alive."""

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from normlab.tensor import Tensor, core, no_grad, ops
from normlab.tensor.inside import graph, record
from normlab.tensor.inside.facts import rms
from normlab.tensor.layers import Module

Make = Callable[..., Tensor]


def test_everything_is_known_after_backward_has_freed_the_graph(model: Module) -> None:
    x = Tensor(np.random.default_rng(5).standard_normal((6, 3)))
    with record() as recording:
        h = model(x)
        loss = (h * h).sum()
        loss.backward()
    g = graph(loss, model, recording=recording)
    assert g == recording.graph(loss, model)
    assert g == recording.graph(names=model)
    assert [n.operation for n in g.operations] == ["Linear", "LayerNorm", "GELU", "Linear", "Mul", "Sum"]
    for n in g.operations:
        assert n.forward_seconds is not None
        assert n.forward_seconds > 0
        assert n.backward_seconds is not None
        assert n.backward_seconds > 0
    product = g.operations[-2]
    assert product.rms == pytest.approx(rms(h.data * h.data)[0], rel=1e-12)
    assert product.gradient_rms == 1
    assert g.operations[-3].gradient_rms == pytest.approx(rms(2 * h.data)[0], rel=1e-12)
    for name, p in model.named_parameters():
        assert p.grad is not None
        assert next(n for n in g if n.name == name).gradient_rms == rms(p.grad)[0]


def test_the_numbers_are_the_same_as_without(leaf: Make, diamond: Make) -> None:
    gradients = []
    for recorded in (False, True):
        x, y = leaf(3, 3), leaf(3, seed=1)
        if recorded:
            with record():
                diamond(x, y).backward()
        else:
            diamond(x, y).backward()
        gradients.append((x.grad, y.grad))
    for plain, seen in zip(*gradients, strict=True):
        np.testing.assert_array_equal(plain, seen)


def test_the_graph_is_that_of_the_tensors(leaf: Make, diamond: Make) -> None:
    x, y = leaf(3, 3), leaf(3, seed=1)
    names = {"x": x, "y": y}
    with record() as recording:
        result = diamond(x, y)
    facts = [(n.operation, n.name, n.inputs, n.shape, n.rms) for n in recording.graph(result, names)]
    assert facts == [(n.operation, n.name, n.inputs, n.shape, n.rms) for n in graph(result, names)]


def test_only_what_leads_to_the_result_is_in_its_graph(leaf: Make) -> None:
    x = leaf(2)
    with record() as recording:
        a, b = x * 2.0, x.tanh()
        (a + b).sum().backward()
    assert [n.operation for n in recording.graph(b)] == ["leaf", "Tanh"]
    assert [n.operation for n in recording.graph(a)] == ["leaf", "constant", "Mul"]
    assert len(recording.graph()) == 6


def test_what_was_computed_before_stands_as_earlier(leaf: Make) -> None:
    x = leaf(2)
    h = x.exp()
    with record() as recording:
        y = (h * h).sum()
        y.backward()
    g = recording.graph(y)
    assert [(n.operation, n.label) for n in g][:1] == [("earlier", "earlier Exp")]
    assert g[0].gradient_rms == pytest.approx(rms(2 * h.data)[0])
    assert g[0].backward_seconds is not None


def test_the_observer_is_put_back_after_an_exception(leaf: Make) -> None:
    x = leaf(2)

    def fail() -> Tensor:
        return x * 2.0 + np.ones(3)

    with pytest.raises(ValueError, match="Add cannot take"), record() as recording:
        fail()
    assert core.mode.observer is None
    assert [n.operation for n in recording.graph()] == ["leaf", "constant", "Mul"]
    _ = x * 3.0
    assert len(recording.nodes) == 3


def test_recordings_stand_in_each_other(leaf: Make) -> None:
    x = leaf(2)
    with record() as outer:
        h = x * 2.0
        with record() as inner:
            y = h.tanh().sum()
            y.backward()
        assert core.mode.observer is outer
        _ = x.exp()
    assert core.mode.observer is None
    assert [n.operation for n in inner.graph()] == ["earlier", "Tanh", "Sum"]
    assert [n.operation for n in outer.graph()] == ["leaf", "constant", "Mul", "Tanh", "Sum", "Exp"]
    assert [n.gradient_rms for n in inner.graph()][1:] == [n.gradient_rms for n in outer.graph()][3:5]


def test_another_thread_is_not_seen(leaf: Make) -> None:
    x = leaf(2)
    with record() as recording:
        thread = threading.Thread(target=lambda: x * 2.0)
        thread.start()
        thread.join()
    assert len(recording.graph()) == 0


def test_nothing_is_kept_alive(leaf: Make) -> None:
    with record() as recording:
        x = leaf(1000)
        y = (x * 2.0).sum()
        arrays = [weakref.ref(x), weakref.ref(x.data), weakref.ref(y)]
        del x, y
        gc.collect()
        assert [a() for a in arrays] == [None, None, None]
    assert len(recording.graph()) == 4


def test_ids_that_are_given_again_are_other_tensors(leaf: Make) -> None:
    with record() as recording:
        for _ in range(50):
            _ = Tensor(np.ones(3)) * 2.0
    assert len(recording.graph()) == 150


def test_a_leaf_keeps_no_gradient_of_another_backward(leaf: Make) -> None:
    x = leaf(2)
    (x * 5.0).sum().backward()
    x.zero_grad()
    with record() as recording:
        y = (x * 2.0).sum()
        assert recording.graph()[0].gradient_rms is None
        y.backward()
        assert recording.graph()[0].gradient_rms == 2
        x.zero_grad()
        (x * 3.0).sum().backward()
    assert recording.graph()[0].gradient_rms == 3
    x.zero_grad()
    assert recording.graph()[0].gradient_rms == 3


def test_without_gradients_operations_are_linked_all_the_same(leaf: Make) -> None:
    x = leaf(2)
    with record() as recording, no_grad():
        y = (x * 2.0).tanh()
    assert [(n.operation, n.inputs) for n in recording.graph(y)][2:] == [("Mul", (0, 1)), ("Tanh", (2,))]


def test_what_was_not_recorded_is_refused(leaf: Make) -> None:
    y = leaf(2) * 2
    with record() as recording:
        pass
    with pytest.raises(ValueError, match="result must be a tensor that was computed or used in the recording"):
        graph(y, recording=recording)


def test_values_that_are_not_finite_are_counted(leaf: Make) -> None:
    x = leaf(4)
    with record() as recording:
        y: Any = ops.masked_fill(x, np.array([True, False, False, True]), -np.inf)
    node = recording.graph(y)[-1]
    assert node.non_finite == 2
    assert node.rms == pytest.approx(rms(x.data[1:3])[0])
