"""An argument beside a spec: what was given and contradicts it is refused, also where it is the signature's default."""

import copy
import inspect
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch

import normlab
from normlab import NormSpec, functional

LAYERS: dict[str, Any] = {
    "layernorm": normlab.LayerNorm,
    "rmsnorm": normlab.RMSNorm,
    "batchnorm": normlab.BatchNorm1d,
    "groupnorm": lambda n, **k: normlab.GroupNorm(2, n, **k),
    "instancenorm": normlab.InstanceNorm1d,
    "scalenorm": normlab.ScaleNorm,
    "crmsnorm": normlab.CRMSNorm,
    "prmsnorm": normlab.PRMSNorm,
    "l2norm": normlab.L2Norm,
}
X = torch.arange(24.0).view(4, 6)
FUNCTIONS: dict[str, Any] = {
    "layernorm": lambda **k: functional.layer_norm(X, (6,), **k),
    "batchnorm": lambda **k: functional.batch_norm(X, None, None, training=True, **k),
    "add": lambda **k: functional.add_layer_norm(X, X, (6,), **k).normed,
}


def contradicts(name, value, in_spec):
    return pytest.raises(
        ValueError, match=re.escape(f"{name} is part of the spec ({in_spec}): give it there, got {name}={value}")
    )


@pytest.mark.parametrize("kind", LAYERS)
def test_the_default_eps_given_to_a_layer(kind):
    spec = NormSpec(kind, eps=1e-3, groups=2)
    default = 1e-12 if kind == "l2norm" else 1e-5
    with contradicts("eps", default, 0.001):
        LAYERS[kind](6, eps=default, spec=spec)
    assert LAYERS[kind](6, spec=spec).eps == LAYERS[kind](6, eps=1e-3, spec=spec).eps == 1e-3
    # A layer's own eps is a value like any other, not the default.
    with contradicts("eps", default, 0.001):
        LAYERS[kind](6, eps=LAYERS[kind](6).eps, spec=spec)


@pytest.mark.parametrize("layer", [normlab.AdaptiveLayerNorm, normlab.AdaptiveRMSNorm])
def test_the_default_eps_given_to_an_adaptive_layer(layer):
    spec = NormSpec("layernorm" if layer is normlab.AdaptiveLayerNorm else "rmsnorm", eps=1e-3)
    with contradicts("eps", 1e-05, 0.001):
        layer(6, 3, eps=1e-5, spec=spec)
    assert layer(6, 3, spec=spec).spec.eps == 1e-3


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_default_eps_given_to_a_function(name):
    spec = NormSpec("batchnorm" if name == "batchnorm" else "layernorm", eps=1e-3)
    with contradicts("eps", 1e-05, 0.001):
        FUNCTIONS[name](eps=1e-5, spec=spec)
    assert torch.equal(FUNCTIONS[name](spec=spec), FUNCTIONS[name](eps=1e-3))


def test_the_eps_of_llama_2():
    with contradicts("eps", 1e-05, 1e-06):
        normlab.RMSNorm(4096, eps=1e-5, spec="llama")


def test_the_default_alpha_and_fraction():
    with contradicts("alpha", 0.5, 0.3):
        normlab.DyT(6, alpha=0.5, spec=NormSpec("dyt", alpha=0.3))
    with contradicts("fraction", 0.0625, 0.5):
        normlab.PRMSNorm(6, fraction=0.0625, spec=NormSpec("prmsnorm", fraction=0.5))
    assert normlab.DyT(6, spec=NormSpec("dyt", alpha=0.3)).alpha.item() == pytest.approx(0.3)
    assert normlab.PRMSNorm(6, spec=NormSpec("prmsnorm", fraction=0.5)).spec.fraction == 0.5


class Shifted(normlab.LayerNorm):
    """A subclass, whose signature is its parent's."""


@pytest.mark.parametrize("layer", [Shifted, normlab.LayerNorm])
def test_a_subclass_and_copies(layer):
    spec = NormSpec("layernorm", eps=1e-3)
    with contradicts("eps", 1e-05, 0.001):
        layer(6, eps=1e-5, spec=spec)
    original = layer(6, spec=spec)
    for twin in (copy.deepcopy(original), pickle.loads(pickle.dumps(original)), pickle.loads(pickle.dumps(layer))(6)):
        assert twin.eps in (1e-3, 1e-5)
        assert torch.equal(twin(X), layer(6, eps=twin.eps)(X))
    assert inspect.signature(layer).parameters["eps"].default == 1e-5
    assert "eps: float = 1e-05" in str(inspect.signature(layer))


@pytest.mark.parametrize("dynamic", [None, True, False])
def test_compiled_calls_without_an_eps_take_the_specs(dynamic):
    """Dynamo may stand a number of its own for the default."""
    spec, layer = NormSpec("layernorm", eps=1e-3), normlab.LayerNorm(6, spec=NormSpec("layernorm", eps=1e-3))
    other = torch.compile(layer, fullgraph=True, backend="eager", dynamic=dynamic)
    call: Any = torch.compile(
        lambda x: functional.layer_norm(x, (6,), spec=spec), fullgraph=True, backend="eager", dynamic=dynamic
    )
    for compiled in (call, other):
        torch.testing.assert_close(compiled(X), functional.layer_norm(X, (6,), eps=1e-3))


@pytest.mark.parametrize("kind", LAYERS)
def test_numpy_numbers(kind):
    """As torch.nn, which takes them; they become Python's."""
    for eps in (np.float32(1e-3), np.float64(1e-3), np.int64(0)):
        layer = LAYERS[kind](np.int64(6), eps=eps)
        assert all(type(n) is int for n in getattr(layer, "normalized_shape", ()))
        assert type(layer.eps) in (float, int)
        assert layer.eps == float(eps)
    layer.eps = np.float32(0.5)
    assert layer.spec.eps == 0.5


def test_numpy_integers_are_sizes_everywhere():
    two: Any = np.int64(2)
    eight: Any = np.int32(8)
    half: Any = np.float32(0.5)
    x = torch.randn(3, 8)
    for layer in (normlab.AdaptiveLayerNorm(eight, two), normlab.AdaptiveRMSNorm(eight, two)):
        assert layer(x, torch.randn(3, 2)).shape == x.shape
    assert repr(normlab.QKNorm(eight, half)) == "QKNorm(length=8, eps=0.5)"
    assert repr(normlab.GroupNorm(two, eight)) == repr(normlab.GroupNorm(2, 8))
    for make in (normlab.DyT, normlab.PRMSNorm):
        assert repr(make(eight, half)) == repr(make(8, 0.5))


@pytest.mark.parametrize("kind", LAYERS)
def test_make_norm_takes_a_numpy_integer(kind):
    dim: Any = np.int64(6)
    spec = NormSpec(kind, groups=2)
    assert repr(normlab.make_norm(spec, dim)) == repr(normlab.make_norm(spec, 6))
