"""AdaptiveLayerNorm, AdaptiveRMSNorm and QKNorm beside their definitions, and what a fresh one is."""

import copy
import math
import pickle
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import normlab
from normlab import NormSpec, norms

HALVES = [torch.bfloat16, torch.float16]
LAYERS = {"layernorm": normlab.AdaptiveLayerNorm, "rmsnorm": normlab.AdaptiveRMSNorm}
PLAIN = {"layernorm": normlab.LayerNorm, "rmsnorm": normlab.RMSNorm}
# A condition a sample, one for everything, one a row, no rows, one entry.
SHAPES = [((2, 5, 8), (2, 6)), ((4, 8), (3,)), ((2, 3, 7), (2, 3, 4)), ((0, 5, 8), (0, 6)), ((3, 1), (3, 2))]


class Want(NamedTuple):
    """As conftest's Expected."""

    value: Any
    terms: float
    length: int
    kappa: float = 1.0


def top(a: Any) -> float:
    return float(np.max(np.abs(a), initial=0.0))


def wanted(layer: Any, x: torch.Tensor, c: torch.Tensor, dy: torch.Tensor) -> dict[str, Want]:
    """What the definition says, and the size of what it adds up."""
    kind, eps = layer.spec.kind, layer.spec.eps
    xs, cs, ds = (t.detach().double().numpy() for t in (x, c, dy))
    p = {name: p.detach().double().numpy() for name, p in layer.named_parameters()}
    w, b = p["projection.weight"], p["projection.bias"]
    own = {name.removeprefix("norm."): v for name, v in p.items() if name.startswith("norm.")}
    options: dict[str, Any] = {"kind": kind, "eps": eps, **own}
    value = norms.adaptive.forward(xs, cs, w, b, **options)
    g = norms.adaptive.backward(ds, xs, cs, w, b, **options)
    m = xs.mean(-1, keepdims=True) if kind == "layernorm" else 0.0
    s = 1 / np.sqrt(np.mean((xs - m) ** 2, -1, keepdims=True) + eps)
    h, kappa = top((xs - m) * s), max(top(xs * s), 1.0) if kind == "layernorm" else 1.0
    outer = (h * top(own.get("weight", 1.0)) + top(own.get("bias", 0.0))) + 1
    sums = top(w) * top(cs) * cs.shape[-1] + top(b) + 1  # of a scale or shift
    per = x.numel() // max(c.numel() // c.shape[-1], 1) // x.shape[-1] if x.numel() else 1
    collected = top(ds) * per * outer
    n = x.shape[-1] + cs.shape[-1]
    rows = x.numel() // max(x.shape[-1], 1)
    return {
        "y": Want(value, outer * sums, n, kappa),
        "dx": Want(g.dx, top(s) * top(ds) * sums * (1 + h) * top(own.get("weight", 1.0)), n, kappa),
        "dcondition": Want(g.dcondition, collected * 2 * x.shape[-1] * top(w) * (1 + top(cs)), n + per, kappa),
        "dprojection.weight": Want(g.dprojection, top(ds) * rows * outer * (1 + top(cs)), n + rows, kappa),
        "dprojection.bias": Want(g.dprojection_bias, top(ds) * rows * outer, n + rows, kappa),
    }


def fresh(layer: Any, rng: Any) -> Any:
    """Random parameters."""
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.tensor(rng.normal(0.0, 0.5, p.shape)))
    return layer


