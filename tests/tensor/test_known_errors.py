"""Errors that were found in a public engine of this kind (TensorWeaver, chapter 14): none of them here."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from normlab.tensor import Tensor, layers, ops, optim

draw = np.random.default_rng(0).standard_normal


def leaf(*shape: int) -> Any:
    return Tensor(draw(shape), requires_grad=True)


def normalized(x: Any, axes: tuple[int, ...], eps: float = 1e-5) -> Any:
    c = x - x.mean(axes, keepdims=True)
    return c / np.sqrt(np.mean(c * c, axes, keepdims=True) + eps)


def test_layer_norms_weight_gradient_is_summed_over_the_batch_and_not_over_features() -> None:
    norm: Any = layers.LayerNorm(4)
    x, dy = leaf(2, 3, 4), draw((2, 3, 4))
    norm(x).backward(dy)
    assert norm.gamma.grad.shape == norm.beta.grad.shape == (4,)
    np.testing.assert_allclose(norm.gamma.grad, (dy * normalized(x.data, (2,))).sum((0, 1)), rtol=1e-10)
    np.testing.assert_allclose(norm.beta.grad, dy.sum((0, 1)), rtol=1e-12)


def test_a_tuple_as_normalized_shape_means_all_of_these_axes() -> None:
    norm: Any = layers.LayerNorm((3, 4))
    x, dy = leaf(2, 3, 4), draw((2, 3, 4))
    y = norm(x)
    np.testing.assert_allclose(y.data, normalized(x.data, (1, 2)), rtol=1e-10)
    assert np.abs(y.data - normalized(x.data, (2,))).max() > 0.1
    y.backward(dy)
    given: Any = torch.tensor(x.data, requires_grad=True)
    F.layer_norm(given, (3, 4)).backward(torch.tensor(dy))
    np.testing.assert_allclose(x.grad, given.grad, rtol=1e-9, atol=1e-12)
    assert norm.gamma.grad.shape == (3, 4)


@pytest.mark.parametrize("combine", [lambda h: h + h.tanh(), lambda h: h.tanh() + h], ids=["h + tanh", "tanh + h"])
def test_backward_order_is_topological_in_a_residual(combine: Any) -> None:
    x = leaf(3, 4)
    combine(x * 2).sum().backward()
    np.testing.assert_allclose(x.grad, 2 * (2 - np.tanh(2 * x.data) ** 2), rtol=1e-12)


def test_backward_order_is_topological_in_a_ladder() -> None:
    # Each rung is used twice, once late: in a wrong order a gradient is passed on before it is complete.
    x = leaf(4)
    given: Any = torch.tensor(x.data, requires_grad=True)
    rungs, theirs = [x], [given]
    for i in range(8):
        rungs.append(rungs[-1].tanh() + rungs[i // 2])
        theirs.append(theirs[-1].tanh() + theirs[i // 2])
    rungs[-1].sum().backward()
    theirs[-1].sum().backward()
    np.testing.assert_allclose(x.grad, given.grad, rtol=1e-12)


def test_gradients_are_not_aliased_or_changed() -> None:
    a, b = leaf(2, 3), leaf(2, 3)
    dy = np.ones((2, 3))
    ((a + b) + a * 5).backward(dy)
    np.testing.assert_array_equal(a.grad, np.full((2, 3), 6.0))
    np.testing.assert_array_equal(b.grad, np.ones((2, 3)))
    np.testing.assert_array_equal(dy, np.ones((2, 3)))
    a.grad += 1
    np.testing.assert_array_equal(b.grad, np.ones((2, 3)))


@pytest.mark.parametrize(
    ("function", "slope"),
    [
        (lambda a, b: a * b, lambda a, b: np.broadcast_to(a, (2, 3)).sum(0)),
        (lambda a, b: a - b, lambda a, b: np.full(3, -2.0)),
        (lambda a, b: a / b, lambda a, b: (-a / b**2).sum(0)),
        (lambda a, b: a + b, lambda a, b: np.full(3, 2.0)),
    ],
    ids=["mul", "sub", "div", "add"],
)
def test_what_was_broadcast_is_added_up(function: Any, slope: Any) -> None:
    a, b = leaf(2, 3), leaf(3)
    function(a, b).sum().backward()
    assert a.grad.shape == (2, 3)
    assert b.grad.shape == (3,)
    np.testing.assert_allclose(b.grad, slope(a.data, b.data), rtol=1e-12)


def test_a_shared_weight_of_a_batched_matmul_gets_a_matrix_as_gradient() -> None:
    x, w, dy = leaf(5, 2, 3), leaf(3, 4), draw((5, 2, 4))
    (x @ w).backward(dy)
    assert w.grad.shape == (3, 4)
    np.testing.assert_allclose(w.grad, np.einsum("bij,bik->jk", x.data, dy), rtol=1e-12)
    linear: Any = layers.Linear(3, 4)
    linear(x).backward(dy)
    np.testing.assert_allclose(linear.weight.grad, np.einsum("bij,bik->kj", x.data, dy), rtol=1e-12)


def test_adam_counts_a_step_once_and_not_for_every_parameter() -> None:
    # With bias correction the first step of each parameter is lr, whatever its gradient; a counter that went on
    # between two parameters would give the second a shorter one.
    ps = [leaf(2) for _ in range(3)]
    before = [p.data.copy() for p in ps]
    optimizer = optim.Adam(ps, lr=0.1)
    for p in ps:
        p.grad = np.array([3.0, -0.5])
    optimizer.step()
    for p, old in zip(ps, before, strict=True):
        np.testing.assert_allclose(p.data - old, [-0.1, 0.1], rtol=1e-6)


def test_ignored_rows_of_cross_entropy_get_no_gradient() -> None:
    x = leaf(4, 3)
    ops.cross_entropy(x, [0, -100, 2, -100], label_smoothing=0.1).backward()
    np.testing.assert_array_equal(x.grad[[1, 3]], 0)
    assert np.all(x.grad[[0, 2]] != 0)
    # And they do not count in the mean.
    y = Tensor(x.data[[0, 2]], requires_grad=True)
    ops.cross_entropy(y, [0, 2], label_smoothing=0.1).backward()
    np.testing.assert_allclose(x.grad[[0, 2]], y.grad, rtol=1e-14)  # pyright: ignore


def test_sqrt_is_the_root_and_not_the_square() -> None:
    x: Any = Tensor([4.0, 9.0], requires_grad=True)
    y = x.sqrt()
    y.sum().backward()
    np.testing.assert_array_equal(y.data, [2, 3])
    np.testing.assert_allclose(x.grad, [1 / 4, 1 / 6], rtol=1e-15)


@pytest.mark.parametrize("index", [[0, 0, 2], np.array([0, 0, 2]), Tensor([0, 0, 2]), ([0, 0, 2],)], ids=repr)
def test_indices_that_repeat_add_up(index: Any) -> None:
    x = leaf(3, 2)
    x[index].sum().backward()
    np.testing.assert_array_equal(x.grad, [[2, 2], [0, 0], [1, 1]])


def test_eval_reaches_what_is_inside() -> None:
    model = layers.Sequential(
        layers.Linear(4, 4), layers.Sequential(layers.Dropout(0.9), layers.ModuleList([layers.BatchNorm(4)]))
    )
    model.eval()
    assert [m.training for m in model.modules()] == [False] * 6
    model.train()
    assert [m.training for m in model.modules()] == [True] * 6


def test_dropout_and_batch_norm_inside_follow_eval() -> None:
    bn = layers.BatchNorm(4)
    model = layers.Sequential(layers.Sequential(layers.Dropout(0.9)), layers.Sequential(bn)).eval()
    x = Tensor(draw((3, 4)))
    np.testing.assert_allclose(model(x).data, x.data / np.sqrt(1 + 1e-5), rtol=1e-12)
    np.testing.assert_array_equal(bn.running_mean, 0)  # pyright: ignore


@pytest.mark.parametrize("make", [layers.LayerNorm, layers.RMSNorm, layers.BatchNorm])
def test_norms_do_not_cut_the_graph(make: Any) -> None:
    norm: Any = make(4)
    linear = layers.Linear(4, 4)
    x, dy = leaf(5, 4), draw((5, 4))
    y = norm(linear(x))
    y.backward(dy)
    tensors: list[Any] = [x, *linear.parameters(), *norm.parameters()]
    for p in tensors:
        assert p.grad.shape == p.shape
    assert np.abs(x.grad).max() > 1e-3
    # The gradient is that of what was computed: along a direction, the slope of the loss.
    step, way = 1e-6, draw((5, 4))
    losses = [float((norm(linear(Tensor(x.data + h * way))).data * dy).sum()) for h in (step, -step)]
    np.testing.assert_allclose((x.grad * way).sum(), (losses[0] - losses[1]) / (2 * step), rtol=1e-6)


def test_the_layers_are_where_the_chapter_says() -> None:
    from normlab.tensor import nn

    for name in ("LayerNorm", "RMSNorm", "BatchNorm"):
        assert getattr(nn, name) is getattr(layers, name)
    assert Tensor([1.0], requires_grad=True).requires_grad
