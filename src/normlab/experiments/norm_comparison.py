"""Experiment 2: NoNorm, Post-LN, Pre-LN + LayerNorm, Pre-LN + RMSNorm under the same conditions."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from normlab.experiments import text
from normlab.experiments.base import Experiment, Table
from normlab.experiments.configurations import CONFIGURATIONS, Configuration
from normlab.experiments.evidence import Evidence
from normlab.experiments.figures import norm_comparison as figure
from normlab.experiments.setting import Setting
from normlab.experiments.stats import Interval, mean_interval
from normlab.experiments.training_curves import loss_curves, run_numbers
from normlab.lab import RunConfig, RunResult


def plan(setting: Setting) -> list[RunConfig]:
    """Every configuration at every depth, rate and seed; and the long runs of NoNorm."""
    size = setting.size
    runs = [
        setting.run(c.placement, c.kind, layers, lr=lr, seed=seed)
        for layers in size.comparison_layers
        for c in CONFIGURATIONS
        for lr in size.rates
        for seed in setting.seeds
    ]
    if size.long_steps:
        runs += [
            setting.run("none", "none", max(size.comparison_layers), lr=lr, seed=seed, steps=size.long_steps)
            for lr in size.long_rates
            for seed in setting.seeds
        ]
    return runs


@dataclass(frozen=True, slots=True)
class Row:
    """A configuration at a depth.

    Attributes:
        converges: whether every seed trains at the best rate.
        failed: what did not stay finite or ended above ln V, in words.
        best_rate: the rate with the lowest mean final loss.
        final: the final validation loss there, nats per character, over seeds.
        trains_at: the rates at which every seed trains.
        step_ms: median wall time of a step.
        verdict: in words.
    """

    layers: int
    config: Configuration
    converges: bool
    failed: str
    best_rate: float
    final: Interval
    trains_at: list[float]
    step_ms: float
    verdict: str


def _failures(runs: Sequence[RunResult]) -> str:
    """ "NaN at step 56 (1e-2)", "diverged (3e-4, 1e-3)", or "no"."""
    nan = [f"NaN at step {r.first_nonfinite_step} ({text.rate(r.config.lr)})" for r in runs if r.outcome == "nan"]
    diverged = sorted({r.config.lr for r in runs if r.outcome == "diverged"})
    all_rates = sorted({r.config.lr for r in runs})
    parts = list(dict.fromkeys(nan))
    if diverged:
        parts.append("diverged at " + ("every rate" if diverged == all_rates else text.rates(diverged, all_rates)))
    return "; ".join(parts) or "no"


def row(evidence: Evidence, config: Configuration, layers: int) -> Row:
    """Summarize a configuration at a depth."""
    runs = evidence.select(config.placement, config.kind, layers)
    rates = evidence.rates(config.placement, config.kind, layers)
    best = evidence.best(config.placement, config.kind, layers)
    trains_at = [lr for lr in rates if all(r.outcome == "trains" for r in runs if r.config.lr == lr)]
    if not trains_at:
        verdict = "does not train"
    elif trains_at == rates:
        verdict = "trains at every rate"
    else:
        verdict = f"trains at {len(trains_at)} of {len(rates)} rates"
    return Row(
        layers=layers,
        config=config,
        converges=best.lr in trains_at,
        failed=_failures(runs),
        best_rate=best.lr,
        final=mean_interval(best.losses),
        trains_at=trains_at,
        step_ms=median([r.step_ms for r in runs if math.isfinite(r.step_ms)] or [math.nan]),
        verdict=verdict,
    )


def rows(evidence: Evidence) -> list[Row]:
    """All configurations, depth by depth."""
    return [row(evidence, c, layers) for layers in evidence.setting.size.comparison_layers for c in CONFIGURATIONS]


def tables(evidence: Evidence) -> list[Table]:
    """The notes' table, measured."""
    size = evidence.setting.size
    columns = (
        "Config", "Converges", "diverged or NaN at step", "final loss at its best rate",
        "rates at which it trains", "time per step", "verdict",
    )  # fmt: skip
    out = []
    for layers in size.comparison_layers:
        lines = tuple(
            (
                r.config.label,
                "yes" if r.converges else "no",
                r.failed,
                f"{text.interval(r.final)} at {text.rate(r.best_rate)}",
                text.rates(r.trains_at, list(size.rates)),
                f"{r.step_ms:.1f} ms",
                r.verdict,
            )
            for r in rows(evidence)
            if r.layers == layers
        )
        out.append(Table(f"{layers} layers, {size.steps} steps, {size.n_seeds} seeds", columns, lines))
    if long := _long_runs(evidence):
        lines = tuple(
            (
                text.rate(lr),
                ", ".join(
                    "finite to the end" if r.first_nonfinite_step is None else str(r.first_nonfinite_step) for r in runs
                ),
                ", ".join(text.number(max(r.train_loss)) for r in runs),
            )
            for lr, runs in long.items()
        )
        title = f"NoNorm, {max(size.comparison_layers)} layers, {size.long_steps} steps"
        out.append(Table(title, ("rate", "first non-finite step, a seed each", "largest loss on the way"), lines))
    return out


def _long_runs(evidence: Evidence) -> dict[float, list[RunResult]]:
    size = evidence.setting.size
    layers = max(size.comparison_layers)
    return (
        {lr: evidence.select("none", "none", layers, lr=lr, steps=size.long_steps) for lr in size.long_rates}
        if size.long_steps
        else {}
    )


def reading(evidence: Evidence) -> list[str]:
    """What the picture shows."""
    corpus, baselines = evidence.setting.corpus, evidence.setting.baselines
    sentences = [
        f"On the characters that runs are scored on, guessing all {len(corpus.vocab)} characters alike costs "
        f"ln {len(corpus.vocab)} = {baselines.uniform:.2f} nats; knowing only how often each occurs "
        f"{baselines.unigram:.2f}; knowing also the one before {baselines.bigram:.2f}. A run trains when it ends at or "
        f"below {evidence.setting.trained_below:.2f}. The best rate is the one with the lowest mean over these seeds."
    ]
    for layers in evidence.setting.size.comparison_layers:
        parts = [f"{r.config.label} {r.verdict}" for r in rows(evidence) if r.layers == layers]
        sentences.append(f"At {layers} layers {'; '.join(parts)}.")
    return sentences


def numbers(evidence: Evidence) -> dict[str, Any]:
    """The table's rows, and each run's final loss and outcome."""
    return {
        "table": [asdict(r) for r in rows(evidence)],
        "runs": [run_numbers(r) for r in evidence.runs],
    }


def settings(setting: Setting) -> str:
    """What was run."""
    size = setting.size
    words = f"{setting.training}, rates {text.rates(list(size.rates), [])}, depths {size.comparison_layers}"
    return words + (f"; NoNorm also for {size.long_steps} steps" if size.long_steps else "")


EXPERIMENT = Experiment(
    name="norm_comparison",
    script="exp2_norm_comparison.py",
    title="Four configurations",
    question="Which of NoNorm, Post-LN, Pre-LN + LayerNorm and Pre-LN + RMSNorm trains, at which rates, and how well?",
    settings=settings,
    plan=plan,
    measure=None,
    numbers=numbers,
    tables=tables,
    reading=reading,
    curves=loss_curves,
    draw=lambda evidence: figure.draw(evidence, rows(evidence)),
)
