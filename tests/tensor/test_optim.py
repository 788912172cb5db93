"""The optimizers, step by step beside PyTorch's own."""

from typing import Any

import numpy as np
import pytest
import torch

from normlab.tensor import Tensor, optim
from normlab.tensor.optim import base

STEPS = 20
# Of which the fourth is larger than what a step goes over at a time, and is not a multiple of it.
SHAPES: tuple[tuple[int, ...], ...] = ((5, 3), (), (4,), (3, base.PIECE // 2 + 7), (0, 2))
SMALL = SHAPES[:3]

Options = dict[str, Any]
CASES: dict[str, tuple[str, Options]] = {
    "SGD": ("SGD", {"lr": 0.1}),
    "SGD, weight decay": ("SGD", {"lr": 0.1, "weight_decay": 0.2}),
    "SGD, momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}),
    "SGD, momentum and decay": ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2}),
    "SGD, Nesterov": ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
    "SGD, Nesterov and decay": ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.2}),
    "Adam": ("Adam", {"lr": 0.1}),
    "Adam, defaults": ("Adam", {}),
    "Adam, options": ("Adam", {"lr": 0.02, "betas": (0.5, 0.7), "eps": 1e-3, "weight_decay": 0.1}),
    "Adam without averages": ("Adam", {"lr": 0.02, "betas": (0.0, 0.0)}),
    "AdamW": ("AdamW", {"lr": 0.1}),
    "AdamW, options": ("AdamW", {"lr": 0.02, "betas": (0.5, 0.7), "eps": 1e-3, "weight_decay": 0.5}),
}


class Pair:
    """The same parameters twice, moved by the same gradients."""

    def __init__(self, shapes: Any, dtype: Any = np.float64) -> None:
        self.draw = np.random.default_rng(0).standard_normal
        arrays = [np.asarray(self.draw(shape), dtype) for shape in shapes]
        self.ours: Any = [Tensor(a, requires_grad=True) for a in arrays]
        self.theirs: Any = [torch.nn.Parameter(torch.tensor(a)) for a in arrays]

    def optimizers(self, name: str, options: Options) -> Any:
        torchs = getattr(torch.optim, name)
        return getattr(optim, name)(self.ours, **options), torchs(self.theirs, fused=False, **options)

    def step(self, both: Any, absent: Any = ()) -> None:
        for i, (p, q) in enumerate(zip(self.ours, self.theirs, strict=True)):
            g = np.asarray(self.draw(p.shape), p.dtype)
            p.grad, q.grad = (None, None) if i in absent else (g, torch.tensor(g))
        before = [None if p.grad is None else p.grad.copy() for p in self.ours]
        for optimizer in both:
            optimizer.step()
        for p, g in zip(self.ours, before, strict=True):
            np.testing.assert_array_equal(p.grad, g)

    def check(self, tolerance: float) -> None:
        for p, q in zip(self.ours, self.theirs, strict=True):
            assert isinstance(p.data, np.ndarray)
            assert p.data.shape == tuple(q.shape)
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shapes", [SMALL, SHAPES], ids=["small", "large"])
def test_steps_are_torchs(case: str, shapes: Any) -> None:
    pair = Pair(shapes)
    both = pair.optimizers(*CASES[case])
    for _ in range(STEPS):
        pair.step(both)
        pair.check(1e-10)


@pytest.mark.parametrize("case", CASES)
def test_steps_in_float32(case: str) -> None:
    pair = Pair(SHAPES, np.float32)
    both = pair.optimizers(*CASES[case])
    # Every step rounds once or twice, to 6e-8 of numbers below 10; a division by a root near 0 costs a digit more.
    for _ in range(STEPS):
        pair.step(both)
        pair.check(2e-5)
    assert all(p.dtype == np.float32 for p in pair.ours)
    state = [v for buckets in both[0]._buckets for b in buckets for v in b.state.values()]
    assert all(v.dtype == np.float32 for v in state)


