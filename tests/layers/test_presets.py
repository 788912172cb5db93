"""Presets beside the libraries they are named after, to the bit where PyTorch's operations run: where casts are is what
tells them apart."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

import normlab
from normlab import NormSpec, norms

REFERENCES = {"llama": LlamaRMSNorm, "gemma": GemmaRMSNorm, "t5": T5LayerNorm}
SINGLE, BRAIN, HALF = torch.float32, torch.bfloat16, torch.float16
# Both in one dtype, and the two ways of keeping one of them in float32 that occur in models.
DTYPES = [
    (SINGLE, SINGLE),
    (BRAIN, BRAIN),
    (HALF, HALF),
    (BRAIN, SINGLE),
    (HALF, SINGLE),
    (SINGLE, BRAIN),
    (SINGLE, HALF),
]


def pair(preset, width, weight_dtype):
    """Our layer and the library's, with the same random weight."""
    ours = normlab.RMSNorm(width, spec=preset, dtype=weight_dtype)
    theirs = REFERENCES[preset](width).to(weight_dtype)
    assert torch.equal(ours.weight, theirs.weight)  # fresh: ones, and zeros for Gemma
    with torch.no_grad():
        ours.weight.add_(torch.randn(width).to(weight_dtype))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("preset", REFERENCES)
@pytest.mark.parametrize(("x_dtype", "weight_dtype"), DTYPES)
@pytest.mark.parametrize("shape", [(7, 64), (2, 5, 33), (16,), (3, 1)])
def test_the_same_bits_as_transformers(preset, x_dtype, weight_dtype, shape, kernels, agree):
    ours, theirs = pair(preset, shape[-1], weight_dtype)
    for scale in (1e-3, 1.0, 300.0):
        x = (torch.randn(shape) * scale).to(x_dtype)
        y, reference = ours(x), theirs(x)
        assert y.dtype == reference.dtype
        agree(y, reference, kernels, shape[-1])


@pytest.mark.parametrize("preset", REFERENCES)
@pytest.mark.parametrize(("x_dtype", "weight_dtype"), DTYPES)
def test_the_same_gradients_as_transformers(preset, x_dtype, weight_dtype, run, definition, check, kernels):
    ours, theirs = pair(preset, 33, weight_dtype)
    x, dy = torch.randn(6, 33).to(x_dtype), torch.randn(6, 33).to(x_dtype)
    mine, reference = run(ours, x, dy), run(theirs, x, dy)
    assert mine.keys() == reference.keys()
    expected = definition("rmsnorm", dy, x, ours.weight, None, eps=1e-6, offset=ours.spec.offset)
    for name, value in mine.items():
        assert value.dtype == reference[name].dtype
        # Llama's and T5's formulas pass a gradient through half precision wherever they pass a value through it.
        narrowest = min((x_dtype, weight_dtype), key=lambda d: d.itemsize)
        rounded = expected[name]._replace(value=reference[name].double().numpy(), terms=2 * expected[name].terms)
        for want in (expected[name], rounded):
            check(value.to(narrowest), want)


@pytest.mark.parametrize("preset", REFERENCES)
def test_the_same_default_eps_as_transformers(preset):
    theirs = REFERENCES[preset](4)
    assert NormSpec.preset(preset).eps == getattr(theirs, "eps" if preset == "gemma" else "variance_epsilon")


@pytest.mark.parametrize("preset", REFERENCES)
@pytest.mark.parametrize("dtype", [BRAIN, HALF])
def test_another_eps_through_the_spec(preset, dtype, kernels, agree):
    spec = dataclasses.replace(NormSpec.preset(preset), eps=1e-2)
    ours = normlab.RMSNorm(16, spec=spec, dtype=dtype)
    theirs = REFERENCES[preset](16, eps=1e-2).to(dtype)
    x = torch.randn(4, 16).to(dtype) * 0.1
    agree(ours(x), theirs(x), kernels, 16)


@pytest.mark.parametrize(("x_dtype", "weight_dtype"), DTYPES)
def test_minimind(x_dtype, weight_dtype, kernels, agree):
    layer = normlab.RMSNorm(33, spec="minimind", dtype=weight_dtype)
    weight = torch.randn(33).to(weight_dtype)
    layer.load_state_dict({"weight": weight})
    x = (torch.randn(7, 33) * 3).to(x_dtype)
    h = x.float()
    formula = (weight * (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6))).type_as(x)
    y = layer(x)
    assert y.dtype == x_dtype
    agree(y, formula, kernels, 33)


