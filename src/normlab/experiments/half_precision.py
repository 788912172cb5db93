"""Experiment 5: norms in bfloat16 and float16, with the float32 upcast and without; and training in bfloat16."""

from collections.abc import Sequence
from typing import Any

from normlab.experiments import half_effects as effects
from normlab.experiments import text
from normlab.experiments.base import Experiment
from normlab.experiments.evidence import Evidence
from normlab.experiments.figures import half_precision as figure
from normlab.experiments.half_cases import EPS, OVERFLOW, QUANTITIES, ROWS, SCALES, STATS, UNDERFLOW, WIDTH
from normlab.experiments.half_reading import reading
from normlab.experiments.half_results import halves_of, measure_halves
from normlab.experiments.half_tables import tables
from normlab.experiments.setting import Setting
from normlab.experiments.stats import mean_interval
from normlab.experiments.training_curves import run_numbers
from normlab.lab import RunConfig


def plan(setting: Setting) -> list[RunConfig]:
    """Pre-LN in float32, and in bfloat16 with the norms' statistics in float32 and in bfloat16."""
    layers = setting.size.half_layers
    return [
        run
        for kind in setting.size.half_kinds
        for lr in setting.size.half_rates
        for seed in setting.seeds
        for run in (
            setting.run("pre", kind, layers, lr=lr, seed=seed),
            *(setting.run("pre", kind, layers, lr=lr, seed=seed, dtype="bfloat16", stats=stats) for stats in STATS),
        )
    ]


def settings(setting: Setting) -> str:
    """What was run."""
    size = setting.size
    return (
        f"single norms on the CPU: {ROWS} rows of {WIDTH} normal numbers, scales {text.rate(SCALES[0])} to "
        f"{text.rate(SCALES[-1])}, {size.half_seeds} seeds, eps {text.rate(EPS)} unless said; float32 statistics: the "
        "norm of the input as float32, cast back; half statistics: every operation rounded to the input's dtype "
        f"(PyTorch's mean still adds in float32 inside). Training: {setting.training}, Pre-LN, {size.half_layers} "
        f"layers, rates {text.rates(list(size.half_rates), [])}; in bfloat16 the weights, gradients and Adam's state "
        "too, without a float32 copy"
    )


def numbers(evidence: Evidence) -> dict[str, Any]:
    """Mean errors by arm and scale, ends and sums by seed, and each run's final loss."""
    results = halves_of(evidence)
    return {
        "theory": {"overflow": OVERFLOW, "underflow": UNDERFLOW},
        "lines": [
            {
                "arm": arm,
                "points": [
                    {
                        "scale": scale,
                        "representable": point.exists,
                        "error": {q: mean_interval(point.of(q)) for q in QUANTITIES},
                        "least": {q: mean_interval([getattr(e, q) for e in point.least]).mean for q in QUANTITIES},
                    }
                    for scale, point in points.items()
                ],
            }
            for arm, points in results.lines.items()
        ],
        "float16_ends": results.ends,
        "running_sums": results.sums,
        "runs": [run_numbers(r) for r in evidence.runs],
    }


def curves(evidence: Evidence) -> tuple[Sequence[str], list[Sequence[Any]]]:
    """One line an arm, scale and seed."""
    header = (
        "dtype", "norm", "statistics", "eps", "product", "mean", "scale", "seed",
        *QUANTITIES, *(f"least_{q}" for q in QUANTITIES),
    )  # fmt: skip
    rows: list[Sequence[Any]] = []
    for arm, points in halves_of(evidence).lines.items():
        case = (arm.dtype, arm.kind, arm.stats, arm.eps, arm.product, arm.mean)
        for scale, p in points.items():
            for seed, pair in enumerate(zip(p.errors, p.least, strict=True)):
                rows.append((*case, scale, seed, *(getattr(e, q) for e in pair for q in QUANTITIES)))
    return header, rows


EXPERIMENT = Experiment(
    name="half_precision",
    script="exp5_half_precision.py",
    title="Half precision",
    question="What do bfloat16 and float16 cost a norm, with its statistics in float32 and without?",
    settings=settings,
    plan=plan,
    measure=lambda setting: measure_halves(setting.half_seeds),
    numbers=numbers,
    tables=tables,
    reading=reading,
    curves=curves,
    draw=lambda evidence: figure.draw(evidence.setting, halves_of(evidence), effects.cost_of_bfloat16(evidence)),
)
