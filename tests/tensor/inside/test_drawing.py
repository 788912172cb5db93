"""The pictures: boxes that do not overlap, lines that cross no box, text that fits; and Mermaid text that parses."""

import re
import time
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normlab.tensor import Tensor, ops
from normlab.tensor.inside import graph, record
from normlab.tensor.inside.drawing import LETTER, PAD
from normlab.tensor.inside.layout import Layout, layout
from normlab.tensor.layers import Module, Transformer

SVG = "{http://www.w3.org/2000/svg}"
Make = Callable[..., Tensor]


def overlapping(boxes: list[tuple[float, float, float, float]]) -> list[tuple[int, int]]:
    order = sorted(range(len(boxes)), key=lambda i: boxes[i][1])
    found = []
    for a, i in enumerate(order):
        x, y, w, h = boxes[i]
        for j in order[a + 1 :]:
            x2, y2, w2, _ = boxes[j]
            if y2 >= y + h:
                break
            if x < x2 + w2 and x2 < x + w:
                found.append((i, j))
    return found


def check(plan: Layout, inputs: list[list[int]]) -> None:
    boxes = [(b.x, b.y, b.width, b.height) for b in plan.boxes]
    assert overlapping(boxes) == []
    assert all(x >= -1e-6 and x + w <= plan.width + 1e-6 and y + h <= plan.height for x, y, w, h in boxes)
    rows = sorted({b.y for b in plan.boxes})
    bands = [(y, y + max(b.height for b in plan.boxes if b.y == y)) for y in rows]
    for line in plan.lines:
        assert line.top <= line.bend < line.straight <= line.bottom
        # Where it runs straight down beside boxes it has its own place, and it bends between two rows only.
        assert not any(low < line.straight and line.bend < high for low, high in bands)
        for b in plan.boxes:
            for x, start, end in ((line.x, line.top, line.bend), (line.to_x, line.straight, line.bottom)):
                assert not (b.x < x < b.x + b.width and b.y < end and start < b.y + b.height)
    # Every box gets as many arrows as it has inputs that are drawn.
    arrows = sum(line.arrow for line in plan.lines)
    assert arrows == sum(len(set(ups)) for ups in inputs) - len(plan.cut)
    for j, ups in enumerate(inputs):
        assert all(plan.boxes[i].y + plan.boxes[i].height < plan.boxes[j].y for i in ups)


@st.composite
def graphs(draw: Any) -> list[list[int]]:
    count = draw(st.integers(1, 25))
    return [draw(st.lists(st.integers(0, j - 1), max_size=3)) if j else [] for j in range(count)]


