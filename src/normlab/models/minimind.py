"""MiniMind (github.com/jingyaogong/minimind) as a configuration of `Transformer`, and its checkpoints.

8 Pre-LN blocks of width 768 with RMSNorm, 8 query heads over 4 key/value heads with query and key norms, RoPE,
SwiGLU, a tied output: 63,912,192 parameters, 33 RMSNorms (two a block, one each for queries and keys, one last).
"""

import re
from collections.abc import Collection, Iterable, Mapping
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

# Fields of the configuration that a checkpoint does not tell.
SETTINGS = {"norm", "rope_theta", "context"}


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


def _few(names: Iterable[str]) -> str:
    """Names for a sentence: the first three, and how many more."""
    listed = sorted(map(str, names))
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more or "none"


def _check_checkpoint(state_dict: Mapping[str, Tensor], expected: Collection[str]) -> None:
    """Raise unless it holds tensors of one floating-point dtype under the expected names."""
    missing = set(expected) - set(state_dict) - {"lm_head.weight"}
    unexpected = set(state_dict) - set(expected)
    if missing or unexpected:
        raise ValueError(
            "state_dict must hold MiniMind's names and no others: "
            f"missing {_few(missing)}; unexpected {_few(unexpected)}"
        )
    for name, t in state_dict.items():
        if not isinstance(t, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(t).__name__}")
    dtypes = {t.dtype for t in state_dict.values()}
    if len(dtypes) > 1 or not all(dtype.is_floating_point for dtype in dtypes):
        raise ValueError(
            f"state_dict must have one floating-point dtype, got {', '.join(sorted(str(d) for d in dtypes))}"
        )


def _sizes(state_dict: Mapping[str, Tensor], n_layers: int) -> dict[str, int]:
    """The sizes that the shapes in a checkpoint tell."""

    def shape(name: str, ndim: int) -> torch.Size:
        shape = state_dict[name].shape
        if len(shape) != ndim or 0 in shape:
            axes = "1 axis, not empty" if ndim == 1 else f"{ndim} axes, none of them empty"
            raise ValueError(f"{name} must have {axes}, got shape {tuple(shape)}")
        return shape

    first = "model.layers.0"
    vocab_size, dim = shape("model.embed_tokens.weight", 2)
    (head_dim,) = shape(f"{first}.self_attn.q_norm.weight", 1)
    if head_dim % 2 or dim % head_dim:
        raise ValueError(
            f"{first}.self_attn.q_norm.weight must have an even length that divides "
            f"{dim} (the width of model.embed_tokens.weight), got {head_dim}"
        )
    kv_width, _ = shape(f"{first}.self_attn.k_proj.weight", 2)
    if kv_width % head_dim or dim % kv_width:
        raise ValueError(
            f"{first}.self_attn.k_proj.weight must have a multiple of {head_dim} rows (the length of q_norm.weight) "
            f"that divides {dim} (the width of model.embed_tokens.weight), got {kv_width}"
        )
    hidden, _ = shape(f"{first}.mlp.gate_proj.weight", 2)
    return {
        "vocab_size": vocab_size,
        "n_layers": n_layers,
        "dim": dim,
        "n_heads": dim // head_dim,
        "n_kv_heads": kv_width // head_dim,
        "hidden": hidden,
    }


def load(state_dict: Mapping[str, Tensor], **changes: Any) -> Transformer:
    """The model of a MiniMind checkpoint (dense, under its own parameter names), with the same logits.

    Args:
        state_dict: name to tensor, as from safetensors or torch.load(..., weights_only=True). It is copied.
            `lm_head.weight` may be left out, since it is the embedding; if present it must equal it.
        changes: fields of the configuration that shapes do not tell: norm (with a weight and no bias),
            rope_theta, context.

    Raises:
        ValueError: for missing or unexpected names, wrong shapes, mixed or integer dtypes, an untied output
            layer, or a norm with other parameters.
        TypeError: for what is not a mapping of names to tensors, or another field in `changes`.
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"state_dict must map names to tensors, got {type(state_dict).__name__}")
    if others := set(changes) - SETTINGS:
        raise TypeError(f"load takes {_few(SETTINGS)} beside state_dict, got {_few(others)}")
    layers = {m[1] for name in state_dict if (m := re.match(r"model\.layers\.(\d+)\.", str(name)))}
    theirs = names(max(1, len(layers)))
    _check_checkpoint(state_dict, theirs.values())

    # Built without memory or random numbers: every parameter comes from the checkpoint.
    with torch.device("meta"):
        model = Transformer(config(**_sizes(state_dict, len(layers)), **changes))
    if set(model.state_dict()) != set(theirs):
        raise ValueError(f"norm must have a weight and no bias, as MiniMind's, got {model.config.norm}")
    parameters = {ours: state_dict[name].detach().clone() for ours, name in theirs.items() if name in state_dict}
    embedding = parameters["tokens.weight"]
    output = parameters.setdefault("lm_head.weight", embedding)
    for ours, p in model.state_dict().items():
        if parameters[ours].shape != p.shape:
            raise ValueError(f"{theirs[ours]} must have shape {tuple(p.shape)}, got {tuple(parameters[ours].shape)}")
    # NaN equals NaN here: a checkpoint that diverged is still tied.
    if not torch.allclose(output, embedding, rtol=0, atol=0, equal_nan=True):
        raise ValueError("lm_head.weight must equal model.embed_tokens.weight: MiniMind ties them")
    model.load_state_dict(parameters, assign=True)
    model.lm_head.weight = model.tokens.weight
    return model
