"""explain(): the numbers that are shown are those of the operation, for every kind of input."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from normlab.spec import NormSpec
from normlab.tensor import Operation, Tensor, core, no_grad, ops
from normlab.tensor.inside import explain, worked_norms

Make = Callable[..., Tensor]
NORMS: dict[str, Callable[[Make], Tensor]] = {
    "LayerNorm": lambda t: ops.layer_norm(t(3, 5), 5, t(5, seed=1), t(5, seed=2)),
    "LayerNorm, plain": lambda t: ops.layer_norm(t(3, 5), 5),
    "LayerNorm, two axes": lambda t: ops.layer_norm(t(3, 2, 4), (2, 4), t(2, 4, seed=1)),
    "RMSNorm": lambda t: ops.rms_norm(t(3, 5), 5, t(5, seed=1)),
    "RMSNorm, plain": lambda t: ops.rms_norm(t(3, 5), 5, eps=None),
    "RMSNorm, Gemma": lambda t: ops.rms_norm(t(3, 5), 5, t(5, seed=1), spec=NormSpec.preset("gemma")),
    "BatchNorm": lambda t: ops.batch_norm(t(4, 3), None, None, t(3, seed=1), t(3, seed=2), True),
    "BatchNorm, space": lambda t: ops.batch_norm(t(4, 3, 2, 2), None, None, t(3, seed=1), t(3, seed=2), True),
    "BatchNorm, evaluation": lambda t: ops.batch_norm(
        t(4, 3, 2), np.array([0.1, 0.2, 0.3]), np.array([1.0, 2.0, 3.0]), t(3, seed=1), t(3, seed=2)
    ),
    "BatchNorm, plain": lambda t: ops.batch_norm(t(4, 3), training=True),
    "GroupNorm": lambda t: ops.group_norm(t(2, 4, 3), 2, t(4, seed=1), t(4, seed=2)),
    "GroupNorm, plain": lambda t: ops.group_norm(t(2, 4), 2),
}


@pytest.mark.parametrize("kind", NORMS)
def test_the_row_of_a_norm_has_the_numbers_of_the_operation(kind: str, leaf: Make) -> None:
    y = NORMS[kind](leaf)
    dy = np.random.default_rng(9).standard_normal(y.shape)
    node: Any = y.node
    row = worked_norms.first(node, [t.data for t in node.inputs])
    np.testing.assert_allclose(row.y, worked_norms.row_of(node, y.data), rtol=1e-12, atol=1e-12)
    dx = node.backward(dy)[0]
    np.testing.assert_allclose(
        row.dx(worked_norms.row_of(node, dy)), worked_norms.row_of(node, dx), rtol=1e-10, atol=1e-12
    )
    text = str(explain(y, dy=dy))
    for part in ("worked through", "worked back", "s  ", "h  ", "u  ", "dx"):
        assert part in text


def test_a_layernorm_in_full() -> None:
    x = Tensor([[1.0, 3.0], [0.0, 8.0]], requires_grad=True)
    gamma, beta = Tensor([2.0, 1.0], requires_grad=True), Tensor([0.5, 0.0], requires_grad=True)
    text = str(explain(ops.layer_norm(x, 2, gamma, beta, eps=3.0), dy=[[1.0, 0.0], [0.0, 0.0]]))
    assert text == (
        """\
LayerNorm
Ba, Kiros & Hinton 2016, arXiv:1607.06450.

forward
  y = h * gamma + beta
  h = (x - mean(x)) * s
  s = 1 / sqrt(var(x) + eps)

backward
  u = dy * gamma
  dx = s * (u - mean(u) - h * mean(u * h))
  dgamma = sum of dy * h over rows
  dbeta = sum of dy over rows

inputs
  x   2×2 float64, RMS 4.3, a leaf
      [1  3]
      [0  8]
  gamma   2 float64, RMS 1.58, a leaf
      [2  1]
  beta   2 float64, RMS 0.354, a leaf
      [0.5  0]

worked through, row 1 of 2
  x       = [1  3]
  mean(x) = (1 + 3) / 2 = 2
  var(x)  = (1 + 1) / 2 = 1
  s       = 1 / sqrt(1 + 3) = 0.5
  h       = [-0.5  0.5]
  gamma   = [2  1]
  beta    = [0.5  0]
  y       = [-0.5  0.5]

result
  y   2×2 float64, RMS 0.884
      [  -0.5     0.5]
      [-1.335  0.9177]

worked back, row 1 of 2
  dy              = [1  0]
  u               = [2  0]
  mean(u)         = 1  (taken away: a shift of x changes nothing)
  mean(u * h)     = -0.5  (u along h, taken away: nor does its scale)
  h * mean(u * h) = [0.25  -0.25]
  dx              = [0.375  -0.375]