@given(graphs(), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_any_graph_is_laid_out_without_overlaps(inputs: list[list[int]], random: Any) -> None:
    sizes = [(random.uniform(20, 200), random.uniform(20, 80)) for _ in inputs]
    check(layout(sizes, inputs), inputs)


def test_a_chain_hangs_straight_and_a_residual_passes_beside_it() -> None:
    inputs = [[], [0], [1], [2], [3, 0]]
    plan = layout([(100.0, 40.0)] * 5, inputs)
    check(plan, inputs)
    middles = [b.x + b.width / 2 for b in plan.boxes]
    assert middles[1] == pytest.approx(middles[2])
    assert middles[2] == pytest.approx(middles[3])


def test_too_many_long_lines_are_cut_and_named() -> None:
    count = 400
    inputs = [[], *([i] for i in range(count)), list(range(count + 1))]
    plan = layout([(50.0, 20.0)] * len(inputs), inputs)
    assert plan.cut
    check(plan, inputs)


def test_what_was_cut_is_named_in_the_box(leaf: Make) -> None:
    y, parts = leaf(1), []
    for _ in range(300):
        y = y.tanh()
        parts.append(y)
    svg = graph(ops.cat(parts)).svg(leaves=True)
    assert re.search(r">from 1<", svg)


def boxes_and_texts(svg: str) -> tuple[list[tuple[float, float, float, float]], int]:
    root = ElementTree.fromstring(svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    boxes = []
    for group in root.iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        if rect is None:
            continue
        x, y, w, h = (float(rect.attrib[k]) for k in ("x", "y", "width", "height"))
        boxes.append((x, y, w, h))
        assert w < width
        assert y + h < height
        texts = group.findall(f"{SVG}text")
        title, number, *rest = texts
        for t in (title, *rest):
            right = float(t.attrib["x"]) + LETTER * float(t.attrib["font-size"]) * len(t.text or "")
            assert x + PAD - 1 <= float(t.attrib["x"])
            assert right <= x + w
            assert y < float(t.attrib["y"]) < y + h
        # The number at the right does not run into the title.
        start = float(number.attrib["x"]) - LETTER * float(number.attrib["font-size"]) * len(number.text or "")
        assert float(title.attrib["x"]) + LETTER * float(title.attrib["font-size"]) * len(title.text or "") < start
    return boxes, len(boxes)


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("color", ["activation", "gradient"])
def test_a_model_of_four_layers_is_drawn_in_about_a_second(leaves: bool, color: Any) -> None:
    model = Transformer(30, n_layers=4, dim=16, n_heads=2, context=8)
    ids = np.arange(16).reshape(2, 8)
    with record() as recording:
        ops.cross_entropy(model(ids).reshape(-1, 30), ids.reshape(-1)).backward()
    start = time.perf_counter()
    g = recording.graph(names=model)
    svg = g.svg(color=color, leaves=leaves)
    assert time.perf_counter() - start < 3
    boxes, count = boxes_and_texts(svg)
    assert count == (len(g) if leaves else len(g.operations))
    assert overlapping(boxes) == []


def test_a_small_graph(loss: Tensor, model: Module) -> None:
    g = graph(loss, model)
    boxes, count = boxes_and_texts(g.svg())
    assert count == len(g)
    assert overlapping(boxes) == []
    svg = g.svg(leaves=False)
    assert "with 0.weight" in svg
    assert "<script" not in svg
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    with pytest.raises(ValueError, match="color must be 'activation' or 'gradient', got 'size'"):
        g.svg(color="size")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "name", ["<&>\"'", "a\x00b\x1b[31m", "\ud800", "x" * 300, "層正規化" * 3, "]]>", 'n["; click', "`#quot;`", "a\nb"]
)
def test_any_name_can_be_drawn(leaf: Make, name: str) -> None:
    x = leaf(2)
    g = graph((x * x).sum(), {name: x})
    ElementTree.fromstring(g.svg(leaves=True).encode())
    ElementTree.fromstring(g.svg(leaves=False).encode())
    check_mermaid(g.mermaid(), len(g), 3)


def check_mermaid(text: str, nodes: int, edges: int) -> None:
    lines = text.rstrip("\n").split("\n")
    assert lines[0] == "flowchart TD"
    drawn = [line for line in lines[1:] if re.fullmatch(r'    n\d+(\["[^"`]*"\]|\(\["[^"`]*"\]\))', line)]
    arrows = [line for line in lines[1:] if re.fullmatch(r"    n\d+ --> n\d+", line)]
    assert (len(drawn), len(arrows)) == (nodes, edges)
    assert len(lines) == 1 + nodes + edges


def test_mermaid_names_every_node_and_arrow(loss: Tensor, model: Module) -> None:
    g = graph(loss, model)
    check_mermaid(g.mermaid(), len(g), sum(len(n.inputs) for n in g))
    assert "0.weight<br/>4×3 float64<br/>RMS" in g.mermaid()
    assert 'n0(["' in g.mermaid()


def test_values_that_are_zero_or_not_finite_have_a_colour(leaf: Make) -> None:
    x = leaf(2)
    with np.errstate(all="ignore"):
        y = (x * 0.0).log() + x * np.nan
    svg = graph(y).svg()
    ElementTree.fromstring(svg)
    assert "2 not finite" in svg
