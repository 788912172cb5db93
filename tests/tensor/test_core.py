"""The engine: the order of backward, sums of gradients, freed graphs, and what it refuses."""

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from normlab.tensor import Operation, Tensor, apply, core, layers, no_grad, ops, optim


def leaf(*shape: int, seed: int = 0) -> Any:
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


def test_a_tensor_used_twice_gets_both_gradients() -> None:
    x = leaf(3)
    h = x * 2
    y = (h + h.tanh()).sum()
    y.backward()
    np.testing.assert_allclose(x.grad, 2 * (1 + 1 - np.tanh(2 * x.data) ** 2))


def test_order_is_that_of_the_graph_not_of_the_first_visit() -> None:
    x: Any = leaf(3)
    h = x * 1.0
    long = h.tanh().tanh().tanh()
    for y in (h + long, long + h):
        x.zero_grad()
        y.sum().backward(retain_graph=True)
        t: Any = x.data
        d: Any = 1.0
        for _ in range(3):
            t = np.tanh(t)
            d = d * (1 - t * t)
        np.testing.assert_allclose(x.grad, 1 + d)


def test_gradients_are_not_aliased() -> None:
    a, b = leaf(2, 3), leaf(2, 3, seed=1)
    ((a + b) + a * 5).sum().backward()
    np.testing.assert_array_equal(a.grad, np.full((2, 3), 6.0))
    np.testing.assert_array_equal(b.grad, np.ones((2, 3)))


def test_gradients_accumulate_over_calls_without_touching_the_old_array() -> None:
    x = leaf(3)
    (x * 2).sum().backward()
    first: Any = x.grad
    (x * 3).sum().backward()
    np.testing.assert_array_equal(first, [2, 2, 2])
    np.testing.assert_array_equal(x.grad, [5, 5, 5])


def test_a_long_chain_needs_no_deep_stack() -> None:
    x = leaf(1)
    y = x
    for _ in range(20_000):
        y = y + 1
    y.backward()
    np.testing.assert_array_equal(x.grad, [1.0])


def test_no_grad_and_detach_remember_nothing() -> None:
    x = leaf(3)
    with no_grad():
        y = x * 2
    assert y.node is None
    assert not y.requires_grad
    z = (x.detach() * x).sum()
    z.backward()
    np.testing.assert_array_equal(x.grad, x.data)


def test_retain_grad_of_what_was_computed() -> None:
    x = leaf(3)
    h = (x * 2).retain_grad()
    (h * h).sum().backward()
    np.testing.assert_allclose(h.grad, 2 * h.data)
    np.testing.assert_allclose(x.grad, 4 * h.data)


def test_the_graph_is_freed() -> None:
    x = leaf(3)
    h = x.exp()
    watched = weakref.ref(h)
    y = h.sum()
    del h
    gc.disable()
    try:
        y.backward()
        assert watched() is None
    finally:
        gc.enable()
    with pytest.raises(RuntimeError, match=r"^the graph of this Sum was freed .* say retain_graph=True"):
        y.backward()


def test_retain_graph_allows_another_pass() -> None:
    x = leaf(3)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_allclose(x.grad, 4 * x.data)


def test_what_backward_refuses() -> None:
    x = leaf(2, 3)
    with pytest.raises(RuntimeError, match=r"shape \(2, 3\) needs a gradient of that shape"):
        (x * 2).backward()
    with pytest.raises(ValueError, match=r"gradient must have the shape of the tensor, \(2, 3\), got \(3,\)"):
        (x * 2).backward(np.ones(3))
    with pytest.raises(RuntimeError, match="does not require a gradient"):
        Tensor([1.0]).backward()


def test_numbers_that_changed_after_use_are_noticed() -> None:
    w = leaf(3)
    y = (w * w).sum()
    w.data -= 0.1
    with pytest.raises(RuntimeError, match=r"an input of Mul, of shape \(3,\), was given other numbers"):
        y.backward()


def test_numbers_that_changed_behind_a_view_are_noticed() -> None:
    x, w = leaf(2, 3), Tensor(np.ones((4, 3)))
    y = (x @ w.T).sum()
    w.data -= 100
    with pytest.raises(RuntimeError, match=r"an input of MatMul, of shape \(3, 4\), was given other numbers"):
        y.backward()
    y = (x * x).sum()
    x.detach().data += 1
    with pytest.raises(RuntimeError, match="an input of Mul"):
        y.backward()
    y = x.tanh()
    y.data += 5
    with pytest.raises(RuntimeError, match="the result of Tanh"):
        y.backward(np.ones((2, 3)))