@pytest.mark.parametrize("case", CASES)
def test_parameters_without_a_gradient_stay_and_keep_their_own_count(case: str) -> None:
    pair = Pair(SMALL)
    both = pair.optimizers(*CASES[case])
    for step in range(STEPS):
        absent = {1: (0,), 2: (0, 1, 2), 5: (2,), 6: (2,), 7: (1,)}.get(step, ())
        before = [p.data.copy() for p in pair.ours]
        pair.step(both, absent)
        for i in absent:
            np.testing.assert_array_equal(pair.ours[i].data, before[i])
        pair.check(1e-10)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_groups_have_options_of_their_own_which_may_change(name: str) -> None:
    pair = Pair(SMALL)
    own = {"momentum": 0.5} if name == "SGD" else {"betas": (0.8, 0.9)}

    def groups(ps: Any) -> Any:
        return [{"params": ps[:1], "lr": 0.05}, {"params": ps[1:2], "weight_decay": 0.3, **own}, {"params": ps[2]}]

    both = (
        getattr(optim, name)(groups(pair.ours), lr=0.01),
        getattr(torch.optim, name)(groups(pair.theirs), lr=0.01, fused=False),
    )
    for step in range(STEPS):
        for optimizer in both:
            for group in optimizer.param_groups:
                group["lr"] *= 0.9
            if step == 10:
                optimizer.param_groups[0]["weight_decay"] = 0.1
        pair.step(both)
        pair.check(1e-10)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_dtypes_side_by_side(name: str) -> None:
    pair = Pair(SMALL)
    pair.ours[1] = Tensor(pair.ours[1], requires_grad=True, dtype=np.float32)
    pair.theirs[1] = torch.nn.Parameter(pair.theirs[1].detach().float())
    both = pair.optimizers(name, {"lr": 0.1})
    for _ in range(STEPS):
        pair.step(both)
    pair.check(2e-5)
    for i in (0, 2):
        np.testing.assert_allclose(pair.ours[i].data, pair.theirs[i].detach(), rtol=0, atol=1e-10)
    assert [p.dtype for p in pair.ours] == [np.float64, np.float32, np.float64]


@pytest.mark.parametrize("n", [4, base.PIECE])
def test_numbers_that_do_not_lie_in_order(n: int) -> None:
    array = np.random.default_rng(0).standard_normal((n, 3)).T
    p: Any = Tensor(array, requires_grad=True)
    assert not p.data.flags.c_contiguous
    p.grad = np.asfortranarray(array * 2)
    optim.SGD([p], lr=0.25).step()
    np.testing.assert_allclose(p.data, array / 2, rtol=1e-15)


def test_zero_grad_and_data_that_was_assigned() -> None:
    p: Any = Tensor([1.0, 2.0], requires_grad=True)
    optimizer = optim.SGD([p], lr=0.5)
    p.data = np.array([3.0, 4.0])
    (p * p).sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(p.data, [0, 0])
    optimizer.zero_grad()
    assert p.grad is None


def test_a_graph_notices_the_step() -> None:
    p: Any = Tensor([1.0, 2.0], requires_grad=True)
    y = (p * p).sum()
    p.grad = np.ones(2)
    optim.SGD([p], lr=0.5).step()
    with pytest.raises(RuntimeError, match="was given other numbers after it had been used"):
        y.backward()


