"""What the claims about plain stacks are measured by: functions from the evidence to samples, a value a seed."""

import math

from normlab.experiments import gradient_vanishing as stacks
from normlab.experiments.evidence import Evidence
from normlab.experiments.judge import Sample

# A layer is counted from 1; the published sequence ends at layer 8.
LAYER = 8
GAINS = {"gain 1": "no norm, vanishing", "gain √2 (He)": "no norm, critical", "gain 2": "no norm, exploding"}
NORMED = ("LayerNorm after", "RMSNorm after", "LayerNorm before", "RMSNorm before")


def std_ratio(ev: Evidence) -> list[Sample]:
    """Std at LAYER over std at layer 1, without a norm."""
    results = stacks.stacks_of(ev)
    return [
        Sample(name, [s.std[LAYER - 1] / s.std[0] for s in results.case(label).seeds]) for name, label in GAINS.items()
    ]


def gradient_ratio(ev: Evidence) -> list[Sample]:
    """RMS of the gradient at layer 1, without a norm, when 1 enters at the last."""
    results = stacks.stacks_of(ev)
    return [Sample(name, [s.gradient[0] for s in results.case(label).seeds]) for name, label in GAINS.items()]


def published_misfit(ev: Evidence) -> list[Sample]:
    """The largest factor between the published sequence and its nearest net."""
    results = stacks.stacks_of(ev)
    worst = [
        max(math.exp(abs(math.log(std[layer - 1] / given))) for layer, given in stacks.PUBLISHED.items())
        for std in stacks.fitted_std(results)
    ]
    return [Sample(f"nearest net: {stacks.fit_words(results)}", worst)]


def normed_std(ev: Evidence) -> list[Sample]:
    """Std at LAYER with a norm, at its output and at the layer's."""
    results = stacks.stacks_of(ev)
    after = [
        Sample(f"{label} the ReLU", [s.std[LAYER - 1] for s in results.case(label).seeds])
        for label in ("LayerNorm after", "RMSNorm after")
    ]
    before = [
        Sample(
            f"{kind} before the ReLU, at {where}",
            [getattr(s, field)[LAYER - 1] for s in results.case(f"{kind} before").seeds],
        )
        for where, field in (("the norm's output", "entering_std"), ("the layer's output", "std"))
        for kind in ("LayerNorm", "RMSNorm")
    ]
    return after + before


def first_nan(ev: Evidence) -> list[Sample]:
    """The first layer with a NaN; infinite for never."""
    overflows = stacks.stacks_of(ev).overflows
    return [
        Sample(
            f"{o.label}" if "Norm" in o.label else f"{o.label}, no norm",
            [math.inf if n is None else n for n in o.first_nan],
        )
        for o in overflows
    ]


def weights_forgotten(ev: Evidence) -> list[Sample]:
    """How many times larger the last std is with gain 2 than with gain 1."""
    results = stacks.stacks_of(ev)
    pairs = {label: (label, f"{label}, exploding weights") for label in NORMED}
    pairs["no norm"] = ("no norm, vanishing", "no norm, exploding")
    return [
        Sample(
            name,
            [b.std[-1] / a.std[-1] for a, b in zip(results.case(small).seeds, results.case(large).seeds, strict=True)],
        )
        for name, (small, large) in pairs.items()
    ]


def gradient_distance(ev: Evidence) -> list[Sample]:
    """Powers of ten by which a norm brings the gradient at layer 1 nearer to the one that entered."""
    results = stacks.stacks_of(ev)
    samples = []
    for gain, plain_label, suffix in (
        ("gain 1", "no norm, vanishing", ""),
        ("gain 2", "no norm, exploding", ", exploding weights"),
    ):
        plain = results.case(plain_label).seeds
        for label in NORMED:
            normed = results.case(label + suffix).seeds
            gains = [
                abs(math.log10(p.gradient[0])) - abs(math.log10(n.gradient[0]))
                for p, n in zip(plain, normed, strict=True)
            ]
            samples.append(Sample(f"{label} the ReLU, {gain}", gains))
    return samples
