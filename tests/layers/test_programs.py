"""Programs that are written down for use elsewhere: they hold PyTorch's operations alone, and compute the same."""

from typing import Any

import pytest
import torch
from torch import nn

import normlab
from normlab import NormSpec, functional
from normlab.layers import fused

# torch's own.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


class Block(nn.Module):
    """Both norms, and one with a residual."""

    def __init__(self):
        super().__init__()
        self.first, self.second = normlab.LayerNorm(8), normlab.RMSNorm(8, spec="gemma")

    def forward(self, x):
        total, normed = functional.add_rms_norm(self.first(x), x, [8])
        return self.second(total) + normed


def test_an_exported_program():
    block, x = Block(), torch.randn(3, 8)
    program = torch.export.export(block, (x,))
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert called
    assert all(name.startswith("aten.") for name in called), called
    # The sums have another order than the fused kernels': 8 numbers, twice, and some roundings.
    torch.testing.assert_close(program.module()(x), block(x), rtol=0, atol=1e-5)


def test_a_traced_program():
    block, x = Block(), torch.randn(3, 8)
    traced: Any = torch.jit.trace(block, (x,))
    called = {node.kind() for node in traced.inlined_graph.nodes()}
    assert any(name.startswith("aten::") for name in called)
    assert all(name.startswith(("aten::", "prim::")) for name in called), called
    other = torch.randn(5, 8)
    torch.testing.assert_close(traced(other), block(other), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["LayerNorm", "RMSNorm"])
def test_autocast_on_the_cpu_gives_torchs_dtypes(kind, dtype):
    x = torch.randn(3, 8).to(dtype)
    ours, theirs = getattr(normlab, kind)(8, dtype=dtype), getattr(nn, kind)(8, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x).dtype == theirs(x).dtype


@pytest.mark.parametrize("layer", [normlab.RMSNorm(8), normlab.RMSNorm(8, spec="llama"), normlab.LayerNorm(8)])
def test_a_graph_of_torch_fx(layer):
    """The layers that a Transformer has are one node in it, whose eps and details are the spec's."""
    model = nn.Sequential(nn.Linear(8, 8), layer)
    traced = torch.fx.symbolic_trace(model)
    assert [node.target for node in traced.graph.nodes if node.op == "call_function"][-1] in (
        functional.rms_norm,
        functional.layer_norm,
    )
    x = torch.randn(3, 8)
    assert torch.equal(traced(x), model(x))


@pytest.fixture
def under_autocast_on_a_gpu(monkeypatch):
    """As far as `norm` can tell."""
    monkeypatch.setattr(fused, "_gpu_autocast", lambda x: True)


def autocast_norm(x, weight=None, residual=None, spec="torch"):
    return fused.norm(x, residual, [8], weight, None, NormSpec.preset(spec, "rmsnorm"))


# torch.nn's norms are on autocast's list of float32, which leaves float64 alone; modules of model libraries compute
# as they always do.
@pytest.mark.parametrize(
    ("spec", "given", "expected"),
    [
        ("torch", torch.bfloat16, torch.float32),
        ("torch", torch.float16, torch.float32),
        ("torch", torch.float32, torch.float32),
        ("torch", torch.float64, torch.float64),
        ("llama", torch.bfloat16, torch.bfloat16),
        ("t5", torch.bfloat16, torch.bfloat16),
    ],
)
def test_autocast_on_a_gpu_gives_torchs_dtypes(under_autocast_on_a_gpu, spec, given, expected):
    x, weight = torch.randn(3, 8).to(given), torch.randn(8).to(given)
    y = autocast_norm(x, weight, spec=spec)
    assert y.dtype == expected
    if spec == "torch":
        # Eight squares are summed, in any order.
        want = nn.functional.rms_norm(x.to(expected), [8], weight.to(expected), torch.finfo(expected).eps)
        torch.testing.assert_close(y, want, rtol=16 * torch.finfo(expected).eps, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_on_a_gpu_leaves_a_sum_its_dtype(under_autocast_on_a_gpu, dtype):
    x, residual = (torch.randn(3, 8).to(dtype).requires_grad_() for _ in range(2))
    weight = torch.randn(8, requires_grad=True)
    total, y = autocast_norm(x, weight, residual)
    assert torch.equal(total, x + residual)
    assert total.dtype == dtype
    assert torch.equal(y, autocast_norm(x + residual, weight))
    assert y.dtype == torch.float32
    found = torch.autograd.grad((total.sum(), y.sum()), (x, residual, weight))
    assert [g.dtype for g in found] == [dtype, dtype, torch.float32]
    assert torch.equal(found[0], found[1])
