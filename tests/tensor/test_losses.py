"""Losses against PyTorch in float64: shapes, what does not count, smoothing, and what is refused."""

import re
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from normlab.tensor import Tensor, ops

draw = np.random.default_rng(0).standard_normal
whole = np.random.default_rng(1).integers
CLASSES = 5
SHAPES = [(CLASSES,), (7, CLASSES), (3, CLASSES, 4), (2, CLASSES, 3, 2)]
REDUCTIONS = ["mean", "sum", "none"]


def targets(shape: tuple[int, ...], ignored: int | None = None) -> Any:
    target = np.asarray(whole(0, CLASSES, shape[:1] + shape[2:] if len(shape) > 1 else ()))
    if ignored is not None and target.ndim:
        target[0] = ignored
    return target


def compare(ours: Any, theirs: Any, x: Any, target: Any, *, tolerance: float = 1e-12, **options: Any) -> None:
    given: Any = torch.tensor(x, requires_grad=True)
    want = theirs(given, torch.tensor(target), **options)
    dy = draw(tuple(want.shape)) if want.ndim else draw()
    want.backward(torch.as_tensor(dy, dtype=want.dtype))
    leaf: Any = Tensor(x, requires_grad=True)
    loss = ours(leaf, target, **options)
    assert loss.shape == tuple(want.shape)
    assert loss.dtype == x.dtype
    loss.backward(dy)
    assert leaf.grad.dtype == x.dtype
    np.testing.assert_allclose(loss.data, want.detach(), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(leaf.grad, given.grad, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("ignored", [-100, 2, 255])
def test_cross_entropy_is_torchs(shape: Any, reduction: str, smoothing: float, ignored: int) -> None:
    options: Any = {"reduction": reduction, "label_smoothing": smoothing, "ignore_index": ignored}
    compare(ops.cross_entropy, F.cross_entropy, 3 * draw(shape), targets(shape, ignored), **options)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("ignored", [-100, 2])
def test_nll_is_torchs(shape: Any, reduction: str, ignored: int) -> None:
    options: Any = {"reduction": reduction, "ignore_index": ignored}
    compare(ops.nll_loss, F.nll_loss, draw(shape), targets(shape, ignored), **options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4)])
def test_mse_is_torchs(shape: Any, reduction: str) -> None:
    compare(ops.mse_loss, F.mse_loss, np.asarray(draw(shape)), np.asarray(draw(shape)), reduction=reduction)


@pytest.mark.parametrize("ours", [ops.cross_entropy, ops.nll_loss])
@pytest.mark.parametrize("rows", [0, 3])
def test_the_mean_of_no_rows_is_nan_and_moves_nothing(ours: Any, rows: int) -> None:
    x: Any = Tensor(draw((rows, CLASSES)), requires_grad=True)
    target = np.full(rows, -100)
    loss = ours(x, target)
    assert np.isnan(loss.item())
    loss.backward()
    np.testing.assert_array_equal(x.grad, np.zeros((rows, CLASSES)))
    assert ours(x, target, reduction="sum").item() == 0
    np.testing.assert_array_equal(ours(x, target, reduction="none").data, np.zeros(rows))
    assert torch.isnan(F.cross_entropy(torch.tensor(x.data), torch.tensor(target)))


def test_the_mean_over_no_numbers_is_nan() -> None:
    x: Any = Tensor(np.zeros((0, 3)), requires_grad=True)
    loss = ops.mse_loss(x, np.zeros((0, 3)))
    assert np.isnan(loss.item())
    loss.backward()
    assert x.grad.shape == (0, 3)


@pytest.mark.parametrize("ours", [ops.cross_entropy, ops.nll_loss])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.int64, ">i4"])
def test_targets_of_any_integers(ours: Any, dtype: Any) -> None:
    x, target = Tensor(draw((6, CLASSES))), targets((6, CLASSES))
    want = ours(x, target).item()
    in_steps = np.repeat(target, 3).astype(dtype)[::3]
    for given in (target.astype(dtype), Tensor(target.astype(dtype)), in_steps, target.tolist()):
        assert ours(x, given).item() == want


