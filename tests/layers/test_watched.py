"""The fused norms where something watches one pass only, or looks through the second: dispatch modes, checkpoints,
compiled autograd; and input that autograd will not keep."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo import compiled_autograd
from torch._dynamo.backends.common import aot_autograd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import normlab
from normlab import functional


class Watching(TorchDispatchMode):
    """Sees everything and changes nothing."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def compiled(layer):
    return torch.compile(layer, backend="eager")


def watched(layer):
    def call(x) -> Any:
        with Watching():
            return layer(x)

    return call


NORMS = [(normlab.LayerNorm, nn.LayerNorm), (normlab.RMSNorm, nn.RMSNorm)]


@pytest.fixture
def x():
    return torch.randn(3, 16, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(("ours", "theirs"), NORMS)
@pytest.mark.parametrize("way", [watched, compiled])
def test_second_derivatives_where_the_first_pass_was_the_operator(ours, theirs, way, x):
    found = []
    for norm in (way(ours(16, eps=0.1, dtype=x.dtype)), theirs(16, eps=0.1, dtype=x.dtype)):
        (dx,) = torch.autograd.grad(norm(x).pow(3).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(dx.pow(2).sum(), x)[0])
    torch.testing.assert_close(*found)


def test_gradgradcheck_of_an_operator_with_a_residual(x):
    residual, weight, bias = (torch.randn(s, dtype=x.dtype, requires_grad=True) for s in ((3, 16), 16, 16))

    def watched_norm(*given):
        with Watching():
            x, residual, weight, bias = given
            return tuple(functional.add_layer_norm(x, residual, (16,), weight, bias, 0.1))

    assert torch.autograd.gradgradcheck(watched_norm, (x, residual, weight, bias))


@pytest.mark.parametrize(("ours", "theirs"), NORMS)
@pytest.mark.parametrize("first", [False, True])
def test_a_checkpoint_with_a_mode_around_one_pass(ours, theirs, first, x):
    found = []
    for norm in (ours(16, eps=0.1, dtype=x.dtype), theirs(16, eps=0.1, dtype=x.dtype)):
        with Watching() if first else nullcontext():
            y: Any = checkpoint(norm, x, use_reentrant=False)
        with nullcontext() if first else Watching():
            found.append(torch.autograd.grad(y.pow(2).sum(), [x, *norm.parameters()]))
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want)


# PyTorch's own, whatever is compiled.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize(("ours", "theirs"), NORMS)
def test_compiled_autograd_in_one_graph(ours, theirs, x):
    found = []
    for norm in (ours(16, eps=0.1, dtype=x.dtype), theirs(16, eps=0.1, dtype=x.dtype)):
        torch._dynamo.reset()
        leaf = x.detach().requires_grad_()
        y = norm(leaf).pow(2).sum()
        with compiled_autograd._enable(torch.compile(backend="eager", fullgraph=True)):
            y.backward()
        found.append((leaf.grad, norm.weight.grad))
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("norm", [normlab.LayerNorm, normlab.RMSNorm])
def test_a_compiled_step_keeps_the_fused_backward_pass(norm):
    graphs = []

    def kept(graph, inputs):
        graphs.append(graph)

        def call(arguments):
            return graph(*arguments)

        # AOTAutograd asks for functions of one list.
        vars(call)["_boxed_call"] = True
        return call

    torch._dynamo.reset()
    step = torch.compile(norm(16), backend=aot_autograd(fw_compiler=kept, bw_compiler=kept), fullgraph=True)
    step(torch.randn(3, 16, requires_grad=True)).sum().backward()
    called = [{str(node.target) for node in graph.graph.nodes} for graph in graphs]
    assert "normlab.norm.default" in called[0]
    assert "normlab.norm_backward.default" in called[1]


@pytest.mark.parametrize("spec", ["torch", "llama", "gemma"])
@pytest.mark.parametrize("shape", [(3, 16), (2, 3, 16)])
def test_rmsnorm_of_what_was_made_in_inference_mode(spec, shape):
    with torch.inference_mode():
        x = torch.randn(shape)
    layer = normlab.RMSNorm(16, spec=spec, eps=normlab.NormSpec.preset(spec, "rmsnorm").eps)
    (got,) = torch.autograd.grad(layer(x).sum(), layer.weight)
    (want,) = torch.autograd.grad(layer(x.clone()).sum(), layer.weight)
    torch.testing.assert_close(got, want)
