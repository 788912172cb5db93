"""Experiment 1: what plain deep stacks do to the scale of activations and gradients, without and with norms."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from normlab.experiments import text
from normlab.experiments.base import Experiment, Table
from normlab.experiments.evidence import Evidence
from normlab.experiments.figures import gradient_vanishing as figure
from normlab.experiments.meanfield import nearest_stack, predict
from normlab.experiments.setting import Setting
from normlab.experiments.stack_cases import (
    DEPTH,
    GAINS,
    NO_NORM,
    NORMED,
    OVERFLOW_DEPTH,
    OVERFLOWING,
    OVERFLOWING_NORMED,
    PUBLISHED,
    STACKS,
    WIDTH,
    label_of,
)
from normlab.experiments.stacks import BATCH, StackCase, StackResults, StackScales, measure, overflow
from normlab.experiments.stats import mean_interval
from normlab.models import StackConfig


def measure_stacks(setting: Setting) -> StackResults:
    """All stacks, all seeds."""
    seeds = setting.cheap_seeds

    def case(label: str, config: StackConfig) -> StackCase:
        return StackCase(label, config, predict(config), tuple(measure(config, seed) for seed in seeds))

    fit = nearest_stack(PUBLISHED, WIDTH)
    return StackResults(
        cases=tuple(case(label, config) for label, config in STACKS.items()),
        overflows=(
            overflow("float16, no norm", OVERFLOWING, torch.float16, seeds),
            overflow("float32, no norm", OVERFLOWING, torch.float32, seeds),
            overflow("float16, RMSNorm before the ReLU", OVERFLOWING_NORMED, torch.float16, seeds),
            overflow("float32, RMSNorm before the ReLU", OVERFLOWING_NORMED, torch.float32, seeds),
        ),
        fit=fit,
        fitted=case("nearest to the published sequence", fit.config),
    )


def stacks_of(evidence: Evidence) -> StackResults:
    """The stacks' results."""
    return evidence.of(StackResults)


def seeds_of(evidence: Evidence, norm: str, gain: str) -> tuple[StackScales, ...]:
    """A stack's measurements, a seed each."""
    return stacks_of(evidence).case(label_of(norm, gain)).seeds


def fitted_std(results: StackResults) -> list[list[float]]:
    """The fitted stack's measured standard deviations, a list a seed."""
    entering = results.fit.quantity == "entering"
    return [list(s.entering_std if entering else s.std) for s in results.fitted.seeds]


def fit_words(results: StackResults) -> str:
    """Which net comes nearest to the published sequence."""
    c = results.fit.config
    where = "what enters its activations" if results.fit.quantity == "entering" else "its activations"
    return f"a plain {c.activation.upper()} stack with weights N(0, {c.gain:g}²/width), measured on {where}"


def _mean(values: Sequence[float]) -> float:
    return mean_interval(values).mean


def _layers(first: Sequence[int | None]) -> str:
    """The distinct layers of several seeds, in order."""
    found = [str(layer) for layer in sorted({layer for layer in first if layer is not None})]
    return ", ".join(found + ["never"] * (None in first))


def tables(evidence: Evidence) -> list[Table]:
    """The scales at the ends of each stack, and the published sequence beside its nearest net."""
    results = stacks_of(evidence)
    rows = tuple(
        (
            c.label,
            text.interval(mean_interval([s.std[0] for s in c.seeds])),
            text.interval(mean_interval([s.std[-1] for s in c.seeds])),
            text.number(c.prediction.std[-1]),
            text.interval(mean_interval([s.gradient[0] for s in c.seeds])),
            text.number(c.prediction.gradient[0]),
        )
        for c in results.cases
    )
    measured = [_mean(values) for values in zip(*fitted_std(results), strict=True)]
    published = tuple(
        (str(layer), text.number(PUBLISHED[layer]) if layer in PUBLISHED else "not printed", text.number(std))
        for layer, std in enumerate(measured, 1)
    )
    broken = tuple((o.label, _layers(o.first_inf), _layers(o.first_nan)) for o in results.overflows)
    last = f"layer {DEPTH}"
    return [
        Table(
            f"ReLU stacks, {DEPTH} layers of width {WIDTH}",
            (
                "stack",
                "std at layer 1",
                f"std at {last}",
                "mean field",
                f"gradient RMS, layer 1 / {last}",
                "mean field",
            ),
            rows,
        ),
        Table(
            f"The published sequence, and the nearest honest net: {fit_words(results)}",
            ("layer", "published std", "measured std"),
            published,
        ),
        Table(
            f"ReLU stack, {OVERFLOW_DEPTH} layers, each 4 times the one before",
            ("dtype and norm", "first inf at layer", "first NaN at layer"),
            broken,
        ),
    ]


