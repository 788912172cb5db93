"""What the claims about plain stacks are measured by: functions from the evidence to samples, a value a seed."""

import math

from normlab.experiments.evidence import Evidence
from normlab.experiments.gradient_vanishing import fit_words, fitted_std, seeds_of, stacks_of
from normlab.experiments.judge import Sample
from normlab.experiments.stack_cases import GAINS, NO_NORM, NORMED, PUBLISHED
from normlab.experiments.stacks import StackScales


def std_ratio(ev: Evidence) -> list[Sample]:
    """Std at the last layer over std at layer 1, without a norm."""
    return [Sample(gain, [s.std[-1] / s.std[0] for s in seeds_of(ev, NO_NORM, gain)]) for gain in GAINS]


def gradient_ratio(ev: Evidence) -> list[Sample]:
    """RMS of the gradient at layer 1 over that at the last, without a norm."""
    return [Sample(gain, [s.gradient[0] for s in seeds_of(ev, NO_NORM, gain)]) for gain in GAINS]


def published_misfit(ev: Evidence) -> list[Sample]:
    """The largest factor between the published sequence and its nearest net."""
    results = stacks_of(ev)
    worst = [
        max(math.exp(abs(math.log(std[layer - 1] / given))) for layer, given in PUBLISHED.items())
        for std in fitted_std(results)
    ]
    return [Sample(f"nearest net: {fit_words(results)}", worst)]


def normed_std(ev: Evidence) -> list[Sample]:
    """Std at the layer where it is farthest from 1, with a norm, at the layer's output or the norm's."""

    def farthest(values: tuple[float, ...]) -> float:
        return max(values, key=lambda std: abs(math.log(std)))

    return [
        Sample(f"{norm}, at the {end}", [farthest(getattr(s, field)) for s in seeds_of(ev, norm, "gain 1")])
        for norm, end, field in (
            ("LayerNorm after the ReLU", "layer's output", "std"),
            ("RMSNorm after the ReLU", "layer's output", "std"),
            ("LayerNorm before the ReLU", "layer's output", "std"),
            ("RMSNorm before the ReLU", "layer's output", "std"),
            ("LayerNorm before the ReLU", "norm's output", "entering_std"),
            ("RMSNorm before the ReLU", "norm's output", "entering_std"),
        )
    ]


def first_nan(ev: Evidence) -> list[Sample]:
    """The first layer with a NaN; infinite for never."""
    return [
        Sample(o.label, [math.inf if layer is None else layer for layer in o.first_nan])
        for o in stacks_of(ev).overflows
    ]


def weights_forgotten(ev: Evidence) -> list[Sample]:
    """How many times larger the last std is with gain 2 than with gain 1."""

    def ratios(norm: str) -> list[float]:
        pairs = zip(seeds_of(ev, norm, "gain 1"), seeds_of(ev, norm, "gain 2"), strict=True)
        return [large.std[-1] / small.std[-1] for small, large in pairs]

    return [Sample(norm, ratios(norm)) for norm in NORMED]


def _distance(s: StackScales) -> float:
    """Powers of ten between the gradient at layer 1 and that at the last layer."""
    return abs(math.log10(s.gradient[0]))


def gradient_gain(ev: Evidence) -> list[Sample]:
    """Powers of ten by which a norm brings the gradient at layer 1 nearer to that at the last layer."""

    def gains(norm: str, gain: str) -> list[float]:
        pairs = zip(seeds_of(ev, NO_NORM, gain), seeds_of(ev, norm, gain), strict=True)
        return [_distance(plain) - _distance(normed) for plain, normed in pairs]

    return [Sample(f"{norm}, {gain}", gains(norm, gain)) for gain in GAINS for norm in NORMED]


def normed_gradient(ev: Evidence) -> list[Sample]:
    """RMS of the gradient at layer 1 over that at the last, with a norm."""
    return [Sample(norm, [s.gradient[0] for s in seeds_of(ev, norm, "gain 1")]) for norm in NORMED]
