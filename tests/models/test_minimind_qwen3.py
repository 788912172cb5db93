"""MiniMind's checkpoints give transformers' logits: its dense model is Qwen3 but for one cast in bfloat16."""

from typing import Any

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from normlab.models import minimind
from normlab.spec import NormSpec

VOCAB, TIME = 50, 17
# Of (dim, n_heads, n_kv_heads, hidden, n_layers): grouped, one group, each its own; heads of 16, 8 and 4.
SIZES = [(64, 4, 2, 96, 2), (64, 8, 1, 40, 1), (32, 4, 4, 48, 3), (16, 4, 2, 24, 2)]


@pytest.fixture
def qwen3(randomized):
    """A Qwen3 of a size, with random parameters, norms around 1."""

    def build(dim: int, n_heads: int, n_kv_heads: int, hidden: int, n_layers: int, dtype: torch.dtype) -> Any:
        options: dict[str, Any] = {
            "vocab_size": VOCAB,
            "hidden_size": dim,
            "intermediate_size": hidden,
            "num_hidden_layers": n_layers,
            "num_attention_heads": n_heads,
            "num_key_value_heads": n_kv_heads,
            "head_dim": dim // n_heads,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
            "tie_word_embeddings": True,
            "use_cache": False,
            "attn_implementation": "sdpa",
        }
        model: Any = randomized(Qwen3ForCausalLM(Qwen3Config(**options)))
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.add_(1.0 if "norm" in name else 0.0)
        rotary = model.model.rotary_emb
        # Put back after the cast, which would round its frequencies, unlike from_pretrained(dtype=...).
        model.model.rotary_emb = None
        model.to(dtype)
        model.model.rotary_emb = rotary
        return model

    return build


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_and_gradients(qwen3, size, dtype, assert_close, assert_gradients_close):
    theirs = qwen3(*size, dtype=dtype)
    ours = minimind.load(theirs.state_dict())
    ids = torch.randint(VOCAB, (2, TIME))
    logits, expected = ours(ids), theirs(ids).logits
    # In float64 too, Qwen3 takes the norms' statistics and the angles in float32.
    assert_close(logits, expected, dtype=torch.float32)
    upstream = torch.randn_like(logits)
    logits.backward(upstream)
    expected.backward(upstream)
    name_of = minimind.names(size[-1])
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    renamed = {name: gradients[name_of[name]] for name, _ in ours.named_parameters()}
    assert_gradients_close(ours, renamed, dtype=torch.float32)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_bfloat16_differs_by_the_cast_before_the_weight(qwen3, size):
    """With Qwen3's cast the bits are Qwen3's. With MiniMind's, which multiplies first, they are not."""
    theirs = qwen3(*size, dtype=torch.bfloat16)
    state, ids = theirs.state_dict(), torch.randint(VOCAB, (2, TIME))
    expected = theirs(ids).logits
    assert torch.equal(minimind.load(state, norm=NormSpec.preset("llama"))(ids), expected)

    logits = minimind.load(state)(ids)
    assert not torch.equal(logits, expected)
    # Both are as near to the same checkpoint in float32 as a dozen roundings of bfloat16 a block let them be.
    exact = minimind.load({name: t.float() for name, t in state.items()})(ids)
    bound = 12 * size[-1] * torch.finfo(torch.bfloat16).eps / 2 * exact.abs().max()
    assert (logits - exact).abs().max() < bound
    assert (expected - exact).abs().max() < bound


def test_context_is_not_read_from_shapes(qwen3):
    loaded = minimind.load(qwen3(*SIZES[0], dtype=torch.float32).state_dict(), context=TIME)
    assert loaded(torch.zeros(1, TIME, dtype=torch.int64)).shape == (1, TIME, VOCAB)
    with pytest.raises(ValueError, match=f"time <= {TIME}"):
        loaded(torch.zeros(1, TIME + 1, dtype=torch.int64))