def test_float32_stays_near_float64() -> None:
    x, target = (10 * draw((50, CLASSES))).astype(np.float32), targets((50, CLASSES))
    compare(ops.cross_entropy, F.cross_entropy, x, target, tolerance=1e-6)


def test_logits_that_exp_cannot_hold() -> None:
    x: Any = Tensor([[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4]], requires_grad=True)
    loss = ops.cross_entropy(x, [1, 0], reduction="none")
    loss.backward(np.ones(2))
    np.testing.assert_allclose(loss.data, [1e4, np.log(3)])
    np.testing.assert_allclose(x.grad, [[1, -1, 0], [1 / 3 - 1, 1 / 3, 1 / 3]], atol=1e-15)


def test_a_class_that_is_ruled_out() -> None:
    x: Any = Tensor([[0.0, -np.inf, 0.0]], requires_grad=True)
    loss = ops.cross_entropy(x, [0])
    loss.backward()
    np.testing.assert_allclose(loss.item(), np.log(2))
    np.testing.assert_allclose(x.grad, [[-0.5, 0, 0.5]])
    assert ops.cross_entropy(x, [1]).item() == np.inf


def test_nothing_given_is_written_to() -> None:
    x, target = draw((2, CLASSES, 3)), targets((2, CLASSES, 3), -100)
    leaf, before, wanted = Tensor(x, requires_grad=True), x.copy(), target.copy()
    for loss in (ops.cross_entropy(leaf, target, label_smoothing=0.1), ops.nll_loss(leaf, target)):
        loss.backward()
    np.testing.assert_array_equal(leaf.data, before)
    np.testing.assert_array_equal(target, wanted)


def test_the_array_of_targets_may_hold_others_before_backward() -> None:
    x, target = draw((4, CLASSES)), targets((4, CLASSES))
    want: Any = Tensor(x, requires_grad=True)
    ops.cross_entropy(want, target.copy()).backward()
    leaf: Any = Tensor(x, requires_grad=True)
    loss = ops.cross_entropy(leaf, target)
    target[:] = 0
    loss.backward()
    np.testing.assert_array_equal(leaf.grad, want.grad)


@pytest.mark.parametrize("ours", [ops.cross_entropy, ops.nll_loss])
def test_what_is_refused(ours: Any) -> None:
    x = Tensor(draw((4, CLASSES)))

    def shapes(wanted: str, given: str, axis: int, got: str) -> str:
        return re.escape(
            f"target must have shape {wanted}, that of input, {given}, without its classes on axis {axis}, got {got}"
        )

    for given, error, sentence in (
        ((x, [0.0, 1, 2, 3]), TypeError, "target must hold the numbers of classes, got float64"),
        ((x, [0, 1, 2]), ValueError, shapes("(4,)", "(4, 5)", 1, "(3,)")),
        ((x, [[0], [1], [2], [3]]), ValueError, shapes("(4,)", "(4, 5)", 1, "(4, 1)")),
        ((Tensor(1.0), 0), ValueError, shapes("()", "()", 0, "()")),
        ((x, [0, 1, 2, 5]), ValueError, "target must be from 0 to 4, got 0 to 5"),
        ((x, [0, -1, 2, 3]), ValueError, "target must be from 0 to 4, got -1 to 3"),
        ((x, [0, -100, -1, 3]), ValueError, "target must be from 0 to 4, got -1 to 3"),
    ):
        with pytest.raises(error, match=f"^{sentence}$"):
            ours(*given)
    with pytest.raises(ValueError, match=r"^reduction must be one of mean, sum, none, got 'avg'$"):
        ours(x, [0, 1, 2, 3], reduction="avg")


def test_what_else_is_refused() -> None:
    x = Tensor(draw((4, 3)))
    with pytest.raises(ValueError, match=r"^label_smoothing must be from 0 to 1, got 1.5$"):
        ops.cross_entropy(x, [0, 1, 2, 0], label_smoothing=1.5)
    with pytest.raises(ValueError, match=r"^target must have the shape of input, \(4, 3\), got \(4, 1\)$"):
        ops.mse_loss(x, x[:, :1])
    with pytest.raises(ValueError, match=r"^reduction must be one of mean, sum, none, got 'avg'$"):
        ops.mse_loss(x, x, reduction="avg")
