"""TransformerConfig and StackConfig: values, and one clear sentence for what does not fit."""

import dataclasses
import re
from typing import Any

import pytest

from normlab.models import StackConfig, TransformerConfig
from normlab.spec import NormSpec


def transformer(**changes: Any) -> TransformerConfig:
    base: dict[str, Any] = {"vocab_size": 9}
    return TransformerConfig(**(base | changes))


def stack(**changes: Any) -> StackConfig:
    base: dict[str, Any] = {"depth": 2, "width": 4, "activation": "relu", "gain": 1.0}
    return StackConfig(**(base | changes))


KINDS = "norm.kind must be one of 'layernorm', 'rmsnorm', 'none', got 'batchnorm'"
TRANSFORMER_ERRORS = [
    *(
        ({name: value}, error, f"{name} must be {rule}")
        for name in ("vocab_size", "n_layers", "dim", "n_heads", "n_kv_heads", "hidden", "context")
        for value, error, rule in [
            (0, ValueError, "at least 1, got 0"),
            (-4, ValueError, "at least 1, got -4"),
            (4.0, TypeError, "an int, got float 4.0"),
            (True, TypeError, "an int, got bool True"),
            ("4", TypeError, "an int, got str '4'"),
        ]
    ),
    *(
        ({name: 1}, TypeError, f"{name} must be True or False, got int 1")
        for name in ("qk_norm", "bias", "tied", "final_norm")
    ),
    *(
        ({name: value}, error, f"{name} must be {rule}")
        for name in ("rope_theta", "init_std")
        for value, error, rule in [
            (0, ValueError, "greater than 0, got 0"),
            (-0.5, ValueError, "greater than 0, got -0.5"),
            (float("nan"), ValueError, "finite, got nan"),
            (float("inf"), ValueError, "finite, got inf"),
            ("1", TypeError, "a number, got str '1'"),
            (None, TypeError, "a number, got NoneType None"),
        ]
    ),
    ({"n_heads": 3}, ValueError, "dim must be a multiple of n_heads, got dim=64, n_heads=3"),
    ({"n_kv_heads": 3}, ValueError, "n_heads must be a multiple of n_kv_heads, got n_heads=4, n_kv_heads=3"),
    ({"n_kv_heads": 8}, ValueError, "n_heads must be a multiple of n_kv_heads, got n_heads=4, n_kv_heads=8"),
    ({"dim": 12, "positions": "rope"}, ValueError, "dim / n_heads must be even for positions='rope', got 3"),
    ({"norm": "layernorm"}, TypeError, "norm must be a NormSpec, got str"),
    # It would mix the positions of a sequence and so look into the future.
    ({"norm": NormSpec("batchnorm")}, ValueError, KINDS),
    (
        {"placement": "before"},
        ValueError,
        "placement must be one of 'none', 'post', 'pre', 'sandwich', 'respost', 'deepnorm', got 'before'",
    ),
    (
        {"placement": ["pre"]},
        ValueError,
        "placement must be one of 'none', 'post', 'pre', 'sandwich', 'respost', 'deepnorm', got ['pre']",
    ),
    ({"positions": "sinus"}, ValueError, "positions must be one of 'learned', 'rope', got 'sinus'"),
    ({"activation": "relu"}, ValueError, "activation must be one of 'gelu', 'swiglu', got 'relu'"),
    ({"init": None}, ValueError, "init must be one of 'xavier', 'gpt2', 'torch', 'normal', got None"),
]
STACK_ERRORS = [
    ({"depth": 0}, ValueError, "depth must be at least 1, got 0"),
    ({"width": 4.0}, TypeError, "width must be an int, got float 4.0"),
    (
        {"activation": "swiglu"},
        ValueError,
        "activation must be one of 'relu', 'gelu', 'silu', 'tanh', 'linear', got 'swiglu'",
    ),
    (
        {"activation": ["relu"]},
        ValueError,
        "activation must be one of 'relu', 'gelu', 'silu', 'tanh', 'linear', got ['relu']",
    ),
    ({"gain": 0.0}, ValueError, "gain must be greater than 0, got 0"),
    ({"gain": "1"}, TypeError, "gain must be a number, got str '1'"),
    ({"gain": float("inf")}, ValueError, "gain must be finite, got inf"),
    ({"norm": "layernorm"}, TypeError, "norm must be a NormSpec, got str"),
    ({"norm": NormSpec("batchnorm")}, ValueError, KINDS),
    ({"norm_place": "pre"}, ValueError, "norm_place must be one of 'none', 'before', 'after', got 'pre'"),
]


@pytest.mark.parametrize(
    ("build", "changes", "error", "message"),
    [(transformer, *row) for row in TRANSFORMER_ERRORS] + [(stack, *row) for row in STACK_ERRORS],
)
def test_one_sentence_for_what_does_not_fit(build, changes, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        build(**changes)


def test_what_is_left_out():
    config = transformer()
    assert (config.kv_heads, config.head_dim, config.hidden_dim) == (4, 16, 256)
    assert config.norm == NormSpec("layernorm")
    given = transformer(n_kv_heads=2, hidden=7)
    assert (given.kv_heads, given.hidden_dim) == (2, 7)


@pytest.mark.parametrize(
    ("placement", "stands"),
    [("none", False), ("post", False), ("deepnorm", False), ("pre", True), ("sandwich", True), ("respost", True)],
)
def test_a_final_norm_stands_where_the_stream_arrives_unnormalized(placement, stands):
    assert transformer(placement=placement).has_final_norm is stands
    for asked in (True, False):
        assert transformer(placement=placement, final_norm=asked).has_final_norm is asked


@pytest.mark.parametrize(
    ("build", "change"),
    [
        (transformer, {"vocab_size": 10}),
        (transformer, {"norm": NormSpec("none")}),
        (stack, {"depth": 3}),
        (stack, {"norm": NormSpec("rmsnorm")}),
    ],
)
def test_a_config_is_a_value(build, change):
    config, same, other = build(), build(), build(**change)
    assert config == same
    assert config != other
    assert {config, same, other} == {config, other}
    assert dataclasses.replace(config, **change) == other
    (name,) = change
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, name, change[name])


def test_replace_checks_too():
    with pytest.raises(ValueError, match=r"^dim must be a multiple of n_heads, got dim=64, n_heads=5$"):
        dataclasses.replace(transformer(), n_heads=5)
    with pytest.raises(ValueError, match=r"^depth must be at least 1, got 0$"):
        dataclasses.replace(stack(), depth=0)
