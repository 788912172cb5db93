"""MiniMind's configuration, and what its checkpoints must be to load."""

import re

import pytest
import safetensors.torch
import torch

from normlab.layers import RMSNorm
from normlab.models import Transformer, minimind
from normlab.spec import NormSpec

ATTENTION, MLP = "model.layers.0.self_attn", "model.layers.0.mlp"
EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture
def model(randomized):
    """A small MiniMind with random parameters."""
    return randomized(
        Transformer(minimind.config(vocab_size=20, n_layers=2, dim=32, n_heads=4, n_kv_heads=2, hidden=48))
    )


@pytest.fixture
def checkpoint(model):
    """The model's parameters under MiniMind's names, in memory of their own."""
    state = model.state_dict()
    return {theirs: state[ours].clone() for ours, theirs in minimind.names(2).items()}


@pytest.fixture
def refused(checkpoint):
    """Check that the checkpoint with these changes (None: left out) is refused in exactly these words."""

    def check(changes, message, error=ValueError, **settings):
        changed = {name: t for name, t in (checkpoint | changes).items() if t is not None}
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            minimind.load(changed, **settings)

    return check


@pytest.fixture(scope="module")
def full_size():
    with torch.device("meta"):
        return Transformer(minimind.config())


def test_size(full_size):
    assert full_size.n_parameters() == 63_912_192
    assert sum(isinstance(m, RMSNorm) for m in full_size.modules()) == 33


def test_shapes(full_size):
    shapes = {name: tuple(p.shape) for name, p in full_size.state_dict().items()}
    block = {
        "norm1": (768,),
        "norm2": (768,),
        "attention.q_proj": (768, 768),
        "attention.k_proj": (384, 768),
        "attention.v_proj": (384, 768),
        "attention.o_proj": (768, 768),
        "attention.q_norm": (96,),
        "attention.k_norm": (96,),
        "feedforward.gate_proj": (2432, 768),
        "feedforward.up_proj": (2432, 768),
        "feedforward.down_proj": (768, 2432),
    }
    assert shapes == {
        "tokens.weight": (6400, 768),
        **{f"blocks.{i}.{name}.weight": shape for i in range(8) for name, shape in block.items()},
        "final_norm.weight": (768,),
        "lm_head.weight": (6400, 768),
    }


def test_configuration():
    config = minimind.config()
    assert (config.placement, config.positions, config.rope_theta) == ("pre", "rope", 1e6)
    assert (config.norm.kind, config.norm.eps) == ("rmsnorm", 1e-6)
    assert (config.init, config.init_std) == ("normal", 0.02)
    assert minimind.config(n_layers=2, dim=512).n_layers == 2


