"""Formulas with numbers in the place of letters: what is written comes to what the operation gave."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from normlab.tensor import Operation, Tensor, ops
from normlab.tensor.inside import explain
from normlab.tensor.inside.operands import names_of

Make = Callable[..., Tensor]
ELEMENTWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a / b,
    "Neg": lambda a, _: -a,
    "Pow": lambda a, b: ops.absolute(a) ** b,
    "Exp": lambda a, _: a.exp(),
    "Log": lambda a, _: ops.absolute(a).log(),
    "Sqrt": lambda a, _: ops.absolute(a).sqrt(),
    "Tanh": lambda a, _: a.tanh(),
    "Sigmoid": lambda a, _: a.sigmoid(),
    "SiLU": lambda a, _: ops.silu(a),
    "GELU": lambda a, _: ops.gelu(a),
    "GELUTanh": lambda a, _: ops.gelu(a, "tanh"),
    "Maximum": ops.maximum,
    "Minimum": ops.minimum,
    "Abs": lambda a, _: abs(a),
    "Dropout": lambda a, _: ops.dropout(a, 0.5),
}


def value(expression: str) -> float:
    """What is written, computed."""
    expression = re.sub(r"\|(.*?)\|", r"abs(\1)", expression).replace("^", "**").replace("sqrt(2 pi)", "sqrt(2 * pi)")
    names: Any = {k: getattr(math, k) for k in ("exp", "log", "sqrt", "tanh", "erf", "pi")}
    return eval(expression, {**names, "sign": lambda x: math.copysign(1, x), "max": max, "min": min, "abs": abs})


@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_formulas_with_numbers_in_them_come_to_what_is_said(kind: str, leaf: Make) -> None:
    a, b = leaf(2, 3, seed=3), leaf(3, seed=4)
    y = ELEMENTWISE[kind](a, b)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    lines = [part for _, body in explain(y, dy=dy).sections for part in body if part.count(" = ") >= 2]
    # Each is "name = letters = numbers = value", in four digits.
    assert any(line.startswith("y = ") for line in lines)
    if kind not in ("Maximum", "Minimum"):
        assert any(line.startswith(("dx = ", "da = ")) for line in lines) or kind == "Add"
    assert isinstance(y.node, Operation)
    gradients = dict(zip(["d" + n for n in names_of(y.node)], y.node.backward(dy), strict=True))
    for line in lines:
        name, *_, written, result = line.split(" = ")
        assert value(written) == pytest.approx(float(result), rel=3e-3, abs=1e-3), line
        if name in gradients:
            assert float(result) == pytest.approx(gradients[name].flat[0], rel=1e-3)
        if name == "y":
            assert float(result) == pytest.approx(y.data.flat[0], rel=1e-3)


@pytest.mark.parametrize("bias", [False, True])
def test_products_are_written_out(bias: bool, leaf: Make) -> None:
    x, w, b = leaf(2, 3), leaf(2, 3, seed=1), leaf(2, seed=2)
    y = ops.linear(x, w, b if bias else None)
    dy = np.ones((2, 2))
    expected = {"y": y.data[0, 0], "dx[0, 0]": (dy @ w.data)[0, 0], "dW[0, 0]": (dy.T @ x.data)[0, 0]}
    lines = [part for title, body in explain(y, dy=dy).sections if "worked" in title for part in body]
    assert len(lines) == 3
    for line in lines:
        name, written, result = line.split(" = ")
        assert value(written) == pytest.approx(float(result), abs=3e-3)
        assert float(result) == pytest.approx(expected[name], rel=1e-3)


@pytest.mark.parametrize(
    ("a", "b"), [((2, 3), (3, 2)), ((3,), (3, 2)), ((2, 3), (3,)), ((3,), (3,)), ((4, 2, 3), (3, 2))]
)
def test_the_first_element_of_any_product(a: tuple[int, ...], b: tuple[int, ...], leaf: Make) -> None:
    y = leaf(*a) @ leaf(*b, seed=1)
    line = next(part for title, body in explain(y).sections if "worked" in title for part in body)
    assert float(line.split(" = ")[-1]) == pytest.approx(y.data.flat[0], rel=1e-3)
    assert value(line.split(" = ")[1]) == pytest.approx(y.data.flat[0], abs=3e-3)


def test_softmax_and_the_cross_entropy(leaf: Make) -> None:
    x = leaf(4, 3)
    for y in (ops.softmax(x), ops.log_softmax(x), ops.softmax(x, 0)):
        text = str(explain(y, dy=np.ones(y.shape)))
        axis = 0 if y.node is not None and vars(y.node)["axis"] == 0 else 1
        row = np.moveaxis(y.data, axis, -1)[0]
        assert f"= [{'  '.join(f'{v:.4g}' for v in row)}]" in text
    loss = ops.cross_entropy(x, np.array([-100, 2, 0, 1]), label_smoothing=0.1)
    text = str(explain(loss, dy=1.0))
    assert "worked through, row 2" in text
    assert f"-log p[2]    = -log {ops.softmax(x).data[1, 2]:.4g}" in text
    assert "y is the mean over the 3 rows that count" in text
    assert "for dy = 1 and 3 rows" in text
