"""Experiment 6: a small classifier of Iris on normlab's own engine, with each norm and without."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from normlab.experiments import text
from normlab.experiments.base import Experiment, Table
from normlab.experiments.evidence import Evidence
from normlab.experiments.figures import iris as figure
from normlab.experiments.iris_train import (
    HELD_OUT,
    KINDS,
    RATE,
    RATES,
    SCIKIT_LEARN,
    STEPS,
    WIDTH,
    Kind,
    Training,
    iris_of,
    measure_iris,
)
from normlab.experiments.setting import Setting
from normlab.experiments.stats import Interval, mean_interval

# Percent of the held-out flowers that a classifier of Iris is expected to name right.
GOAL = 95.0
# The training loss (nats) to which steps are counted.
TARGET = 0.2


@dataclass(frozen=True, slots=True)
class Row:
    """A norm at a rate, over seeds.

    Attributes:
        accuracy: on the held-out flowers, percent.
        gain: accuracy minus that without a norm, seed by seed, percentage points; None without a norm.
        held_out_loss, training_loss: after the last step, nats.
        steps: to the training loss TARGET; infinite where a run does not get there.
        share: steps over those without a norm, seed by seed; None without a norm, or where a run does not get there.
        arrived: how many runs get there.
    """

    kind: Kind
    lr: float
    accuracy: Interval
    gain: Interval | None
    held_out_loss: Interval
    training_loss: Interval
    steps: Interval
    share: Interval | None
    arrived: int


def row(evidence: Evidence, kind: Kind, lr: float) -> Row:
    """Summarize a norm at a rate."""
    results = iris_of(evidence)
    runs, plain = results.select(kind, lr), results.select("none", lr)
    steps, plain_steps = _steps(runs), _steps(plain)
    arrived = sum(n < float("inf") for n in steps)
    both = arrived == len(runs) and max(plain_steps) < float("inf")
    pairs = list(zip(runs, plain, strict=True))
    return Row(
        kind,
        lr,
        accuracy=mean_interval([r.accuracy for r in runs]),
        gain=None if kind == "none" else mean_interval([r.accuracy - p.accuracy for r, p in pairs]),
        held_out_loss=mean_interval([r.held_out_loss for r in runs]),
        training_loss=mean_interval([r.losses[-1] for r in runs]),
        steps=mean_interval(steps),
        share=mean_interval([a / b for a, b in zip(steps, plain_steps, strict=True)])
        if both and kind != "none"
        else None,
        arrived=arrived,
    )


def _steps(runs: Sequence[Training]) -> list[float]:
    return [r.steps_to(TARGET) for r in runs]


def rows(evidence: Evidence, lr: float) -> list[Row]:
    """Each norm at a rate."""
    return [row(evidence, kind, lr) for kind in KINDS]


def settings(setting: Setting) -> str:
    """What was run."""
    seeds = setting.size.iris_seeds
    return (
        f"Fisher's Iris (150 flowers, 4 measurements, 3 species) on normlab.tensor: 4 to {WIDTH} to 3 units, the norm "
        f"between the first layer and its ReLU; {STEPS} steps of Adam on all {150 - HELD_OUT} training flowers, rates "
        f"{text.rates(list(RATES), [])}; {HELD_OUT} flowers held out, 10 of each species; {seeds} "
        f"seed{'s' * (seeds > 1)}, each another split and other initial weights, the same for every norm and rate"
    )


def _all_steps(r: Row) -> str:
    """Steps to the target, or how many runs get there."""
    return text.interval(r.steps) if r.arrived == r.steps.n else f"{r.arrived} of {r.steps.n} get there"


def _optional(interval: Interval | None) -> str:
    return "" if interval is None else text.interval(interval)


def tables(evidence: Evidence) -> list[Table]:
    """Accuracy, steps and losses."""
    by_rate = [rows(evidence, lr) for lr in RATES]
    here = rows(evidence, RATE)
    at = tuple(f"rate {text.rate(lr)}" for lr in RATES)

    def table(title: str, cell: Callable[[Row], str], beside: str, last: Callable[[Row], str]) -> Table:
        """A column a rate, and one more on the example's rate."""
        cells = [[cell(r) for r in column] for column in by_rate]
        return Table(title, ("norm", *at, beside), tuple(zip(KINDS.values(), *cells, map(last, here), strict=True)))

    losses = tuple((KINDS[r.kind], text.interval(r.training_loss), text.interval(r.held_out_loss)) for r in here)
    return [
        table(
            "Held-out accuracy (%): mean [95% interval over seeds]",
            lambda r: text.interval(r.accuracy),
            f"minus no norm at {text.rate(RATE)}",
            lambda r: _optional(r.gain),
        ),
        table(
            f"Steps to a training loss of {TARGET:g}",
            _all_steps,
            f"over no norm's at {text.rate(RATE)}",
            lambda r: _optional(r.share),
        ),
        Table(
            f"Loss after {STEPS} steps at rate {text.rate(RATE)} (nats)",
            ("norm", "training", "held out"),
            losses,
        ),
    ]


