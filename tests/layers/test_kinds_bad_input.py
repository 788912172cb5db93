"""Bad input to the layers beyond the first three: one sentence that names the argument, what came, what is allowed."""

import re
from typing import Any

import pytest
import torch

import normlab
from normlab import NormSpec, make_norm
from normlab.spec import KINDS

X = torch.arange(24.0).view(4, 6)
FLOATS = "must have dtype float16, bfloat16, float32 or float64, got"
ROWS = {
    "scalenorm": normlab.ScaleNorm,
    "l2norm": normlab.L2Norm,
    "crmsnorm": normlab.CRMSNorm,
    "prmsnorm": normlab.PRMSNorm,
    "dyt": normlab.DyT,
}
INSTANCE = [normlab.InstanceNorm1d, normlab.InstanceNorm2d, normlab.InstanceNorm3d]
MAKERS: dict[str, Any] = {
    **ROWS,
    "groupnorm": lambda n, **k: normlab.GroupNorm(2, n, **k),
    "instancenorm": normlab.InstanceNorm1d,
}


def raises(error, message):
    return pytest.raises(error, match=re.escape(message))


@pytest.mark.parametrize("kind", ROWS)
def test_input_of_a_row_layer(kind):
    layer = ROWS[kind](6)
    with raises(ValueError, "normalized_shape must be the trailing axes of input [6, 4], got [6]"):
        layer(X.T)
    with raises(ValueError, "normalized_shape must be the trailing axes of input [], got [6]"):
        layer(torch.tensor(1.0))
    with raises(TypeError, f"input {FLOATS} torch.int64"):
        layer(X.long())
    with raises(TypeError, "input must be a torch.Tensor, got ndarray"):
        layer(X.numpy())


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize(
    ("shape", "error"), [("6", TypeError), (6.0, TypeError), (None, TypeError), ((), ValueError), (-1, ValueError)]
)
def test_normalized_shape(kind, shape, error):
    with pytest.raises(error, match=f"normalized_shape must .*, got {re.escape(repr(shape))}"):
        ROWS[kind](shape)


EPS = [
    (True, TypeError, "eps must be a number, got bool True"),
    ("1e-5", TypeError, "eps must be a number, got str '1e-5'"),
    (-1e-5, ValueError, "eps must be at least 0, got -1e-05"),
    (float("nan"), ValueError, "eps must be finite, got nan"),
]


@pytest.mark.parametrize(("eps", "error", "message"), EPS, ids=str)
@pytest.mark.parametrize("kind", [k for k in MAKERS if k != "dyt"])
def test_eps(kind, eps, error, message):
    with raises(error, message):
        MAKERS[kind](6, eps=eps)
    spec = NormSpec(kind, eps=1e-3, groups=2)
    with raises(ValueError, "eps is part of the spec (0.001): give it there, got eps=0.01"):
        MAKERS[kind](6, eps=1e-2, spec=spec)
    assert MAKERS[kind](6, eps=1e-3, spec=spec).eps == 1e-3  # agreeing is allowed, and so is the default
    assert MAKERS[kind](6, spec=spec).eps == 1e-3


