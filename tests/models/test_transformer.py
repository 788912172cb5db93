"""The whole model: causality, ids, and what a torch.nn.Module can be asked to do."""

import copy
import re

import pytest
import torch
from torch import nn

from normlab.layers import LayerNorm, RMSNorm
from normlab.models import Transformer
from normlab.models.config import PLACEMENTS
from normlab.spec import NormSpec


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_token_changes_no_logits_before_it(small, architecture, placement, dtype):
    model = Transformer(small(**architecture, placement=placement)).to(dtype)
    ids = torch.randint(11, (2, 8))
    logits = model(ids)
    for t in range(8):
        changed = ids.clone()
        changed[:, t] = (changed[:, t] + 1) % 11
        now = model(changed)
        assert torch.equal(now[:, :t], logits[:, :t])
        assert (now[:, t:] != logits[:, t:]).any(dim=-1).all()


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_sequences_do_not_see_each_other(small, architecture, placement, assert_close):
    model = Transformer(small(**architecture, placement=placement)).to(torch.float64)
    ids = torch.randint(11, (3, 8))
    together = model(ids)
    for row, logits in zip(ids, together, strict=True):
        assert_close(model(row[None])[0], logits)


@pytest.mark.parametrize("positions", ["learned", "rope"])
def test_order_matters(small, positions):
    """Attention alone sees a set: only positions tell one order of earlier tokens from another."""
    model = Transformer(small(positions=positions, n_layers=1)).to(torch.float64)
    swapped = model(torch.tensor([[2, 1, 3]]))[0, -1] - model(torch.tensor([[1, 2, 3]]))[0, -1]
    assert swapped.abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(0, 4), (2, 0), (2, 1), (2, 8)])
def test_shape_of_logits(small, architecture, shape):
    ids = torch.zeros(shape, dtype=torch.int32)
    assert Transformer(small(**architecture))(ids).shape == (*shape, 11)


@pytest.mark.parametrize("shape", [(2, 9), (8,), (), (1, 2, 3)])
def test_ids_of_another_shape_are_refused(small, architecture, shape):
    message = f"ids must have shape (batch, time <= 8), got {shape}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Transformer(small(**architecture))(torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize(
    ("ids", "got"),
    [([[1, 2]], "list"), (torch.zeros(1, 2), "torch.float32"), (torch.zeros(1, 2, dtype=torch.bool), "torch.bool")],
)
def test_ids_of_another_type_are_refused(small, ids, got):
    with pytest.raises(TypeError, match=f"^ids must be a torch.Tensor of int64 or int32, got {got}$"):
        Transformer(small())(ids)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_gradient_flows_into_every_parameter(small, norm, placement):
    # RoPE, because with learned positions softmax cancels the bias of the keys.
    config = small(norm=norm, placement=placement, positions="rope", activation="swiglu", qk_norm=True)
    model = Transformer(config)
    nn.functional.cross_entropy(model(torch.arange(8)[None])[0], torch.arange(8).flip(0)).backward()
    largest = max(p.grad.abs().max() for p in model.parameters() if p.grad is not None)
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().max() > 1e-6 * largest, name


@pytest.mark.parametrize(("layer", "kind"), [("LayerNorm", "layernorm"), ("RMSNorm", "rmsnorm")])
def test_a_state_dict_loads_into_a_model_of_torch_norms(small, architecture, randomized, assert_close, layer, kind):
    config = small(**architecture, norm=NormSpec(kind), placement="sandwich")
    ours = randomized(Transformer(config))
    theirs = Transformer(config)
    swapped = 0
    for parent in list(theirs.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LayerNorm | RMSNorm):
                setattr(parent, name, getattr(nn, layer)(child.normalized_shape, eps=1e-5))
                swapped += 1
    assert swapped == 4 * 2 + 1 + (2 * 2 if config.qk_norm else 0)
    theirs.load_state_dict(ours.state_dict())
    ids = torch.randint(11, (2, 8))
    assert_close(ours(ids), theirs(ids))


def test_a_deep_copy_is_another_model(small, architecture):
    model = Transformer(small(**architecture))
    ids = torch.randint(11, (2, 8))
    before = model(ids)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(ids), before)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    assert torch.equal(model(ids), before)
    assert (twin.lm_head.weight is twin.tokens.weight) == model.config.tied


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_bfloat16(small, architecture, placement):
    model = Transformer(small(**architecture, placement=placement))
    ids = torch.randint(11, (4, 8))
    full = model(ids)
    half = model.to(torch.bfloat16)(ids)
    assert half.dtype == torch.bfloat16
    # A dozen roundings one after another in each of two blocks, against the size of the logits.
    assert (half - full).abs().max() < 24 * torch.finfo(torch.bfloat16).eps / 2 * full.abs().max()
    half.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.bfloat16 for p in model.parameters())


@pytest.mark.parametrize("tied", [False, True])
def test_parameters_are_counted_once(small, tied):
    model = Transformer(small(tied=tied, bias=False, placement="none"))
    embeddings, block = 11 * 16 + 8 * 16, 4 * 16 * 16 + 2 * 16 * 24
    assert model.n_parameters() == embeddings + 2 * block + (0 if tied else 11 * 16)
    assert ("lm_head.weight" in dict(model.named_parameters())) is not tied
    assert model.lm_head.bias is None


@pytest.mark.parametrize(
    ("changes", "present", "absent"),
    [
        ({"positions": "rope"}, set(), {"positions.weight"}),
        ({"positions": "learned"}, {"positions.weight"}, set()),
        ({"placement": "post"}, set(), {"final_norm.weight"}),
        ({"placement": "post", "final_norm": True}, {"final_norm.weight"}, set()),
        ({"placement": "pre"}, {"final_norm.weight"}, set()),
        ({"placement": "pre", "final_norm": False}, set(), {"final_norm.weight"}),
        ({"activation": "swiglu"}, {"blocks.0.feedforward.gate_proj.weight"}, set()),
        ({"activation": "gelu"}, set(), {"blocks.0.feedforward.gate_proj.weight"}),
        ({"bias": False}, {"blocks.1.norm1.bias"}, {"blocks.0.attention.q_proj.bias"}),
    ],
)
def test_what_a_switch_adds(small, changes, present, absent):
    names = set(Transformer(small(**changes)).state_dict())
    assert present <= names
    assert not absent & names


def test_a_forward_changes_nothing(small, architecture):
    model = Transformer(small(**architecture))
    ids = torch.randint(11, (2, 8))
    state, given = copy.deepcopy(model.state_dict()), ids.clone()
    first = model(ids)
    assert torch.equal(model(ids), first)
    assert torch.equal(ids, given)
    assert all(torch.equal(state[name], t) for name, t in model.state_dict().items())
