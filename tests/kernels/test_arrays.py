"""The kernels on NumPy arrays: the bits of those on tensors; the definitions where no kernel runs; no PyTorch."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from normlab.kernels import arrays, cpu
from normlab.kernels.cpu_build import BuildError
from normlab.norms import layernorm, rmsnorm
from normlab.spec import NormSpec

SPECS = {
    "rmsnorm": NormSpec("rmsnorm", eps=1e-6),
    "gemma": NormSpec.preset("gemma"),
    "machine epsilon": NormSpec("rmsnorm", eps=None),
    "layernorm": NormSpec("layernorm"),
}
SHAPES = ((1, 1), (5, 7), (130, 64), (3, 4097), (0, 8))


def made(rng, shape, dtype, spec, affine):
    x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    weight = rng.standard_normal(shape[1]).astype(dtype) if affine else None
    bias = rng.standard_normal(shape[1]).astype(dtype) if affine and spec.kind == "layernorm" else None
    return x, dy, weight, bias


def both(x, dy, weight, bias, spec):
    y, kept = arrays.forward(x, weight, bias, spec)
    return y, *arrays.backward(dy, kept)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_bits_are_those_of_tensors(rng, spec, dtype, shape, affine):
    x, dy, weight, bias = made(rng, shape, dtype, spec, affine)
    tensors: list[Any] = [None if a is None else torch.from_numpy(a) for a in (x, dy, weight, bias)]
    tx, tdy, tw, tb = tensors
    forward = cpu.forward(tx, None, tw, tb, tx.shape[0], tx.shape[1], spec)
    backward = cpu.backward(
        tdy, None, tx, tw, forward.stats, None if tb is None else tb.dtype, tx.shape[0], tx.shape[1], spec
    )
    for got, want in zip(both(x, dy, weight, bias, spec), (forward.y, *backward), strict=True):
        if want is None:
            assert got is None
        elif x.size:
            np.testing.assert_array_equal(got, want.numpy())
        else:
            np.testing.assert_array_equal(got, np.zeros(want.shape))


@pytest.mark.parametrize("way", ["no Numba", "no compiler"])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_without_a_kernel_the_definition_is_computed(rng, monkeypatch, spec, affine, way):
    def fails(*_, **__):
        raise BuildError("no compiler")

    if way == "no Numba":
        monkeypatch.setattr(arrays, "unusable", lambda: "Numba is not installed")
    else:
        monkeypatch.setattr("normlab.kernels.cpu_plan.forward_plan", fails)
        monkeypatch.setattr("normlab.kernels.cpu_plan.backward_plan", fails)
    x, dy, weight, bias = made(rng, (9, 31), np.float64, spec, affine)
    given = [None if a is None else a.copy() for a in (x, dy, weight, bias)]
    definition = layernorm if spec.kind == "layernorm" else rmsnorm
    options = {"eps": spec.eps, "offset": spec.offset}
    parameters = (weight, bias) if spec.kind == "layernorm" else (weight,)
    wanted = [definition.forward(x, *parameters, **options), *definition.backward(dy, x, weight, **options)]
    for got, want in zip(both(x, dy, weight, bias, spec), wanted, strict=False):
        if got is not None:
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)
    for a, b in zip((x, dy, weight, bias), given, strict=True):
        np.testing.assert_array_equal(a, b)


def test_arrays_that_must_not_be_written_to(rng):
    x, dy, weight, bias = given = made(rng, (9, 31), np.float32, SPECS["layernorm"], True)
    wanted = both(x, dy, weight, bias, SPECS["layernorm"])
    for a in given:
        assert a is not None
        a.flags.writeable = False
    for got, want in zip(both(x, dy, weight, bias, SPECS["layernorm"]), wanted, strict=True):
        np.testing.assert_array_equal(got, want)


def test_parameters_of_another_dtype_are_refused(rng):
    x, dy, weight, bias = made(rng, (4, 8), np.float32, SPECS["layernorm"], True)
    assert weight is not None
    assert bias is not None
    for w, b in ((weight.astype(np.float64), bias), (weight, bias.astype(np.float64))):
        with pytest.raises(TypeError, match="weight and bias must have the dtype of x, float32, got float64"):
            both(x, dy, w, b, SPECS["layernorm"])


def test_pytorch_is_not_loaded():
    code = (
        "import sys, numpy as np; from normlab.kernels import arrays; from normlab.spec import NormSpec;"
        "arrays.forward(np.ones((4, 8)), None, None, NormSpec('layernorm')); import normlab.tensor.optim;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