@pytest.mark.parametrize("dtype", [torch.float64, SINGLE, BRAIN, HALF])
@pytest.mark.parametrize(
    ("ours", "theirs", "shape"),
    [
        (normlab.LayerNorm, nn.LayerNorm, (7, 33)),
        (normlab.RMSNorm, nn.RMSNorm, (7, 33)),
        (normlab.BatchNorm1d, nn.BatchNorm1d, (7, 33)),
        (normlab.BatchNorm2d, nn.BatchNorm2d, (3, 33, 2, 2)),
    ],
)
def test_torch(ours, theirs, shape, dtype, fill, rng, kernels, agree):
    mine = fill(ours(33, dtype=dtype, spec="torch"), rng)
    reference = theirs(33, dtype=dtype)
    assert mine.eps == reference.eps
    reference.load_state_dict(mine.state_dict())
    x = torch.randn(shape).to(dtype)
    y, want = mine(x), reference(x)
    assert y.dtype == want.dtype == dtype
    if isinstance(reference, nn.BatchNorm1d | nn.BatchNorm2d) and dtype.itemsize == 2:
        # torch's rounds the batch's statistics to half precision on the way: one unit more, of numbers up to 8.
        torch.testing.assert_close(y, want, rtol=0, atol=8 * torch.finfo(dtype).eps)
    else:
        agree(y, want, kernels, 33)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_tensorweaver_in_the_dtype_of_its_arrays(dtype, rng):
    """The chapter's formulas in NumPy, everything in the dtype of x."""
    x, (weight, bias) = rng.normal(1, 2, (9, 16)).astype(dtype), rng.normal(size=(2, 16)).astype(dtype)
    state = {"weight": torch.tensor(weight), "bias": torch.tensor(bias)}
    expected = {
        normlab.LayerNorm: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias,
        normlab.RMSNorm: x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * weight,
        normlab.BatchNorm1d: (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * weight + bias,
    }
    for layer, value in expected.items():
        norm = layer(16, spec="tensorweaver", dtype=state["weight"].dtype)
        norm.load_state_dict(state if layer is not normlab.RMSNorm else {"weight": state["weight"]}, strict=False)
        y = norm(torch.tensor(x)).detach().numpy()
        assert y.dtype == value.dtype == dtype
        # About ten roundings of numbers up to 8; NumPy and torch add in different orders.
        np.testing.assert_allclose(y, value, rtol=0, atol=80 * np.finfo(dtype).eps)


def test_tensorweavers_running_variance_is_biased(rng):
    x = rng.normal(1, 2, (5, 3))
    layer = normlab.BatchNorm1d(3, spec="tensorweaver", dtype=torch.float64)
    layer(torch.tensor(x))
    np.testing.assert_allclose(layer.get_buffer("running_mean"), 0.1 * x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(layer.get_buffer("running_var"), 0.9 + 0.1 * x.var(0), rtol=1e-14)
    torchs = normlab.BatchNorm1d(3, dtype=torch.float64)
    torchs(torch.tensor(x))
    np.testing.assert_allclose(torchs.get_buffer("running_var"), 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-14)


def outputs(x_dtype, weight_dtype):
    x = torch.randn(32, 64).to(x_dtype)
    scale = (1 + 0.3 * torch.randn(64)).to(weight_dtype)
    results = {}
    for preset in ("llama", "gemma", "t5", "minimind", "tensorweaver"):
        layer = normlab.RMSNorm(64, spec=dataclasses.replace(NormSpec.preset(preset, "rmsnorm"), eps=1e-6))
        layer = layer.to(weight_dtype)
        with torch.no_grad():
            layer.weight.copy_(scale - layer.spec.offset)
        results[preset] = layer(x)
    return results


@pytest.mark.parametrize("dtype", [BRAIN, HALF])
@pytest.mark.parametrize(
    ("one", "other"),
    [("llama", "gemma"), ("llama", "minimind"), ("llama", "tensorweaver"), ("minimind", "tensorweaver")],
)
def test_presets_that_should_differ_do(one, other, dtype):
    y = outputs(dtype, dtype)
    assert y[one].dtype == y[other].dtype == dtype
    assert not torch.equal(y[one], y[other])
    # ... by roundings: nowhere by more than a few units of the dtype, relative to the number.
    torch.testing.assert_close(y[one], y[other], rtol=8 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", [BRAIN, HALF])
def test_llama_and_t5_differ_in_what_they_return(dtype):
    """Within one dtype they are one formula; a float32 weight beside half-precision input tells them apart."""
    same, mixed = outputs(dtype, dtype), outputs(dtype, torch.float32)
    assert torch.equal(same["llama"], same["t5"])
    assert mixed["llama"].dtype == mixed["t5"].dtype == torch.float32
    assert not torch.equal(mixed["llama"], mixed["t5"])
    assert mixed["minimind"].dtype == mixed["gemma"].dtype == dtype


def test_in_float32_they_are_one_formula_up_to_the_offset():
    y = outputs(torch.float32, torch.float32)
    assert torch.equal(y["llama"], y["minimind"])
    assert torch.equal(y["llama"], y["t5"])
    assert torch.equal(y["llama"], y["tensorweaver"])
    # scale - 1 + 1 rounds, once
    torch.testing.assert_close(y["llama"], y["gemma"], rtol=4 * torch.finfo(torch.float32).eps, atol=0)


def test_the_definition_follows_the_preset(rng):
    x, weight = rng.normal(size=(4, 8)), rng.normal(size=8)
    for preset in ("torch", "llama", "gemma", "t5", "minimind", "tensorweaver"):
        spec = NormSpec.preset(preset, "rmsnorm")
        layer = normlab.RMSNorm(8, eps=spec.eps, spec=spec, dtype=torch.float64)
        layer.load_state_dict({"weight": torch.tensor(weight)})
        y = norms.rmsnorm.forward(x, weight, eps=spec.eps, offset=spec.offset)
        np.testing.assert_allclose(layer(torch.tensor(x)).detach().numpy(), y, rtol=1e-14)


@pytest.mark.parametrize("preset", ["llama", "gemma", "t5", "torch"])
def test_the_functions_take_the_names_of_presets(preset):
    x, weight = torch.randn(3, 8).bfloat16(), torch.randn(8).bfloat16()
    want = normlab.functional.rms_norm(x, (8,), weight, spec=NormSpec.preset(preset, "rmsnorm"))
    assert torch.equal(normlab.functional.rms_norm(x, (8,), weight, spec=preset), want)
