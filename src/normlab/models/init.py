"""Initializations of a Transformer. Biases are 0 and norms are at scale 1 in all but "torch".

    xavier   linear: Xavier normal, variance 2 / (fan_in + fan_out); embeddings such that the stream begins
             with variance 1. With placement "deepnorm" the value, output and feed-forward weights are
             multiplied by (8 n_layers)^(-1/4), which belongs to that placement (arXiv:2203.00555).
    gpt2     every weight N(0, init_std^2); what writes to the stream divided by sqrt(2 n_layers)
             (Radford et al. 2019; 2 n_layers is the number of residual branches).
    normal   every weight N(0, init_std^2).
    torch    torch.nn's defaults, untouched.

Draws from torch's global generator: seed it before.
"""

import math

from torch import nn

from normlab.models.config import TransformerConfig

WRITES_TO_STREAM = ("o_proj", "down_proj")
DEEPNORM_SCALED = ("v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def initialize(model: nn.Module, config: TransformerConfig) -> None:
    """Fill the parameters of `model` in place by `config.init`."""
    if config.init == "torch":
        return
    n_embeddings = 2 if config.positions == "learned" else 1
    for name, module in model.named_modules():
        role = name.rpartition(".")[2]
        if isinstance(module, nn.Embedding):
            std = math.sqrt(1 / n_embeddings) if config.init == "xavier" else config.init_std
            nn.init.normal_(module.weight, std=std)
        elif isinstance(module, nn.Linear):
            _fill(module, role, config)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _fill(linear: nn.Linear, role: str, config: TransformerConfig) -> None:
    if role == "lm_head" and config.tied:
        return  # it is the embedding, filled as such
    if config.init == "xavier":
        deepnorm = config.placement == "deepnorm" and role in DEEPNORM_SCALED
        nn.init.xavier_normal_(linear.weight, gain=(8 * config.n_layers) ** -0.25 if deepnorm else 1.0)
    elif config.init == "gpt2" and role in WRITES_TO_STREAM:
        nn.init.normal_(linear.weight, std=config.init_std / math.sqrt(2 * config.n_layers))
    else:
        nn.init.normal_(linear.weight, std=config.init_std)
