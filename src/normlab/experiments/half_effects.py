"""What the claims about half precision are measured by: functions from the evidence to samples, a value a seed."""

import math
from collections.abc import Callable, Sequence

from normlab.experiments.evidence import Evidence, finals
from normlab.experiments.half_cases import (
    HALVES,
    KINDS,
    MEANS,
    ORDINARY,
    QUANTITIES,
    STATS,
    UNDERFLOW,
    Arm,
    Half,
    Kind,
)
from normlab.experiments.half_results import halves_of
from normlab.experiments.halves import Point
from normlab.experiments.judge import Sample
from normlab.experiments.text import rate
from normlab.spec import StatsDtype

Measure = Callable[[Evidence], list[Sample]]


def log_ratio(larger: float, smaller: float) -> float:
    """log10 of a ratio of errors: 0 where both are alike, even both 0; NaN where both are infinite."""
    if math.isinf(larger) and math.isinf(smaller):
        return math.nan
    if larger == smaller:
        return 0.0
    if smaller == 0 or math.isinf(larger):
        return math.inf
    return -math.inf if larger == 0 or math.isinf(smaller) else math.log10(larger / smaller)


def log_ratios(larger: Point, smaller: Point, quantity: str) -> list[float]:
    """log10 of the error of one over that of the other, a seed each."""
    return [log_ratio(a, b) for a, b in zip(larger.of(quantity), smaller.of(quantity), strict=True)]


def upcast_gain(ev: Evidence, kind: Kind, dtype: Half, quantity: str) -> dict[float, list[float]]:
    """By scale: log10 of the error without the upcast over that with it, a seed each, where the dtype holds all."""
    lines = halves_of(ev).lines
    without, upcast = lines[Arm(kind, dtype, "input")], lines[Arm(kind, dtype, "float32")]
    return {
        scale: log_ratios(point, upcast[scale], quantity)
        for scale, point in without.items()
        if point.exists and upcast[scale].exists
    }


def _worst(by_scale: Sequence[Sequence[float]]) -> list[float]:
    """The largest value over scales, a seed each; NaN wins."""
    return [math.nan if any(map(math.isnan, seed)) else max(seed) for seed in zip(*by_scale, strict=True)]


def without_upcast(dtypes: Sequence[Half]) -> Measure:
    """log10 of the error without the upcast over that with it, at the scale where this is largest."""

    def measure(ev: Evidence) -> list[Sample]:
        return [
            Sample(
                ", ".join([*([dtype] if len(dtypes) > 1 else []), KINDS[kind], quantity]),
                _worst(list(upcast_gain(ev, kind, dtype, quantity).values())),
            )
            for dtype in dtypes
            for kind in KINDS
            for quantity in QUANTITIES
        ]

    return measure


def running_sums(ev: Evidence) -> list[Sample]:
    """log10 of RMSNorm's error with a running sum in half precision over that with float32 statistics."""
    return [
        Sample(f"{s.dtype}, width {s.width}", [log_ratio(a, b) for a, b in zip(s.half, s.single, strict=True)])
        for s in halves_of(ev).sums
    ]


def largest_entry(ev: Evidence) -> list[Sample]:
    """The largest entry of a row that float16 still normalizes right without the upcast."""
    return [Sample(KINDS[e.kind], e.largest) for e in halves_of(ev).ends if e.stats == "input"]


def smallest_rms(ev: Evidence) -> list[Sample]:
    """The smallest RMS of a row whose output is finite in float16 without the upcast, over the smallest root."""
    return [
        Sample(KINDS[e.kind], [rms / UNDERFLOW for rms in e.smallest]) for e in halves_of(ev).ends if e.stats == "input"
    ]


def late_product(ev: Evidence) -> list[Sample]:
    """log10 of the error of y with the weight multiplied after the cast over that before it, at scale 1."""
    lines = halves_of(ev).lines
    return [
        Sample(
            f"{dtype}, {KINDS[kind]}",
            log_ratios(lines[Arm(kind, dtype, product="input")][ORDINARY], lines[Arm(kind, dtype)][ORDINARY], "y"),
        )
        for dtype in HALVES
        for kind in KINDS
    ]


def layernorm_over_rmsnorm(ev: Evidence) -> list[Sample]:
    """log10 of LayerNorm's error over RMSNorm's, at scale 1."""
    lines = halves_of(ev).lines
    return [
        Sample(
            f"{STATS[stats]}, {dtype}, {quantity}",
            log_ratios(
                lines[Arm("layernorm", dtype, stats)][ORDINARY], lines[Arm("rmsnorm", dtype, stats)][ORDINARY], quantity
            ),
        )
        for stats in STATS
        for dtype in HALVES
        for quantity in QUANTITIES
    ]


def recentering(ev: Evidence) -> list[Sample]:
    """log10 of LayerNorm's error of y on an input with a large mean over that on one without, at scale 1."""
    lines = halves_of(ev).lines
    return [
        Sample(
            f"{STATS[stats]}, {dtype}, mean {mean:g} std",
            log_ratios(
                lines[Arm("layernorm", dtype, stats, mean=mean)][ORDINARY],
                lines[Arm("layernorm", dtype, stats)][ORDINARY],
                "y",
            ),
        )
        for stats in reversed(STATS)
        for dtype in HALVES
        for mean in MEANS
    ]


def half_losses(ev: Evidence, kind: str, lr: float, stats: StatsDtype) -> list[float]:
    """Final losses of Pre-LN trained in bfloat16, a seed each."""
    layers = ev.setting.size.half_layers
    return finals(ev.select("pre", kind, layers, lr=lr, dtype="bfloat16", stats=stats))


def single_losses(ev: Evidence, kind: str, lr: float) -> list[float]:
    """Final losses of the same trained in float32."""
    return finals(ev.select("pre", kind, ev.setting.size.half_layers, lr=lr))


def _differences(larger: list[float], smaller: list[float]) -> list[float]:
    return [a - b for a, b in zip(larger, smaller, strict=True)]


def cost_of_half_statistics(ev: Evidence) -> list[Sample]:
    """Final loss in bfloat16 with the norms' statistics in bfloat16 minus that with float32 statistics."""
    return [
        Sample(
            f"{KINDS[kind]}, rate {rate(lr)}",
            _differences(half_losses(ev, kind, lr, "input"), half_losses(ev, kind, lr, "float32")),
        )
        for kind in ev.setting.size.half_kinds
        for lr in ev.setting.size.half_rates
    ]


def cost_of_bfloat16(ev: Evidence) -> list[Sample]:
    """Final loss in bfloat16 minus that in float32."""
    return [
        Sample(
            f"{STATS[stats]}, {KINDS[kind]}, rate {rate(lr)}",
            _differences(half_losses(ev, kind, lr, stats), single_losses(ev, kind, lr)),
        )
        for stats in STATS
        for kind in ev.setting.size.half_kinds
        for lr in ev.setting.size.half_rates
    ]
