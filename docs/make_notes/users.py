"""Makers of who uses which norm: read off the models of the package `transformers`, and tried, whatever the name."""

import warnings
from collections import Counter
from functools import cache
from typing import Any

from marks import Place, maker
from tables import table

# A name as people say it, and the prefix of its configuration in transformers.
MODELS = {
    "BERT": "Bert",
    "GPT-2": "GPT2",
    "OPT": "OPT",
    "GPT-NeoX": "GPTNeoX",
    "ViT": "ViT",
    "Command R (Cohere)": "Cohere",
    "T5": "T5",
    "Llama": "Llama",
    "Mistral": "Mistral",
    "Gemma": "Gemma",
    "Qwen3": "Qwen3",
    "OLMo 2": "Olmo2",
    "DeepSeek-V3": "DeepseekV3",
    "gpt-oss": "GptOss",
}
RMSNORMS = ("Llama", "Gemma", "T5", "OLMo 2", "Qwen3")


@cache
def norm_of(model: str) -> Any:
    """The norm that stands most often in a model of the default configuration; without numbers in it."""
    import torch
    import transformers

    config = getattr(transformers, f"{MODELS[model]}Config")()
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        modules = list(transformers.AutoModel.from_config(config).modules())
    found = [m for m in modules if "norm" in type(m).__name__.lower()]
    (kind, _), *_ = Counter(type(m) for m in found).most_common(1)
    return next(m for m in found if type(m) is kind)


def sample(kind: type) -> Any:
    """A norm of that class over 8 features, with numbers in it."""
    import torch

    with torch.device("cpu"):
        return kind(8)


def subtracts_mean(kind: type) -> bool:
    """Whether rows with a mean leave it with the mean 0."""
    import torch

    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)) + 3
    return bool(sample(kind)(x).mean(-1).abs().max() < 1e-5)


def learns(model: str) -> str:
    """Its parameters."""
    norm = norm_of(model)
    names = [name for name, _ in norm.named_parameters()]
    if "weight" in names and not sample(type(norm)).weight.any():
        names[names.index("weight")] = "weight, as 1 + weight"
    return ", ".join(names)


def eps_of(norm: Any) -> str:
    """The number that keeps it from dividing by 0."""
    return f"{getattr(norm, 'eps', None) or norm.variance_epsilon:g}"


@maker
def users(_: Place) -> str:
    """A table: which model has which norm."""
    import transformers

    package = f"transformers {'.'.join(transformers.__version__.split('.')[:2])}"
    rows = []
    for model in MODELS:
        norm = norm_of(model)
        kind = type(norm)
        centres = subtracts_mean(kind)
        name = f"torch.nn.{kind.__name__}" if kind.__module__.startswith("torch.") else kind.__name__
        what = "yes: LayerNorm" if centres else "no: RMSNorm"
        rows.append((not centres, (model, f"`{name}`", what, learns(model), eps_of(norm))))
    heads = ["model", f"class in {package}", "subtracts the mean", "learns", "eps"]
    return table(heads, (cells for _, cells in sorted(rows, key=lambda row: row[0])))


def multiplied(kind: type) -> str:
    """Where the weight is multiplied, by comparing bits with both orders in bfloat16."""
    import torch

    source = torch.Generator().manual_seed(0)
    norm = sample(kind).bfloat16()
    with torch.no_grad():
        norm.weight.add_(torch.randn(8, generator=source) / 8)
        x = torch.randn(256, 8, generator=source).bfloat16()
        y = norm(x)
        # eps as in the class's own default, the one that `sample` took.
        eps = float(eps_of(norm))
        h = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + eps)
        scale = norm.weight.float() + (0.0 if sample(kind).weight.any() else 1.0)
        before, after = (h * scale).bfloat16(), h.bfloat16() * scale.bfloat16()
    if torch.equal(y, before) == torch.equal(y, after):
        raise ValueError(f"{kind.__name__}: neither order, or both, give its bits")
    return "product, then cast" if torch.equal(y, before) else "cast, then product"


@maker
def cast_orders(_: Place) -> str:
    """A table: in which order RMSNorms cast back and multiply."""
    kinds = {model: type(norm_of(model)) for model in RMSNORMS}
    lines = ((model, f"`{kind.__name__}`", multiplied(kind)) for model, kind in kinds.items())
    return table(["model", "class in transformers", "order"], lines)
