"""Bad input to a layer or function: one sentence that names the argument, what came, what is allowed - and nothing
half done when it is raised."""

import re
from typing import Any

import numpy as np
import pytest
import torch

import normlab
from normlab import NormSpec, functional, make_norm
from normlab.spec import KINDS

X = torch.arange(24.0).view(4, 6)
ONES = torch.ones(6)
FUNCTIONS = [functional.layer_norm, functional.rms_norm]
FLOATS = "must have dtype float16, bfloat16, float32 or float64, got"


def raises(error, message):
    return pytest.raises(error, match=re.escape(message))


@pytest.mark.parametrize("norm", FUNCTIONS)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1.0, 2.0], [2]), TypeError, "input must be a torch.Tensor, got list"),
        ((None, [2]), TypeError, "input must be a torch.Tensor, got NoneType"),
        ((torch.ones(4, 6, dtype=torch.int64), [6]), TypeError, f"input {FLOATS} torch.int64"),
        ((torch.ones(4, 6, dtype=torch.bool), [6]), TypeError, f"input {FLOATS} torch.bool"),
        ((torch.ones(4, 6, dtype=torch.complex64), [6]), TypeError, f"input {FLOATS} torch.complex64"),
        ((X.to(torch.float8_e4m3fn), [6]), TypeError, f"input {FLOATS} torch.float8_e4m3fn"),
        ((X, [4]), ValueError, "normalized_shape must be the trailing axes of input [4, 6], got [4]"),
        ((X, [1, 4, 6]), ValueError, "normalized_shape must be the trailing axes of input [4, 6], got [1, 4, 6]"),
        ((X, []), ValueError, "normalized_shape must hold at least one size, each at least 0, got []"),
        ((X, [-6]), ValueError, "normalized_shape must hold at least one size, each at least 0, got [-6]"),
        ((X, "6"), TypeError, "normalized_shape must be an int or a sequence of ints, got '6'"),
        ((X, [6.0]), TypeError, "normalized_shape must be an int or a sequence of ints, got [6.0]"),
        ((X, None), TypeError, "normalized_shape must be an int or a sequence of ints, got None"),
        ((torch.tensor(1.0), [1]), ValueError, "normalized_shape must be the trailing axes of input [], got [1]"),
        ((X, [6], torch.ones(4)), ValueError, "weight must have shape [6], the normalized_shape, got [4]"),
        ((X, [6], torch.ones(1, 6)), ValueError, "weight must have shape [6], the normalized_shape, got [1, 6]"),
        ((X, [4, 6], ONES), ValueError, "weight must have shape [4, 6], the normalized_shape, got [6]"),
        ((X, [6], [1.0] * 6), TypeError, "weight must be a torch.Tensor, got list"),
        ((X, [6], ONES.long()), TypeError, f"weight {FLOATS} torch.int64"),
    ],
)
def test_rows(norm, arguments, error, message):
    with raises(error, message):
        norm(*arguments)


def test_bias():
    with raises(ValueError, "bias must have shape [6], the normalized_shape, got [5]"):
        functional.layer_norm(X, [6], ONES, torch.ones(5))
    with raises(TypeError, f"bias {FLOATS} torch.int32"):
        functional.layer_norm(X, [6], ONES, ONES.int())


EPS = [
    (True, TypeError, "eps must be a number, got bool True"),
    ("1e-5", TypeError, "eps must be a number, got str '1e-5'"),
    (torch.ones(6), TypeError, "eps must be a number, got Tensor"),  # a bias in the place of eps
    (-1e-5, ValueError, "eps must be at least 0, got -1e-05"),
    (float("nan"), ValueError, "eps must be finite, got nan"),
    (float("inf"), ValueError, "eps must be finite, got inf"),
]
WITH_EPS = {
    "layernorm": lambda **k: functional.layer_norm(X, [6], **k),
    "rmsnorm": lambda **k: functional.rms_norm(X, [6], **k),
    "batchnorm": lambda **k: functional.batch_norm(X, None, None, training=True, **k),
}
LAYERS = {"layernorm": normlab.LayerNorm, "rmsnorm": normlab.RMSNorm, "batchnorm": normlab.BatchNorm1d}


@pytest.mark.parametrize(("eps", "error", "message"), EPS, ids=str)
@pytest.mark.parametrize("kind", WITH_EPS)
@pytest.mark.parametrize("with_spec", [False, True])
def test_eps(kind, eps, error, message, with_spec):
    spec = NormSpec(kind) if with_spec else None
    with raises(error, message):
        WITH_EPS[kind](eps=eps, spec=spec)
    with raises(error, message):
        LAYERS[kind](6, eps=eps, spec=spec)