@pytest.mark.parametrize("max_norm", [0.1, 1.0, 1e3, 0.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clipping_is_torchs(max_norm: float, dtype: Any) -> None:
    pair = Pair(SHAPES, dtype)
    pair.step(())
    pair.ours[2].grad = pair.theirs[2].grad = None
    given = [p.grad for p in pair.ours]
    kept = [None if g is None else g.copy() for g in given]
    norm = optim.clip_grad_norm_(iter(pair.ours), max_norm)
    want = torch.nn.utils.clip_grad_norm_(pair.theirs, max_norm)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    assert abs(norm - float(want)) <= tolerance * norm
    for p, q in zip(pair.ours, pair.theirs, strict=True):
        if p.grad is None:
            assert q.grad is None
            continue
        assert isinstance(p.grad, np.ndarray)
        assert p.grad.dtype == dtype
        np.testing.assert_allclose(p.grad, q.grad, rtol=tolerance, atol=tolerance)
    for g, old in zip(given, kept, strict=True):
        np.testing.assert_array_equal(g, old)


def test_clipping_of_large_and_of_no_numbers() -> None:
    p: Any = Tensor(np.ones(2), requires_grad=True, dtype=np.float32)
    assert optim.clip_grad_norm_([p], 1.0) == 0
    assert p.grad is None
    p.grad = np.full(2, 3e30, np.float32)
    assert abs(optim.clip_grad_norm_([p], 1.0) / (3e30 * 2**0.5) - 1) < 1e-6
    np.testing.assert_allclose(p.grad, 0.5**0.5, rtol=1e-6)
    q: Any = Tensor(np.ones(2), requires_grad=True)
    p.grad, q.grad = np.array([np.nan, 1], np.float32), np.ones(2)
    assert np.isnan(optim.clip_grad_norm_([p, q], 1.0))
    assert np.isnan(p.grad).all()
    assert np.isnan(q.grad).all()


def test_what_optimizers_refuse() -> None:
    p: Any = Tensor([1.0, 2.0], requires_grad=True)
    for make, error, sentence in (
        (lambda: optim.SGD([]), ValueError, "params must hold at least one tensor, got none"),
        (lambda: optim.SGD([np.ones(2)]), TypeError, "params must be tensors of normlab.tensor, got numpy.ndarray"),
        (lambda: optim.SGD([Tensor([1.0])]), ValueError, "params must be leaves that require a gradient, got "),
        (lambda: optim.SGD([p * 2]), ValueError, "params must be leaves that require a gradient, got "),
        (lambda: optim.SGD([p, p]), ValueError, "params must not hold a tensor twice"),
        (lambda: optim.SGD([{"params": p}, {"params": p}]), ValueError, "params must not hold a tensor twice"),
        (lambda: optim.SGD([p], lr=-1), ValueError, "lr must be from 0 to inf, got -1"),
        (lambda: optim.SGD([p], lr=np.nan), ValueError, "lr must be from 0 to inf, got nan"),
        (lambda: optim.SGD([p], nesterov=True), ValueError, "nesterov needs a momentum"),
        (lambda: optim.Adam([p], betas=(0.9, 1.0)), ValueError, "betas must be at least 0 and less than 1, got "),
        (lambda: optim.AdamW([p], weight_decay=-1), ValueError, "weight_decay must be from 0 to inf, got -1"),
        (lambda: optim.clip_grad_norm_([p], -1), ValueError, "max_norm must be from 0 to inf, got -1"),
    ):
        with pytest.raises(error, match=f"^{sentence}"):
            make()


def test_a_gradient_of_another_shape_moves_nothing() -> None:
    ps: Any = [Tensor(np.ones(n), requires_grad=True) for n in (2, 2)]
    ps[0].grad, ps[1].grad = np.ones(1), np.ones(3)
    with pytest.raises(ValueError, match=r"^grad must have the shape of its parameter, \(2,\), got \(1,\)$"):
        optim.SGD(ps, lr=0.1).step()
    np.testing.assert_array_equal(ps[1].data, 1)


def test_options_of_groups_are_checked() -> None:
    p = Tensor(np.ones(2), requires_grad=True)
    with pytest.raises(ValueError, match="a group may have params, lr, momentum, weight_decay, nesterov, got rate"):
        optim.SGD([{"params": [p], "rate": 0.1}])
    with pytest.raises(ValueError, match="lr must be from 0 to inf, got -1"):
        optim.Adam([{"params": [p], "lr": -1}])
