"""MiniMind (github.com/jingyaogong/minimind) as a configuration of `Transformer`, and its checkpoints.

8 Pre-LN blocks of width 768 with RMSNorm, 8 query heads over 4 key/value heads with query and key norms, RoPE,
SwiGLU, a tied output: 63,912,192 parameters, 33 RMSNorms (two a block, one each for queries and keys, one last).
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from normlab.models.config import TransformerConfig
from normlab.models.transformer import Transformer
from normlab.spec import NormSpec

# Of each block: our name of a weight, and the checkpoint's.
BLOCK_NAMES = {
    "norm1": "input_layernorm",
    "norm2": "post_attention_layernorm",
    **{f"attention.{p}": f"self_attn.{p}" for p in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")},
    **{f"feedforward.{p}": f"mlp.{p}" for p in ("gate_proj", "up_proj", "down_proj")},
}


def names(n_layers: int) -> dict[str, str]:
    """The checkpoint's name of every parameter, by our name."""
    blocks = {
        f"blocks.{i}.{ours}.weight": f"model.layers.{i}.{theirs}.weight"
        for i in range(n_layers)
        for ours, theirs in BLOCK_NAMES.items()
    }
    return {
        "tokens.weight": "model.embed_tokens.weight",
        **blocks,
        "final_norm.weight": "model.norm.weight",
        "lm_head.weight": "lm_head.weight",
    }


def config(**changes: Any) -> TransformerConfig:
    """MiniMind's configuration, at its default size unless `changes` say otherwise."""
    defaults = {
        "vocab_size": 6400,
        "n_layers": 8,
        "dim": 768,
        "n_heads": 8,
        "n_kv_heads": 4,
        "hidden": 2432,
        "context": 32768,
        "norm": NormSpec.preset("minimind"),
        "placement": "pre",
        "qk_norm": True,
        "positions": "rope",
        "rope_theta": 1e6,
        "activation": "swiglu",
        "bias": False,
        "tied": True,
        "init": "normal",
        "init_std": 0.02,
    }
    return TransformerConfig(**(defaults | changes))


def _sizes(state_dict: Mapping[str, Tensor], n_layers: int) -> dict[str, int]:
    """The sizes that the shapes in a checkpoint tell."""

    def size(name: str, axis: int, ndim: int) -> int:
        shape = state_dict[name].shape
        if len(shape) != ndim or 0 in shape:
            raise ValueError(f"{name} must have {ndim} axes, none of them empty, got shape {tuple(shape)}")
        return shape[axis]

    dim = size("model.embed_tokens.weight", 1, 2)
    head_dim = size("model.layers.0.self_attn.q_norm.weight", 0, 1)
    return {
        "vocab_size": size("model.embed_tokens.weight", 0, 2),
        "n_layers": n_layers,
        "dim": dim,
        "n_heads": max(1, dim // head_dim),
        "n_kv_heads": max(1, size("model.layers.0.self_attn.k_proj.weight", 0, 2) // head_dim),
        "hidden": size("model.layers.0.mlp.gate_proj.weight", 0, 2),
    }


def load(state_dict: Mapping[str, Tensor], **changes: Any) -> Transformer:
    """The model of a MiniMind checkpoint (dense, under its own parameter names), with the same logits.

    Args:
        state_dict: name to tensor, as from safetensors or torch.load(..., weights_only=True). It is copied.
            `lm_head.weight` may be left out, since it is the embedding; if present it must equal it.
        changes: fields of the configuration that shapes do not tell: rope_theta, norm, context.

    Raises:
        ValueError: for missing or unexpected names, wrong shapes, mixed dtypes, or an untied output layer.
    """
    layers = {m[1] for name in state_dict if (m := re.match(r"model\.layers\.(\d+)\.", name))}
    theirs = names(max(1, len(layers)))
    missing = sorted(set(theirs.values()) - set(state_dict) - {"lm_head.weight"})
    unexpected = sorted(set(state_dict) - set(theirs.values()))
    if missing or unexpected:
        raise ValueError(
            "state_dict must hold MiniMind's names and no others: "
            f"missing {', '.join(missing) or 'none'}; unexpected {', '.join(unexpected) or 'none'}"
        )
    if len(dtypes := {str(t.dtype) for t in state_dict.values()}) > 1:
        raise ValueError(f"state_dict must have one dtype, got {', '.join(sorted(dtypes))}")

    # Built without memory or random numbers: every parameter comes from the checkpoint.
    with torch.device("meta"):
        model = Transformer(config(**_sizes(state_dict, len(layers)), **changes))
    parameters = {ours: state_dict[name].detach().clone() for ours, name in theirs.items() if name in state_dict}
    embedding = parameters["tokens.weight"]
    if not torch.equal(parameters.setdefault("lm_head.weight", embedding), embedding):
        raise ValueError("lm_head.weight must equal model.embed_tokens.weight: MiniMind ties them")
    for ours, p in model.state_dict().items():
        if parameters[ours].shape != p.shape:
            raise ValueError(f"{theirs[ours]} must have shape {tuple(p.shape)}, got {tuple(parameters[ours].shape)}")
    model.load_state_dict(parameters, assign=True)
    model.lm_head.weight = model.tokens.weight
    return model