@pytest.mark.parametrize("kind", WITH_EPS)
def test_eps_that_contradicts_the_spec(kind):
    spec = NormSpec(kind, eps=1e-3)
    message = "eps is part of the spec (0.001): give it there, got eps=0.01"
    with raises(ValueError, message):
        WITH_EPS[kind](eps=1e-2, spec=spec)
    with raises(ValueError, message):
        LAYERS[kind](6, eps=1e-2, spec=spec)
    assert LAYERS[kind](6, eps=1e-3, spec=spec).eps == 1e-3  # agreeing is allowed, and so is the default
    assert LAYERS[kind](6, spec=spec).eps == 1e-3
    assert WITH_EPS[kind](eps=1e-3, spec=spec).shape == X.shape


@pytest.mark.parametrize("kind", WITH_EPS)
def test_spec(kind):
    other = "rmsnorm" if kind != "rmsnorm" else "layernorm"
    message = f"spec must be of kind {kind!r} here, got {other!r}"
    with raises(ValueError, message):
        WITH_EPS[kind](spec=NormSpec(other))
    with raises(ValueError, message):
        LAYERS[kind](6, spec=NormSpec(other))
    for call in (WITH_EPS[kind], lambda spec: LAYERS[kind](6, spec=spec)):
        with raises(TypeError, "spec must be a NormSpec or the name of a preset, got dict"):
            call(spec={"kind": kind})
        names = "'gemma', 'llama', 'minimind', 't5', 'tensorweaver', 'torch'"
        with raises(ValueError, f"preset must be one of {names}, got 'pytorch'"):
            call(spec="pytorch")


@pytest.mark.parametrize("layer", [normlab.LayerNorm, normlab.BatchNorm1d, normlab.BatchNorm2d])
def test_a_preset_that_has_no_such_norm(layer):
    with raises(ValueError, "kind must be rmsnorm for preset 'llama', got"):
        layer(6, spec="llama")


@pytest.mark.parametrize("layer", [normlab.LayerNorm, normlab.RMSNorm])
@pytest.mark.parametrize(
    ("shape", "error"),
    [
        ("6", TypeError),
        (6.0, TypeError),
        (None, TypeError),
        ([2, 3.0], TypeError),
        ((), ValueError),
        (-1, ValueError),
        ((2, -3), ValueError),
    ],
)
def test_normalized_shape_of_a_layer(layer, shape, error):
    with pytest.raises(error, match=f"normalized_shape must .*, got {re.escape(repr(shape))}"):
        layer(shape)


@pytest.mark.parametrize("layer", [normlab.BatchNorm1d, normlab.BatchNorm2d])
@pytest.mark.parametrize(
    ("size", "error"), [("6", TypeError), (6.0, TypeError), (None, TypeError), ((6,), TypeError), (-1, ValueError)]
)
def test_num_features(layer, size, error):
    with raises(error, "num_features must"):
        layer(size)


@pytest.mark.parametrize(("name", "value"), [("elementwise_affine", 1), ("bias", None)])
def test_switches_of_a_layer(name, value):
    with raises(TypeError, f"{name.removeprefix('elementwise_')} must be True or False, got"):
        normlab.LayerNorm(6, **{name: value})


@pytest.mark.parametrize("layer", [normlab.LayerNorm(6), normlab.RMSNorm(6), normlab.RMSNorm(6, spec="llama")])
def test_input_of_a_layer(layer):
    with raises(ValueError, "normalized_shape must be the trailing axes of input [6, 4], got [6]"):
        layer(X.T)
    with raises(TypeError, f"input {FLOATS} torch.int64"):
        layer(X.long())
    with raises(TypeError, "input must be a torch.Tensor, got ndarray"):
        layer(X.numpy())


