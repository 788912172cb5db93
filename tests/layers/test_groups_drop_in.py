"""GroupNorm and InstanceNorm in torch.nn's place: constructors, attributes, repr, checkpoints both ways, copies."""

import copy
import inspect
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import normlab
from normlab import NormSpec

CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("GroupNorm", (2, 8), {}),
    ("GroupNorm", (4, 8, 1e-3, False), {}),
    ("GroupNorm", (8, 8, 1e-3, True, "cpu", torch.float64), {}),
    ("GroupNorm", (1, 8), {"bias": False}),
    ("InstanceNorm1d", (8,), {}),
    ("InstanceNorm2d", (8, 1e-3, 0.2, True), {}),
    ("InstanceNorm2d", (8, 1e-3, None, True, True, "cpu", torch.float16), {}),
    ("InstanceNorm3d", (8,), {"affine": True, "bias": False}),
]


@pytest.mark.parametrize("name", ["GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"])
def test_the_constructor_has_torchs_arguments_in_torchs_places(name):
    ours, theirs = getattr(normlab, name), getattr(nn, name)
    mine = dict(inspect.signature(ours).parameters)
    assert mine.pop("spec").kind is inspect.Parameter.KEYWORD_ONLY
    reference = inspect.signature(theirs).parameters
    assert [(p.name, p.kind, p.default) for p in mine.values()] == [
        (p.name, p.kind, p.default) for p in reference.values()
    ]
    assert list(inspect.signature(ours.forward).parameters) == list(inspect.signature(theirs.forward).parameters)


@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS)
def test_it_is_torchs_layer(name, args, kwargs, fill, rng):
    ours, theirs = getattr(normlab, name)(*args, **kwargs), getattr(nn, name)(*args, **kwargs)
    assert isinstance(ours, getattr(nn, name))
    assert repr(ours) == repr(theirs)
    for constant in theirs.__constants__:
        assert getattr(ours, constant) == getattr(theirs, constant)
    mine, state = ours.state_dict(), theirs.state_dict()
    assert list(mine) == list(state)
    for key, value in state.items():
        assert mine[key].dtype == value.dtype
        assert torch.equal(mine[key], value)  # the same initialization

    fill(ours, rng)
    for source, target in ((ours, theirs), (theirs, getattr(normlab, name)(*args, **kwargs))):
        file = io.BytesIO()
        torch.save(source.state_dict(), file)
        file.seek(0)
        target.load_state_dict(torch.load(file, weights_only=True))
        for key, value in source.state_dict().items():
            assert torch.equal(target.state_dict()[key], value)
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert twin.spec == ours.spec
        assert repr(twin) == repr(ours)
    ours.reset_parameters()
    for key, value in getattr(nn, name)(*args, **kwargs).state_dict().items():
        assert torch.equal(ours.state_dict()[key], value)


def test_eps_can_be_set_afterwards():
    for name, args in (("GroupNorm", (2, 4)), ("InstanceNorm1d", (4,))):
        ours, theirs = getattr(normlab, name)(*args), getattr(nn, name)(*args)
        ours.eps = theirs.eps = 0.5
        x = torch.randn(2, 4, 5)
        torch.testing.assert_close(ours(x), theirs(x))
        assert ours.spec.eps == 0.5


def test_with_an_offset_a_fresh_weight_leaves_the_scale_at_1():
    x = torch.randn(2, 4, 5)
    pairs: list[tuple[Any, Any]] = [
        (normlab.GroupNorm(2, 4), normlab.GroupNorm(2, 4, spec=NormSpec("groupnorm", groups=2, offset=1.0))),
        (normlab.InstanceNorm1d(4), normlab.InstanceNorm1d(4, spec=NormSpec("instancenorm", offset=1.0))),
    ]
    for plain, layer in pairs:
        assert torch.equal(layer.weight, torch.zeros(4))
        assert torch.equal(layer(x), plain(x))
        with torch.no_grad():
            layer.weight.fill_(3.0)
        layer.reset_parameters()
        assert torch.equal(layer.weight, torch.zeros(4))
