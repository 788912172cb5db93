"""Modules: how parts and parameters are found, what a state holds, and when it is taken over."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from normlab.tensor import Tensor, layers, ops
from normlab.tensor.layers import Module

draw = np.random.default_rng(0).standard_normal


class Net(Module):
    """With parts of every sort."""

    def __init__(self) -> None:
        self.first = layers.Linear(3, 4)
        self.norm = layers.BatchNorm(4)
        self.rest = layers.ModuleList([layers.Linear(4, 4), layers.Sequential(layers.Dropout(0.5), layers.ReLU())])
        self.scale = Tensor(2.0, requires_grad=True)
        self.frozen = Tensor(np.ones(4))
        self.name, self.nothing = "net", None

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x))
        for part in self.rest:
            x = part(x)
        return x * self.scale * self.frozen


NAMES = ["scale", "first.weight", "first.bias", "norm.gamma", "norm.beta", "rest.0.weight", "rest.0.bias"]


def test_parameters_are_found_by_their_paths() -> None:
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert all(isinstance(p, Tensor) and p.requires_grad for p in net.parameters())
    assert [path for path, _ in net.named_modules()] == [
        "", "first", "norm", "rest", "rest.0", "rest.1", "rest.1.0", "rest.1.1",
    ]  # fmt: skip
    assert [name for name, _ in net.named_children()] == ["first", "norm", "rest"]
    assert net.children() == [net.first, net.norm, net.rest]
    assert len(net.modules()) == 8


def test_every_parameter_gets_a_gradient_and_zero_grad_forgets_it() -> None:
    net = Net().eval()
    net(Tensor(draw((5, 3)))).sum().backward()
    assert all(isinstance(p.grad, np.ndarray) and p.grad.shape == p.shape for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_modes_reach_everything_below() -> None:
    net = Net()
    assert all(m.training for m in net.modules())
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    net.rest[1].train()
    assert [m.training for m in net.modules()] == [False] * 5 + [True] * 3
    assert all(m.training for m in net.train().modules())


def test_a_shared_parameter_counts_once() -> None:
    tied = layers.Sequential(layers.Embedding(5, 3), layers.Linear(3, 5, bias=False))
    first, second = tied.children()
    second.weight = first.weight  # pyright: ignore[reportAttributeAccessIssue]
    assert [name for name, _ in tied.named_parameters()] == ["0.weight"]
    assert len(tied.parameters()) == 1
    ids, dy = np.array([1, 3]), draw((2, 5))
    tied(ids).backward(dy)
    theirs = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)).double()
    theirs[1].weight = theirs[0].weight
    weight: Any = theirs[0].weight
    weight.data = torch.tensor(first.state_dict()["weight"])
    theirs(torch.tensor(ids)).backward(torch.tensor(dy))
    np.testing.assert_allclose(tied.parameters()[0].grad, weight.grad, rtol=1e-12)  # pyright: ignore
    # As in torch, the state has both names, and takes both back.
    state = tied.state_dict()
    assert list(state) == ["0.weight", "1.weight"]
    tied.load_state_dict(state)
    assert len(tied.parameters()) == 1


def test_a_module_used_twice_is_one() -> None:
    part = layers.Linear(2, 2)
    twice = layers.Sequential(part, layers.ReLU(), part)
    assert len(twice.parameters()) == 2
    assert len(twice) == 3


def test_the_state_is_a_copy() -> None:
    net = Net()
    state = net.state_dict()
    assert set(state) == {*NAMES, "frozen", "norm.running_mean", "norm.running_var"}
    for array in state.values():
        array += 1
    assert net.scale.item() == 2
    np.testing.assert_array_equal(net.norm.running_mean, 0)


def test_a_result_that_a_module_keeps_is_no_part_of_its_state() -> None:
    net: Any = Net()
    before = list(net.state_dict())
    net.last = net(Tensor(draw((5, 3))))
    assert list(net.state_dict()) == before
    assert [name for name, _ in net.named_parameters()] == NAMES
    Net().load_state_dict(net.state_dict())


def test_a_state_makes_another_module_the_same() -> None:
    one, other = Net(), Net()
    for _ in range(3):
        one(Tensor(draw((5, 3))))
    one.frozen.data = np.arange(4.0)
    state = one.state_dict()
    other.load_state_dict(state)
    x = Tensor(draw((5, 3)))
    np.testing.assert_array_equal(other.eval()(x).data, one.eval()(x).data)
    for array in state.values():
        array += 1
    np.testing.assert_array_equal(other(x).data, one(x).data)


def test_the_state_keeps_the_dtype_of_the_module() -> None:
    linear = layers.Linear(2, 3, dtype=np.float32)
    linear.load_state_dict({"weight": np.ones((3, 2)), "bias": Tensor([1, 2, 3])})  # pyright: ignore[reportArgumentType]
    assert [p.dtype for p in linear.parameters()] == [np.float32, np.float32]
    np.testing.assert_array_equal(linear.state_dict()["bias"], [1, 2, 3])
    theirs: dict[str, Any] = dict(nn.Linear(2, 3).state_dict())
    linear.load_state_dict(theirs)
    np.testing.assert_array_equal(linear.weight.data, theirs["weight"].numpy())


def changed(state: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {k: v for k, v in {**state, **others}.items() if v is not None}


@pytest.mark.parametrize(
    ("others", "error", "sentence"),
    [
        ({"frozen": None}, KeyError, r"state lacks \['frozen'\], and has nothing that is not here"),
        ({"more": np.ones(1)}, KeyError, r"state lacks nothing, and has \['more'\] that is not here"),
        ({"frozen": np.ones(3)}, ValueError, r"frozen must have shape \(4,\), got \(3,\)"),
        ({"frozen": np.ones((4, 1))}, ValueError, r"frozen must have shape \(4,\), got \(4, 1\)"),
        ({"scale": np.ones(1)}, ValueError, r"scale must have shape \(\), got \(1,\)"),
        ({"norm.running_var": np.ones(5)}, ValueError, r"norm.running_var must have shape \(4,\), got \(5,\)"),
        ({"frozen": np.array(list("abcd"))}, TypeError, r"frozen must hold numbers, got <U1"),
        ({"rest.0.bias": np.ones(4) * 1j}, TypeError, r"rest.0.bias must hold numbers, got complex128"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(others: Any, error: Any, sentence: str) -> None:
    net = Net()
    before = net.state_dict()
    state = changed({name: array + 1 for name, array in before.items()}, **others)
    with pytest.raises(error, match=sentence):
        net.load_state_dict(state)
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_without_strictness_what_is_there_is_taken() -> None:
    net = Net()
    net.load_state_dict({"scale": np.array(5.0), "more": np.ones(3)}, strict=False)
    assert net.scale.item() == 5
    with pytest.raises(ValueError, match=r"^scale must have shape"):
        net.load_state_dict({"scale": np.ones(2)}, strict=False)


def test_a_graph_notices_a_new_state() -> None:
    linear = layers.Linear(2, 3)
    loss = linear(Tensor(np.ones((1, 2)), requires_grad=True)).sum()
    linear.load_state_dict(linear.state_dict())
    with pytest.raises(RuntimeError, match="was given other numbers after it had been used"):
        loss.backward()


def test_lists_and_sequences() -> None:
    parts = [layers.Linear(2, 2) for _ in range(12)]
    model = layers.Sequential(*parts)
    assert [model[i] for i in (0, 10, -1)] == [parts[0], parts[10], parts[11]]
    assert [name for name, _ in model.named_children()] == [str(i) for i in range(12)]
    x = Tensor(draw((3, 2)))
    y = x
    for part in parts:
        y = part(y)
    np.testing.assert_array_equal(model(x).data, y.data)
    assert layers.Sequential()(x) is x
    listed = layers.ModuleList(part for part in parts)
    assert listed.append(layers.ReLU()) is listed
    assert len(listed) == 13
    assert list(listed) == [*parts, listed[-1]]
    assert len(listed.parameters()) == 24
    with pytest.raises(NotImplementedError, match=r"^ModuleList has no forward\(\)$"):
        listed(x)


def test_what_a_model_looks_like() -> None:
    assert repr(Net()) == (
        "Net(\n"
        "  (first): Linear(3, 4, bias=True)\n"
        "  (norm): BatchNorm(4, eps=1e-05, momentum=0.1)\n"
        "  (rest): ModuleList(\n"
        "    (0): Linear(4, 4, bias=True)\n"
        "    (1): Sequential(\n"
        "      (0): Dropout(p=0.5)\n"
        "      (1): ReLU()\n"
        "    )\n"
        "  )\n"
        ")"
    )
    assert repr(layers.LayerNorm((2, 3), eps=1e-3)) == "LayerNorm((2, 3), eps=0.001)"
    assert repr(layers.GroupNorm(2, 4)) == "GroupNorm(2, 4, eps=1e-05)"
    assert repr(layers.Embedding(5, 3)) == "Embedding(5, 3)"


def test_parameters_start_as_torchs_do() -> None:
    linear = layers.Linear(400, 300)
    for p in linear.parameters():
        assert np.abs(p.data).max() <= 1 / 20
        # Of a uniform distribution; 300 draws know their deviation to about 3 %.
        assert abs(p.data.std() * 20 * 3**0.5 - 1) < 0.1
    assert abs(layers.Embedding(100, 100).weight.data.std() - 1) < 0.05
    assert np.isfinite(layers.Linear(0, 3).weight.data).all()
    np.testing.assert_array_equal(ops.relu(layers.Linear(0, 3, bias=False)(Tensor(np.zeros((2, 0))))).data, 0)
