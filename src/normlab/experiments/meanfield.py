"""What mean-field theory predicts for a wide plain stack of random weights (Poole et al. 2016, arXiv:1606.05340;
Schoenholz et al. 2017, arXiv:1611.01232; with norms: Yang et al. 2019, arXiv:1902.08129).

With weights N(0, gain^2 / width) and many units, what enters the activation a is Gaussian, z ~ N(0, q), and
E below is over it. Let v be the mean square of the layer's input.

                     entering a      output                            a squared gradient is multiplied by
    no norm          q = gain^2 v    a(z)                              gain^2 E[a'^2]
    norm before a    q = 1           a(z)                              E[a'^2] / v
    RMSNorm after a  q = gain^2 v    a(z) / sqrt(E[a^2])               gain^2 E[a'^2] / E[a^2]
    LayerNorm after  q = gain^2 v    (a(z) - E[a]) / sqrt(Var[a])      gain^2 E[a'^2] / Var[a]

For ReLU, LayerNorm after the activation multiplies the squared gradient by pi / (pi - 1) = 1.467 a layer, whatever
the gain: a norm that fixes the forward scale need not fix the backward one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit

from normlab.models import StackConfig

Array = NDArray[np.float64]

# The Gaussian integrals: trapezoids on 10 standard deviations to each side, kinks at 0 on a node.
NODES = np.linspace(-10.0, 10.0, 2001)
WEIGHTS = np.exp(-(NODES**2) / 2) / np.sqrt(2 * np.pi) * (NODES[1] - NODES[0])


def _gelu_slope(z: Array) -> Array:
    return (1 + erf(z / np.sqrt(2))) / 2 + z * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def _silu_slope(z: Array) -> Array:
    s = expit(z)
    return s * (1 + z * (1 - s))


# Each activation and its derivative. Only squared derivatives are integrated, and the trapezoid wants the mean of
# both sides at ReLU's jump: 1/2, the square of sqrt(1/2).
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: np.heaviside(z, np.sqrt(0.5))),
    "gelu": (lambda z: z * (1 + erf(z / np.sqrt(2))) / 2, _gelu_slope),
    "silu": (lambda z: z * expit(z), _silu_slope),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "linear": (lambda z: z, np.ones_like),
}


@dataclass(frozen=True, slots=True)
class Prediction:
    """Layer by layer: std of what enters the activation; std and RMS of the output; RMS of the gradient by the
    output, when a gradient of RMS 1 enters at the last layer."""

    entering_std: tuple[float, ...]
    std: tuple[float, ...]
    rms: tuple[float, ...]
    gradient: tuple[float, ...]


def predict(config: StackConfig, input_std: float = 1.0) -> Prediction:
    """The prediction for a stack whose input is N(0, input_std^2)."""
    a, slope = ACTIVATIONS[config.activation]
    kind = config.norm.kind if config.norm_place != "none" else "none"
    entering, std, rms, factors = [], [], [], []
    v = input_std**2
    for _ in range(config.depth):
        q = 1.0 if config.norm_place == "before" and kind != "none" else config.gain**2 * v
        z = np.sqrt(q) * NODES
        mean, square = float(WEIGHTS @ a(z)), float(WEIGHTS @ a(z) ** 2)
        factor = config.gain**2 * float(WEIGHTS @ slope(z) ** 2)
        if config.norm_place == "before" and kind != "none":
            factor /= config.gain**2 * v
        if config.norm_place == "after" and kind == "layernorm":
            factor /= square - mean**2
            mean, square = 0.0, 1.0
        elif config.norm_place == "after" and kind == "rmsnorm":
            factor /= square
            mean, square = mean / np.sqrt(square), 1.0
        entering.append(float(np.sqrt(q)))
        std.append(float(np.sqrt(square - mean**2)))
        rms.append(float(np.sqrt(square)))
        factors.append(factor)
        v = square
    # factors[i] carries the gradient from layer i's output to its input, which is layer i-1's output.
    gradient = [1.0]
    for factor in reversed(factors[1:]):
        gradient.append(gradient[-1] * float(np.sqrt(factor)))
    return Prediction(tuple(entering), tuple(std), tuple(rms), tuple(reversed(gradient)))


@dataclass(frozen=True, slots=True)
class Fit:
    """The stack nearest to a sequence of standard deviations.

    Attributes:
        config: the stack.
        quantity: what its std is compared with: "entering" the activation, or the layer's "output".
        error: the largest |ln(predicted / given)| over the layers.
    """

    config: StackConfig
    quantity: str
    error: float


def nearest_stack(sequence: dict[int, float], width: int) -> Fit:
    """The plain stack whose predicted std comes nearest to `sequence` (layer, from 1, to std), among all
    activations, gains from 0.5 to 3 in steps of 0.01, and both quantities."""
    depth = max(sequence)
    best: Fit | None = None
    for activation in ACTIVATIONS:
        for gain in np.arange(0.5, 3.0, 0.01):
            config = StackConfig(depth=depth, width=width, activation=activation, gain=round(float(gain), 2))
            prediction = predict(config)
            for quantity, values in (("entering", prediction.entering_std), ("output", prediction.std)):
                error = max(abs(float(np.log(values[layer - 1] / given))) for layer, given in sequence.items())
                if best is None or error < best.error:
                    best = Fit(config, quantity, error)
    assert best is not None
    return best