@pytest.mark.parametrize(("shape", "condition"), SHAPES)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("options", [{}, {"elementwise_affine": True, "eps": 0.1}], ids=str)
def test_definition(kind, options, shape, condition, dtype, rng, check):
    layer = fresh(LAYERS[kind](shape[-1], condition[-1], dtype=dtype, **options), rng)
    x, c, dy = (torch.randn(s).to(dtype).requires_grad_() for s in (shape, condition, shape))
    y = layer(x, c)
    parameters = {f"d{name}": p for name, p in layer.named_parameters() if name.startswith("projection")}
    grads = torch.autograd.grad(y, [x, c, *parameters.values()], dy.detach())
    want = wanted(layer, x, c, dy)
    got = dict(zip(["y", "dx", "dcondition", *parameters], [y, *grads], strict=True))
    for name, value in got.items():
        assert value.dtype == dtype
        # In half precision the projection is a linear layer's: its sums are float32, its result, the scale and the
        # shift, is rounded, and so is what flows back to it, each once more than a norm's.
        check(value, want[name]._replace(terms=2 * want[name].terms))


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("affine", [False, True])
def test_a_fresh_layer_is_the_plain_norm_to_the_bit(kind, affine, dtype):
    layer = LAYERS[kind](8, 3, elementwise_affine=affine, dtype=dtype)
    x, c = torch.randn(2, 5, 8).to(dtype), torch.randn(2, 3).to(dtype)
    assert torch.equal(layer(x, c), PLAIN[kind](8, elementwise_affine=affine, dtype=dtype)(x))
    with torch.no_grad():
        for p in layer.parameters():
            p.fill_(2.0)
    assert not torch.equal(layer(x, c), PLAIN[kind](8)(x.float()).to(dtype))
    layer.reset_parameters()
    assert torch.equal(layer(x, c), PLAIN[kind](8, elementwise_affine=affine, dtype=dtype)(x))


@pytest.mark.parametrize("half", HALVES)
def test_a_small_scale_is_not_lost_beside_1(half):
    """A row of ones is its own RMSNorm: 1 * (1 + scale) - 1 is the scale, were 1 + scale not rounded to half."""
    layer = normlab.AdaptiveRMSNorm(2, 3, eps=0.0, dtype=half)
    with torch.no_grad():
        layer.projection.bias.copy_(torch.tensor([-1.0, -1.0, 2.0**-12, 2.0**-12]))
    y = layer(torch.ones(1, 2, dtype=half), torch.zeros(1, 3, dtype=half))
    assert torch.equal(y, torch.full((1, 2), 2.0**-12, dtype=half))


def test_it_is_dits_modulation():
    """shift, scale = Linear(SiLU(c)).chunk(2), and x * (1 + scale) + shift with an axis for the positions."""
    layer = normlab.AdaptiveLayerNorm(8, 3, eps=1e-6)
    torch.nn.init.normal_(layer.projection.weight)
    x, c = torch.randn(2, 5, 8), torch.randn(2, 3)
    shift, scale = layer.projection(F.silu(c)).chunk(2, 1)
    expected = F.layer_norm(x, [8], eps=1e-6) * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)
    torch.testing.assert_close(layer(x, c), expected)


@pytest.mark.parametrize("kind", LAYERS)
def test_specs(kind):
    spec = NormSpec(kind, eps=1e-6, offset=1.0, affine=False)
    assert LAYERS[kind](4, 3, spec=spec).spec == spec
    assert normlab.AdaptiveRMSNorm(4, 3, elementwise_affine=True, spec="gemma").spec == NormSpec.preset("gemma")
    twin: Any = pickle.loads(pickle.dumps(copy.deepcopy(LAYERS[kind](4, 3, spec=spec))))
    assert twin.spec == spec


