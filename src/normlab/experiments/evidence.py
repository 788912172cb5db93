"""What the experiments measured, in the form in which claims and tables ask for it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from normlab.experiments.setting import Setting
from normlab.experiments.stats import mean_interval
from normlab.lab import RunResult

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Best:
    """A configuration at the learning rate with the lowest mean final loss over seeds."""

    lr: float
    losses: list[float]


@dataclass(frozen=True)
class Evidence:
    """Results of an experiment or of all.

    Attributes:
        setting: in which they were measured.
        runs: training runs.
        measured: what `Experiment.measure` gave, where the experiment has one: a value of a type of its own, such
            as StackResults, which `of` hands out.
    """

    setting: Setting
    runs: list[RunResult] = field(default_factory=list)
    measured: Any = None

    def of(self, kind: type[T]) -> T:
        """What was measured, which must be of this type.

        Raises:
            ValueError: when it is not: the evidence is another experiment's.
        """
        if not isinstance(self.measured, kind):
            raise ValueError(f"evidence must hold {kind.__name__}, got {type(self.measured).__name__}")
        return self.measured

    def select(
        self,
        placement: str,
        kind: str,
        layers: int,
        *,
        lr: float | None = None,
        warmup: int = 0,
        steps: int | None = None,
        dtype: str = "float32",
        stats: str = "float32",
    ) -> list[RunResult]:
        """The runs of a configuration, by rate and seed; `steps` None means the setting's own.

        `dtype` is the run's, `stats` the norm's `stats_dtype`.
        """
        steps = self.setting.size.steps if steps is None else steps
        found = [
            r
            for r in self.runs
            if (r.config.model.placement, r.config.model.norm.kind) == (placement, kind)
            and (r.config.model.n_layers, r.config.warmup, r.config.steps) == (layers, warmup, steps)
            and (r.config.dtype, r.config.model.norm.stats_dtype) == (dtype, stats)
            and lr in (None, r.config.lr)
        ]
        return sorted(found, key=lambda r: (r.config.lr, r.config.seed))

    def losses(self, placement: str, kind: str, layers: int, lr: float, warmup: int = 0) -> list[float]:
        """Final validation losses, a seed each; a run that became non-finite counts as infinite."""
        return finals(self.select(placement, kind, layers, lr=lr, warmup=warmup))

    def rates(self, placement: str, kind: str, layers: int, warmup: int = 0) -> list[float]:
        """The learning rates at which the configuration was run."""
        return sorted({r.config.lr for r in self.select(placement, kind, layers, warmup=warmup)})

    def best(self, placement: str, kind: str, layers: int, warmup: int = 0) -> Best:
        """The rate with the lowest mean final loss; the lowest such rate if all are infinite."""
        by_rate = {
            lr: self.losses(placement, kind, layers, lr, warmup) for lr in self.rates(placement, kind, layers, warmup)
        }
        lr = min(by_rate, key=lambda rate: mean_interval(by_rate[rate]).mean)
        return Best(lr, by_rate[lr])


def finals(runs: Iterable[RunResult]) -> list[float]:
    """Final validation losses; infinite where the training loss became non-finite."""
    return [math.inf if math.isnan(r.final_loss) else r.final_loss for r in runs]
