"""Every layer against PyTorch's in float64: the result, every gradient, and what moves."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import normlab.layers as normed
from normlab.tensor import Tensor, layers, manual_seed, ops
from normlab.tensor.bridge import from_torch

draw = np.random.default_rng(0).standard_normal


def shaken(module: nn.Module) -> Any:
    """In float64, with parameters that are neither 0 nor 1."""
    module = module.double()
    generator = torch.Generator().manual_seed(0)
    for p in module.parameters():
        p.data += 0.3 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
    return module


def theirs(name: str) -> str:
    return name.replace("gamma", "weight").replace("beta", "bias")


def compare(module: nn.Module, x: Any, *, rtol: float = 1e-11, atol: float = 1e-12) -> Any:
    """Results and all gradients, with a random upstream gradient; returns our module."""
    ours = from_torch(module)
    given: Any = torch.tensor(x, requires_grad=True)
    want: Any = module(given)
    dy = draw(want.shape).astype(x.dtype)
    want.backward(torch.tensor(dy))
    leaf: Any = Tensor(x, requires_grad=True)
    y = ours(leaf)
    y.backward(dy)
    assert y.dtype == x.dtype
    np.testing.assert_allclose(y.data, want.detach().numpy(), rtol=rtol, atol=atol)
    np.testing.assert_allclose(leaf.grad, given.grad, rtol=rtol, atol=atol)
    wanted: dict[str, Any] = dict(module.named_parameters())
    found: dict[str, Any] = dict(ours.named_parameters())
    assert {theirs(name) for name in found} == set(wanted)
    for name, p in found.items():
        assert p.grad.dtype == p.dtype
        np.testing.assert_allclose(p.grad, wanted[theirs(name)].grad, rtol=rtol, atol=atol, err_msg=name)
    return ours


LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "Linear": (lambda: nn.Linear(5, 3), (2, 4, 5)),
    "Linear without bias": (lambda: nn.Linear(5, 3, bias=False), (4, 5)),
    "Linear of a vector": (lambda: nn.Linear(5, 3), (5,)),
    "Linear of nothing": (lambda: nn.Linear(5, 3), (0, 5)),
    "ReLU": (nn.ReLU, (3, 4)),
    "GELU": (nn.GELU, (3, 4)),
    "GELU, tanh": (lambda: nn.GELU("tanh"), (3, 4)),
    "SiLU": (nn.SiLU, (3, 4)),
    "Tanh": (nn.Tanh, (3, 4)),
    "Sigmoid": (nn.Sigmoid, (3, 4)),
    "Identity": (nn.Identity, (3, 4)),
    "LayerNorm": (lambda: nn.LayerNorm(6), (2, 3, 6)),
    "LayerNorm, two axes": (lambda: nn.LayerNorm([4, 6], eps=0.1), (3, 4, 6)),
    "LayerNorm without bias": (lambda: nn.LayerNorm(6, bias=False), (3, 6)),
    "LayerNorm, plain": (lambda: nn.LayerNorm(6, elementwise_affine=False), (3, 6)),
    "LayerNorm of no rows": (lambda: nn.LayerNorm(6), (0, 6)),
    "LayerNorm, normlab's": (lambda: normed.LayerNorm(6, eps=1e-3), (2, 3, 6)),
    "RMSNorm": (lambda: nn.RMSNorm(6, eps=1e-3), (2, 3, 6)),
    "RMSNorm, machine epsilon": (lambda: nn.RMSNorm(6), (2, 3, 6)),
    "RMSNorm, two axes": (lambda: nn.RMSNorm([4, 6]), (3, 4, 6)),
    "RMSNorm, plain": (lambda: nn.RMSNorm(6, elementwise_affine=False), (3, 6)),
    "RMSNorm, normlab's": (lambda: normed.RMSNorm(6, spec="llama"), (2, 3, 6)),
    "BatchNorm, 2-D": (lambda: nn.BatchNorm1d(3), (7, 3)),
    "BatchNorm, 3-D": (lambda: nn.BatchNorm1d(3, eps=0.1), (4, 3, 5)),
    "BatchNorm, 4-D": (lambda: nn.BatchNorm2d(3), (2, 3, 4, 5)),
    "BatchNorm, 5-D": (lambda: nn.BatchNorm3d(3), (2, 3, 2, 3, 2)),
    "BatchNorm, plain": (lambda: nn.BatchNorm2d(3, affine=False), (2, 3, 4, 5)),
    "BatchNorm, evaluation": (lambda: nn.BatchNorm2d(3).eval(), (2, 3, 4, 5)),
    "BatchNorm, one number in evaluation": (lambda: nn.BatchNorm1d(3).eval(), (1, 3)),
    "BatchNorm, nothing running": (lambda: nn.BatchNorm1d(3, track_running_stats=False).eval(), (7, 3)),
    "BatchNorm, normlab's": (lambda: normed.BatchNorm2d(3, momentum=0.3), (2, 3, 4, 5)),
    "BatchNorm, normlab's, without bias": (lambda: normed.BatchNorm1d(3, bias=False), (7, 3)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 6), (3, 6, 4, 5)),
    "GroupNorm, 2-D": (lambda: nn.GroupNorm(3, 6, eps=0.1), (5, 6)),
    "GroupNorm, plain": (lambda: nn.GroupNorm(1, 6, affine=False), (3, 6, 4)),
    "GroupNorm, normlab's": (lambda: normed.GroupNorm(3, 6), (3, 6, 4)),
    "GroupNorm of no samples": (lambda: normed.GroupNorm(3, 6), (0, 6, 4)),
    "Sequential": (lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 2)), (3, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_torchs(name: str) -> None:
    make, shape = LAYERS[name]
    compare(shaken(make()), draw(shape))


@pytest.mark.parametrize("name", LAYERS)
def test_layer_in_float32(name: str) -> None:
    make, shape = LAYERS[name]
    module = shaken(make()).float()
    module = module.train(make().training)
    ours = compare(module, draw(shape).astype(np.float32), rtol=2e-5, atol=2e-5)
    for path, array in ours.state_dict().items():
        assert array.dtype == np.float32, path


VIEWS: dict[str, Any] = {
    "transposed": lambda t: t.permute(*range(t.ndim)[::-1]),
    "in steps": lambda t: t[..., ::2],
    "backwards": lambda t: t[::-1],
    "repeated": lambda t: ops.broadcast_to(t[:1], (4, *t.shape[1:])),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", ["Linear", "LayerNorm", "two axes", "RMSNorm", "BatchNorm", "GroupNorm"])
def test_numbers_that_do_not_lie_in_order(kind: str, view: str) -> None:
    x: Any = VIEWS[view](Tensor(draw((4, 6, 8)), requires_grad=True)).retain_grad()
    make: dict[str, Any] = {
        "Linear": lambda: layers.Linear(x.shape[-1], 3),
        "LayerNorm": lambda: layers.LayerNorm(x.shape[-1]),
        "two axes": lambda: layers.LayerNorm(x.shape[1:]),
        "RMSNorm": lambda: layers.RMSNorm(x.shape[-1]),
        "BatchNorm": lambda: layers.BatchNorm(x.shape[1]),
        "GroupNorm": lambda: layers.GroupNorm(2, x.shape[1]),
    }
    layer = make[kind]()
    in_order: Any = Tensor(np.ascontiguousarray(x.data), requires_grad=True)
    y, want = layer(x), layer(in_order)
    dy = draw(y.shape[::-1]).T
    y.backward(dy)
    want.backward(np.ascontiguousarray(dy))
    np.testing.assert_allclose(y.data, want.data, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(x.grad, in_order.grad, rtol=1e-12, atol=1e-13)


def test_dropout_scales_and_masks_the_gradient_alike() -> None:
    manual_seed(0)
    dropout = layers.Dropout(0.25)
    x: Any = Tensor(np.ones((200, 200), np.float32), requires_grad=True)
    y = dropout(x)
    y.backward(np.ones((200, 200)))
    assert set(np.unique(y.data)) == {np.float32(0), np.float32(4 / 3)}
    np.testing.assert_array_equal(x.grad, y.data)
    # 40,000 draws: the mean's standard deviation is 0.0029.
    assert abs(float(y.data.mean()) - 1) < 0.015


def test_dropout_is_seeded_and_off_in_evaluation() -> None:
    x = Tensor(draw((10, 10)))
    model = layers.Sequential(layers.Linear(10, 10), layers.Dropout(0.5))
    manual_seed(3)
    first = model(x).data
    again = model(x).data
    assert np.any(first != again)
    manual_seed(3)
    np.testing.assert_array_equal(model(x).data, first)
    model.eval()
    np.testing.assert_array_equal(model(x).data, model[0](x).data)


@pytest.mark.parametrize(("p", "kept"), [(0.0, 1.0), (1.0, 0.0)])
def test_dropout_of_nothing_and_of_all(p: float, kept: float) -> None:
    np.testing.assert_array_equal(layers.Dropout(p)(Tensor(np.ones(5))).data, kept)


def test_embedding_adds_up_what_repeats() -> None:
    module: Any = nn.Embedding(6, 3).double()
    ids, dy = np.array([[1, 1, 5], [0, 1, 5]]), draw((2, 3, 3))
    ours: Any = from_torch(module)
    module(torch.tensor(ids)).backward(torch.tensor(dy))
    for given in (ids, Tensor(ids), ids.astype(np.uint8), ids.tolist()):
        ours.zero_grad()
        ours(given).backward(dy)
        np.testing.assert_allclose(ours.weight.grad, module.weight.grad, rtol=1e-14)
    with pytest.raises(IndexError, match=r"^ids must be from 0 to 5, got -1 to 6$"):
        ours([-1, 6])
    with pytest.raises(TypeError, match=r"^ids must be integers, got float64$"):
        ours([1.0])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_attention_is_torchs(bias: bool, causal: bool) -> None:
    dim, heads, time = 6, 2, 5
    module = shaken(nn.MultiheadAttention(dim, heads, bias=bias, batch_first=True))
    ours: Any = from_torch(module)
    ours.causal = causal
    x, dy = draw((3, time, dim)), draw((3, time, dim))
    later = torch.triu(torch.ones(time, time, dtype=torch.bool), 1) if causal else None
    given: Any = torch.tensor(x, requires_grad=True)
    want, _ = module(given, given, given, attn_mask=later, need_weights=False)
    want.backward(torch.tensor(dy))
    leaf: Any = Tensor(x, requires_grad=True)
    y = ours(leaf)
    y.backward(dy)
    np.testing.assert_allclose(y.data, want.detach(), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(leaf.grad, given.grad, rtol=1e-11, atol=1e-12)
    for key in ("weight", "bias") if bias else ("weight",):
        together = np.concatenate([getattr(getattr(ours, f"{name}_proj"), key).grad for name in "qkv"])
        np.testing.assert_allclose(together, getattr(module, f"in_proj_{key}").grad, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(
            getattr(ours.o_proj, key).grad, getattr(module.out_proj, key).grad, rtol=1e-11, atol=1e-12
        )


def test_attention_mask_hides_beside_the_causal_one() -> None:
    attention = layers.MultiHeadAttention(4, 2, causal=True)
    x = draw((2, 5, 4))
    hidden = np.zeros((2, 1, 1, 5), np.bool_)
    hidden[1, ..., 1] = True
    before = attention(Tensor(x), hidden).data
    x[0, 4] += 1
    x[1, 1] += 1
    after = attention(Tensor(x), hidden).data
    np.testing.assert_array_equal(after[0, :4], before[0, :4])
    np.testing.assert_array_equal(after[1, 2:], before[1, 2:])
    assert np.all(after[0, 4] != before[0, 4])


def test_what_layers_refuse() -> None:
    x = Tensor(draw((2, 5)))
    for make, sentence in (
        (lambda: layers.Linear(4, 3)(x), r"x must have 4 numbers on its last axis, got shape \(2, 5\)"),
        (lambda: layers.LayerNorm(4)(x), r"normalized_shape must be the trailing axes of x, \(2, 5\), got \(4,\)"),
        (lambda: layers.BatchNorm(4)(x), r"x must have 4 channels on axis 1, got shape \(2, 5\)"),
        (lambda: layers.GroupNorm(2, 4, affine=False)(x), r"num_groups must divide the channels, 5, got 2"),
        (lambda: layers.GroupNorm(3, 4), r"num_groups must divide num_channels, 4, got 3"),
        (lambda: layers.Dropout(1.5), "p must be from 0 to 1, got 1.5"),
        (lambda: layers.MultiHeadAttention(5, 2), "dim must be a multiple of n_heads, got dim=5, n_heads=2"),
        (lambda: layers.MultiHeadAttention(4, 2)(x), r"x must have shape \(batch, time, dim\), got \(2, 5\)"),
        (lambda: ops.layer_norm(x, 5, None, x[0]), "beta needs a gamma beside it"),
    ):
        with pytest.raises(ValueError, match=f"^{sentence}$"):
            make()
