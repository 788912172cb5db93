"""Sizes and numbers that are not known while a program is written down: one graph holds for all of them."""

import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

import normlab
from normlab import NormSpec, functional

HALF = torch.bfloat16
MAKERS: dict[str, Any] = {
    "GroupNorm": lambda dtype: normlab.GroupNorm(2, 4, dtype=dtype),
    "InstanceNorm1d": lambda dtype: normlab.InstanceNorm1d(4, affine=True, dtype=dtype),
    "InstanceNorm1d that tracks": lambda dtype: normlab.InstanceNorm1d(4, track_running_stats=True, dtype=dtype),
    "outside": lambda dtype: normlab.GroupNorm(2, 4, dtype=dtype, spec=OUTSIDE),
}
OUTSIDE = NormSpec("groupnorm", groups=2, eps_place="outside")


@pytest.fixture(autouse=True)
def forget():
    torch._dynamo.reset()
    counters.clear()


def compiled(call, **options) -> Any:
    return torch.compile(call, fullgraph=True, backend="eager", **options)


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
@pytest.mark.parametrize("name", MAKERS)
def test_one_graph_for_all_lengths(name, dtype):
    layer = MAKERS[name](dtype)
    call = compiled(lambda x: layer(x))
    for length in range(5, 16):
        x = torch.randn(3, 4, length).to(dtype)
        assert torch.equal(call(x), layer(x))
    assert counters["stats"]["unique_graphs"] <= 2  # of the first length, and of any


@pytest.mark.parametrize("norm", [functional.layer_norm, functional.rms_norm])
def test_one_graph_for_a_shape_taken_from_the_input(norm):
    call = compiled(lambda x: norm(x, x.shape[-1:]))
    for length in range(5, 16):
        x = torch.randn(3, length)
        torch.testing.assert_close(call(x), norm(x, x.shape[-1:]))
    assert counters["stats"]["unique_graphs"] <= 2
    both = compiled(lambda x: norm(x, x.shape[1:]))
    for length in range(5, 16):
        x = torch.randn(3, length, 2 * length)
        torch.testing.assert_close(both(x), norm(x, x.shape[1:]))
    assert counters["stats"]["unique_graphs"] <= 4


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
@pytest.mark.parametrize("name", MAKERS)
def test_a_program_exported_for_all_lengths(name, dtype):
    layer = MAKERS[name](dtype).eval()
    length = torch.export.Dim("length", min=2)
    program = torch.export.export(layer, (torch.randn(3, 4, 5).to(dtype),), dynamic_shapes=({2: length},))
    x = torch.randn(3, 4, 9).to(dtype)
    torch.testing.assert_close(program.module()(x), layer(x))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("dtype", [torch.float32, HALF])
@pytest.mark.parametrize("name", MAKERS)
def test_a_program_traced_for_all_lengths(name, dtype):
    layer = MAKERS[name](dtype).eval()
    traced: Any = torch.jit.trace(layer, (torch.randn(3, 4, 5).to(dtype),))
    x = torch.randn(2, 4, 9).to(dtype)
    torch.testing.assert_close(traced(x), layer(x))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "error::torch.jit.TracerWarning")
def test_a_shape_taken_from_the_input_stays_open_in_a_trace():
    traced: Any = torch.jit.trace(lambda x: functional.layer_norm(x, x.shape[-1:]), (torch.randn(3, 5),))
    x = torch.randn(2, 9)
    torch.testing.assert_close(traced(x), functional.layer_norm(x, (9,)))


