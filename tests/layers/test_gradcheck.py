"""First and second derivatives by torch's own numerical check, in float64, through both ways of the kernel.

gradcheck compares with central differences of step 1e-6 to an absolute 1e-5 and a relative 1e-3, its defaults;
exact agreement is held against the definition elsewhere. What is new here is the second derivative.
"""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from normlab import NormSpec, functional
from normlab.kernels import torch_ops

WAYS = ["as chosen", "formula", "formula, eps outside", "offset"]


def spec_for(kind, way, monkeypatch):
    if way == "formula":
        monkeypatch.setattr(torch_ops, "_is_torch_formula", lambda *a: False)
        monkeypatch.setattr("normlab.kernels.choice.chosen", lambda: "torch")
    return NormSpec(
        kind,
        eps=0.1,
        eps_place="outside" if "outside" in way else "inside",
        offset=1.0 if way == "offset" else 0.0,
    )


def leaves(*shapes):
    return tuple(torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("shape", "normalized"), [((3, 4), [4]), ((2, 2, 3), [2, 3])])
def test_rms_norm(shape, normalized, way, monkeypatch):
    spec = spec_for("rmsnorm", way, monkeypatch)
    arguments = leaves(shape, normalized)
    assert gradcheck(lambda x, w: functional.rms_norm(x, normalized, w, spec=spec), arguments)
    assert gradgradcheck(lambda x, w: functional.rms_norm(x, normalized, w, spec=spec), arguments)
    assert gradgradcheck(lambda x: functional.rms_norm(x, normalized, spec=spec), arguments[:1])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("shape", "normalized"), [((3, 4), [4]), ((2, 2, 3), [2, 3])])
def test_layer_norm(shape, normalized, way, monkeypatch):
    spec = spec_for("layernorm", way, monkeypatch)
    arguments = leaves(shape, normalized, normalized)
    assert gradcheck(lambda x, w, b: functional.layer_norm(x, normalized, w, b, spec=spec), arguments)
    assert gradgradcheck(lambda x, w, b: functional.layer_norm(x, normalized, w, b, spec=spec), arguments)
    assert gradgradcheck(lambda x: functional.layer_norm(x, normalized, spec=spec), arguments[:1])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 2), (2, 2, 3)])
def test_batch_norm(shape, training, way, monkeypatch):
    spec = spec_for("batchnorm", way, monkeypatch)
    arguments = leaves(shape, 2, 2)

    def norm(x, w, b):
        # Fresh each time: the check calls this often, and training moves them.
        mean, var = torch.full((2,), 0.5, dtype=torch.float64), torch.full((2,), 2.0, dtype=torch.float64)
        return functional.batch_norm(x, mean, var, w, b, training, spec=spec)

    assert gradcheck(norm, arguments)
    assert gradgradcheck(norm, arguments)
