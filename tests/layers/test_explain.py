"""Which kernel runs, why, and what happens where the fused ones cannot."""

import subprocess
import sys

import pytest
import torch

import normlab
from normlab import NormSpec, functional

WITHOUT = """
import sys
for name in NAMES:
    sys.modules[name] = None
import warnings
import torch
import normlab
spec = normlab.NormSpec("rmsnorm")
x = torch.randn(3, 8)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    y = normlab.functional.rms_norm(x, [8])
    normlab.functional.rms_norm(x, [8])
assert torch.equal(y, torch.nn.functional.rms_norm(x, [8]))
print(len(caught), caught[0].message)
print(normlab.explain(x, spec=spec))
"""


@pytest.mark.parametrize("names", [("numba",), ("numba", "llvmlite"), ("llvmlite",)])
def test_without_numba_everything_runs_and_one_warning_says_so(names):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.replace("NAMES", repr(names))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    why = "Numba is not installed (pip install numba)"
    assert done.stdout.splitlines() == [
        f"1 normlab runs on PyTorch's own operations, which are slower: {why}",
        f"torch: {why}",
    ]


@pytest.mark.parametrize("scale_dtype", ["stats", "input", "weight"])
@pytest.mark.parametrize("with_weight", [True, False])
def test_the_fused_kernels_round_where_the_formula_does(scale_dtype, with_weight):
    """Each rounding that only one of the two does shows in every third number of a bfloat16 result with a bias."""
    spec = NormSpec("layernorm", scale_dtype=scale_dtype)
    x, weight, bias = (torch.randn(*shape).bfloat16() for shape in ((64, 64), (64,), (64,)))
    given = (weight if with_weight else None, bias)
    fused = functional.layer_norm(x, [64], *given, spec=spec)
    with normlab.use_kernels("torch"):
        by_formula = functional.layer_norm(x, [64], *given, spec=spec)
    # The statistics differ in the last digit of float32, which moves a number in thousands over a tie.
    assert (fused != by_formula).double().mean() < 0.01
