"""Experiment 1: what plain deep stacks do to the scale of activations and gradients, without and with norms."""

from collections.abc import Sequence
from typing import Any

import torch

from normlab.experiments import text
from normlab.experiments.base import Experiment, Table
from normlab.experiments.evidence import Evidence
from normlab.experiments.figures import gradient_vanishing as figure
from normlab.experiments.meanfield import nearest_stack, predict
from normlab.experiments.setting import Setting
from normlab.experiments.stacks import StackCase, StackResults, measure, overflow
from normlab.experiments.stats import mean_interval
from normlab.models import StackConfig
from normlab.models.stack import NormPlace
from normlab.spec import NormSpec

DEPTH = 16
WIDTH = 256
VANISHING, CRITICAL, EXPLODING = 1.0, 2**0.5, 2.0

# The sequence printed in the teaching notes: layer, std of its activations.
PUBLISHED = {1: 1.04, 2: 0.85, 3: 0.62, 4: 0.38, 5: 0.21, 8: 0.016}

# Deep enough, and 4 times larger a layer, that float32 too overflows.
OVERFLOW = {"depth": 72, "width": 128, "activation": "relu", "gain": 4 * 2**0.5}


def _relu(gain: float, kind: str = "none", place: NormPlace = "none", depth: int = DEPTH) -> StackConfig:
    norm = NormSpec(kind)  # pyright: ignore[reportArgumentType]
    return StackConfig(depth=depth, width=WIDTH, activation="relu", gain=gain, norm=norm, norm_place=place)


GAINS = {"vanishing": VANISHING, "critical": CRITICAL, "exploding": EXPLODING}
NORMED: dict[str, tuple[str, NormPlace]] = {
    "LayerNorm after": ("layernorm", "after"),
    "RMSNorm after": ("rmsnorm", "after"),
    "LayerNorm before": ("layernorm", "before"),
    "RMSNorm before": ("rmsnorm", "before"),
}


def label_of(norm: str, gain: str) -> str:
    """A stack's label: "no norm" or a key of NORMED, and a key of GAINS."""
    return f"{norm}, {gain} weights"


STACKS = {label_of("no norm", name): _relu(gain) for name, gain in GAINS.items()} | {
    label_of(norm, name): _relu(gain, kind, place)
    for norm, (kind, place) in NORMED.items()
    for name, gain in GAINS.items()
}


def measure_stacks(setting: Setting) -> StackResults:
    """All stacks, all seeds."""
    seeds = setting.cheap_seeds

    def case(label: str, config: StackConfig) -> StackCase:
        return StackCase(label, config, predict(config), tuple(measure(config, seed) for seed in seeds))

    fit = nearest_stack(PUBLISHED, WIDTH)
    exploding = StackConfig(**OVERFLOW)
    normed = StackConfig(**OVERFLOW, norm=NormSpec("rmsnorm"), norm_place="before")
    return StackResults(
        cases=tuple(case(label, config) for label, config in STACKS.items()),
        overflows=(
            overflow("float16", exploding, torch.float16, seeds),
            overflow("float32", exploding, torch.float32, seeds),
            overflow("float16, RMSNorm before", normed, torch.float16, seeds),
            overflow("float32, RMSNorm before", normed, torch.float32, seeds),
        ),
        fit=fit,
        fitted=case("nearest to the published sequence", fit.config),
    )


def stacks_of(evidence: Evidence) -> StackResults:
    """The stacks' results, which this experiment always has."""
    if evidence.stacks is None:
        raise ValueError("evidence must hold the stacks of experiment gradient_vanishing; it does not")
    return evidence.stacks


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


def tables(evidence: Evidence) -> list[Table]:
    """The scales at the ends of each stack, and the published sequence beside its nearest net."""
    results = stacks_of(evidence)
    last = DEPTH - 1
    rows = [
        (
            c.label,
            text.interval(mean_interval([s.std[0] for s in c.seeds])),
            text.interval(mean_interval([s.std[last] for s in c.seeds])),
            text.number(c.prediction.std[last]),
            text.interval(mean_interval([s.gradient[0] for s in c.seeds])),
            text.number(c.prediction.gradient[0]),
        )
        for c in results.cases
    ]
    measured = [_mean(values) for values in zip(*fitted_std(results), strict=True)]
    published = [
        (
            str(layer),
            text.number(PUBLISHED[layer]) if layer in PUBLISHED else "not printed",
            text.number(std),
        )
        for layer, std in enumerate(measured, 1)
    ]
    broken = [
        (
            o.label,
            ", ".join(sorted({"never" if i is None else str(i) for i in o.first_inf})),
            ", ".join(sorted({"never" if i is None else str(i) for i in o.first_nan})),
        )
        for o in results.overflows
    ]
    return [
        Table(
            f"ReLU stacks, {DEPTH} layers of width {WIDTH}",
            (
                "stack",
                "std, layer 1",
                f"std, layer {DEPTH}",
                "predicted",
                f"gradient RMS, layer 1 (1 enters at layer {DEPTH})",
                "predicted",
            ),
            tuple(rows),
        ),
        Table(
            f"The published sequence, and the nearest honest net: {fit_words(results)}",
            ("layer", "published std", "measured std"),
            tuple(published),
        ),
        Table(
            f"ReLU stack, {OVERFLOW['depth']} layers, 4 times larger a layer",
            ("dtype", "first inf at layer", "first NaN at layer"),
            tuple(broken),
        ),
    ]


def reading(evidence: Evidence) -> list[str]:
    """What the picture shows."""
    results = stacks_of(evidence)
    last = DEPTH - 1

    def factor(gain: str) -> str:
        return text.number(
            _mean([(s.std[last] / s.std[0]) ** (1 / last) for s in results.case(label_of("no norm", gain)).seeds])
        )

    def std(norm: str) -> str:
        return text.number(_mean([s.std[last] for s in results.case(label_of(norm, "vanishing")).seeds]))

    def gradient(norm: str) -> str:
        return text.number(_mean([s.gradient[0] for s in results.case(label_of(norm, "vanishing")).seeds]))

    return [
        "Without a norm the weights decide: each layer multiplies the std by "
        f"{factor('vanishing')} (gain 1), {factor('critical')} (gain √2, He's), or "
        f"{factor('exploding')} (gain 2), and the gradient on its way back by as much.",
        "With a norm the scale no longer depends on the weights: at the last layer the std is "
        f"{std('LayerNorm after')} with LayerNorm after the ReLU, {std('RMSNorm after')} with RMSNorm after it "
        f"(its RMS is 1; the mean is not subtracted), and {std('LayerNorm before')} with LayerNorm before it.",
        "A fixed forward scale is not yet a fixed gradient: with LayerNorm after the ReLU the gradient grows from 1 "
        f"to {gradient('LayerNorm after')} at layer 1; with RMSNorm there it is {gradient('RMSNorm after')}.",
    ]


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
    plan=lambda _setting: [],
    stacks=measure_stacks,
    numbers=numbers,
    tables=tables,
    reading=reading,
    curves=curves,
    draw=lambda evidence: figure.draw(stacks_of(evidence), PUBLISHED, fitted_std(stacks_of(evidence))),
)
