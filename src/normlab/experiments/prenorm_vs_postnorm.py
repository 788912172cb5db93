"""Experiment 3: depth. Pre-LN and Post-LN at several depths and rates, with and without warm-up; and the gradient
at initialization against depth."""

from dataclasses import asdict, dataclass
from typing import Any

from normlab.experiments import text
from normlab.experiments.base import Experiment, Table
from normlab.experiments.configurations import POST_LN, PRE_LN, Configuration
from normlab.experiments.evidence import Evidence
from normlab.experiments.figures import prenorm_vs_postnorm as figure
from normlab.experiments.setting import Setting
from normlab.experiments.stats import Interval, exponent, mean_interval
from normlab.experiments.training_curves import loss_curves, run_numbers
from normlab.lab import RunConfig

PLACED = (POST_LN, PRE_LN)

# Xiong et al. 2020, theorem 1: the gradient of the last feed-forward's output weight is of order 1 in Post-LN and
# of order 1/sqrt(layers) in Pre-LN.
THEORY = {"Post-LN": 0.0, "Pre-LN + LayerNorm": -0.5}


def arms(setting: Setting) -> list[tuple[int, int]]:
    """(layers, warm-up steps) of all training runs, by depth."""
    size = setting.size
    return sorted([(layers, 0) for layers in size.depths] + [(layers, size.warmup) for layers in size.warmup_layers])


def plan(setting: Setting) -> list[RunConfig]:
    """Both placements at every depth, rate and seed, with and without warm-up; and initial gradients."""
    size = setting.size
    runs = [
        setting.run(c.placement, c.kind, layers, lr=lr, seed=seed, warmup=warmup)
        for layers, warmup in arms(setting)
        for c in PLACED
        for lr in size.rates
        for seed in setting.seeds
    ]
    return runs + [
        setting.initial(c.placement, c.kind, layers, seed=seed)
        for layers in size.init_layers
        for c in PLACED
        for seed in setting.cheap_seeds
    ]


def initial_gradients(evidence: Evidence, config: Configuration) -> list[list[float]]:
    """Norm of the gradient of the last block's feed-forward output weight at init: a list a seed, over init_layers."""
    by_depth = [
        [r.scales[0].weight_gradient[-1] for r in evidence.select(config.placement, config.kind, layers, steps=1)]
        for layers in evidence.setting.size.init_layers
    ]
    return [list(values) for values in zip(*by_depth, strict=True)]


def exponents(evidence: Evidence, config: Configuration) -> list[float]:
    """The fitted power of depth in these gradients, a seed each."""
    depths = evidence.setting.size.init_layers
    return [exponent(depths, gradients) for gradients in initial_gradients(evidence, config)]


@dataclass(frozen=True, slots=True)
class Cell:
    """A placement at a depth and warm-up: its final losses at every rate, and where it trains."""

    config: Configuration
    layers: int
    warmup: int
    finals: dict[float, Interval]
    trains_at: list[float]


def cells(evidence: Evidence) -> list[Cell]:
    """All of them, by depth."""
    size = evidence.setting.size
    found = []
    for layers, warmup in arms(evidence.setting):
        for c in PLACED:
            runs = evidence.select(c.placement, c.kind, layers, warmup=warmup)
            finals = {lr: mean_interval(evidence.losses(c.placement, c.kind, layers, lr, warmup)) for lr in size.rates}
            trains = [lr for lr in size.rates if all(r.outcome == "trains" for r in runs if r.config.lr == lr)]
            found.append(Cell(c, layers, warmup, finals, trains))
    return found


def tables(evidence: Evidence) -> list[Table]:
    """Final losses by depth and rate; the exponents."""
    size = evidence.setting.size
    lines = tuple(
        (
            str(c.layers),
            c.config.label,
            f"{c.warmup} steps" if c.warmup else "none",
            *(text.interval(c.finals[lr]) for lr in size.rates),
            text.rates(c.trains_at, list(size.rates)),
        )
        for c in cells(evidence)
    )
    columns = ("layers", "config", "warm-up", *(f"rate {text.rate(lr)}" for lr in size.rates), "trains at")
    fits = tuple(
        (
            c.label,
            *(
                text.interval(mean_interval(list(values)))
                for values in zip(*initial_gradients(evidence, c), strict=True)
            ),
            text.interval(mean_interval(exponents(evidence, c))),
            text.number(THEORY[c.label]),
        )
        for c in PLACED
    )
    return [
        Table(f"Final validation loss, {size.steps} steps, {size.n_seeds} seeds", columns, lines),
        Table(
            "Gradient norm of the last feed-forward's output weight at initialization",
            ("config", *(f"{n} layers" for n in size.init_layers), "power of depth", "theory"),
            fits,
        ),
    ]


def reading(evidence: Evidence) -> list[str]:
    """What the picture shows."""
    n = len(evidence.setting.size.rates)
    sentences = []
    for layers in evidence.setting.size.depths:
        here = [c for c in cells(evidence) if c.layers == layers]
        parts = [
            f"{c.config.label} trains at {len(c.trains_at)} of {n} rates"
            + (f" with a warm-up of {c.warmup} steps" if c.warmup else "")
            for c in here
        ]
        sentences.append(f"{layers} layers: {'; '.join(parts)}.")
    fits = [
        f"{c.label} {text.interval(mean_interval(exponents(evidence, c)))} (theory {text.number(THEORY[c.label])})"
        for c in PLACED
    ]
    return [*sentences, f"Power of depth in the last block's gradient at initialization: {'; '.join(fits)}."]


def numbers(evidence: Evidence) -> dict[str, Any]:
    """The tables' numbers, and each run's final loss and outcome."""
    return {
        "cells": [
            asdict(c) | {"finals": {text.rate(lr): asdict(i) for lr, i in c.finals.items()}} for c in cells(evidence)
        ],
        "initial_gradients": [
            {
                "config": c.label,
                "layers": evidence.setting.size.init_layers,
                "norms_by_seed": initial_gradients(evidence, c),
                "exponents": exponents(evidence, c),
                "theory": THEORY[c.label],
            }
            for c in PLACED
        ],
        "runs": [run_numbers(r) for r in evidence.runs],
    }


def settings(setting: Setting) -> str:
    """What was run."""
    size = setting.size
    return (
        f"{setting.training}, rates {text.rates(list(size.rates), [])}, depths {size.depths}, warm-up of {size.warmup} "
        f"steps at depth {', '.join(map(str, size.warmup_layers))}; gradients at initialization on {size.init_batch} "
        f"sequences, {len(setting.cheap_seeds)} seeds"
    )


EXPERIMENT = Experiment(
    name="prenorm_vs_postnorm",
    script="exp3_prenorm_vs_postnorm.py",
    title="Depth: Pre-LN and Post-LN",
    question="What do depth, learning rate and warm-up do to Pre-LN and Post-LN?",
    settings=settings,
    plan=plan,
    measure=None,
    numbers=numbers,
    tables=tables,
    reading=reading,
    curves=loss_curves,
    draw=lambda evidence: figure.draw(
        evidence, cells(evidence), {c.label: initial_gradients(evidence, c) for c in PLACED}, THEORY
    ),
)
