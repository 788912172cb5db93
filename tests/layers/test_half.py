"""Half-precision input beside float32 parameters: torch's operations where they are as exact as the formula."""

from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import normlab
from normlab import NormSpec
from normlab.layers import _half

HALVES = [torch.bfloat16, torch.float16]
NAMES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "GroupNorm": (lambda m, **k: m.GroupNorm(4, 16, **k), (4, 16, 5, 7)),
    "InstanceNorm2d": (lambda m, **k: m.InstanceNorm2d(16, affine=True, **k), (4, 16, 5, 7)),
    "InstanceNorm2d that tracks": (lambda m, **k: m.InstanceNorm2d(16, track_running_stats=True, **k), (4, 16, 5, 7)),
    "BatchNorm2d": (lambda m, **k: m.BatchNorm2d(16, **k), (4, 16, 5, 7)),
    "BatchNorm1d": (lambda m, **k: m.BatchNorm1d(16, **k), (33, 16)),
    "BatchNorm1d without a weight": (lambda m, **k: m.BatchNorm1d(16, affine=False, **k), (33, 16)),
    "BatchNorm2d without a bias": (lambda m, **k: m.BatchNorm2d(16, bias=False, **k), (4, 16, 5, 7)),
    "BatchNorm2d of its batch": (lambda m, **k: m.BatchNorm2d(16, track_running_stats=False, **k), (4, 16, 5, 7)),
    "GroupNorm without a bias": (lambda m, **k: m.GroupNorm(4, 16, bias=False, **k), (4, 16, 5, 7)),
    "InstanceNorm2d without a bias": (lambda m, **k: m.InstanceNorm2d(16, affine=True, bias=False, **k), (4, 16, 5, 7)),
    "BatchNorm2d of many": (lambda m, **k: m.BatchNorm2d(2, **k), (33, 2, 20, 20)),
    "InstanceNorm2d of many": (lambda m, **k: m.InstanceNorm2d(2, affine=True, **k), (2, 2, 80, 80)),
}


def pieces(layer, x, dy):
    """y, dx, the parameters' gradients and the running statistics, in float64."""
    leaf = x.clone().requires_grad_()
    layer.zero_grad()
    y = layer(leaf)
    y.backward(dy.to(y.dtype))
    found = {"y": y.detach(), "dx": leaf.grad, **{f"d{n}": p.grad for n, p in layer.named_parameters()}}
    found |= {n: b.clone() for n, b in layer.named_buffers() if n != "num_batches_tracked"}
    return {name: value.double() for name, value in found.items()}


def errors(found, want):
    """Of each piece, relative to its largest number."""
    return {name: float((found[name] - w).abs().max() / w.abs().max().clamp_min(1e-30)) for name, w in want.items()}


def by_formula(monkeypatch):
    monkeypatch.setattr(_half, "HALVES", ())


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [True, False])
def test_it_is_as_exact_as_the_formula(name, half, mean, channels_last, training, fill, rng, monkeypatch):
    make, shape = NAMES[name]
    x, dy = (torch.randn(shape) * 2 + mean).to(half), torch.randn(shape).to(half)
    if channels_last and x.dim() == 4:
        x, dy = (t.to(memory_format=torch.channels_last) for t in (x, dy))
    state = fill(make(normlab), rng).state_dict()

    def step(module, dtype, x, dy):
        layer = make(module, dtype=dtype).train(training)
        layer.load_state_dict(state)
        return pieces(layer, x, dy)

    want = step(nn, torch.float64, x.double().contiguous(), dy.double().contiguous())
    wide = errors(step(nn, torch.float32, x.float().contiguous(), dy.float().contiguous()), want)
    ours = errors(step(normlab, torch.float32, x, dy), want)
    with monkeypatch.context() as patch:
        by_formula(patch)
        formula = errors(step(normlab, torch.float32, x, dy), want)
    unit = torch.finfo(torch.float32).eps
    for piece, error in ours.items():
        # Beside the formula's: a few units of float32, and for a weight's gradient what it loses for float32 input too,
        # where the mean is large.
        allowed = formula[piece] + 16 * unit
        if piece == "dweight":
            allowed = max(allowed, 3 * wide[piece])
        assert error <= allowed, (piece, error, formula[piece], wide[piece])


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize(
    ("name", "kept"), [("GroupNorm", 0), ("InstanceNorm2d", 0), ("BatchNorm2d", 0), ("BatchNorm2d of many", 2)]
)
def test_nothing_but_the_input_is_kept_for_backward(name, kept, half):
    """What tells torch's operation from the formula, which keeps 4 to 6 times the input beside it."""
    make, shape = NAMES[name]
    x, layer = torch.randn(shape).to(half).requires_grad_(), make(normlab)
    sizes = {}

    def keep(t):
        sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        layer(x)
    sizes.pop(x.untyped_storage().data_ptr(), None)
    assert sum(sizes.values()) < kept * x.numel() * 2 + 2048


