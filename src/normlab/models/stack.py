"""The plain deep stack: linear, activation, linear, activation, ... with a norm before or after each activation.

Nothing else: no residual, no bias, so that what a layer does to the scale of a signal can be seen alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from normlab import _check
from normlab.layers import make_norm
from normlab.spec import NormSpec

NormPlace = Literal["none", "before", "after"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "linear": lambda x: x,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StackConfig:
    """A plain stack.

    Attributes:
        depth: number of layers.
        width: units in each.
        activation: "relu", "gelu" (exact), "silu", "tanh" or "linear".
        gain: weights are N(0, gain^2 / width).
        norm: what the norms compute.
        norm_place: "none"; "before": a(N(W h)); "after": N(a(W h)).

    Raises:
        TypeError, ValueError: one sentence on the field that does not fit.
    """

    depth: int
    width: int
    activation: str
    gain: float
    norm: NormSpec = field(default_factory=lambda: NormSpec("layernorm"))
    norm_place: NormPlace = "none"

    def __post_init__(self) -> None:
        _check.whole("depth", self.depth)
        _check.whole("width", self.width)
        _check.one_of("activation", self.activation, tuple(ACTIVATIONS))
        _check.number("gain", self.gain, above=0)
        if not isinstance(self.norm, NormSpec):
            raise TypeError(f"norm must be a NormSpec, got {type(self.norm).__name__}")
        _check.one_of("norm.kind", self.norm.kind, ("layernorm", "rmsnorm", "none"))
        _check.one_of("norm_place", self.norm_place, get_args(NormPlace))


class PlainStack(nn.Module):
    """The stack of a StackConfig. Parameters are drawn from torch's global generator."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.config = config
        linears = [nn.Linear(config.width, config.width, bias=False) for _ in range(config.depth)]
        normed = config.norm_place != "none"
        self.norms = nn.ModuleList(
            make_norm(config.norm, config.width) if normed else nn.Identity() for _ in range(config.depth)
        )
        self.activation = ACTIVATIONS[config.activation]
        for linear in linears:
            nn.init.normal_(linear.weight, std=config.gain / math.sqrt(config.width))
        self.linears = nn.ModuleList(linears)

    def layers(self, x: Float[Tensor, "batch width"]) -> list[tuple[Tensor, Tensor]]:
        """(what enters the activation, what leaves the layer), for each layer in order."""
        outputs = []
        for linear, norm in zip(self.linears, self.norms, strict=True):
            z = linear(x)
            if self.config.norm_place == "before":
                z = norm(z)
            x = self.activation(z)
            if self.config.norm_place == "after":
                x = norm(x)
            outputs.append((z, x))
        return outputs

    def forward(self, x: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        """The output of the last layer."""
        return self.layers(x)[-1][1]