def _side(interval: Interval, middle: float) -> int:
    """1 or -1 where the whole interval lies on that side of the middle; 0 where it does not, or has no ends."""
    if interval.low is None or interval.high is None:
        return 0
    return (interval.low > middle) - (interval.high < middle)


def _named(found: Sequence[Row]) -> str:
    return ", ".join(KINDS[r.kind] for r in found)


def _accuracy(here: Sequence[Row]) -> str:
    """Who reaches the goal."""
    reach = [r for r in here if r.accuracy.mean >= GOAL]
    words = (
        f"all four name at least {GOAL:g}% of the held-out flowers right"
        if len(reach) == len(here)
        else f"{_named(reach) or 'none'} of the four names at least {GOAL:g}% of the held-out flowers right"
    )
    values = "; ".join(f"{KINDS[r.kind]} {text.interval(r.accuracy)}" for r in here)
    return f"At rate {text.rate(RATE)}, that of the example in docs/tensor.md, {words} on average: {values}."


def _gains(here: Sequence[Row]) -> str:
    """Whether a norm changes the accuracy."""
    parts = []
    for r in here:
        if r.gain is not None:
            told = {1: "higher", -1: "lower", 0: "not told apart"}[_side(r.gain, 0)]
            parts.append(f"{KINDS[r.kind]} {text.interval(r.gain)} ({told})")
    return f"Accuracy minus that without a norm on the same split, in points: {'; '.join(parts)}."


def _speeds(here: Sequence[Row]) -> str:
    """Whether a norm saves steps, at a rate."""
    at = f"At rate {text.rate(here[0].lr)}"
    parts = []
    for r in here:
        if r.share is not None:
            told = {1: "more", -1: "fewer", 0: "not told apart"}[_side(r.share, 1)]
            parts.append(f"{KINDS[r.kind]} {text.interval(r.share)} ({told})")
    if not parts:
        arrived, runs = sum(r.arrived for r in here), sum(r.steps.n for r in here)
        return f"{at}, {STEPS} steps bring {arrived or 'none'} of the {runs} runs to a training loss of {TARGET:g}."
    return f"{at}, steps to a training loss of {TARGET:g}, times those without a norm: {'; '.join(parts)}."


def _logistic(evidence: Evidence) -> str:
    """Whether Iris needs a network."""
    results = iris_of(evidence)
    mean = text.interval(mean_interval(results.logistic))
    gaps = {
        kind: _side(mean_interval([r.accuracy - p for r, p in zip(runs, results.logistic, strict=True)]), 0)
        for kind in KINDS
        for runs in [results.select(kind, RATE)]
    }
    better = [words for kind, words in KINDS.items() if gaps[kind] > 0]
    words = f"told to be better: {', '.join(better)}" if better else "no network is told to be better"
    return (
        f"The accuracy of a logistic regression (scikit-learn's defaults), without a hidden layer, is {mean}: {words}."
    )


def _caution(evidence: Evidence) -> str:
    flower = f"One flower is {100 / HELD_OUT:.1f} points of a split."
    if evidence.setting.size.iris_seeds == 1:
        return f"{flower} One seed is no evidence."
    return (
        f"{flower} All splits are of the same 150 flowers and overlap, so the intervals say what chance in splits and "
        "weights does here, not what other flowers would."
    )


def reading(evidence: Evidence) -> list[str]:
    """Sentences computed from the evidence."""
    here = rows(evidence, RATE)
    return [
        _accuracy(here),
        _gains(here),
        _logistic(evidence),
        *(_speeds(rows(evidence, lr)) for lr in RATES),
        _caution(evidence),
    ]


def numbers(evidence: Evidence) -> dict[str, Any]:
    """The tables' rows, and each run without its curve."""
    results = iris_of(evidence)
    return {
        "goal": GOAL,
        "target_loss": TARGET,
        "table": [asdict(r) for lr in RATES for r in rows(evidence, lr)],
        "logistic_regression": results.logistic,
        "runs": [
            {
                "norm": r.kind,
                "lr": r.lr,
                "seed": r.seed,
                "accuracy": r.accuracy,
                "held_out_loss": r.held_out_loss,
                "training_loss": r.losses[-1],
                "steps_to_target": r.steps_to(TARGET),
            }
            for r in results.runs
        ],
    }


def curves(evidence: Evidence) -> tuple[Sequence[str], list[Sequence[Any]]]:
    """One line a run and step."""
    rows: list[Sequence[Any]] = [
        (r.kind, r.lr, r.seed, step, loss) for r in iris_of(evidence).runs for step, loss in enumerate(r.losses)
    ]
    return ("norm", "lr", "seed", "step", "train_loss"), rows


EXPERIMENT = Experiment(
    name="iris",
    script="exp6_iris.py",
    title="Iris, on the transparent engine",
    question="Does a norm help a small classifier: is it more accurate, and does it learn in fewer steps?",
    settings=settings,
    plan=lambda setting: [],
    measure=lambda setting: measure_iris(setting.iris_seeds),
    numbers=numbers,
    tables=tables,
    reading=reading,
    curves=curves,
    draw=lambda evidence: figure.draw(iris_of(evidence), TARGET),
    needs=SCIKIT_LEARN,
)
