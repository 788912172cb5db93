"""A block reads as its placement says: what is called, in which order, on what, and what is added."""

import pytest
import torch
from torch import Tensor, nn

from normlab.layers import LayerNorm, RMSNorm
from normlab.models import BLOCKS, TransformerBlock
from normlab.models.attention import Rotary
from normlab.models.config import PLACEMENTS
from normlab.spec import NormSpec

ORDERS = {
    "none": ["attention", "feedforward"],
    "pre": ["norm1", "attention", "norm2", "feedforward"],
    "post": ["attention", "norm1", "feedforward", "norm2"],
    "sandwich": ["norm1", "attention", "norm1_out", "norm2", "feedforward", "norm2_out"],
    "respost": ["attention", "norm1", "feedforward", "norm2"],
    "deepnorm": ["attention", "norm1", "feedforward", "norm2"],
}


class Recorder(nn.Module):
    """Notes what it is called on, and answers with noise."""

    def __init__(self, name: str, calls: list[tuple[str, Tensor, Tensor]]) -> None:
        super().__init__()
        self.name, self.calls = name, calls

    def forward(self, x: Tensor) -> Tensor:
        y = torch.randn_like(x)
        self.calls.append((self.name, x, y))
        return y


@pytest.fixture
def recorded(small):
    """A block of a placement whose parts are recorders, and their calls: (name, input, output)."""

    def build(placement):
        calls: list[tuple[str, Tensor, Tensor]] = []
        block = BLOCKS[placement](small(placement=placement))
        for name, _ in list(block.named_children()):
            setattr(block, name, Recorder(name, calls))
        return block, calls

    return build


def test_there_is_a_block_for_every_placement():
    assert set(BLOCKS) == set(PLACEMENTS)
    assert BLOCKS["pre"] is TransformerBlock


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_order_of_calls(recorded, placement):
    block, calls = recorded(placement)
    block(torch.randn(2, 3, 16))
    assert [name for name, _, _ in calls] == ORDERS[placement]


def test_the_pre_norm_block_is_norm_compute_residual_twice(recorded):
    block, calls = recorded("pre")
    x = torch.randn(2, 3, 16)
    before = x.clone()
    y = block(x)
    (_, into_norm1, normed1), (_, into_attention, attended), (_, into_norm2, normed2), (_, into_ff, fed) = calls
    assert into_norm1 is x
    assert into_attention is normed1
    assert torch.equal(into_norm2, x + attended)
    assert into_ff is normed2
    assert torch.equal(y, x + attended + fed)
    assert torch.equal(x, before)


@pytest.mark.parametrize(("n_layers", "alpha"), [(1, 2**0.25), (2, 2**0.5), (8, 2.0), (128, 4.0)])
def test_deepnorm_alpha(small, n_layers, alpha):
    block = BLOCKS["deepnorm"](small(placement="deepnorm", n_layers=n_layers))
    assert block.alpha == pytest.approx(alpha, rel=1e-15)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize(("kind", "layer"), [("layernorm", LayerNorm), ("rmsnorm", RMSNorm), ("none", nn.Identity)])
def test_norms_are_layers_of_the_spec(small, placement, kind, layer):
    spec = NormSpec(kind, eps=0.25)
    block = BLOCKS[placement](small(placement=placement, norm=spec, qk_norm=True))
    norms = {name: m for name, m in block.named_modules() if "norm" in name}
    assert set(norms) == {n for n in ORDERS[placement] if "norm" in n} | {"attention.q_norm", "attention.k_norm"}
    for name, norm in norms.items():
        assert type(norm) is layer
        if not isinstance(norm, nn.Identity):
            assert norm.spec == spec
            assert norm.normalized_shape == ((4,) if "attention" in name else (16,))


def test_a_block_alone_makes_its_own_rotary(small):
    config = small(positions="rope")
    alone, given = TransformerBlock(config), TransformerBlock(config, Rotary(config.head_dim, config.rope_theta))
    given.load_state_dict(alone.state_dict())
    x = torch.randn(2, 5, 16)
    assert torch.equal(alone(x), given(x))


@pytest.mark.parametrize("placement", ["post", "deepnorm"])
def test_the_stream_leaves_a_post_norm_block_normalized(small, placement, assert_close):
    config = small(placement=placement, norm=NormSpec("layernorm", eps=0.0))
    y = BLOCKS[placement](config).to(torch.float64)(100 * torch.randn(2, 5, 16, dtype=torch.float64))
    assert_close(y.mean(-1), torch.zeros(2, 5, dtype=torch.float64), scale=y)
    assert_close(y.square().mean(-1), torch.ones(2, 5, dtype=torch.float64))
