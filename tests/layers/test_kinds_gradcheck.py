"""First and second derivatives of the kinds beyond the first three, by torch's own numerical check, in float64."""

from typing import Any

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import normlab
from normlab import NormSpec

OTHER = {"eps_place": "outside", "offset": 1.0}
LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "groupnorm": (lambda: normlab.GroupNorm(2, 4, eps=0.1), (2, 4, 3)),
    "groupnorm, formula": (lambda: normlab.GroupNorm(2, 4, spec=NormSpec("groupnorm", groups=2, **OTHER)), (2, 4, 2)),
    "instancenorm": (lambda: normlab.InstanceNorm1d(3, eps=0.1, affine=True), (2, 3, 4)),
    "instancenorm, formula": (lambda: normlab.InstanceNorm1d(2, spec=NormSpec("instancenorm", **OTHER)), (2, 2, 4)),
    "instancenorm, evaluation": (
        lambda: normlab.InstanceNorm1d(2, affine=True, track_running_stats=True).eval(),
        (2, 2, 3),
    ),
    "scalenorm": (lambda: normlab.ScaleNorm(4), (3, 4)),
    "scalenorm, two axes": (lambda: normlab.ScaleNorm([2, 3]), (2, 2, 3)),
    "scalenorm, below the floor": (lambda: normlab.ScaleNorm(4, eps=50.0), (3, 4)),
    "l2norm": (lambda: normlab.L2Norm(4, elementwise_affine=True), (3, 4)),
    "crmsnorm": (lambda: normlab.CRMSNorm(4, eps=0.1), (3, 4)),
    "crmsnorm, eps outside": (lambda: normlab.CRMSNorm(4, spec=NormSpec("crmsnorm", **OTHER)), (3, 4)),
    "prmsnorm": (lambda: normlab.PRMSNorm(5, 0.4, eps=0.1), (3, 5)),
    "prmsnorm, eps outside": (
        lambda: normlab.PRMSNorm([2, 3], spec=NormSpec("prmsnorm", fraction=0.5, **OTHER)),
        (2, 2, 3),
    ),
    "dyt": (lambda: normlab.DyT(4), (3, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    make, shape = LAYERS[name]
    layer = make().double()
    names = [n for n, _ in layer.named_parameters()]
    arguments = [torch.randn(shape, dtype=torch.float64, requires_grad=True)]
    arguments += [torch.randn(p.shape, dtype=torch.float64, requires_grad=True) for p in layer.parameters()]

    def norm(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    assert gradcheck(norm, arguments)
    assert gradgradcheck(norm, arguments)


@pytest.mark.parametrize("layer", [normlab.AdaptiveLayerNorm, normlab.AdaptiveRMSNorm])
def test_adaptive(layer):
    norm = layer(4, 3, eps=0.1).double()
    torch.nn.init.normal_(norm.projection.weight)
    arguments = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((2, 2, 4), (2, 3))]
    assert gradcheck(norm, arguments)
    assert gradgradcheck(norm, arguments)


def test_qk_norm():
    layer = normlab.QKNorm(8).double()
    arguments = [torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert gradcheck(layer, arguments)
    assert gradgradcheck(layer, arguments)
