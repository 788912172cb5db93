"""RunConfig: one sentence for a field that does not fit; equal configs, and only these, have equal canonical forms."""

from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest

from normlab.lab import RunConfig
from normlab.models import TransformerConfig
from normlab.spec import NormSpec

# Another value for every field of a run, of its model and of its norm; a field without one fails a test below.
OTHER_RUN = {
    "text": "another",
    "lr": 0.02,
    "seed": 1,
    "steps": 4,
    "batch": 3,
    "warmup": 1,
    "eval_every": 1,
    "eval_windows": 6,
    "scales_at": (0, 1),
    "device": "cuda",
    "dtype": "bfloat16",
}
OTHER_MODEL = {
    "vocab_size": 7,
    "n_layers": 2,
    "dim": 32,
    "n_heads": 4,
    "n_kv_heads": 1,
    "hidden": 24,
    "context": 9,
    "placement": "post",
    "qk_norm": True,
    "final_norm": False,
    "positions": "rope",
    "rope_theta": 100.0,
    "activation": "swiglu",
    "bias": False,
    "tied": True,
    "init": "torch",
    "init_std": 0.03,
}
OTHER_NORM = {
    "kind": "rmsnorm",
    "eps": None,
    "eps_place": "outside",
    "offset": 1.0,
    "stats_dtype": "input",
    "scale_dtype": "input",
    "affine": False,
    "bias": False,
    "unbiased_running_var": False,
    "groups": 4,
    "fraction": 0.5,
    "alpha": 1.0,
}


def changed(config: RunConfig, part: str, field: str) -> RunConfig:
    match part:
        case "run":
            return replace(config, **{field: OTHER_RUN[field]})
        case "model":
            return replace(config, model=replace(config.model, **{field: OTHER_MODEL[field]}))
        case _:
            norm = replace(config.model.norm, **{field: OTHER_NORM[field]})
            return replace(config, model=replace(config.model, norm=norm))


EVERY_FIELD = [
    *(("run", f.name) for f in fields(RunConfig) if f.name != "model"),
    *(("model", f.name) for f in fields(TransformerConfig) if f.name != "norm"),
    *(("norm", f.name) for f in fields(NormSpec)),
]


@pytest.mark.parametrize(("part", "field"), EVERY_FIELD)
def test_every_field_tells_configs_apart(tiny, part, field):
    config, other = tiny(), changed(tiny(), part, field)
    assert other != config
    assert other.canonical() != config.canonical()


def test_seeds_that_float64_confuses_are_told_apart(tiny):
    assert tiny(seed=2**53).canonical() != tiny(seed=2**53 + 1).canonical()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {}),
        ({"lr": 1}, {"lr": 1.0}),
        ({"lr": 0.1}, {"lr": np.float64(0.1)}),
        ({"model": {"rope_theta": 10_000}}, {"model": {"rope_theta": 10_000.0}}),
        ({"model": {"norm": NormSpec("layernorm", offset=0.0)}}, {"model": {"norm": NormSpec("layernorm", offset=0)}}),
        ({"model": {"norm": NormSpec("layernorm", offset=0.0)}}, {"model": {"norm": NormSpec("layernorm", eps=1e-5)}}),
        ({"model": {"norm": NormSpec("layernorm", eps=0.0)}}, {"model": {"norm": NormSpec("layernorm", eps=-0.0)}}),
    ],
)
def test_equal_configs_are_one(tiny, one, other):
    a, b = tiny(**one), tiny(**other)
    assert a == b
    assert hash(a) == hash(b)
    assert a.canonical() == b.canonical()


def test_frozen(tiny):
    with pytest.raises(FrozenInstanceError):
        tiny().lr = 1.0


@pytest.mark.parametrize(
    ("field", "value", "error", "sentence"),
    [
        ("model", "gpt2", TypeError, "model must be a TransformerConfig, got str"),
        ("text", 5, TypeError, r"text must be a str \(Corpus.digest\), got int 5"),
        ("lr", "1", TypeError, "lr must be a number, got str '1'"),
        ("lr", 0.0, ValueError, "lr must be greater than 0, got 0"),
        ("lr", float("nan"), ValueError, "lr must be finite, got nan"),
        ("seed", -1, ValueError, "seed must be at least 0, got -1"),
        ("seed", 1.0, TypeError, "seed must be an int, got float 1.0"),
        ("seed", 2**64, ValueError, r"seed must be below 2\*\*64, got 18446744073709551616"),
        ("steps", 0, ValueError, "steps must be at least 1, got 0"),
        ("steps", True, TypeError, "steps must be an int, got bool True"),
        ("batch", 0, ValueError, "batch must be at least 1, got 0"),
        ("warmup", -1, ValueError, "warmup must be at least 0, got -1"),
        ("eval_every", -1, ValueError, "eval_every must be at least 0, got -1"),
        ("eval_windows", 0, ValueError, "eval_windows must be at least 1, got 0"),
        ("scales_at", (0, -1), ValueError, "scales_at must be at least 0, got -1"),
        ("scales_at", (0.5,), TypeError, "scales_at must be an int, got float 0.5"),
        ("scales_at", [0], TypeError, r"scales_at must be a tuple, got list \[0\]"),
        ("scales_at", 0, TypeError, "scales_at must be a tuple, got int 0"),
        ("device", "tpu", ValueError, "device must be one of 'cpu', 'cuda', got 'tpu'"),
        ("dtype", "float16", ValueError, "dtype must be one of 'float32', 'bfloat16', got 'float16'"),
    ],
)
def test_a_field_that_does_not_fit(tiny, field, value, error, sentence):
    with pytest.raises(error, match=f"^{sentence}$"):
        replace(tiny(), **{field: value})


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "pre layernorm, 1 layers, rate 0.01, seed 0"),
        ({"warmup": 50, "seed": 3, "lr": 3e-4}, "pre layernorm, 1 layers, rate 0.0003, warm-up 50, seed 3"),
        ({"model": {"placement": "none", "n_layers": 8}}, "none, 8 layers, rate 0.01, seed 0"),
        ({"dtype": "bfloat16"}, "pre layernorm, 1 layers, bfloat16, rate 0.01, seed 0"),
        ({"model": {"placement": "post", "norm": NormSpec("rmsnorm")}}, "post rmsnorm, 1 layers, rate 0.01, seed 0"),
    ],
)
def test_name(tiny, changes, name):
    assert str(tiny(**changes)) == name


@pytest.mark.parametrize("changes", [{"steps": 6}, {"batch": 4}, {"model": {"n_layers": 2}}, {"model": {"dim": 32}}])
def test_twice_the_work_costs_twice(tiny, changes):
    assert tiny(**changes).cost == 2 * tiny().cost
