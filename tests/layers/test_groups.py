"""GroupNorm and InstanceNorm beside torch.nn's and beside their definitions."""

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import normlab
from normlab import NormSpec, norms

HALVES = [torch.bfloat16, torch.float16]
INSTANCE: list[tuple[Any, Any, tuple[int, ...]]] = [
    (normlab.InstanceNorm1d, nn.InstanceNorm1d, (3, 4, 5)),
    (normlab.InstanceNorm1d, nn.InstanceNorm1d, (1, 2, 2)),
    (normlab.InstanceNorm2d, nn.InstanceNorm2d, (2, 4, 3, 5)),
    (normlab.InstanceNorm3d, nn.InstanceNorm3d, (2, 2, 2, 1, 3)),
]
# No space, one group, a group a channel, one sample, odd space, one channel.
GROUPS = [((4, 6), 2), ((3, 4, 5), 1), ((3, 4, 5), 4), ((1, 6, 2, 3), 3), ((2, 4, 3, 3, 2), 2), ((2, 1, 7), 1)]
FORMULA = [{"eps_place": "outside", "eps": 0.1}, {"offset": 1.0}, {"eps": None}, {"eps": 0.0, "offset": -0.5}]


class Want(NamedTuple):
    """As conftest's Expected."""

    value: Any
    terms: float
    length: int
    kappa: float = 1.0


def top(a: Any) -> float:
    return float(np.max(np.abs(a), initial=0.0))


def wanted(layer: Any, x: torch.Tensor, dy: torch.Tensor, statistics: dict[str, Any] | None = None) -> dict[str, Want]:
    """What the definition says, and the size of what it adds up; `statistics` are the running ones before the step."""
    spec, shape = layer.spec, x.shape
    xs, ds = x.detach().double().numpy(), dy.double().numpy()
    weight, bias = (None if p is None else p.detach().double().numpy() for p in (layer.weight, layer.bias))
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    eps = torch.finfo(wide).eps if spec.eps is None else spec.eps
    options: dict[str, Any] = {"eps": eps, "eps_place": spec.eps_place, "offset": spec.offset}
    column = (-1,) + (1,) * (x.dim() - 2)
    g = np.ones(1) if weight is None else spec.offset + weight
    running = {name: b.double().numpy() for name, b in (statistics or {}).items()}
    own = layer.training or not running
    out: Any = None
    if spec.kind == "groupnorm":
        value = norms.groupnorm.forward(xs, spec.groups, weight, bias, **options)
        gradients: Any = norms.groupnorm.backward(ds, xs, spec.groups, weight, **options)
        rows = xs.reshape(shape[0], spec.groups, -1) if x.numel() else np.zeros((1, 1, 1))
    else:
        arguments = (running.get("running_mean"), running.get("running_var"))
        forward = {"momentum": layer.momentum, "unbiased_running_var": spec.unbiased_running_var}
        out = norms.instancenorm.forward(xs, weight, bias, *arguments, training=layer.training, **forward, **options)
        gradients = norms.instancenorm.backward(ds, xs, weight, *arguments, training=layer.training, **options)
        value = out.y
        rows = xs.reshape(*shape[:2], -1) if x.numel() else np.zeros((1, 1, 1))
    m, v = rows.mean(-1, keepdims=True), rows.var(-1, keepdims=True)
    if not own:
        m, v = (running[name].reshape(-1, 1) for name in ("running_mean", "running_var"))
    s = 1 / np.sqrt(v + eps) if spec.eps_place == "inside" else 1 / (np.sqrt(v) + eps)
    h, kappa, n = top((rows - m) * s), max(top(rows * s), top(m * s), 1.0), rows.shape[-1]
    sums = float(np.abs(ds).reshape(*shape[:2], -1).sum((0, 2)).max(initial=0.0))
    count = x.numel() // max(shape[1], 1) + n
    want = {
        "y": Want(value, h * top(g) + 1 + (0 if bias is None else top(bias)), n, kappa),
        "dx": Want(gradients.dx, top(s) * top(g.reshape(column) * ds) * (1 + h), n, kappa),
        "dweight": Want(gradients.dweight, (h + 1) * sums, count, kappa),
        "dbias": Want(gradients.dbias, sums, count),
    }
    if out is not None and out.running_mean is not None:
        want["running_mean"] = Want(out.running_mean, top(xs) + 1, n)
        want["running_var"] = Want(out.running_var, top(xs) ** 2 + 1, n)
    return want


