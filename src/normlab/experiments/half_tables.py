"""The tables of experiment 5."""

import math
from collections.abc import Sequence

from normlab.experiments import half_effects as effects
from normlab.experiments import text
from normlab.experiments.base import Table
from normlab.experiments.evidence import Evidence
from normlab.experiments.half_cases import (
    EPS,
    HALVES,
    KINDS,
    LIBRARIES,
    MEANS,
    ORDINARY,
    OVERFLOW,
    QUANTITIES,
    STATS,
    TINY_EPS,
    UNDERFLOW,
    Arm,
    Half,
)
from normlab.experiments.half_range import Ends
from normlab.experiments.half_results import halves_of
from normlab.experiments.stats import mean_interval
from normlab.spec import StatsDtype


def _mean(values: Sequence[float]) -> str:
    return text.number(mean_interval(values).mean)


def _stats(arm: Arm) -> str:
    if arm.dtype == "float32":
        return ""
    return {**STATS, **LIBRARIES}[arm.stats]


def ordinary(evidence: Evidence) -> Table:
    """Errors at scale 1."""
    points = {
        arm: by_scale[ORDINARY]
        for arm, by_scale in halves_of(evidence).lines.items()
        if (arm.eps, arm.mean, arm.product) == (EPS, 0.0, "stats")
    }
    rows = tuple(
        (
            arm.dtype,
            KINDS[arm.kind],
            _stats(arm),
            *(_mean(points[arm].of(q)) for q in QUANTITIES),
            _mean([e.y for e in points[arm].least]),
        )
        for arm in sorted(points, key=lambda arm: (arm.dtype, arm.kind))
    )
    columns = ("dtype", "norm", "statistics", "y", "dx", "dweight", "y, exact and rounded once")
    return Table("Relative error on standard normal input", columns, rows)


def means(evidence: Evidence) -> Table:
    """LayerNorm on inputs with a mean."""
    lines = halves_of(evidence).lines
    tried = (0.0, *MEANS)

    def errors(dtype: Half, stats: StatsDtype) -> list[str]:
        return [_mean(lines[Arm("layernorm", dtype, stats, mean=mean)][ORDINARY].of("y")) for mean in tried]

    rows = tuple((dtype, words, *errors(dtype, stats)) for dtype in HALVES for stats, words in STATS.items())
    columns = ("dtype", "statistics", *(f"mean {mean:g} std" for mean in tried))
    return Table("LayerNorm: relative error of y, by the input's mean", columns, rows)


def largest(ends: Ends) -> str:
    """Up to which entries the norm is right."""
    if all(map(math.isinf, ends.largest)):
        return "all that float16 holds"
    return text.interval(mean_interval(ends.largest))


def smallest(ends: Ends) -> str:
    """From which RMS on the output is finite."""
    return _mean(ends.smallest) if any(ends.smallest) else "all"


def ends(evidence: Evidence) -> Table:
    """Between which inputs float16 works, and theory."""
    rows = tuple(
        (
            KINDS[e.kind],
            STATS[e.stats],
            largest(e),
            text.number(OVERFLOW) if e.stats == "input" else "",
            e.beyond,
            smallest(e),
            text.number(UNDERFLOW) if e.stats == "input" else "",
        )
        for e in halves_of(evidence).ends
    )
    columns = (
        "norm", "statistics", "right up to |x|", "√65504", "above, y is",
        f"finite from this RMS on (eps {text.rate(TINY_EPS)})", "√2⁻²⁴",
    )  # fmt: skip
    return Table("float16: between which inputs it works", columns, rows)


def sums(evidence: Evidence) -> Table:
    """RMSNorm with a running sum."""
    rows = tuple((s.dtype, str(s.width), _mean(s.half), _mean(s.single)) for s in halves_of(evidence).sums)
    columns = ("dtype", "width", "sum rounded at every step", "float32 statistics")
    return Table("RMSNorm: relative error of y, by how the squares are summed", columns, rows)


def training(evidence: Evidence) -> Table:
    """Final losses."""
    size = evidence.setting.size
    rows = tuple(
        (
            KINDS[kind],
            text.rate(lr),
            text.interval(mean_interval(effects.single_losses(evidence, kind, lr))),
            *(text.interval(mean_interval(effects.half_losses(evidence, kind, lr, stats))) for stats in STATS),
        )
        for kind in size.half_kinds
        for lr in size.half_rates
    )
    columns = ("norm", "rate", "float32", *(f"bfloat16, {words}" for words in STATS.values()))
    return Table(f"Final validation loss, Pre-LN, {size.half_layers} layers, {size.steps} steps", columns, rows)


def tables(evidence: Evidence) -> list[Table]:
    """All of them."""
    return [table(evidence) for table in (ordinary, means, ends, sums, training)]
