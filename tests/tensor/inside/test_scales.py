"""scales(): sizes layer by layer, and a module that is left as it was."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from normlab.tensor import Tensor, core, ops
from normlab.tensor.inside import scales
from normlab.tensor.inside.facts import rms
from normlab.tensor.layers import BatchNorm, Linear, Module, Sequential, Transformer

Make = Callable[..., Tensor]


def test_every_layer_has_the_sizes_of_its_result_and_gradient() -> None:
    model = Sequential(Linear(3, 4), Linear(4, 2))
    x = Tensor(np.random.default_rng(0).standard_normal((5, 3)))
    found = scales(model, x, loss=lambda y: (y * y).sum())
    assert [(s.name, s.kind, s.shape) for s in found.layers] == [
        ("0", "Linear", (5, 4)),
        ("1", "Linear", (5, 2)),
        ("", "Sequential", (5, 2)),
    ]
    h = model[0](x)
    y = model[1](h)
    assert found.layers[0].rms == rms(h.data)[0]
    assert found.layers[1].rms == rms(y.data)[0]
    assert found.layers[1].gradient_rms == pytest.approx(rms(2 * y.data)[0])
    second: Any = model[1]
    assert found.layers[0].gradient_rms == pytest.approx(rms(2 * y.data @ second.weight.data)[0])
    assert found.layers[2].gradient_rms == found.layers[1].gradient_rms


def test_without_a_loss_gradients_are_relative_to_about_one() -> None:
    model = Transformer(30, n_layers=2, dim=16, n_heads=2, context=8)
    ids = np.arange(16).reshape(2, 8)
    found = scales(model, ids)
    assert found == scales(model, ids)
    assert found.layers[-1].kind == "Transformer"
    assert found.layers[-1].gradient_rms == pytest.approx(1, abs=0.1)
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) == len(found.layers) + 3
    assert "blocks.1.attention.o_proj" in str(found)
    assert found._repr_html_().startswith("<pre")


@pytest.mark.parametrize("fails", [False, True])
def test_the_module_is_left_as_it_was(fails: bool, leaf: Make) -> None:
    model = Sequential(Linear(3, 4), BatchNorm(4))
    x = leaf(6, 3)
    model(x).sum().backward()
    gradients = [p.grad for p in model.parameters()]
    state = model.state_dict()
    attributes = [dict(vars(m)) for m in model.modules()]
    x_grad = x.grad
    if fails:
        with pytest.raises(TypeError, match=r"result must be a Tensor, got int: give a loss"):
            scales(model, x, loss=lambda _: 1)  # pyright: ignore[reportArgumentType]
    else:
        scales(model, x)
    assert core.mode.observer is None
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert x.grad is x_grad
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    for m, before in zip(model.modules(), attributes, strict=True):
        assert vars(m).keys() == before.keys()
        assert all(vars(m)[k] is before[k] for k in before)


class Twice(Module):
    def __init__(self) -> None:
        self.shared = Linear(3, 3)
        self.again = self.shared

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.shared(x)
        return x, self.again(x)


def test_a_shared_layer_has_a_line_for_each_call_and_tuples_none(leaf: Make) -> None:
    found = scales(Twice(), leaf(2, 3), loss=lambda pair: (pair[0] + pair[1]).sum())
    assert [s.name for s in found.layers] == ["shared", "shared"]
    assert all(s.gradient_rms is not None for s in found.layers)


def test_where_no_gradient_comes_none_is_shown(leaf: Make) -> None:
    class Constant(Module):
        def __init__(self) -> None:
            self.inner = Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x).detach() * 2.0

    found = scales(Constant(), leaf(2, 3))
    assert [s.gradient_rms for s in found.layers] == [None, None]
    assert "inner" in str(found)


def test_infinite_numbers_are_marked(leaf: Make) -> None:
    class Masked(Module):
        def forward(self, x: Tensor) -> Tensor:
            return ops.masked_fill(x, x.data > 0, np.inf)

    found = scales(Masked(), leaf(2, 3))
    assert found.layers[0].non_finite > 0
    assert "! of the finite numbers" in str(found)
