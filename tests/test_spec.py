"""NormSpec: what it accepts, what it derives, what the presets are."""

import copy
import dataclasses
import math
import pickle
import re

import numpy as np
import pytest

from normlab import NormSpec
from normlab.spec import KINDS, PRESETS

ALL_KINDS = (
    "'layernorm', 'rmsnorm', 'batchnorm', 'groupnorm', 'instancenorm', 'scalenorm', 'crmsnorm', 'prmsnorm', 'dyt', "
    "'l2norm', 'none'"
)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"kind": "batch"}, ValueError, f"kind must be one of {ALL_KINDS}, got 'batch'"),
        ({"kind": None}, ValueError, f"kind must be one of {ALL_KINDS}, got None"),
        ({"kind": ["rmsnorm"]}, ValueError, "kind must be one of"),
        ({"eps": -1e-9}, ValueError, "eps must be at least 0, got -1e-09"),
        ({"eps": math.nan}, ValueError, "eps must be finite, got nan"),
        ({"eps": math.inf}, ValueError, "eps must be finite, got inf"),
        ({"eps": True}, TypeError, "eps must be a number, got bool True"),
        ({"eps": "1e-5"}, TypeError, "eps must be a number, got str '1e-5'"),
        ({"eps": 1j}, TypeError, "eps must be a number, got complex 1j"),
        ({"eps_place": "left"}, ValueError, "eps_place must be one of 'inside', 'outside', got 'left'"),
        ({"offset": None}, TypeError, "offset must be a number, got NoneType None"),
        ({"offset": False}, TypeError, "offset must be a number, got bool False"),
        ({"offset": math.inf}, ValueError, "offset must be finite, got inf"),
        ({"stats_dtype": "float64"}, ValueError, "stats_dtype must be one of 'float32', 'input', got 'float64'"),
        (
            {"scale_dtype": "float32"},
            ValueError,
            "scale_dtype must be one of 'stats', 'input', 'weight', got 'float32'",
        ),
        ({"affine": 1}, TypeError, "affine must be True or False, got int 1"),
        ({"bias": None}, TypeError, "bias must be True or False, got NoneType None"),
        ({"unbiased_running_var": "yes"}, TypeError, "unbiased_running_var must be True or False, got str 'yes'"),
        ({"groups": 0}, ValueError, "groups must be at least 1, got 0"),
        ({"groups": 2.0}, TypeError, "groups must be an int, got float 2.0"),
        ({"groups": True}, TypeError, "groups must be an int, got bool True"),
        ({"fraction": 0}, ValueError, "fraction must be greater than 0, got 0"),
        ({"fraction": 1.01}, ValueError, "fraction must be at most 1, got 1.01"),
        ({"fraction": math.nan}, ValueError, "fraction must be finite, got nan"),
        ({"fraction": "all"}, TypeError, "fraction must be a number, got str 'all'"),
        ({"alpha": None}, TypeError, "alpha must be a number, got NoneType None"),
        ({"alpha": math.inf}, ValueError, "alpha must be finite, got inf"),
        (
            {"kind": "l2norm", "eps_place": "outside"},
            ValueError,
            "eps_place must be 'inside' (the default) for l2norm, got 'outside'",
        ),
        (
            {"kind": "scalenorm", "eps_place": "outside"},
            ValueError,
            "eps_place must be 'inside' (the default) for scalenorm, got 'outside'",
        ),
    ],
)
def test_bad_fields(fields, error, message):
    with pytest.raises(error, match=re.escape(message)):
        NormSpec(**{"kind": "layernorm", **fields})


@pytest.mark.parametrize("eps", [None, 0, 0.0, 1, 1e-5, np.float64(1e-5), 5e-324, 1e308])
def test_eps_that_is_allowed(eps):
    assert NormSpec("rmsnorm", eps=eps).eps == eps


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_bias_only_where_there_can_be_one(kind, affine, bias):
    expected = bias and affine and kind in ("layernorm", "batchnorm", "groupnorm", "instancenorm", "dyt")
    assert NormSpec(kind, affine=affine, bias=bias).bias is expected


def test_it_is_a_frozen_value():
    spec = NormSpec("rmsnorm", eps=1e-6)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.eps = 1.0  # pyright: ignore[reportAttributeAccessIssue]
    same = NormSpec("rmsnorm", eps=1e-6, bias=False)
    assert spec == same
    assert len({spec, same, NormSpec("rmsnorm"), NormSpec("layernorm", eps=1e-6)}) == 3
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert copy.deepcopy(spec) == spec
    assert eval(repr(spec)) == spec  # the repr is the call that makes it


def test_replace_checks_again():
    spec = NormSpec("layernorm")
    assert dataclasses.replace(spec, kind="rmsnorm").bias is False
    with pytest.raises(ValueError, match="eps must be at least 0"):
        dataclasses.replace(spec, eps=-1.0)


@pytest.mark.parametrize(("name", "kind"), PRESETS)
def test_every_preset_is_a_spec_of_its_kind(name, kind):
    spec = NormSpec.preset(name, kind)
    assert spec.kind == kind
    if sum(preset == name for preset, _ in PRESETS) == 1:
        assert NormSpec.preset(name) == spec


def test_presets_that_are_said_to_differ_do():
    """torch's, Llama's, Gemma's, T5's and TensorWeaver's RMSNorm are five formulas; MiniMind's is torch's with eps."""
    rms = {name: NormSpec.preset(name, "rmsnorm") for name, kind in PRESETS if kind == "rmsnorm"}
    assert len(set(rms.values())) == len(rms) == 6
    assert dataclasses.replace(rms["torch"], eps=1e-6) == rms["minimind"]


TORCHS = "layernorm, rmsnorm, batchnorm, groupnorm"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("llamas",),
            "preset must be one of 'gemma', 'llama', 'minimind', 't5', 'tensorweaver', 'torch', got 'llamas'",
        ),
        ((None,), "preset must be one of"),
        (("torch",), f"preset 'torch' has several kinds: give kind=, one of {TORCHS}, instancenorm"),
        (("tensorweaver",), "preset 'tensorweaver' has several kinds"),
        (("t5", "layernorm"), "kind must be rmsnorm for preset 't5', got 'layernorm'"),
        (("torch", "none"), f"kind must be {TORCHS} or instancenorm for preset 'torch', got 'none'"),
        (("torch", 3), f"kind must be {TORCHS} or instancenorm for preset 'torch', got 3"),
    ],
)
def test_bad_presets(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        NormSpec.preset(*arguments)