gradients
  dy   2×2 float64, RMS 0.5
      [1  0]
      [0  0]
  dx   2×2 float64, RMS 0.265
      [ 0.375  -0.375]
      [     0       0]
  dgamma   2 float64, RMS 0.354
      [-0.5  0]
  dbeta   2 float64, RMS 0.707
      [1  0]"""
    )


def test_an_operation_alone_gives_its_result_again(leaf: Make) -> None:
    core_state = leaf(4)
    y = ops.dropout(core_state, 0.5)
    assert y.node is not None
    assert str(explain(y.node)) == str(explain(y))
    for make in NORMS.values():
        y = make(leaf)
        assert y.node is not None
        before = dict(vars(y.node))
        assert str(explain(y.node)) == str(explain(y))
        assert vars(y.node) == before


def test_leaves_and_constants_say_what_they_are(leaf: Make) -> None:
    x = leaf(2)
    assert str(explain(x)).startswith("leaf\nIt was given, not computed.")
    assert "None: no backward() has reached it" in str(explain(x))
    (x * 2.0).sum().backward()
    assert "grad\n  2 float64, RMS 2\n  [2  2]" in str(explain(x))
    assert str(explain(Tensor([1, 2]))).startswith("constant\n")
    with no_grad():
        assert str(explain(x * 2.0)).startswith("constant\n")
    with pytest.raises(RuntimeError, match="dy has nowhere to go from here"):
        explain(x, dy=np.ones(2))


def test_a_freed_graph_is_said_in_one_sentence(leaf: Make) -> None:
    x = leaf(2, 4)
    h = ops.rms_norm(x, 4)
    h.sum().backward()
    text = " ".join(str(explain(h)).split())
    assert "the graph of this RMSNorm was freed by an earlier backward()" in text
    assert "retain_graph=True" in text
    assert "y = h * weight" in text
    assert "result 2×4 float64" in text
    with pytest.raises(RuntimeError, match="the graph of this RMSNorm was freed"):
        explain(h, dy=np.ones((2, 4)))


def test_other_numbers_since_are_noticed(leaf: Make) -> None:
    x = leaf(2)
    y = x.tanh()
    x.data = np.zeros(2)
    assert "! x was given other numbers after it had been used" in " ".join(str(explain(y)).split())


def test_refusals(leaf: Make) -> None:
    with pytest.raises(TypeError, match="a Tensor or an Operation was expected, got float"):
        explain(1.0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"dy must have the shape of the result, \(2,\), got \(3,\)"):
        explain(leaf(2) * 2.0, dy=np.ones(3))


class Mine(Operation):
    """An operation without a word about itself."""

    def forward(self, *xs: Any) -> Any:
        """The first."""
        return xs[0] * 1

    def backward(self, dy: Any) -> Any:
        """To the first."""
        return dy, None


def test_operations_of_the_user_are_explained_as_far_as_they_go(leaf: Make) -> None:
    y = core.apply(Mine(), leaf(2), leaf(2, seed=1))
    text = str(explain(y, dy=np.ones(2)))
    assert text.startswith("Mine\nAn operation without a word about itself.\n\ninputs\n  x1   2 float64")
    assert "dx2   not wanted" in text


@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (1,), (200,), (2, 200), (3, 1, 40), (2, 3, 2)])
def test_any_shape_fits_into_80_columns(shape: tuple[int, ...], leaf: Make) -> None:
    x = leaf(*shape) if shape else Tensor(-1.2345678e-10, requires_grad=True)
    results = [x * 1.0, ops.silu(x), ops.gelu(x, "tanh"), x.sum()]
    if shape and shape[-1]:
        results += [ops.softmax(x), ops.layer_norm(x, shape[-1])]
    for y in results:
        explanation = explain(y, dy=np.ones(y.shape))
        assert max(map(len, str(explanation).splitlines())) <= 80
        with Console(width=80).capture() as _:
            Console(width=80).print(explanation)
        assert explanation._repr_html_().startswith("<pre")


def test_numbers_that_are_not_finite_raise_no_warning() -> None:
    x = Tensor([[np.nan, np.inf, 1.0], [-np.inf, 0.0, 1.0]], requires_grad=True)
    with np.errstate(all="ignore"):
        results = [ops.layer_norm(x, 3), ops.softmax(x), ops.silu(x), x * x, ops.cross_entropy(x, [0, 1])]
        dys = [np.ones(y.shape) for y in results]
    for y, dy in zip(results, dys, strict=True):
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            assert "worked through" in str(explain(y, dy=dy))


def test_every_operation_of_the_engine_can_be_explained(leaf: Make) -> None:
    x, i = leaf(3, 4), np.array([0, 2])
    results = [
        *(x.sum(0), x.mean(), x.max(1), x.min(), x.cumsum(0), x[1:], x[i], x.reshape(-1), x.T),
        *(ops.embedding(x, i), ops.where(x > 0, x, 0.0), ops.masked_fill(x, x.data > 0, 1.0)),
        *(ops.broadcast_to(x, (2, 3, 4)), ops.cat([x, x]), ops.stack([x, x])),
        *(ops.mse_loss(x, leaf(3, 4, seed=1)), ops.nll_loss(x, [0, 1, 2]), ops.relu(x), x**2, 2.0**x, -x),
    ]
    for y in results:
        text = str(explain(y, dy=np.ones(y.shape)))
        assert "result" in text
        assert "gradients" in text