def draw(shape: Any, dtype: torch.dtype, mean: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    return (torch.randn(shape) * 2 + mean).to(dtype), torch.randn(shape).to(dtype)


def buffers(layer: Any) -> dict[str, torch.Tensor]:
    return {n: b.clone() for n, b in layer.named_buffers() if n != "num_batches_tracked"}


def compare(ours: Any, theirs: Any, want: dict[str, Want], check: Any, half: bool) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert value.dtype == theirs[name].dtype
        check(value, want[name])
        if not half:  # torch's rounds the statistics to half precision on the way: it is not the reference there
            check(value, want[name]._replace(value=theirs[name].double().numpy(), terms=2 * want[name].terms))


@pytest.mark.parametrize(("shape", "groups"), GROUPS)
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"affine": False, "eps": 0.1}], ids=str)
def test_groupnorm(shape, groups, options, dtype, run, fill, rng, check):
    x, dy = draw(shape, dtype)
    ours = fill(normlab.GroupNorm(groups, shape[1], dtype=dtype, **options), rng)
    theirs = nn.GroupNorm(groups, shape[1], dtype=dtype, **options)
    theirs.load_state_dict(ours.state_dict())
    mine, reference = run(ours, x, dy), run(theirs, x, dy)
    compare(mine, reference, wanted(ours, x, dy), check, dtype in HALVES)
    if dtype not in HALVES:
        assert all(torch.equal(mine[name], reference[name]) for name in mine)


@pytest.mark.parametrize("fields", FORMULA, ids=str)
@pytest.mark.parametrize(("shape", "groups"), GROUPS)
def test_groupnorm_of_other_specs(shape, groups, fields, dtype, run, fill, rng, check):
    x, dy = draw(shape, dtype)
    spec = NormSpec("groupnorm", groups=groups, **fields)
    layer = fill(normlab.GroupNorm(groups, shape[1], dtype=dtype, spec=spec), rng)
    assert layer.spec == spec
    want = wanted(layer, x, dy)
    for name, value in run(layer, x, dy).items():
        assert value.dtype == dtype
        check(value, want[name])


@pytest.mark.parametrize("track", [False, True])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("layer", "reference", "shape"), INSTANCE)
@pytest.mark.parametrize("options", [{}, {"affine": True, "momentum": 0.7}, {"affine": True, "bias": False}], ids=str)
def test_instancenorm(layer, reference, shape, options, training, track, dtype, run, fill, rng, check):
    x, dy = draw(shape, dtype)
    options = {**options, "track_running_stats": track, "dtype": dtype}
    ours = fill(layer(shape[1], **options), rng).train(training)
    theirs = reference(shape[1], **options).train(training)
    theirs.load_state_dict(ours.state_dict())
    want = wanted(ours, x, dy, buffers(ours))
    compare(run(ours, x, dy), run(theirs, x, dy), want, check, dtype in HALVES)
    if track:
        assert ours.num_batches_tracked == theirs.num_batches_tracked == 0  # torch's does not count either


@pytest.mark.parametrize("fields", [*FORMULA, {"unbiased_running_var": False}], ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 4, 2)])
def test_instancenorm_of_other_specs(shape, training, fields, dtype, run, fill, rng, check):
    x, dy = draw(shape, dtype)
    spec = NormSpec("instancenorm", **fields)
    layer = fill(normlab.InstanceNorm1d(4, track_running_stats=True, dtype=dtype, spec=spec), rng).train(training)
    assert layer.spec == spec
    want = wanted(layer, x, dy, buffers(layer))
    for name, value in run(layer, x, dy).items():
        assert value.dtype == dtype
        check(value, want[name])


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("norm", ["groupnorm", "instancenorm"])
def test_the_statistics_of_half_precision_input_are_float32(norm, half, run, fill, rng, check):
    """At a mean of 100 torch's, which rounds them, is off by much more than its rounding of the result."""
    x, dy = draw((4, 6, 33), half, mean=100.0)
    makers: Any = {
        "groupnorm": lambda m: m.GroupNorm(2, 6, dtype=half),
        "instancenorm": lambda m: m.InstanceNorm1d(6, affine=True, dtype=half),
    }
    ours, theirs = fill(makers[norm](normlab), rng), makers[norm](nn)
    theirs.load_state_dict(ours.state_dict())
    want = wanted(ours, x, dy)
    mine, reference = run(ours, x, dy), run(theirs, x, dy)
    errors = []
    for name, value in mine.items():
        check(value, want[name])
        errors.append([float(np.abs(r[name].double().numpy() - want[name].value).max()) for r in (mine, reference)])
    assert max(theirs / ours for ours, theirs in errors) > 4


