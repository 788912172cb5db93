"""Initializations: the standard deviation of every weight, measured, and that a seed decides all of it."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from normlab.models import Transformer, TransformerConfig
from normlab.models.config import Init
from normlab.models.init import initialize
from normlab.spec import NormSpec

L, DIM, KV, HIDDEN, VOCAB, CONTEXT = 2, 64, 32, 160, 128, 96
FANS = {
    "q_proj": (DIM, DIM),
    "k_proj": (DIM, KV),
    "v_proj": (DIM, KV),
    "o_proj": (DIM, DIM),
    "gate_proj": (DIM, HIDDEN),
    "up_proj": (DIM, HIDDEN),
    "down_proj": (HIDDEN, DIM),
    "lm_head": (DIM, VOCAB),
}
XAVIER = {role: math.sqrt(2 / sum(fans)) for role, fans in FANS.items()}
NORMAL = dict.fromkeys((*FANS, "tokens", "positions"), 0.05)
BETA = (8 * L) ** -0.25
EXPECTED: dict[tuple[Init, str], dict[str, float]] = {
    # Two embeddings of variance 1/2 make a stream of variance 1.
    ("xavier", "pre"): XAVIER | dict.fromkeys(("tokens", "positions"), math.sqrt(1 / 2)),
    ("xavier", "deepnorm"): {
        **XAVIER,
        **{role: BETA * XAVIER[role] for role in ("v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")},
        **dict.fromkeys(("tokens", "positions"), math.sqrt(1 / 2)),
    },
    ("normal", "pre"): NORMAL,
    ("normal", "deepnorm"): NORMAL,
    ("gpt2", "pre"): NORMAL | dict.fromkeys(("o_proj", "down_proj"), 0.05 / math.sqrt(2 * L)),
    ("gpt2", "deepnorm"): NORMAL | dict.fromkeys(("o_proj", "down_proj"), 0.05 / math.sqrt(2 * L)),
}


def build(init, seed=0, **changes):
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {
        "vocab_size": VOCAB,
        "n_layers": L,
        "dim": DIM,
        "n_heads": 4,
        "n_kv_heads": 2,
        "hidden": HIDDEN,
    }
    rest = {"context": CONTEXT, "activation": "swiglu", "init": init, "init_std": 0.05}
    return Transformer(TransformerConfig(**(sizes | rest | changes)))


def weights(model):
    """(role, weight) of every linear and embedding."""
    return [
        (n.rpartition(".")[2], m.weight) for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Embedding)
    ]


def assert_normal(x: Tensor, std: float) -> None:
    """x looks drawn from N(0, std^2): mean, standard deviation and fourth moment within 5 standard errors."""
    z, n = x.detach().to(torch.float64).flatten() / std, x.numel()
    assert abs(z.mean()) < 5 / math.sqrt(n)
    assert abs(z.std() - 1) < 5 / math.sqrt(2 * n)
    assert abs(z.pow(4).mean() - 3) < 5 * math.sqrt(96 / n)


@pytest.mark.parametrize(("init", "placement"), EXPECTED)
def test_standard_deviations(init, placement):
    expected = EXPECTED[init, placement]
    found = weights(build(init, placement=placement))
    assert {role for role, _ in found} == set(expected)
    assert len(found) == 3 + 7 * L
    for role, weight in found:
        assert_normal(weight, expected[role])


@pytest.mark.parametrize("init", ["xavier", "gpt2", "normal"])
@pytest.mark.parametrize("spec", [NormSpec("layernorm"), NormSpec("rmsnorm"), NormSpec("rmsnorm", offset=1.0)])
def test_biases_are_zero_and_norms_at_scale_1(init, spec):
    model = build(init, norm=spec, placement="sandwich", qk_norm=True)
    norms = [m for m in model.modules() if isinstance(m, nn.LayerNorm | nn.RMSNorm)]
    assert len(norms) == (4 + 2) * L + 1
    for norm in norms:
        assert torch.equal(norm.weight, torch.full_like(norm.weight, 1 - spec.offset))
    biases = [p for name, p in model.named_parameters() if name.endswith(".bias")]
    assert biases
    assert all((b == 0).all() for b in biases)


@pytest.mark.parametrize("positions", ["learned", "rope"])
def test_the_stream_begins_with_variance_1(positions):
    model = build("xavier", positions=positions)
    stream = []
    model.blocks[0].register_forward_pre_hook(lambda _, args: stream.append(args[0]))
    model(torch.arange(CONTEXT)[None])
    assert_normal(stream[0], 1.0)


@pytest.mark.parametrize("init", ["xavier", "normal", "gpt2"])
def test_a_tied_output_keeps_the_embeddings_scale(init):
    model = build(init, tied=True)
    assert model.lm_head.weight is model.tokens.weight
    assert_normal(model.lm_head.weight, EXPECTED[init, "pre"]["tokens"])


def test_torch_is_left_as_torch_made_it():
    model = build("torch")
    torch.manual_seed(0)
    assert torch.equal(model.tokens.weight, nn.Embedding(VOCAB, DIM).weight)  # the first that is drawn
    assert_normal(model.tokens.weight, 1.0)
    for name, m in model.named_modules():
        if isinstance(m, nn.Linear):
            # nn.Linear draws weight and bias from U(-b, b), b = 1/sqrt(fan_in); the largest of n is near b.
            bound = 1 / math.sqrt(m.in_features)
            assert 0.99 * bound < m.weight.abs().max() <= bound, name
            assert m.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05), name
            if m.bias is not None:
                assert 0.7 * bound < m.bias.abs().max() <= bound, name
    state, before = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    initialize(model, model.config)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("init", ["xavier", "gpt2", "normal", "torch"])
def test_a_seed_decides_every_weight(init):
    one, same, other = build(init).state_dict(), build(init).state_dict(), build(init, seed=1).state_dict()
    assert all(torch.equal(one[name], t) for name, t in same.items())
    for role in (*FANS, "tokens", "positions"):
        name = next(name for name in one if name.endswith(f"{role}.weight"))
        assert not torch.equal(one[name], other[name]), name


def test_no_two_weights_are_alike():
    model = build("xavier")
    first = [weight.detach().flatten()[:8] for _, weight in weights(model)]
    scaled = torch.stack([w / w.norm() for w in first])
    assert ((scaled @ scaled.T).abs() - torch.eye(len(first))).max() < 0.999
