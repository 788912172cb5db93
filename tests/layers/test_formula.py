"""The kernel's own formula, for the specs that torch's fused norms do not compute, beside the definition."""

import itertools

import pytest
import torch

import normlab
from normlab import NormSpec, functional
from normlab.kernels import torch_ops

SPECS = [
    {"eps_place": place, "offset": offset, "eps": eps}
    for place, offset, eps in itertools.product(("inside", "outside"), (0.0, 1.0), (1e-5, None, 0.0, 0.5))
]

PAIRS = list(itertools.permutations([torch.float64, torch.float32, torch.bfloat16, torch.float16], 2))


def draw(shape, dtype):
    return (torch.randn(shape) * 2 + 0.5).to(dtype), torch.randn(shape).to(dtype)


def details(fields, dtype):
    """The definition's options for a spec's fields: None is the machine epsilon of the statistics' dtype."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return {**fields, "eps": torch.finfo(wide).eps if fields["eps"] is None else fields["eps"]}


@pytest.mark.parametrize("fields", SPECS, ids=str)
@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
@pytest.mark.parametrize(("shape", "normalized"), [((6, 9), 9), ((2, 3, 4), (3, 4))])
def test_rows(kind, fields, shape, normalized, dtype, check, definition, run, fill, rng):
    layer = {"layernorm": normlab.LayerNorm, "rmsnorm": normlab.RMSNorm}[kind]
    layer = fill(layer(normalized, spec=NormSpec(kind, **fields), dtype=dtype), rng)
    x, dy = draw(shape, dtype)
    bias = getattr(layer, "bias", None)
    options = {**details(fields, dtype), "normalized_shape": layer.normalized_shape}
    expected = definition(kind, dy, x, layer.weight, bias, **options)
    fused = dtype.itemsize == 2 and fields["eps_place"] == "inside" and not fields["offset"]
    for name, value in run(layer, x, dy).items():
        # As said in test_against_torch: torch's LayerNorm adds the parameters' gradients in half precision.
        narrow = fused and kind == "layernorm" and name in ("dweight", "dbias")
        check(value, expected[name], computed_in=dtype if narrow else None)


@pytest.mark.parametrize("fields", SPECS, ids=str)
@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 4)])
def test_channels(fields, unbiased, training, shape, dtype, check, definition, run, fill, rng):
    spec = NormSpec("batchnorm", unbiased_running_var=unbiased, **fields)
    layer = fill(normlab.BatchNorm1d(3, spec=spec, dtype=dtype), rng).train(training)
    x, dy = draw(shape, dtype)
    running = {name: getattr(layer, name).clone() for name in ("running_mean", "running_var")}
    options = {**details(fields, dtype), "unbiased_running_var": unbiased, "training": training}
    expected = definition("batchnorm", dy, x, layer.weight, layer.bias, **running, **options)
    for name, value in run(layer, x, dy).items():
        check(value, expected[name])


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
@pytest.mark.parametrize(("x_dtype", "weight_dtype"), PAIRS)
def test_parameters_of_another_dtype(kind, x_dtype, weight_dtype, check, definition, run, fill, rng):
    """torch's LayerNorm refuses most of these; by the spec the multiplication is in the statistics' dtype."""
    layer = {"layernorm": normlab.LayerNorm, "rmsnorm": normlab.RMSNorm}[kind]
    layer = fill(layer(9, eps=1e-3, dtype=weight_dtype), rng)
    x, dy = draw((6, 9), x_dtype)
    expected = definition(kind, dy, x, layer.weight, getattr(layer, "bias", None), eps=1e-3)
    computed_in = torch.float64 if x_dtype == torch.float64 else torch.float32
    for name, value in run(layer, x, dy).items():
        assert value.dtype == (weight_dtype if name in ("dweight", "dbias") else x_dtype)
        check(value, expected[name], computed_in=computed_in)


@pytest.mark.parametrize(("x_dtype", "other"), PAIRS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("which", ["parameters", "statistics", "both"])
def test_batchnorm_of_several_dtypes(x_dtype, other, training, which, check, definition, run, fill, rng):
    layer = fill(normlab.BatchNorm1d(3, dtype=x_dtype), rng).train(training)
    for name in ("weight", "bias") if which != "statistics" else ():
        setattr(layer, name, torch.nn.Parameter(getattr(layer, name).detach().to(other)))
    for name in ("running_mean", "running_var") if which != "parameters" else ():
        setattr(layer, name, getattr(layer, name).to(other))
    x, dy = draw((6, 3), x_dtype)
    running = {name: getattr(layer, name).clone() for name in ("running_mean", "running_var")}
    expected = definition("batchnorm", dy, x, layer.weight, layer.bias, training=training, **running)
    computed_in = torch.float64 if x_dtype == torch.float64 else torch.float32
    for name, value in run(layer, x, dy).items():
        kept = x_dtype if name in ("y", "dx") else getattr(layer, name.removeprefix("d")).dtype
        assert value.dtype == kept
        check(value, expected[name], computed_in=computed_in)


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm", "batchnorm"])
def test_the_formula_is_what_torchs_fused_norms_compute(kind, dtype, monkeypatch, run, fill, rng, check, definition):
    """The two ways through the kernel, on the same call."""
    layer = {"layernorm": normlab.LayerNorm, "rmsnorm": normlab.RMSNorm, "batchnorm": normlab.BatchNorm1d}[kind]
    layer = fill(layer(9, eps=1e-3, dtype=dtype), rng)
    x, dy = draw((6, 9), dtype)
    options = {"eps": 1e-3}
    if kind == "batchnorm":
        options |= {"running_mean": layer.running_mean.clone(), "running_var": layer.running_var.clone()}
    expected = definition(kind, dy, x, layer.weight, getattr(layer, "bias", None), **options)
    monkeypatch.setattr(torch_ops, "_is_torch_formula", lambda *a: False)
    monkeypatch.setattr("normlab.kernels.choice.chosen", lambda: "torch")
    for name, value in run(layer, x, dy).items():
        check(value, expected[name])


def test_a_zero_row_with_eps_outside():
    """The derivative there is 1 / eps times the identity; autograd through sqrt alone would say NaN."""
    spec = NormSpec("rmsnorm", eps=0.5, eps_place="outside")
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    dy = torch.tensor([[1.0, -2.0], [0.0, 0.0]], dtype=torch.float64)
    y = functional.rms_norm(x, [2], spec=spec)
    y.backward(dy)
    assert torch.equal(y[0], torch.zeros(2, dtype=torch.float64))
    assert x.grad is not None
    assert torch.equal(x.grad, dy / 0.5)

    constant = torch.full((1, 4), 7.0, dtype=torch.float64, requires_grad=True)
    up = torch.tensor([[1.0, 2.0, 3.0, 6.0]], dtype=torch.float64)
    functional.layer_norm(constant, [4], spec=NormSpec("layernorm", eps=0.5, eps_place="outside")).backward(up)
    assert constant.grad is not None
    assert torch.equal(constant.grad, (up - 3.0) / 0.5)


@pytest.mark.parametrize("scale_dtype", ["stats", "input", "weight"])
@pytest.mark.parametrize("stats_dtype", ["float32", "input"])
@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm", "batchnorm"])
def test_outside_half_precision_the_casts_are_none(kind, stats_dtype, scale_dtype, fill):
    layer = {"layernorm": normlab.LayerNorm, "rmsnorm": normlab.RMSNorm, "batchnorm": normlab.BatchNorm1d}[kind]
    spec = NormSpec(kind, stats_dtype=stats_dtype, scale_dtype=scale_dtype)
    x = torch.randn(5, 6)
    assert torch.equal(layer(6, spec=spec)(x), layer(6)(x))


@pytest.mark.parametrize(
    ("fields", "x_dtype", "weight_dtype", "result"),
    [
        ({"scale_dtype": "stats"}, torch.float16, torch.float32, torch.float16),
        ({"scale_dtype": "input"}, torch.float16, torch.float32, torch.float32),
        ({"scale_dtype": "weight"}, torch.float16, torch.float32, torch.float32),
        ({"scale_dtype": "weight"}, torch.float32, torch.float16, torch.float16),
        ({"scale_dtype": "weight"}, torch.float16, torch.bfloat16, torch.bfloat16),
        ({"scale_dtype": "stats"}, torch.float32, torch.float16, torch.float32),
        ({"scale_dtype": "weight", "affine": False}, torch.float16, torch.float32, torch.float16),
        ({"scale_dtype": "input", "affine": False}, torch.bfloat16, torch.float32, torch.bfloat16),
    ],
)
@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
def test_the_dtype_of_the_result(kind, fields, x_dtype, weight_dtype, result):
    layer = {"layernorm": normlab.LayerNorm, "rmsnorm": normlab.RMSNorm}[kind]
    y = layer(4, spec=NormSpec(kind, **fields), dtype=weight_dtype)(torch.randn(3, 4).to(x_dtype))
    assert y.dtype == result