STATS: dict[str, Any] = {"running_mean": torch.zeros(6), "running_var": torch.ones(6)}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"input": X.numpy()}, TypeError, "input must be a torch.Tensor, got ndarray"),
        ({"input": X.long()}, TypeError, f"input {FLOATS} torch.int64"),
        ({"input": X[0]}, ValueError, "input must have shape (batch, channels, *space), got [6]"),
        ({"input": X[:1]}, ValueError, "input must hold more than 1 value per channel for its statistics, got [1, 6]"),
        ({"input": X[:1, :, None]}, ValueError, "input must hold more than 1 value per channel"),
        (
            {"running_mean": torch.zeros(1)},
            ValueError,
            "running_mean must have shape [6], the channels of input, got [1]",
        ),
        (
            {"running_var": torch.zeros(4)},
            ValueError,
            "running_var must have shape [6], the channels of input, got [4]",
        ),
        ({"running_var": torch.ones(6).long()}, TypeError, f"running_var {FLOATS} torch.int64"),
        ({"running_mean": None}, ValueError, "running_mean and running_var must be given together, got only one"),
        ({"running_var": None}, ValueError, "running_mean and running_var must be given together, got only one"),
        ({"weight": torch.ones(4)}, ValueError, "weight must have shape [6], the channels of input, got [4]"),
        ({"weight": 1.0}, TypeError, "weight must be a torch.Tensor, got float"),
        ({"bias": torch.ones(6, 1)}, ValueError, "bias must have shape [6], the channels of input, got [6, 1]"),
        ({"momentum": None}, TypeError, "momentum must be a number, got NoneType None"),
        ({"momentum": float("nan")}, ValueError, "momentum must be finite, got nan"),
        ({"momentum": True}, TypeError, "momentum must be a number, got bool True"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batch_norm(changes, error, message, dtype):
    stats: dict[str, Any] = {name: value.to(dtype) for name, value in STATS.items()}
    kept = {name: value.clone() for name, value in stats.items()}
    arguments: dict[str, Any] = {"input": X.to(dtype), **stats, "training": True, **changes}
    with raises(error, message):
        functional.batch_norm(**arguments)
    for name, value in kept.items():
        assert torch.equal(stats[name], value)


def test_one_value_per_channel_without_running_statistics_in_evaluation():
    """There too it is the batch's statistics that would be taken."""
    with raises(ValueError, "input must hold more than 1 value per channel"):
        functional.batch_norm(X[:1], None, None, training=False)
    one = functional.batch_norm(X[:1], **STATS, eps=0.0)
    torch.testing.assert_close(one, X[:1])


@pytest.mark.parametrize(
    ("layer", "batch", "error", "message"),
    [
        (normlab.BatchNorm1d, torch.ones(1, 6), ValueError, "input must hold more than 1 value per channel"),
        (normlab.BatchNorm1d, torch.ones(4, 5), ValueError, "running_mean must have shape [5], the channels of input"),
        (normlab.BatchNorm1d, torch.ones(4, 6, 2, 2), ValueError, "expected 2D or 3D input (got 4D input)"),
        (normlab.BatchNorm1d, torch.ones(6), ValueError, "expected 2D or 3D input (got 1D input)"),
        (normlab.BatchNorm2d, torch.ones(4, 6), ValueError, "expected 4D input (got 2D input)"),
        (normlab.BatchNorm1d, torch.ones(4, 6).long(), TypeError, f"input {FLOATS} torch.int64"),
        (normlab.BatchNorm1d, [[1.0] * 6] * 4, TypeError, "input must be a torch.Tensor, got list"),
    ],
)
@pytest.mark.parametrize("spec", [None, "tensorweaver"])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_refused_batch_leaves_batchnorm_as_it_was(layer, batch, error, message, spec, momentum, fill, rng):
    norm = fill(layer(6, spec=spec, momentum=momentum), rng)
    norm.num_batches_tracked.fill_(3)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    with raises(error, message):
        norm(batch)
    for name, value in norm.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("batch", 6), {}, ValueError, f"kind must be one of {', '.join(map(repr, KINDS))}, got 'batch'"),
        ((None, 6), {}, TypeError, "spec must be a NormSpec or the name of a kind, got NoneType None"),
        ((3, 8), {}, TypeError, "spec must be a NormSpec or the name of a kind, got int 3"),
        ((normlab.RMSNorm, 8), {}, TypeError, "spec must be a NormSpec or the name of a kind, got type"),
        ((3, 8), {"preset": "torch"}, TypeError, "spec must be a NormSpec or the name of a kind, got int 3"),
        (("rmsnorm", 6), {"preset": "lama"}, ValueError, "preset must be one of"),
        (("layernorm", 6), {"preset": "llama"}, ValueError, "kind must be rmsnorm for preset 'llama', got 'layernorm'"),
        ((NormSpec("rmsnorm"), 6), {"preset": "llama"}, ValueError, "preset goes with the name of a kind"),
        (("groupnorm", 48), {}, ValueError, "dim must be a multiple of the spec's groups, 32, got 48"),
    ],
)
def test_make_norm(arguments, options, error, message):
    with raises(error, message):
        make_norm(*arguments, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_the_dim_of_make_norm(kind):
    """Under its own name, whatever the layer calls it; and of the identity, which would take anything."""
    with raises(ValueError, "dim must be at least 0, got -6"):
        make_norm(kind, -6)
    for dim in ("6", None, 6.0, True, [6]):
        with raises(TypeError, f"dim must be an int, got {dim!r}"):
            make_norm(kind, dim)  # pyright: ignore


@pytest.mark.parametrize("layer", [normlab.BatchNorm1d, normlab.BatchNorm2d, normlab.InstanceNorm1d])
def test_momentum(layer):
    with raises(TypeError, "momentum must be a number, got str 'x'"):
        layer(8, momentum="x")
    with raises(ValueError, "momentum must be finite, got nan"):
        layer(8, momentum=float("nan"))
    assert layer(8, momentum=None).momentum is None
    assert type(layer(8, momentum=np.float32(0.5)).momentum) is float


def test_a_size_that_is_one_number_is_not_spoken_of_as_several():
    for layer, name in ((normlab.LayerNorm, "normalized_shape"), (normlab.BatchNorm1d, "num_features")):
        with raises(ValueError, f"{name} must be at least 0, got -6"):
            layer(-6)