@pytest.mark.parametrize("half", HALVES)
def test_groupnorm_with_the_channels_last(half, monkeypatch):
    """torch's takes the variance there as a difference of squares: at a mean of 1000 nothing is left of it."""
    x = (torch.randn(4, 16, 7, 7) * 2 + 100).to(half).to(memory_format=torch.channels_last)
    ours, theirs = normlab.GroupNorm(4, 16), nn.GroupNorm(4, 16)
    want = theirs.double()(x.double().contiguous())
    assert (ours(x) - want).abs().max() < 4 * torch.finfo(half).eps * want.abs().max()


@pytest.mark.parametrize("half", HALVES)
def test_groupnorm_of_what_is_contiguous_and_has_the_channels_last(half):
    """torch's takes one number of space for channels last, and the variance as above."""
    x = (torch.randn(4, 64, 1, 1) * 2 + 100).to(half).to(memory_format=torch.channels_last)
    assert x.is_contiguous()
    want = nn.GroupNorm(4, 64).double()(x.double().flatten(1))
    got = normlab.GroupNorm(4, 64)(x)
    assert got.stride() == nn.GroupNorm(4, 64)(x).stride()
    assert (got.flatten(1) - want).abs().max() < torch.finfo(half).eps * want.abs().max()


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
@pytest.mark.parametrize("parameters", [torch.float32, None])
@pytest.mark.parametrize("dim", [4, 5])
def test_groupnorm_keeps_the_layout(dtype, parameters, dim):
    last = torch.channels_last if dim == 4 else torch.channels_last_3d
    for x in (
        torch.randn([2, 8, *[3] * (dim - 2)]).to(dtype).to(memory_format=last),
        torch.randn([2, 8, *[3] * (dim - 2)]).to(dtype),
        torch.randn([2, 8, *[1] * (dim - 2)]).to(dtype),
    ):
        strides = []
        for module in (normlab, nn):
            leaf = x.clone().requires_grad_()
            y = module.GroupNorm(2, 8, dtype=parameters or dtype)(leaf)
            y.backward(torch.ones_like(y))
            strides.append((y.stride(), leaf.grad.stride() if leaf.grad is not None else None))
        assert strides[0] == strides[1]


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("fields", [{"offset": 1.0}, {"eps": None}, {"eps": 0.0}, {"eps_place": "outside"}], ids=str)
@pytest.mark.parametrize("kind", ["groupnorm", "instancenorm", "batchnorm"])
def test_other_specs(kind, fields, half, monkeypatch):
    spec = NormSpec(kind, groups=4 if kind == "groupnorm" else 32, **fields)
    x, dy = torch.randn(5, 8, 9).to(half), torch.randn(5, 8, 9).to(half)
    layer: Any = normlab.make_norm(spec, 8)
    state = {n: v.clone() for n, v in layer.state_dict().items()}
    ours = pieces(layer, x, dy)
    by_formula(monkeypatch)
    layer.load_state_dict(state)
    for name, value in pieces(layer, x, dy).items():
        torch.testing.assert_close(ours[name], value, rtol=2 * torch.finfo(half).eps, atol=1e-5, msg=name)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", ["GroupNorm", "InstanceNorm2d", "BatchNorm2d"])
def test_second_derivatives_and_transforms(name, half, monkeypatch):
    make, _ = NAMES[name]
    x, v = torch.randn(2, 16, 3, 3).to(half), torch.randn(2, 16, 3, 3).to(half)
    layer = make(normlab)

    def second():
        leaf = x.clone().requires_grad_()
        (dx,) = torch.autograd.grad((layer(leaf).float() ** 3).sum(), leaf, create_graph=True)
        return torch.autograd.grad((dx.float() * v).sum(), [leaf, layer.weight])

    def transformed():
        layer.eval()  # running statistics cannot be moved there
        return [
            torch.func.jvp(layer, (x,), (v,))[1],
            torch.vmap(layer)(torch.stack([x, v])),
        ]

    ours = [*second(), *transformed()]
    by_formula(monkeypatch)
    layer.train()
    for got, want in zip(ours, [*second(), *transformed()], strict=True):
        assert got.dtype == want.dtype
        close = 64 * torch.finfo(half).eps * float(want.detach().abs().max())
        torch.testing.assert_close(got, want, rtol=0, atol=close)


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
@pytest.mark.parametrize("parameters", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["GroupNorm", "InstanceNorm2d", "BatchNorm2d"])
def test_autocast_gives_torchs_dtypes(name, dtype, parameters):
    make, shape = NAMES[name]
    x = torch.randn(shape).to(dtype)
    ours, theirs = (make(module, dtype=parameters) for module in (normlab, nn))
    with torch.autocast("cpu", torch.bfloat16):
        if parameters == torch.float32 or dtype == parameters:
            assert ours(x).dtype == theirs(x).dtype
    if "Batch" in name:
        return  # torch asks the GPU about it
    # On a GPU: nothing is computed, the dtypes are known all the same.
    torch.set_autocast_enabled("cuda", True)  # torch.autocast would look for a GPU
    try:
        with torch.no_grad(), FakeTensorMode():
            ours, theirs = (make(module, device="cuda") for module in (normlab, nn))
            x = torch.empty(shape, device="cuda", dtype=dtype)
            assert ours(x).dtype == theirs(x).dtype
    finally:
        torch.set_autocast_enabled("cuda", False)