def test_numbers_that_were_replaced_are_noticed() -> None:
    x = leaf(3)
    y = (x * x).sum()
    x.data = np.zeros(3)
    with pytest.raises(RuntimeError, match="an input of Mul"):
        y.backward()


def test_changes_that_only_the_user_knows_of_can_be_told() -> None:
    x = leaf(3)
    y = (x * x).sum()
    x.data[0] = 1
    x.changed()
    with pytest.raises(RuntimeError, match="an input of Mul"):
        y.backward()


def test_sums_of_many_float32_rows_are_accurate() -> None:
    rows = np.random.default_rng(0).standard_normal((200_000, 3)).astype(np.float32) + 1
    bias = Tensor(np.zeros(3), True, np.float32)
    (bias + Tensor(np.zeros_like(rows))).backward(rows)
    assert bias.grad is not None
    np.testing.assert_allclose(bias.grad, rows.sum(0, dtype=np.float64), rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "axis"), [((5000, 3), 0), ((2, 5000, 3), 1), ((5000, 2, 3), (0, 2)), ((5000, 3), None)]
)
def test_float32_sums_over_any_axis_are_accurate(shape: Any, axis: Any) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32) + 3
    exact = x.astype(np.float64)
    for keepdims in (False, True):
        found, wanted = Tensor(x).sum(axis, keepdims), exact.sum(axis, keepdims=keepdims)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found.data, wanted, rtol=1e-6)
        np.testing.assert_allclose(Tensor(x).mean(axis, keepdims).data, exact.mean(axis, keepdims=keepdims), rtol=1e-6)
    bias = Tensor(np.zeros((1, 3)), True, np.float32)
    (bias + Tensor(x)).backward(x)
    assert bias.grad is not None
    np.testing.assert_allclose(bias.grad[0], exact.reshape(-1, 3).sum(0), rtol=1e-6)


def test_masks_and_indices_belong_to_the_step() -> None:
    x: Any = leaf(3)
    mask, ids, list_ = Tensor([True, False, True]), Tensor([0, 1, 1]), [0]
    y = ops.where(mask, x, 0.0).sum() + x[ids].sum() + x[list_].sum()
    mask.data ^= True
    ids.data[...] = 2
    list_[0] = 2
    y.backward()
    np.testing.assert_array_equal(x.grad, [3, 2, 1])


def test_a_nan_sends_the_gradient_to_both() -> None:
    a, b = Tensor([np.nan, 1.0], True), Tensor([1.0, np.nan], True)
    for function in (ops.maximum, ops.minimum):
        a.zero_grad()
        b.zero_grad()
        function(a, b).sum().backward()
        np.testing.assert_array_equal(a.grad, [1, 1])  # pyright: ignore[reportArgumentType, reportCallIssue]
        np.testing.assert_array_equal(b.grad, [1, 1])  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_numpy_sees_the_numbers() -> None:
    x = leaf(2, 3)
    assert np.asarray(x) is x.data
    assert np.asarray(x, np.float32).dtype == np.float32
    assert not np.shares_memory(np.array(x), x.data)
    assert Tensor(np.zeros((0, 2, 3))).flatten(1).shape == (0, 6)


def test_in_place_operators_are_refused() -> None:
    x = leaf(3)
    with pytest.raises(TypeError, match="tensors are not changed in place"):
        x += 1
    with pytest.raises(TypeError, match="tensors are not changed in place"):
        x[0] = 1


def test_data_that_does_not_fit() -> None:
    with pytest.raises(TypeError, match="data must be float32, float64, integers or booleans, got complex128"):
        Tensor([1j])
    with pytest.raises(TypeError, match="only floating-point tensors have a gradient, got int64"):
        Tensor([1, 2], requires_grad=True)
    with pytest.raises(ValueError, match=r"data must keep its shape \(3,\), got \(2,\)"):
        leaf(3).data = np.zeros(2)
    with pytest.raises(ValueError, match=r"Add cannot take shape \(2, 3\) and \(4,\)"):
        _ = leaf(2, 3) + leaf(4)
    with pytest.raises(ValueError, match=r"MatMul cannot take shape \(2, 3\) and \(2, 3\)"):
        _ = leaf(2, 3) @ leaf(2, 3)
    with pytest.raises(TypeError, match="a tensor, an array or a number was expected, got str"):
        _ = leaf(2) + "a"
    with pytest.raises(ValueError, match="neither true nor false"):
        bool(leaf(2))