@pytest.mark.parametrize("kind", MAKERS)
def test_spec(kind):
    with raises(ValueError, f"spec must be of kind {kind!r} here, got 'layernorm'"):
        MAKERS[kind](6, spec=NormSpec("layernorm"))
    with raises(TypeError, "spec must be a NormSpec or the name of a preset, got dict"):
        MAKERS[kind](6, spec={"kind": kind})
    with raises(ValueError, f"kind must be rmsnorm for preset 'llama', got {kind!r}"):
        MAKERS[kind](6, spec="llama")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: normlab.PRMSNorm(6, 0.5, spec=NormSpec("prmsnorm", fraction=0.25)),
            "fraction is part of the spec (0.25): give it there, got fraction=0.5",
        ),
        (
            lambda: normlab.DyT(6, 0.7, spec=NormSpec("dyt", alpha=0.3)),
            "alpha is part of the spec (0.3): give it there, got alpha=0.7",
        ),
        (
            lambda: normlab.GroupNorm(3, 6, spec=NormSpec("groupnorm", groups=2)),
            "num_groups is part of the spec (2): give it there, got num_groups=3",
        ),
        (
            lambda: normlab.InstanceNorm1d(6, affine=True, spec=NormSpec("instancenorm", affine=False)),
            "affine is part of the spec (False): give it there, got affine=True",
        ),
        (
            lambda: normlab.L2Norm(6, elementwise_affine=True, spec=NormSpec("l2norm", affine=False)),
            "elementwise_affine is part of the spec (False): give it there, got elementwise_affine=True",
        ),
    ],
)
def test_what_contradicts_a_spec(make, message):
    with raises(ValueError, message):
        make()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: normlab.PRMSNorm(6, 0.0), ValueError, "fraction must be greater than 0, got 0"),
        (lambda: normlab.PRMSNorm(6, 1.5), ValueError, "fraction must be at most 1, got 1.5"),
        (lambda: normlab.PRMSNorm(6, "half"), TypeError, "fraction must be a number, got str 'half'"),  # pyright: ignore
        (lambda: normlab.DyT(6, float("nan")), ValueError, "alpha must be finite, got nan"),
        (lambda: normlab.DyT(6, bias=None), TypeError, "bias must be True or False, got"),  # pyright: ignore
        (lambda: normlab.GroupNorm(4, 6), ValueError, "num_groups must divide num_channels, 6, got 4"),
        (lambda: normlab.GroupNorm(0, 6), ValueError, "num_groups must be at least 1, got 0"),
        (lambda: normlab.GroupNorm(2.0, 6), TypeError, "num_groups must be an int, got 2.0"),  # pyright: ignore
        (lambda: normlab.GroupNorm(2, (6,)), TypeError, "num_channels must be an int, got (6,)"),  # pyright: ignore
        (lambda: normlab.GroupNorm(2, -6), ValueError, "num_channels must be at least 0, got -6"),
        (lambda: normlab.InstanceNorm1d("6"), TypeError, "num_features must be an int, got '6'"),  # pyright: ignore
        (lambda: normlab.InstanceNorm2d(6, affine=1), TypeError, "affine must be True or False, got int 1"),  # pyright: ignore
    ],
)
def test_constructors(make, error, message):
    with raises(error, message):
        make()


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.ones(6), ValueError, "input must have shape (batch, 6, *space), got [6]"),
        (torch.ones(2, 4, 3), ValueError, "input must have shape (batch, 6, *space), got [2, 4, 3]"),
        (torch.ones(2, 6).long(), TypeError, f"input {FLOATS} torch.int64"),
        ([[1.0] * 6], TypeError, "input must be a torch.Tensor, got list"),
    ],
)
def test_input_of_groupnorm(x, error, message):
    with raises(error, message):
        normlab.GroupNorm(2, 6)(x)


def test_one_value_for_a_group():
    """As torch: refused of one sample, 0 of several."""
    layer = normlab.GroupNorm(6, 6)
    with raises(ValueError, "input must hold more than 1 value per group for its statistics, got [1, 6]"):
        layer(torch.ones(1, 6))
    assert torch.equal(layer(torch.ones(2, 6)), torch.zeros(2, 6))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        (torch.ones(2, 6, 1), {}, ValueError, "input must hold more than 1 value per sample and channel"),
        (torch.ones(0, 6, 1), {}, ValueError, "input must hold more than 1 value per sample and channel"),
        (torch.ones(6, 1), {}, ValueError, "input must hold more than 1 value per sample and channel"),
        (torch.ones(2, 6, 2, 2), {}, ValueError, "expected 2D or 3D input (got 4D input)"),
        (torch.ones(2, 4, 3), {"affine": True}, ValueError, "expected input's size at dim=1 to match num_features (6)"),
        ([1.0], {}, TypeError, "input must be a torch.Tensor, got list"),
    ],
)
def test_a_refused_batch_leaves_instancenorm_as_it_was(x, options, error, message, half, fill, rng):
    layer = fill(normlab.InstanceNorm1d(6, track_running_stats=True, **options), rng)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    with raises(error, message):
        layer(x.bfloat16() if half and isinstance(x, torch.Tensor) else x)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.filterwarnings("ignore:input's size at dim=1 does not match num_features")  # as torch's
def test_channels_other_than_those_of_the_running_statistics():
    layer = normlab.InstanceNorm1d(6, track_running_stats=True)
    with raises(ValueError, "input must have 6 channels, as the running statistics, got shape [2, 4, 3]"):
        layer(torch.ones(2, 4, 3))
    with raises(ValueError, "running_mean must have shape [4], the channels of input, got [6]"):
        layer.eval()(torch.ones(2, 4, 3))
    assert normlab.InstanceNorm1d(6)(torch.randn(2, 4, 3)).shape == (2, 4, 3)  # torch warns and goes on


@pytest.mark.parametrize("kind", KINDS)
def test_make_norm_makes_every_kind(kind):
    layer = make_norm(kind, 64, dtype=torch.float64)
    x = torch.randn(4, 64, 5, dtype=torch.float64)
    y = layer(x if kind in ("batchnorm", "groupnorm", "instancenorm") else x.mT)
    assert y.dtype == torch.float64
    if kind != "none":
        assert layer.spec == NormSpec(kind)
        assert make_norm(NormSpec(kind, affine=False), 64).spec == NormSpec(kind, affine=False)


def test_make_norm_of_groups_that_do_not_divide():
    with raises(ValueError, "dim must be a multiple of the spec's groups, 32, got 6"):
        make_norm("groupnorm", 6)
    assert make_norm(NormSpec("groupnorm", groups=3), 6)(torch.randn(2, 6)).shape == (2, 6)