@pytest.mark.parametrize("kind", ["groupnorm", "instancenorm"])
def test_stats_dtype_input(kind):
    layer: Any = {
        "groupnorm": lambda spec: normlab.GroupNorm(32, 64, spec=spec, dtype=torch.bfloat16),
        "instancenorm": lambda spec: normlab.InstanceNorm1d(64, spec=spec, dtype=torch.bfloat16),
    }[kind]
    x = torch.randn(4, 64, 16, dtype=torch.bfloat16)
    wide, narrow = (layer(NormSpec(kind, stats_dtype=stats))(x) for stats in ("float32", "input"))
    assert not torch.equal(wide, narrow)
    torch.testing.assert_close(wide, narrow, rtol=0, atol=0.1)  # numbers up to 4, a few roundings of 2^-8


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 4, 0)])
def test_without_numbers(shape, dtype):
    layers: list[Any] = [
        normlab.GroupNorm(2, 4, dtype=dtype),
        normlab.InstanceNorm1d(4, affine=True, track_running_stats=True, dtype=dtype),
    ]
    for layer in layers:
        for mode in (True, False):
            before = buffers(layer)
            x = torch.empty(shape, dtype=dtype, requires_grad=True)
            y = layer.train(mode)(x)
            y.backward(torch.empty(shape, dtype=dtype))
            assert y.shape == shape
            assert y.dtype == dtype
            for p in layer.parameters():
                assert not p.grad.any()
            for name, value in buffers(layer).items():
                assert torch.equal(value, before[name])


@pytest.mark.parametrize("layout", ["channels last", "transposed", "expanded"])
@pytest.mark.parametrize("fields", [{}, {"eps_place": "outside"}])
def test_the_layout_does_not_matter(layout, fields, fill, rng, check):
    x = {
        "channels last": torch.randn(2, 4, 3, 5).to(memory_format=torch.channels_last),
        "transposed": torch.randn(5, 3, 4, 2).permute(3, 2, 1, 0),
        "expanded": torch.randn(2, 1, 3, 5).expand(2, 4, 3, 5),
    }[layout]
    layers: list[Any] = [
        normlab.GroupNorm(2, 4, spec=NormSpec("groupnorm", groups=2, **fields)),
        normlab.InstanceNorm2d(4, spec=NormSpec("instancenorm", **fields)),
    ]
    for layer in layers:
        fill(layer, rng)
        leaf, dy = x.detach().requires_grad_(), torch.randn(5, 3, 4, 2).permute(3, 2, 1, 0)
        y = layer(leaf)
        y.backward(dy)
        want = wanted(layer, x, dy)
        check(y, want["y"])
        check(leaf.grad, want["dx"])
        check(layer.weight.grad, want["dweight"])


def _pooled(x: torch.Tensor) -> torch.Tensor:
    return F.adaptive_avg_pool2d(x.to(memory_format=torch.channels_last), 1)