def test_data_is_a_copy_both_ways() -> None:
    numbers = np.ones(3)
    x = Tensor(numbers, requires_grad=True)
    x.data -= 1
    np.testing.assert_array_equal(numbers, [1, 1, 1])
    x.data = numbers
    x.data -= 1
    np.testing.assert_array_equal(numbers, [1, 1, 1])


def test_arrays_stand_on_either_side() -> None:
    x, a = leaf(2, 3), np.ones((2, 3))
    for y in (a + x, x + a, a * x, a - x, a / x, a @ x.T):
        assert isinstance(y, Tensor)
        assert y.requires_grad


def test_comparisons_are_booleans_without_a_gradient() -> None:
    x = leaf(3)
    mask = x > 0
    assert mask.dtype == np.bool_
    assert not mask.requires_grad
    np.testing.assert_array_equal((x == x).data, [True] * 3)
    assert len({x, leaf(3)}) == 2


def test_ignored_targets_get_no_gradient() -> None:
    x = leaf(4, 3)
    ops.cross_entropy(x, [0, -100, 2, -100]).backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad[[1, 3]], 0)
    assert np.all(x.grad[[0, 2]] != 0)


def test_square_root_is_one() -> None:
    np.testing.assert_array_equal(Tensor([4.0, 9.0]).sqrt().data, [2, 3])


def test_an_operation_is_done_once() -> None:
    class Square(Operation):
        def forward(self, x: Any) -> Any:
            self.x = x
            return x * x

        def backward(self, dy: Any) -> Any:
            return (2 * dy * self.x,)

    once, x = Square(), leaf(3)
    apply(once, x)
    with pytest.raises(RuntimeError, match="this Square was applied already: each step is an Operation of its own"):
        apply(once, x)


def test_a_gradient_of_a_wrong_shape_is_refused() -> None:
    class Half(Operation):
        def forward(self, x: Any) -> Any:
            return x * 1

        def backward(self, dy: Any) -> Any:
            return (dy[:1],)

    with pytest.raises(ValueError, match=r"Half gave an input of shape \(3,\) a gradient of shape \(1,\)"):
        apply(Half(), leaf(3)).sum().backward()


def test_what_torch_users_write() -> None:
    x = Tensor([[1.0, 5.0, 2.0]])
    assert f"{x.sum():.2f} {x.sum()}" == "8.00 Tensor(8., dtype=float64)"
    assert x.unsqueeze(-1).shape == (1, 3, 1)
    assert x.squeeze().shape == x.squeeze(0).shape == x.view(-1).shape == (3,)
    assert x.argmax(1).tolist() == [1]
    assert (-x).abs().tolist() == [[1.0, 5.0, 2.0]]


def test_arrays_are_taken_where_tensors_are_and_torchs_are_not() -> None:
    x = np.ones((5, 4))
    for module in (layers.Linear(4, 2), layers.LayerNorm(4), layers.RMSNorm(4), layers.BatchNorm(4), layers.ReLU()):
        assert isinstance(module(x), Tensor)
        with pytest.raises(TypeError, match=r"got torch.Tensor; Tensor\(t.detach\(\).numpy\(\)\) makes one of it"):
            module(torch.ones(5, 4))
    for mask in ([1, 0, 1], np.zeros(3)):
        with pytest.raises(TypeError, match="mask must be booleans, got"):
            leaf(3).masked_fill(mask, 0.0)


def test_modules_and_parameters_that_are_none() -> None:
    for wrong in (layers.ReLU, ops.relu, [layers.ReLU()], 3):
        with pytest.raises(TypeError, match=r"^a module was expected, such as ReLU\(\), got "):
            layers.Sequential(layers.Linear(4, 2), wrong)  # pyright: ignore[reportArgumentType]
        with pytest.raises(TypeError, match=r"^a module was expected, such as ReLU\(\), got "):
            layers.ModuleList([wrong])  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"params must be tensors, got Linear: give its .parameters\(\)"):
        optim.SGD(layers.Linear(4, 2))  # pyright: ignore[reportArgumentType]
    w = leaf(3)
    (w * 100).sum().backward()
    optim.clip_grad_norm_(w, 1.0)
    assert np.linalg.norm(w.grad) == pytest.approx(1)


def test_the_core_can_be_read_in_one_go() -> None:
    assert len(Path(core.__file__).read_text().splitlines()) < 300
