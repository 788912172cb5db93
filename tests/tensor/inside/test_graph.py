"""graph(): the facts of every node, with and without a recording, and the table."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from rich.console import Console

from normlab.tensor import Tensor, no_grad, ops
from normlab.tensor.inside import Graph, graph, record
from normlab.tensor.inside.facts import rms
from normlab.tensor.layers import Module, Transformer

Make = Callable[..., Tensor]


def root_mean_square(x: Any) -> float:
    return math.sqrt(math.fsum(float(v) ** 2 for v in np.ravel(x)) / np.size(x))


@given(arrays(np.float64, array_shapes(max_dims=2, max_side=6), elements=st.floats(-1e100, 1e100)))
@settings(deadline=None)
def test_rms_is_that_of_the_definition(x: Any) -> None:
    assert rms(x)[0] == pytest.approx(root_mean_square(x), rel=1e-12, abs=1e-160)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ([], (math.nan, 0)),
        ([math.nan, math.inf], (math.nan, 2)),
        ([3.0, -math.inf, 4.0], (math.sqrt(12.5), 1)),
        ([1e200, -1e200], (1e200, 0)),
        ([5e-324], (5e-324, 0)),
        ([0.0, -0.0], (0.0, 0)),
        ([True, False], (math.sqrt(0.5), 0)),
        ([2, -2], (2.0, 0)),
        (np.full(3, 3e38, np.float32), (float(np.float32(3e38)), 0)),
    ],
)
def test_rms_at_the_edges(x: Any, expected: tuple[float, int]) -> None:
    value, non_finite = rms(np.asarray(x))
    assert value == pytest.approx(expected[0], rel=1e-12, nan_ok=True)
    assert non_finite == expected[1]


def test_nodes_stand_in_order_with_their_facts(leaf: Make) -> None:
    a, b = leaf(2, 3, dtype=np.float32), leaf(3, seed=1, dtype=np.float32)
    h = a * b
    y = (h + 2.0).sum()
    g = graph(y, {"a": a, "b": b})
    assert [(n.number, n.operation, n.name, n.inputs) for n in g] == [
        (0, "leaf", "a", ()),
        (1, "leaf", "b", ()),
        (2, "Mul", "", (0, 1)),
        (3, "constant", "2", ()),
        (4, "Add", "", (2, 3)),
        (5, "Sum", "", (4,)),
    ]
    assert (g[2].shape, g[2].dtype, g[2].bytes) == ((2, 3), "float32", 24)
    assert g[2].rms == pytest.approx(root_mean_square(h.data), rel=1e-6)
    assert g[2].formula == "y = a * b"
    assert g[2].derivative == "da = dy * b,  db = dy * a"
    assert all(n.gradient_rms is None and n.forward_seconds is None for n in g)
    assert [n.number for n in g.operations] == [2, 4, 5]
    assert [n.number for n in g.leaves] == [0, 1, 3]
    assert len(g) == 6
    assert repr(g) == "Graph of 3 operations, 3 leaves"


def test_names_come_from_a_module(model: Module, loss: Tensor) -> None:
    names = [n.name for n in graph(loss, model).leaves if n.operation == "leaf"]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())


def test_results_can_be_named_too(leaf: Make) -> None:
    x = leaf(2)
    with record() as recording:
        h = x * x
        y = h.sum()
    for g in (graph(y, {"hidden": h}), recording.graph(y, {"hidden": h})):
        assert [n.label for n in g] == ["leaf", "Mul hidden", "Sum"]


def test_gradients_that_tensors_hold_are_shown(leaf: Make) -> None:
    x = leaf(4)
    h = (x * 3.0).retain_grad()
    y = (h * h).sum()
    y.backward(retain_graph=True)
    by_operation = {n.operation: n for n in graph(y)}
    assert by_operation["leaf"].gradient_rms == pytest.approx(root_mean_square(x.grad))
    assert graph(y)[2].gradient_rms == pytest.approx(root_mean_square(2 * h.data))


def test_a_single_leaf_and_a_result_without_gradients_are_graphs_too(leaf: Make) -> None:
    assert [n.operation for n in graph(leaf(2))] == ["leaf"]
    assert repr(graph(leaf(2))) == "Graph of 0 operations, 1 leaf"
    with no_grad():
        y = leaf(2) * 2
    assert [n.operation for n in graph(y)] == ["constant"]


def test_refusals(leaf: Make) -> None:
    x = leaf(2)
    y = (x * x).sum()
    with pytest.raises(TypeError, match="result must be a Tensor, got ndarray"):
        graph(x.data)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="names must be a module or a dict"):
        graph(y, ["x"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="names must lead to tensors, got ndarray for 'x'"):
        graph(y, {"x": x.data})  # pyright: ignore[reportArgumentType]
    y.backward()
    with pytest.raises(RuntimeError, match=r"the graph of this Sum was freed .* retain_graph=True"):
        graph(y)


def test_long_chains_need_no_deep_stack(leaf: Make) -> None:
    x = y = leaf(2)
    for _ in range(5000):
        y = y + x
    g = graph(y)
    assert len(g) == 5001
    assert g.svg(leaves=True).count("<title>") == 5001


def printed(g: Any, width: int = 80) -> list[str]:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(g)
    console.file.close()
    return console.export_text().splitlines()


def test_the_table_has_a_line_for_each_operation_at_80_columns() -> None:
    model = Transformer(30, n_layers=2, dim=16, n_heads=2, context=8)
    ids = np.arange(16).reshape(2, 8)
    with record() as recording:
        ops.cross_entropy(model(ids).reshape(-1, 30), ids.reshape(-1)).backward()
    g = recording.graph(names=model)
    lines = printed(g)
    assert max(map(len, lines)) <= 80
    head = next(i for i, line in enumerate(lines) if "─" in line)
    body = [line for line in lines[head + 1 :] if line.strip() and not line.startswith("!")]
    assert [line.split()[:2] for line in body] == [[str(n.number), n.operation] for n in g.operations]
    for word in ("operation", "gradient", "forward", "backward", "bytes"):
        assert word in " ".join(lines[:head])
    # The scores that are masked are infinite.
    assert any("MaskedFill" in line and "!" in line for line in body)
    assert lines[-1].startswith("! of the finite numbers") or lines[-2].startswith("! of the finite numbers")


def test_the_table_leaves_out_what_is_not_known(loss: Tensor, model: Module) -> None:
    text = str(graph(loss, model))
    assert "gradient" not in text
    assert "time" not in text
    assert "CrossEntropy" in text
    everything = "\n".join(printed(graph(loss, model).table(leaves=True)))
    assert "0.weight" in everything


def test_names_with_markup_are_shown_as_they_are(leaf: Make) -> None:
    x = leaf(2)
    text = "\n".join(printed(graph(x * x, {"[red]x[/red]": x}).table(leaves=True)))
    assert "[red]x[/red]" in text


def test_notebooks_get_a_picture_or_for_a_large_graph_the_table(leaf: Make, loss: Tensor) -> None:
    assert "<svg" in graph(loss)._repr_html_()
    assert str(graph(loss)._repr_svg_()).startswith("<svg")
    x = y = leaf(2)
    for _ in range(600):
        y = y + x
    assert graph(y)._repr_svg_() is None
    assert "<svg" not in graph(y)._repr_html_()
    assert "Add" in graph(y)._repr_html_()


def test_an_empty_graph_can_be_shown() -> None:
    empty = Graph(())
    assert "operation" in str(empty)
    assert empty.svg().startswith("<svg")
    assert empty.mermaid() == "flowchart TD\n"