def reading(evidence: Evidence) -> list[str]:
    """What the picture shows, in numbers."""

    def factor(quantity: Callable[[StackScales], float], norm: str, gain: str) -> str:
        """Factor per layer."""
        return text.number(_mean([quantity(s) ** (1 / (DEPTH - 1)) for s in seeds_of(evidence, norm, gain)]))

    def forward(norm: str, gain: str) -> str:
        return factor(lambda s: s.std[-1] / s.std[0], norm, gain)

    def backward(norm: str, gain: str) -> str:
        return factor(lambda s: s.gradient[0], norm, gain)

    def last_std(norm: str, gain: str) -> str:
        return text.number(_mean([s.std[-1] for s in seeds_of(evidence, norm, gain)]))

    forwards = ", ".join(f"{forward(NO_NORM, gain)} ({gain})" for gain in GAINS)
    backwards = ", ".join(backward(NO_NORM, gain) for gain in GAINS)
    small, large = "gain 1", "gain 2"
    ends = ", ".join(f"{last_std(norm, small)} and {last_std(norm, large)} ({norm})" for norm in NORMED)
    gradients = ", ".join(f"{backward(norm, small)} ({norm})" for norm in NORMED)
    return [
        f"Without a norm a layer multiplies the std by {forwards}, and the gradient on its way back by {backwards}.",
        f"With a norm, the std at the last layer with gain 1 and with gain 2 is {ends}.",
        f"With a norm a layer multiplies the gradient on its way back by {gradients}.",
    ]


def settings(setting: Setting) -> str:
    """What was run."""
    return (
        f"random stacks, standard normal inputs, nothing is trained; {len(setting.cheap_seeds)} seeds, "
        f"batch {BATCH}, {DEPTH} layers of width {WIDTH} (overflow: {OVERFLOW_DEPTH} layers of {OVERFLOWING.width})"
    )


def numbers(evidence: Evidence) -> dict[str, Any]:
    """Everything measured."""
    results = stacks_of(evidence)
    return {
        "published": {str(k): v for k, v in PUBLISHED.items()},
        "nearest_net": fit_words(results),
        "stacks": results,
    }


def curves(evidence: Evidence) -> tuple[Sequence[str], list[Sequence[Any]]]:
    """One line a stack, seed and layer."""
    results = stacks_of(evidence)
    header = (
        "stack", "seed", "layer", "entering_std", "std", "rms", "gradient_rms",
        "predicted_entering_std", "predicted_std", "predicted_rms", "predicted_gradient_rms",
    )  # fmt: skip
    rows: list[Sequence[Any]] = []
    for c in (*results.cases, results.fitted):
        p = c.prediction
        for seed, s in enumerate(c.seeds):
            columns = (s.entering_std, s.std, s.rms, s.gradient, p.entering_std, p.std, p.rms, p.gradient)
            rows += [(c.label, seed, layer, *values) for layer, values in enumerate(zip(*columns, strict=True), 1)]
    return header, rows


EXPERIMENT = Experiment(
    name="gradient_vanishing",
    script="exp1_gradient_vanishing.py",
    title="Vanishing and exploding activations and gradients",
    question="What does a deep stack do to the scale of a signal, and of its gradient, without and with a norm?",
    settings=settings,
    plan=lambda _setting: [],
    measure=measure_stacks,
    numbers=numbers,
    tables=tables,
    reading=reading,
    curves=curves,
    draw=lambda evidence: figure.draw(stacks_of(evidence), fitted_std(stacks_of(evidence))),
)
