"""Programs that are written down for use elsewhere: they hold PyTorch's operations alone, and compute the same."""

from typing import Any

import pytest
import torch
from torch import nn

import normlab
from normlab import functional

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
