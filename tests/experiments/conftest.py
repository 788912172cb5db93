"""Small settings, and evidence made by a formula: a world in which the losses are known."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from normlab.experiments import norm_comparison, prenorm_vs_postnorm
from normlab.experiments.evidence import Evidence
from normlab.experiments.setting import QUICK, Setting, Size
from normlab.lab import RunConfig, RunResult, Scales, load_corpus
from normlab.lab.run import outcome_of

TINY = replace(
    QUICK, name="tiny", n_seeds=2, cheap_seeds=2, half_seeds=2, iris_seeds=2, speed_rounds=2, steps=6, context=8,
    batch=2, dim=16, rates=(1e-3, 1e-2), comparison_layers=(1, 2), depths=(1, 2), warmup_layers=(2,), warmup=3,
    init_layers=(1, 2, 4), init_batch=2,
)  # fmt: skip

# A world: (final loss, first non-finite step or None) of a run.
World = Callable[[RunConfig], tuple[float, int | None]]


@pytest.fixture
def tiny() -> Setting:
    return Setting(TINY, load_corpus(), flags="--quick")


@pytest.fixture
def in_world() -> Callable[[Size, World], Evidence]:
    """Evidence of a size, with the losses of a world; gradients fall as 1/sqrt(layers) in Pre-LN only."""

    def result(config: RunConfig, world: World, setting: Setting) -> RunResult:
        loss, nonfinite = world(config)
        n = config.model.n_layers
        gradient = 1.0 if config.model.placement == "post" else n**-0.5
        scales = Scales(0, (1.0,) * (n + 1), (1.0,) * (n + 1), (gradient,) * n)
        final = math.nan if nonfinite is not None else loss
        return RunResult(
            config, (4.6, loss), (2,), (final,), final, nonfinite, outcome_of(final, setting.baselines), (scales,), 1.0
        )

    def build(size: Size, world: World) -> Evidence:
        setting = Setting(size, load_corpus())
        plan = dict.fromkeys(norm_comparison.plan(setting) + prenorm_vs_postnorm.plan(setting))
        return Evidence(setting, [result(config, world, setting) for config in plan])

    return build