def test_names(full_size):
    assert set(minimind.names(8)) == set(full_size.state_dict())
    theirs = list(minimind.names(8).values())
    assert len(set(theirs)) == len(theirs) == 8 * 11 + 3
    assert minimind.names(1) == {
        "tokens.weight": EMBEDDING,
        "blocks.0.norm1.weight": "model.layers.0.input_layernorm.weight",
        "blocks.0.norm2.weight": "model.layers.0.post_attention_layernorm.weight",
        **{f"blocks.0.attention.{x}.weight": f"{ATTENTION}.{x}.weight" for x in ("q_proj", "k_proj", "v_proj")},
        **{f"blocks.0.attention.{x}.weight": f"{ATTENTION}.{x}.weight" for x in ("o_proj", "q_norm", "k_norm")},
        **{f"blocks.0.feedforward.{x}.weight": f"{MLP}.{x}.weight" for x in ("gate_proj", "up_proj", "down_proj")},
        "final_norm.weight": "model.norm.weight",
        "lm_head.weight": "lm_head.weight",
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_round_trip(model, checkpoint, dtype):
    loaded = minimind.load({name: t.to(dtype) for name, t in checkpoint.items()})
    assert loaded.config == model.config
    state, ids = model.to(dtype).state_dict(), torch.randint(20, (2, 9))
    assert set(state) == set(loaded.state_dict())
    for name, t in loaded.state_dict().items():
        assert t.dtype == dtype
        assert torch.equal(t, state[name])
    assert torch.equal(loaded(ids), model(ids))


def test_the_output_may_be_left_out_and_is_tied(checkpoint):
    ids = torch.randint(20, (2, 9))
    whole = minimind.load(checkpoint)
    del checkpoint["lm_head.weight"]
    loaded = minimind.load(checkpoint)
    assert loaded.lm_head.weight is loaded.tokens.weight
    assert whole.lm_head.weight is whole.tokens.weight
    assert torch.equal(loaded(ids), whole(ids))
    loaded(ids).sum().backward()
    assert all(p.requires_grad and p.grad is not None and p.device.type == "cpu" for p in loaded.parameters())
    assert loaded.n_parameters() == sum(t.numel() for t in checkpoint.values())


def test_load_copies(checkpoint):
    checkpoint["lm_head.weight"] = checkpoint[EMBEDDING]
    before = {name: t.clone() for name, t in checkpoint.items()}
    loaded = minimind.load(checkpoint)
    with torch.no_grad():
        for p in loaded.parameters():
            p.zero_()
    assert all(torch.equal(t, before[name]) for name, t in checkpoint.items())
    loaded = minimind.load(checkpoint)
    for t in checkpoint.values():
        t.zero_()
    assert not any((p == 0).all() for p in loaded.parameters())


def test_load_draws_no_random_numbers(checkpoint):
    state = torch.get_rng_state()
    minimind.load(checkpoint)
    assert torch.equal(torch.get_rng_state(), state)


def test_settings(checkpoint):
    norm = NormSpec.preset("llama")
    config = minimind.load(checkpoint, norm=norm, rope_theta=1e4, context=9).config
    assert (config.norm, config.rope_theta, config.context) == (norm, 1e4, 9)


def test_a_diverged_checkpoint_is_still_tied(checkpoint):
    checkpoint[EMBEDDING][3] = float("nan")
    checkpoint["lm_head.weight"] = checkpoint[EMBEDDING].clone()
    assert minimind.load(checkpoint).tokens.weight[3].isnan().all()


@pytest.mark.parametrize("form", ["safetensors", "torch"])
def test_files(checkpoint, form, tmp_path):
    ids = torch.randint(20, (2, 9))
    expected = minimind.load(checkpoint)(ids)
    path = tmp_path / "checkpoint"
    if form == "safetensors":
        del checkpoint["lm_head.weight"]  # as written by those who tie it: the format has no shared memory
        safetensors.torch.save_file(checkpoint, path)
        read = safetensors.torch.load_file(path)
    else:
        checkpoint["lm_head.weight"] = checkpoint[EMBEDDING]
        torch.save(checkpoint, path)
        read = torch.load(path, weights_only=True)
    assert torch.equal(minimind.load(read)(ids), expected)


NAMES = "state_dict must hold MiniMind's names and no others: missing "


@pytest.mark.parametrize(
    ("changes", "missing", "unexpected"),
    [
        ({EMBEDDING: None}, EMBEDDING, "none"),
        ({f"{ATTENTION}.q_norm.weight": None}, f"{ATTENTION}.q_norm.weight", "none"),
        ({"model.layers.1.mlp.up_proj.weight": None}, "model.layers.1.mlp.up_proj.weight", "none"),
        ({"epoch": 3}, "none", "epoch"),
        ({f"{ATTENTION}.q_proj.bias": torch.zeros(32)}, "none", f"{ATTENTION}.q_proj.bias"),
        ({"lm_head.bias": torch.zeros(20), 7: torch.zeros(1)}, "none", "7, lm_head.bias"),
        ({f"extra.{i}": torch.zeros(1) for i in range(5)}, "none", "extra.0, extra.1, extra.2 and 2 more"),
    ],
)
def test_other_names(refused, changes, missing, unexpected):
    refused(changes, f"{NAMES}{missing}; unexpected {unexpected}")


def test_a_gap_in_the_layers(checkpoint, refused):
    moved = {name: t for name, t in checkpoint.items() if name.startswith("model.layers.1.")}
    changes = dict.fromkeys(moved) | {name.replace("layers.1.", "layers.2."): t for name, t in moved.items()}

    def three(n):
        layer = f"model.layers.{n}"
        return f"{layer}.input_layernorm.weight, {layer}.mlp.down_proj.weight, {layer}.mlp.gate_proj.weight and 8 more"

    refused(changes, f"{NAMES}{three(1)}; unexpected {three(2)}")


def test_nothing_in_it(checkpoint, refused):
    first = f"{EMBEDDING}, model.layers.0.input_layernorm.weight, {MLP}.down_proj.weight and 10 more"
    refused(dict.fromkeys(checkpoint), f"{NAMES}{first}; unexpected none")


@pytest.mark.parametrize(
    ("name", "shape", "rule"),
    [
        (EMBEDDING, (20,), "must have 2 axes, none of them empty, got shape (20,)"),
        (EMBEDDING, (0, 32), "must have 2 axes, none of them empty, got shape (0, 32)"),
        (f"{ATTENTION}.k_proj.weight", (32,), "must have 2 axes, none of them empty, got shape (32,)"),
        (f"{MLP}.gate_proj.weight", (), "must have 2 axes, none of them empty, got shape ()"),
        (f"{ATTENTION}.q_norm.weight", (1, 8), "must have 1 axis, not empty, got shape (1, 8)"),
        (f"{ATTENTION}.q_norm.weight", (0,), "must have 1 axis, not empty, got shape (0,)"),
        *(
            (
                f"{ATTENTION}.q_norm.weight",
                (length,),
                f"must have an even length that divides 32 (the width of {EMBEDDING}), got {length}",
            )
            for length in (1, 5, 6, 64)
        ),
        *(
            (
                f"{ATTENTION}.k_proj.weight",
                (rows, 32),
                "must have a multiple of 8 rows (the length of q_norm.weight) that divides 32 "
                f"(the width of {EMBEDDING}), got {rows}",
            )
            for rows in (4, 17, 24, 64)
        ),
        (f"{ATTENTION}.k_norm.weight", (4,), "must have shape (8,), got (4,)"),
        (f"{ATTENTION}.q_proj.weight", (32, 31), "must have shape (32, 32), got (32, 31)"),
        (f"{ATTENTION}.v_proj.weight", (32, 32), "must have shape (16, 32), got (32, 32)"),
        (f"{MLP}.down_proj.weight", (48, 32), "must have shape (32, 48), got (48, 32)"),
        ("model.layers.1.input_layernorm.weight", (31,), "must have shape (32,), got (31,)"),
        ("model.norm.weight", (1, 32), "must have shape (32,), got (1, 32)"),
        ("lm_head.weight", (20, 1), "must have shape (20, 32), got (20, 1)"),
    ],
)
def test_other_shapes(refused, name, shape, rule):
    refused({name: torch.zeros(shape)}, f"{name} {rule}")


def test_other_dtypes(checkpoint, refused):
    one = "state_dict must have one floating-point dtype, got "
    refused({"model.norm.weight": torch.ones(32).half()}, f"{one}torch.float16, torch.float32")
    refused({name: t.to(torch.int8) for name, t in checkpoint.items()}, f"{one}torch.int8")


def test_an_output_of_its_own(checkpoint, refused):
    untied = checkpoint["lm_head.weight"].clone()
    untied[0, 0] += 1
    refused({"lm_head.weight": untied}, f"lm_head.weight must equal {EMBEDDING}: MiniMind ties them")


@pytest.mark.parametrize("spec", [NormSpec("layernorm"), NormSpec("rmsnorm", affine=False), NormSpec("none")])
def test_a_norm_with_other_parameters(refused, spec):
    refused({}, f"norm must have a weight and no bias, as MiniMind's, got {spec}", norm=spec)


@pytest.mark.parametrize("name", ["n_layers", "tied", "placement", "typo"])
def test_settings_that_are_not_free(refused, name):
    refused({}, f"load takes context, norm, rope_theta beside state_dict, got {name}", TypeError, **{name: 1})


def test_what_is_no_state_dict(refused):
    with pytest.raises(TypeError, match=r"^state_dict must map names to tensors, got str$"):
        minimind.load("model.safetensors")  # pyright: ignore[reportArgumentType]
    refused({EMBEDDING: [1.0]}, f"{EMBEDDING} must be a torch.Tensor, got list", TypeError)
