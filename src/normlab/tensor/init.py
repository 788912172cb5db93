"""Initializations, under the names of torch.nn.init: each fills a tensor's `data` and returns the tensor.

They draw from `normlab.tensor.random`: `manual_seed` before them gives the same numbers again. A weight is (out, in),
or (out, in, *kernel), in which every number of the kernel counts as an input. With fan_in and fan_out the numbers of
inputs and outputs,

    xavier     variance gain^2 * 2 / (fan_in + fan_out)       Glorot & Bengio 2010
    kaiming    variance gain^2 / fan_in (or fan_out)          He et al. 2015, arXiv:1502.01852

A uniform distribution within +-a has variance a^2 / 3.
"""

import math
from typing import Literal

import numpy as np

from normlab.tensor.core import Tensor
from normlab.tensor.random import generator

Mode = Literal["fan_in", "fan_out"]
GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2)}
LEAKY = "leaky_relu"


def calculate_gain(nonlinearity: str, param: float = 0.01) -> float:
    """The factor that makes up for what an activation takes from the standard deviation, as torch has it.

    Args:
        nonlinearity: linear, sigmoid, tanh, relu or leaky_relu.
        param: slope of leaky_relu below 0.

    Raises:
        ValueError: for another name.
    """
    if nonlinearity == LEAKY:
        return math.sqrt(2 / (1 + param**2))
    if nonlinearity not in GAINS:
        raise ValueError(f"nonlinearity must be one of {', '.join((*GAINS, LEAKY))}, got {nonlinearity!r}")
    return GAINS[nonlinearity]


def _fans(tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ValueError(f"a weight of at least 2 axes has inputs and outputs, got shape {tensor.shape}")
    kernel = math.prod(tensor.shape[2:])
    return tensor.shape[1] * kernel, tensor.shape[0] * kernel


def _fan(tensor: Tensor, mode: str) -> int:
    fans = dict(zip(("fan_in", "fan_out"), _fans(tensor), strict=True))
    if mode not in fans:
        raise ValueError(f'mode must be "fan_in" or "fan_out", got {mode!r}')
    return max(1, fans[mode])


def constant_(tensor: Tensor, value: float) -> Tensor:
    """The same number everywhere."""
    tensor.data = np.full(tensor.shape, value)
    return tensor


def zeros_(tensor: Tensor) -> Tensor:
    """0 everywhere."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """1 everywhere."""
    return constant_(tensor, 1.0)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Evenly from a to b."""
    tensor.data = generator().uniform(a, b, tensor.shape)
    return tensor


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal numbers."""
    tensor.data = generator().normal(mean, std, tensor.shape)
    return tensor


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Evenly, with Xavier's variance."""
    bound = gain * math.sqrt(6 / max(1, sum(_fans(tensor))))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Normal numbers with Xavier's variance."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / max(1, sum(_fans(tensor)))))


def kaiming_uniform_(tensor: Tensor, a: float = 0.0, mode: Mode = "fan_in", nonlinearity: str = LEAKY) -> Tensor:
    """Evenly, with He's variance; a: slope of leaky_relu below 0."""
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3 / _fan(tensor, mode))
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor: Tensor, a: float = 0.0, mode: Mode = "fan_in", nonlinearity: str = LEAKY) -> Tensor:
    """Normal numbers with He's variance; a: slope of leaky_relu below 0."""
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode)))
