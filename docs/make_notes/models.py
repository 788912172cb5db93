"""Makers of what stands in models: MiniMind, built without memory for its numbers, and code by file and symbol."""

import os
import re
from functools import cache
from importlib import import_module
from typing import Any

import torch
from listings import source
from marks import ROOT, Place, maker
from tables import table
from torch import nn

from normlab.models import Transformer, minimind

# What a norm of the model does there, by its place in a block.
ROLES = {
    "blocks.N.norm1": "input of attention, position by position",
    "blocks.N.attention.q_norm": "each head's queries, before RoPE",
    "blocks.N.attention.k_norm": "each head's keys, before RoPE",
    "blocks.N.norm2": "input of the feed-forward, position by position",
    "final_norm": "the residual stream, before the output layer",
}


@cache
def model() -> Transformer:
    """MiniMind at its default size."""
    with torch.device("meta"):
        return Transformer(minimind.config())


def norms() -> dict[str, nn.RMSNorm]:
    """Its norms, by name, in the order of the forward pass."""
    order = list(ROLES)
    found = {name: module for name, module in model().named_modules() if isinstance(module, nn.RMSNorm)}
    return dict(sorted(found.items(), key=lambda item: order.index(general(item[0]))))


def general(name: str) -> str:
    """A name with N in the place of the block's number."""
    return re.sub(r"\d+", "N", name, count=1)


@maker
def minimind_norms(_: Place) -> str:
    """A row a kind of place: name, the checkpoint's name, width, how many, parameters, eps, what it normalizes."""
    published = minimind.names(1)
    groups: dict[str, list[nn.RMSNorm]] = {}
    for name, norm in norms().items():
        groups.setdefault(general(name), []).append(norm)
    heads = "name here", "name in the checkpoint", "numbers in a row", "norms", "parameters", "eps", "normalizes"
    lines = []
    for name, group in groups.items():
        checkpoint = published[f"{name}.weight".replace("N", "0")].replace(".0.", ".N.")
        (shape,) = {norm.normalized_shape for norm in group}
        (eps,) = {norm.eps for norm in group}
        count = sum(p.numel() for norm in group for p in norm.parameters())
        lines.append((f"`{name}`", f"`{checkpoint}`", shape[0], len(group), f"{count:,}", f"{eps:g}", ROLES[name]))
    every = sum(p.numel() for norm in norms().values() for p in norm.parameters())
    return table(heads, [*lines, ("all", "", "", len(norms()), f"{every:,}", "", "")])


@maker
def minimind_config(_: Place) -> str:
    """A table of the configuration."""
    config = model().config
    rows = {
        "blocks": config.n_layers,
        "width of the residual stream": config.dim,
        "query heads, key and value heads": f"{config.n_heads}, {config.kv_heads}",
        "width of a head": config.head_dim,
        "width inside the feed-forward": f"{config.hidden_dim} ({config.activation})",
        "vocabulary": config.vocab_size,
        "positions": f"{config.positions}, base {config.rope_theta:,.0f}",
        "norm, its eps, its placement": f"{config.norm.kind}, {config.norm.eps:g}, {config.placement}",
        "norms on queries and keys": "yes" if config.qk_norm else "no",
        "output layer shares the embedding's weights": "yes" if config.tied else "no",
        "biases": "yes" if config.bias else "no",
        "parameters": f"{model().n_parameters():,}",
    }
    return table(["what", "value"], rows.items())


@maker
def minimind_count(_: Place, what: str) -> str:
    """A number: of "norms", of "parameters", of "norm-parameters", or their "share" in percent."""
    inside = sum(p.numel() for norm in norms().values() for p in norm.parameters())
    every = model().n_parameters()
    return {
        "norms": str(len(norms())),
        "parameters": f"{every:,}",
        "norm-parameters": f"{inside:,}",
        "share": f"{100 * inside / every:.3f}%",
    }[what]


@maker
def theirs(_: Place, module: str, symbol: str) -> str:
    """A file and a symbol of an installed package, which must be there: "`torch/nn/functional.py`, `rms_norm`"."""
    found: Any = import_module(module)
    for name in symbol.split("."):
        found = getattr(found, name)
    return f"`{module.replace('.', '/')}.py`, `{symbol}`"


@maker
def ours(place: Place, path: str, *symbols: str) -> str:
    """A file of the repository, linked, and symbols that must be in it."""
    for symbol in symbols:
        source(path, symbol)
    link = os.path.relpath(ROOT / path, place.page.parent)
    return ", ".join([f"[{path}]({link})", *(f"`{symbol}`" for symbol in symbols)])