class Block(nn.Module):
    """What holds a norm: its norm's numbers are read from a module, as in a model."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, *x):
        return self.norm(*x)


def later(layer, eps):
    layer.eps = eps
    return layer


EPS = (1e-5, 1e-6, 1e-3)
ROWS, SPACE = (5, 8), (2, 8, 4)
SEVERAL: dict[str, Any] = {
    "BatchNorm1d momentum": (lambda v: normlab.BatchNorm1d(8, momentum=v), ROWS, (0.1, 0.2, 0.3)),
    "BatchNorm1d eps": (lambda v: normlab.BatchNorm1d(8, eps=v), ROWS, EPS),
    "GroupNorm eps": (lambda v: normlab.GroupNorm(2, 8, eps=v), ROWS, EPS),
    "InstanceNorm1d eps": (lambda v: normlab.InstanceNorm1d(8, eps=v), SPACE, EPS),
    "LayerNorm eps": (lambda v: normlab.LayerNorm(8, eps=v), ROWS, EPS),
    "RMSNorm eps": (lambda v: normlab.RMSNorm(8, eps=v), ROWS, EPS),
    "PRMSNorm fraction": (lambda v: normlab.PRMSNorm(8, v), ROWS, (0.1, 0.3, 0.6)),
    "CRMSNorm eps": (lambda v: normlab.CRMSNorm(8, eps=v), ROWS, EPS),
    "ScaleNorm eps": (lambda v: normlab.ScaleNorm(8, eps=v), ROWS, EPS),
    "L2Norm eps": (lambda v: normlab.L2Norm(8, eps=v), ROWS, EPS),
    "DyT alpha": (lambda v: normlab.DyT(8, alpha=v), ROWS, (0.1, 0.2, 0.3)),
    "RMSNorm eps set": (lambda v: later(normlab.RMSNorm(8), v), ROWS, EPS),
    "GroupNorm eps set": (lambda v: later(normlab.GroupNorm(2, 8), v), ROWS, EPS),
    "BatchNorm1d eps set": (lambda v: later(normlab.BatchNorm1d(8), v), ROWS, EPS),
    "CRMSNorm eps set": (lambda v: later(normlab.CRMSNorm(8), v), ROWS, EPS),
}


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
@pytest.mark.parametrize("name", SEVERAL)
def test_several_numbers_in_one_compiled_block(name, dtype):
    make, shape, numbers = SEVERAL[name]
    x = torch.randn(shape).to(dtype)
    for number in numbers:
        block, plain = Block(make(number).to(dtype)), make(number).to(dtype)
        block.compile(fullgraph=True, backend="eager")
        torch.testing.assert_close(block(x), plain(x))
        for (key, got), (_, want) in zip(block.norm.state_dict().items(), plain.state_dict().items(), strict=True):
            torch.testing.assert_close(got, want, msg=key)


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: normlab.BatchNorm1d(8), ROWS),
        (lambda: normlab.BatchNorm1d(8).eval(), ROWS),
        (lambda: normlab.PRMSNorm(8), ROWS),
        (lambda: normlab.InstanceNorm1d(8, track_running_stats=True).eval(), SPACE),
        (lambda: normlab.InstanceNorm1d(8, track_running_stats=True), SPACE),
        (lambda: normlab.GroupNorm(2, 8), SPACE),
        (lambda: normlab.LayerNorm(8), ROWS),
        (lambda: normlab.RMSNorm(8, spec="llama"), ROWS),
        (lambda: normlab.DyT(8), ROWS),
        (lambda: normlab.CRMSNorm(8), ROWS),
        (lambda: normlab.ScaleNorm(8), ROWS),
    ],
)
def test_everything_symbolic_at_once(make, shape, dtype):
    x = torch.randn(shape).to(dtype)
    torch.testing.assert_close(compiled(make().to(dtype), dynamic=True)(x), make().to(dtype)(x))


def test_a_momentum_that_changes():
    layer, plain = normlab.BatchNorm1d(8), normlab.BatchNorm1d(8)
    call = compiled(layer)
    for momentum in (0.1, 0.2, 0.3):
        layer.momentum = plain.momentum = momentum
        x = torch.randn(ROWS)
        torch.testing.assert_close(call(x), plain(x))
        torch.testing.assert_close(layer.running_mean, plain.running_mean)


def test_an_eps_set_to_what_it_must_not_be_is_refused_in_a_compiled_call_too():
    layer = normlab.GroupNorm(2, 8)
    layer.eps = -1.0
    with pytest.raises(Exception, match="eps must be at least 0, got -1"):
        torch.compile(layer, backend="eager")(torch.randn(ROWS))


@pytest.mark.parametrize("name", MAKERS)
def test_compiling_warns_of_nothing(name):
    layer = MAKERS[name](HALF)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled(layer)(torch.randn(3, 4, 5).to(HALF))
