"""What the picture of experiment 5 shows, in sentences computed from the evidence."""

import math
from collections.abc import Sequence

from normlab.experiments import half_effects as effects
from normlab.experiments import text
from normlab.experiments.evidence import Evidence
from normlab.experiments.half_cases import (
    CUBE_OVERFLOW,
    HALVES,
    KINDS,
    LIBRARIES,
    ORDINARY,
    OVERFLOW,
    QUANTITIES,
    SMALL_SCALES,
    TINY_EPS,
    UNDERFLOW,
    Arm,
    Half,
    Kind,
    Library,
)
from normlab.experiments.half_results import halves_of
from normlab.experiments.half_tables import largest, smallest
from normlab.experiments.judge import Sample
from normlab.experiments.stats import mean_interval
from normlab.spec import StatsDtype


def _factor(ratios: Sequence[float]) -> float:
    """The mean of log10 ratios, as a factor; NaN where errors were infinite on both sides."""
    return math.nan if any(map(math.isnan, ratios)) else 10 ** mean_interval(ratios).mean


def _factors(evidence: Evidence, kind: Kind, dtype: Half, stats: StatsDtype | Library) -> str:
    """The errors of y, dx and dweight at scale 1 over those with the upcast."""
    lines = halves_of(evidence).lines
    point, upcast = lines[Arm(kind, dtype, stats)][ORDINARY], lines[Arm(kind, dtype)][ORDINARY]
    return ", ".join(text.number(_factor(effects.log_ratios(point, upcast, q))) for q in QUANTITIES)


def _at_scale_1(evidence: Evidence) -> str:
    factors = [f"{_factors(evidence, k, d, 'input')} ({d}, {KINDS[k]})" for d in HALVES for k in KINDS]
    return (
        "On standard normal input, the errors of y, dx, dweight without the upcast are those with it times "
        f"{'; '.join(factors)}."
    )


def _ends(evidence: Evidence) -> str:
    ends = [
        f"{KINDS[e.kind]} is right up to entries of {largest(e)} (√65504 = {OVERFLOW:.1f}), above that y is "
        f"{e.beyond}; with eps {text.rate(TINY_EPS)} y is finite from an RMS of {smallest(e)} on (√2⁻²⁴ = "
        f"{text.number(UNDERFLOW)})"
        for e in halves_of(evidence).ends
        if e.stats == "input"
    ]
    return f"float16 without the upcast: {'; '.join(ends)}."


def _small_gradients(evidence: Evidence) -> str:
    """At which of the small scales dx is not finite in float16 without the upcast."""
    words = []
    for kind in KINDS:
        points = halves_of(evidence).lines[Arm(kind, "float16", "input")]
        broken = [
            scale
            for scale in SMALL_SCALES
            if points[scale].exists and not all(map(math.isfinite, points[scale].of("dx")))
        ]
        where = f"{text.number(min(broken))} to {text.number(max(broken))}" if broken else "none"
        words.append(f"{where} ({KINDS[kind]})")
    return (
        f"float16 without the upcast: small scales at which dx is inf or NaN: {'; '.join(words)}. Autograd makes dx of "
        f"rstd³, which overflows where v + eps < ({text.number(CUBE_OVERFLOW)})²."
    )


def _bfloat16(evidence: Evidence) -> str:
    """By which factor errors grow without the upcast, at the scale where that is largest."""
    worst = []
    for kind in KINDS:
        for q in QUANTITIES:
            gains = effects.upcast_gain(evidence, kind, "bfloat16", q)
            factors = {scale: _factor(ratios) for scale, ratios in gains.items()}
            scale = max(factors, key=lambda s: -1 if math.isnan(factors[s]) else factors[s])
            worst.append(f"{text.number(factors[scale])} ({KINDS[kind]}, {q}, scale {text.number(scale)})")
    return f"bfloat16, at the scale where leaving out the upcast costs most: a factor of {'; '.join(worst)}."


def _library(evidence: Evidence, library: Library) -> str:
    factors = [f"{_factors(evidence, k, d, library)} ({d}, {KINDS[k]})" for d in HALVES for k in KINDS]
    return (
        f"{LIBRARIES[library]}, given half precision on this machine: the errors of y, dx, dweight are those with the "
        f"upcast times {'; '.join(factors)}."
    )


def _listed(samples: Sequence[Sample]) -> str:
    def words(values: Sequence[float]) -> str:
        return "not comparable" if any(map(math.isnan, values)) else text.interval(mean_interval(values))

    return "; ".join(f"{words(s.values)} ({s.condition})" for s in samples)


def reading(evidence: Evidence) -> list[str]:
    """All sentences."""
    return [
        _at_scale_1(evidence),
        _ends(evidence),
        _small_gradients(evidence),
        _bfloat16(evidence),
        *(_library(evidence, library) for library in LIBRARIES),
        "Final loss in bfloat16 with half statistics minus that with float32 statistics (nats): "
        f"{_listed(effects.cost_of_half_statistics(evidence))}.",
        f"Final loss in bfloat16 minus that in float32 (nats): {_listed(effects.cost_of_bfloat16(evidence))}.",
    ]