# What torch's operation takes with the channels next to each other, whatever `is_contiguous` says.
VIEWS: dict[str, Any] = {
    "dense": lambda x: x.to(memory_format=torch.channels_last),
    "a part of space": lambda x: x.to(memory_format=torch.channels_last)[..., 1:],
    "every other channel": lambda x: x.repeat(1, 2, 1, 1).to(memory_format=torch.channels_last)[:, ::2],
    "pooled": _pooled,
    "one row": lambda x: x[:, :, :1].to(memory_format=torch.channels_last),
    "3d": lambda x: x.unflatten(3, (6, 3)).to(memory_format=torch.channels_last_3d),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("mean", [0.0, 10.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_groupnorm_with_the_channels_last(view, mean, dtype, fill, rng):
    """torch's takes the variance there as a difference of squares: with a mean of 1000 its y is wrong by percents."""
    x = VIEWS[view]((torch.randn(4, 16, 17, 18) * 2 + mean).to(dtype))
    exact_to = 10 * torch.finfo(dtype).eps
    if dtype == torch.float64 or view == "pooled":
        # The definition, in float64, is no more exact than this; nor is torch's operation on what is contiguous too.
        exact_to *= 1 + mean / x.std().item()
    x, dy = x.detach().requires_grad_(), torch.randn(x.shape).to(dtype)
    layer: Any = normlab.GroupNorm(4, 16, dtype=dtype)
    fill(layer, rng)
    theirs: Any = nn.GroupNorm(4, 16, dtype=dtype)
    y, inputs = layer(x), (x, *layer.parameters())
    assert y.stride() == theirs(x).stride()
    want = wanted(layer, x, dy)
    found = dict(zip(("y", "dx", "dweight", "dbias"), (y, *torch.autograd.grad(y, inputs, dy)), strict=True))
    for name, got in found.items():
        right = torch.from_numpy(np.asarray(want[name].value))
        assert ((got - right).norm() / right.norm()).item() < exact_to, name


def test_one_channel_last():
    x = (torch.randn(4, 1, 17, 18) * 2 + 1000).to(memory_format=torch.channels_last)
    y, theirs = normlab.GroupNorm(1, 1)(x), nn.GroupNorm(1, 1)(x)
    assert y.stride() == theirs.stride()
    want = torch.from_numpy(norms.groupnorm.forward(x.double().numpy(), 1, eps=1e-5))
    assert (y - want).abs().max() < 1e-3
    assert (theirs - want).abs().max() > 1e-2


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_stays_in_its_group(value, dtype):
    x = torch.randn(2, 4, 5).to(dtype)
    spoiled = x.clone()
    spoiled[1, 2, 0] = value
    for layer, clean in (
        (normlab.GroupNorm(2, 4, dtype=dtype), [(0, 0), (0, 2), (1, 0)]),
        (normlab.InstanceNorm1d(4, dtype=dtype), [(0, 0), (0, 2), (1, 0), (1, 3)]),
    ):
        y, got = layer(x), layer(spoiled)
        assert not got[1, 2].isfinite().all()
        for sample, channel in clean:
            assert torch.equal(got[sample, channel], y[sample, channel])


def test_instancenorm_without_a_batch(dtype):
    x = torch.randn(4, 5).to(dtype)
    layer = normlab.InstanceNorm1d(4, dtype=dtype)
    assert torch.equal(layer(x), layer(x[None])[0])
    image = torch.randn(4, 3, 5).to(dtype)
    assert torch.equal(normlab.InstanceNorm2d(4)(image), normlab.InstanceNorm2d(4)(image[None])[0])


def test_groups_meet_layernorm_and_instancenorm(dtype):
    x = torch.randn(3, 4, 5).to(dtype)
    one, per = normlab.GroupNorm(1, 4, affine=False)(x), normlab.GroupNorm(4, 4, affine=False)(x)
    atol = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(one, normlab.LayerNorm([4, 5], elementwise_affine=False)(x), rtol=0, atol=atol)
    torch.testing.assert_close(per, normlab.InstanceNorm1d(4)(x), rtol=0, atol=atol)


def test_running_statistics_and_evaluation_when_tracking_is_switched_off_afterwards():
    ours, theirs = (m.InstanceNorm1d(3, track_running_stats=True) for m in (normlab, nn))
    x = torch.randn(5, 3, 4)
    for layer in (ours, theirs):
        layer(x)
        layer.track_running_stats = False
    assert torch.equal(ours.eval()(x), theirs.eval()(x))  # torch: the samples' own, and the buffers still move
    assert torch.equal(ours.get_buffer("running_mean"), theirs.get_buffer("running_mean"))


def test_momentum_none_does_not_move_the_running_statistics():
    ours, theirs = (m.InstanceNorm1d(3, momentum=None, track_running_stats=True) for m in (normlab, nn))
    for layer in (ours, theirs):
        layer(torch.randn(5, 3, 4))
        assert torch.equal(layer.get_buffer("running_mean"), torch.zeros(3))


@pytest.mark.parametrize(("x_dtype", "weight_dtype"), [(torch.bfloat16, torch.float32), (torch.float32, torch.float16)])
def test_parameters_of_another_dtype(x_dtype, weight_dtype, run, fill, rng, check):
    x, dy = draw((3, 4, 5), x_dtype)
    layers: list[Any] = [
        normlab.GroupNorm(2, 4, dtype=weight_dtype),
        normlab.InstanceNorm1d(4, affine=True, dtype=weight_dtype),
    ]
    for layer in layers:
        want = wanted(fill(layer, rng), x, dy)
        for name, value in run(layer, x, dy).items():
            assert value.dtype == (x_dtype if name in ("y", "dx") else weight_dtype)
            check(value, want[name])


class _Doubled(normlab.GroupNorm):
    def forward(self, input):
        return 2 * super().forward(input)


@pytest.mark.parametrize("space", [(1, 1), (3, 5)])
def test_a_subclass_is_asked_once(space):
    """Also where x is contiguous and has the channels last."""
    x = torch.randn(2, 4, *space).to(memory_format=torch.channels_last)
    assert torch.equal(_Doubled(2, 4)(x), 2 * normlab.GroupNorm(2, 4)(x))
