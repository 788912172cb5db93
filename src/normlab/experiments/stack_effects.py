"""What the claims about plain stacks are measured by: functions from the evidence to samples, a value a seed."""

import math

from normlab.experiments import gradient_vanishing as stacks
from normlab.experiments.evidence import Evidence
from normlab.experiments.judge import Sample
from normlab.experiments.stacks import StackScales

# A layer is counted from 1; the published sequence ends at layer 8.
LAYER = 8
GAIN_WORDS = {"vanishing": "gain 1", "critical": "gain √2 (He)", "exploding": "gain 2"}


def _seeds(ev: Evidence, norm: str, gain: str) -> tuple[StackScales, ...]:
    return stacks.stacks_of(ev).case(stacks.label_of(norm, gain)).seeds


def std_ratio(ev: Evidence) -> list[Sample]:
    """Std at the last layer over std at layer 1, without a norm."""
    return [
        Sample(words, [s.std[-1] / s.std[0] for s in _seeds(ev, "no norm", gain)]) for gain, words in GAIN_WORDS.items()
    ]


def gradient_ratio(ev: Evidence) -> list[Sample]:
    """RMS of the gradient at layer 1, without a norm, when 1 enters at the last."""
    return [Sample(words, [s.gradient[0] for s in _seeds(ev, "no norm", gain)]) for gain, words in GAIN_WORDS.items()]


def published_misfit(ev: Evidence) -> list[Sample]:
    """The largest factor between the published sequence and its nearest net."""
    results = stacks.stacks_of(ev)
    worst = [
        max(math.exp(abs(math.log(std[layer - 1] / given))) for layer, given in stacks.PUBLISHED.items())
        for std in stacks.fitted_std(results)
    ]
    return [Sample(f"nearest net: {stacks.fit_words(results)}", worst)]


def normed_std(ev: Evidence) -> list[Sample]:
    """Std at LAYER with a norm, at the norm's output and at the layer's."""

    def sample(norm: str, words: str, field: str) -> Sample:
        return Sample(f"{norm} the ReLU{words}", [getattr(s, field)[LAYER - 1] for s in _seeds(ev, norm, "vanishing")])

    return [
        sample("LayerNorm after", "", "std"),
        sample("RMSNorm after", "", "std"),
        sample("LayerNorm before", ", at the norm's output", "entering_std"),
        sample("RMSNorm before", ", at the norm's output", "entering_std"),
        sample("LayerNorm before", ", at the layer's output", "std"),
        sample("RMSNorm before", ", at the layer's output", "std"),
    ]


def first_nan(ev: Evidence) -> list[Sample]:
    """The first layer with a NaN; infinite for never."""
    return [
        Sample(
            o.label if "Norm" in o.label else f"{o.label}, no norm",
            [math.inf if layer is None else layer for layer in o.first_nan],
        )
        for o in stacks.stacks_of(ev).overflows
    ]


def weights_forgotten(ev: Evidence) -> list[Sample]:
    """How many times larger the last std is with gain 2 than with gain 1."""
    return [
        Sample(
            f"{norm} the ReLU",
            [
                large.std[-1] / small.std[-1]
                for small, large in zip(_seeds(ev, norm, "vanishing"), _seeds(ev, norm, "exploding"), strict=True)
            ],
        )
        for norm in stacks.NORMED
    ]


def gradient_distance(ev: Evidence) -> list[Sample]:
    """Powers of ten by which a norm brings the gradient at layer 1 nearer to the one that entered."""

    def distance(s: StackScales) -> float:
        return abs(math.log10(s.gradient[0]))

    return [
        Sample(
            f"{norm} the ReLU, {words}",
            [
                distance(plain) - distance(normed)
                for plain, normed in zip(_seeds(ev, "no norm", gain), _seeds(ev, norm, gain), strict=True)
            ],
        )
        for gain, words in GAIN_WORDS.items()
        for norm in stacks.NORMED
    ]