@pytest.mark.parametrize("x_dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("c_dtype", [torch.float32, *HALVES])
def test_several_dtypes_and_autocast(x_dtype, c_dtype, rng):
    """The result has the dtype of the norm's, whatever the condition's and the projection's."""
    layer = fresh(normlab.AdaptiveLayerNorm(8, 3), rng)
    x, c = torch.randn(2, 5, 8).to(x_dtype), torch.randn(2, 3).to(c_dtype)
    y = layer(x, c)
    assert y.dtype == x_dtype
    precise = copy.deepcopy(layer).double()(x.double(), c.double())
    torch.testing.assert_close(y.double(), precise, rtol=0, atol=8 * torch.finfo(x_dtype).eps)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(x, c)
    assert mixed.dtype == x_dtype
    torch.testing.assert_close(mixed.double(), precise, rtol=0, atol=16 * torch.finfo(torch.bfloat16).eps)


def test_bad_input():
    layer = normlab.AdaptiveLayerNorm(8, 3)
    x = torch.randn(2, 5, 8)
    for condition in (torch.randn(2, 4), torch.randn(3, 3), torch.tensor(1.0), torch.randn(2, 5, 8, 3)):
        with pytest.raises(ValueError, match=r"condition must have shape \(\*leading, 3\) with the leading axes of in"):
            layer(x, condition)
    with pytest.raises(TypeError, match=r"condition must be a torch\.Tensor, got list"):
        layer(x, [1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="condition must have dtype float16, bfloat16, float32 or float64, got"):
        layer(x, torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"normalized_shape must be the trailing axes of input \[2, 5, 7\], got \[8\]"):
        layer(torch.randn(2, 5, 7), torch.randn(2, 3))
    bad: list[Any] = [
        ((8, 0), ValueError, "condition_dim must be at least 1, got 0"),
        ((8, 3.0), TypeError, "condition_dim must be an int, got 3.0"),
        (((8, 8), 3), TypeError, r"dim must be an int, got \(8, 8\)"),
    ]
    for arguments, error, message in bad:
        with pytest.raises(error, match=message):
            normlab.AdaptiveRMSNorm(*arguments)
    with pytest.raises(ValueError, match="spec must be of kind 'layernorm' here, got 'rmsnorm'"):
        normlab.AdaptiveLayerNorm(8, 3, spec=NormSpec("rmsnorm"))


def test_qk_norm(dtype, check):
    layer = normlab.QKNorm(64, dtype=dtype)
    g = float(layer.g.detach().double()[0])
    assert g == float(torch.tensor(math.log2(64**2 - 64), dtype=dtype))
    q, k, dq, dk = (torch.randn(2, 3, 5, 16).to(dtype).requires_grad_() for _ in range(4))
    outputs = layer(q, k)
    grads = torch.autograd.grad(outputs, [q, k, layer.g], [dq.detach(), dk.detach()])
    arrays = [t.detach().double().numpy() for t in (q, k, dq, dk)]
    values = norms.l2norm.qk_forward(arrays[0], arrays[1], g)
    want = norms.l2norm.qk_backward(arrays[2], arrays[3], arrays[0], arrays[1], g)
    shortest = min(float(np.linalg.norm(a, axis=-1).min()) for a in arrays[:2])
    size = top(arrays[2:]) * g * 16 / shortest
    for got, value, terms in (
        (outputs[0], values[0], g),
        (outputs[1], values[1], 1.0),
        (grads[0], want.dq, size),
        (grads[1], want.dk, size),
        (grads[2], want.dg.reshape(1), float(np.abs(arrays[2]).sum())),
    ):
        assert got.dtype == dtype
        check(got, Want(value, terms, 16 if got.numel() > 1 else q.numel()))


def test_qk_norm_bounds_the_logits():
    layer, (q, k) = normlab.QKNorm(10), torch.randn(2, 4, 7, 8).unbind(0)
    q, k = layer(1e3 * q, k)
    logits = q @ k.mT
    assert float(logits.detach().abs().max()) <= math.log2(90) * (1 + 1e-6)
    assert repr(layer) == "QKNorm(length=10, eps=1e-12)"


def test_bad_input_of_qk_norm():
    for length, error in ((1, ValueError), (2.0, TypeError)):
        with pytest.raises(error, match="length must be"):
            normlab.QKNorm(length)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="eps must be at least 0, got -1"):
        normlab.QKNorm(8, eps=-1)
    layer = normlab.QKNorm(8)
    with pytest.raises(ValueError, match=r"q and k must end in the same axis, got shapes \[2, 3\] and \[2, 4\]"):
        layer(torch.randn(2, 3), torch.randn(2, 4))
    with pytest.raises(TypeError, match=r"k must be a torch\.Tensor, got NoneType"):
        layer(torch.randn(2, 3), None)
