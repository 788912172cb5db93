"""make_norm: from a spec, or a kind and a preset, to the layer; and the functions without a layer."""

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import normlab
from normlab import NormSpec, functional, make_norm
from normlab.spec import PRESETS

LAYERS = {"layernorm": normlab.LayerNorm, "rmsnorm": normlab.RMSNorm, "batchnorm": normlab.BatchNorm1d}
IN_PRESETS = LAYERS | {"groupnorm": normlab.GroupNorm, "instancenorm": normlab.InstanceNorm1d}


@pytest.mark.parametrize(("preset", "kind"), PRESETS)
def test_a_preset(preset, kind):
    layer: Any = make_norm(kind, 64, preset=preset, dtype=torch.float64)
    assert type(layer) is IN_PRESETS[kind]
    assert layer.spec == NormSpec.preset(preset, kind)
    if layer.spec.affine:
        assert layer.weight.dtype == torch.float64
        assert layer.weight.shape == (64,)


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [
        ("layernorm", nn.LayerNorm(64)),
        ("rmsnorm", nn.RMSNorm(64)),
        ("batchnorm", nn.BatchNorm1d(64)),
        ("groupnorm", nn.GroupNorm(32, 64)),
        ("instancenorm", nn.InstanceNorm1d(64)),
    ],
)
def test_torchs_preset_is_torchs_layer(kind, theirs):
    ours = make_norm(kind, 64, preset="torch")
    assert isinstance(ours, type(theirs))
    assert repr(ours) == repr(theirs)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_kind_has_the_specs_defaults(kind):
    assert make_norm(kind, 6).spec == NormSpec(kind)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(
    "fields",
    [
        {"eps": 0.3},
        {"eps": None},
        {"eps_place": "outside", "offset": 1.0},
        {"affine": False},
        {"bias": False},
        {"stats_dtype": "input", "scale_dtype": "weight"},
        {"unbiased_running_var": False},
    ],
    ids=str,
)
def test_a_whole_spec_is_the_layers(kind, fields):
    spec = NormSpec(kind, **fields)
    layer = make_norm(spec, 6)
    assert layer.spec == spec
    assert (layer.weight is not None) == spec.affine
    assert (getattr(layer, "bias", None) is not None) == spec.bias
    assert layer.eps == spec.eps


def test_none_is_the_identity():
    for spec in ("none", NormSpec("none")):
        layer = make_norm(spec, 6, dtype=torch.float64)
        assert isinstance(layer, nn.Identity)
        x = torch.randn(2, 6)
        assert layer(x) is x


def test_device():
    assert make_norm("batchnorm", 6, device="meta").running_mean.is_meta


@pytest.mark.parametrize("switch", ["affine", "bias"])
def test_a_layers_switches_only_take_away(switch):
    """A spec with a weight can be used without; one without does not get one."""
    name = "elementwise_affine" if switch == "affine" else "bias"
    on: dict[str, Any] = {name: True}
    off: dict[str, Any] = {name: False}
    assert getattr(normlab.LayerNorm(6, **off, spec=NormSpec("layernorm")).spec, switch) is False
    without = dataclasses.replace(NormSpec("layernorm"), **{switch: False})
    assert getattr(normlab.LayerNorm(6, **on, spec=without).spec, switch) is False


@pytest.mark.parametrize("normalized", [[5], (5,), torch.Size([5]), [3, 5]])
def test_functions_are_torchs(normalized, dtype, kernels, agree):
    x = torch.randn(2, 3, 5).to(dtype)
    weight, bias = torch.randn(2, *normalized).to(dtype)
    for mine, reference in (
        (functional.layer_norm(x, normalized, weight, bias, 1e-3), F.layer_norm(x, normalized, weight, bias, 1e-3)),
        (functional.layer_norm(x, normalized), F.layer_norm(x, normalized)),
        (functional.rms_norm(x, normalized, weight, 1e-3), F.rms_norm(x, normalized, weight, 1e-3)),
        (functional.rms_norm(x, normalized), F.rms_norm(x, normalized)),
    ):
        agree(mine, reference, kernels, 15)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batch_norm_is_torchs(training, dtype):
    x = torch.randn(4, 3, 5, dtype=dtype)
    weight, bias, mean = torch.randn(3, 3, dtype=dtype)
    stats = [(mean.clone(), torch.full((3,), 2.0, dtype=dtype)) for _ in range(2)]
    mine = functional.batch_norm(x, *stats[0], weight, bias, training, 0.3, 1e-3)
    reference = F.batch_norm(x, *stats[1], weight, bias, training, 0.3, 1e-3)
    assert torch.equal(mine, reference)
    for ours, theirs in zip(*stats, strict=True):
        assert torch.equal(ours, theirs)


def test_batch_norm_without_running_statistics_takes_the_batchs_in_evaluation_too(dtype):
    x = torch.randn(4, 3).to(dtype)
    evaluated = functional.batch_norm(x, None, None, training=False)
    assert torch.equal(evaluated, functional.batch_norm(x, None, None, training=True))


@pytest.mark.parametrize("spec", [None, "tensorweaver"])
def test_running_statistics_that_are_not_finite_move_as_the_formula_says(spec):
    """0.9 * inf + 0.1 * m is inf; written as inf + 0.1 * (m - inf) it would be NaN."""
    layer = normlab.BatchNorm1d(2, spec=spec)
    mean = layer.get_buffer("running_mean").fill_(float("inf"))
    layer(torch.randn(4, 2))
    assert torch.equal(mean, torch.full((2,), float("inf")))


def test_batchnorm_whose_tracking_was_switched_off_afterwards():
    """torch: training leaves the buffers alone, evaluation still uses them."""
    ours, theirs = normlab.BatchNorm1d(3), nn.BatchNorm1d(3)
    x = torch.randn(5, 3)
    for layer in (ours, theirs):
        layer(x)
        layer.track_running_stats = False
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.get_buffer("running_mean"), theirs.get_buffer("running_mean"))
    assert ours.num_batches_tracked == theirs.num_batches_tracked == 1
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
