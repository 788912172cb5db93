"""Measurements on plain deep stacks: the scale of activations and of gradients, layer by layer, over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from normlab.experiments.meanfield import Fit, Prediction
from normlab.lab.reproducible import reproducible
from normlab.lab.scales import rms
from normlab.models import PlainStack, StackConfig

BATCH = 128


@dataclass(frozen=True, slots=True)
class StackScales:
    """One seed: index i is layer i + 1.

    Attributes:
        entering_std: of what enters the activation.
        std, rms: of the layer's output.
        gradient: RMS of the gradient by the output, when a standard normal gradient enters at the last.
    """

    entering_std: tuple[float, ...]
    std: tuple[float, ...]
    rms: tuple[float, ...]
    gradient: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class StackCase:
    """A stack, its prediction, and its measurements, a seed each."""

    label: str
    config: StackConfig
    prediction: Prediction
    seeds: tuple[StackScales, ...]


@dataclass(frozen=True, slots=True)
class Overflow:
    """A stack in one dtype until it breaks.

    Attributes:
        label: "float16", "float32", or one of these with a norm.
        dtype: the dtype of weights and activations.
        rms: a seed each, of the output, layer by layer; inf and NaN where they came.
        first_inf, first_nan: a seed each, the first layer (from 1) with such an activation; None: never.
    """

    label: str
    dtype: str
    config: StackConfig
    rms: tuple[tuple[float, ...], ...]
    first_inf: tuple[int | None, ...]
    first_nan: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class StackResults:
    """All of experiment 1."""

    cases: tuple[StackCase, ...]
    overflows: tuple[Overflow, ...]
    fit: Fit
    fitted: StackCase

    def case(self, label: str) -> StackCase:
        """The case of this label."""
        return next(c for c in self.cases if c.label == label)


def _draw(config: StackConfig, dtype: torch.dtype = torch.float32) -> tuple[PlainStack, torch.Tensor]:
    """A stack and its standard normal input, from torch's generator."""
    return PlainStack(config).to(dtype), torch.randn(BATCH, config.width).to(dtype)


def _moments(x: torch.Tensor) -> tuple[float, float]:
    """(standard deviation, root mean square) over all entries, in float64."""
    x = x.detach().double()
    mean, square = x.mean().item(), x.square().mean().item()
    return math.sqrt(max(0.0, square - mean**2)), math.sqrt(square)


def measure(config: StackConfig, seed: int) -> StackScales:
    """Forward and backward through the stack of a seed, in float32."""
    with reproducible(seed):
        stack, x = _draw(config)
        layers = stack.layers(x.requires_grad_())
        for _, output in layers:
            output.retain_grad()
        layers[-1][1].backward(torch.randn(BATCH, config.width))
        outputs = [_moments(h) for _, h in layers]
        return StackScales(
            entering_std=tuple(_moments(z)[0] for z, _ in layers),
            std=tuple(std for std, _ in outputs),
            rms=tuple(square for _, square in outputs),
            gradient=tuple(rms(h.grad) for _, h in layers if h.grad is not None),
        )


def overflow(label: str, config: StackConfig, dtype: torch.dtype, seeds: Sequence[int]) -> Overflow:
    """Forward through the stack in `dtype`, watching for infinities and NaN."""
    scales, infs, nans = [], [], []
    for seed in seeds:
        with reproducible(seed), torch.no_grad():
            stack, x = _draw(config, dtype)
            outputs = [h for _, h in stack.layers(x)]
            # The RMS is taken in float64, which does not overflow here by itself.
            scales.append(tuple(rms(h) for h in outputs))
            infs.append(next((i for i, h in enumerate(outputs, 1) if h.isinf().any()), None))
            nans.append(next((i for i, h in enumerate(outputs, 1) if h.isnan().any()), None))
    return Overflow(label, str(dtype).removeprefix("torch."), config, tuple(scales), tuple(infs), tuple(nans))
