"""Verdicts on half precision follow the evidence: worlds in which errors, ends and losses are known."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from normlab.experiments import half_precision
from normlab.experiments.claims import CLAIMS
from normlab.experiments.evidence import Evidence
from normlab.experiments.half_cases import CASES, HALVES, KINDS, STATS, SUM_WIDTHS, Arm
from normlab.experiments.half_effects import log_ratio
from normlab.experiments.half_range import Ends, Sums
from normlab.experiments.half_results import HalfResults
from normlab.experiments.halves import Errors, Point
from normlab.experiments.setting import FULL, QUICK, Setting
from normlab.lab import RunConfig, RunResult, load_corpus
from normlab.lab.run import outcome_of

SMALL = replace(FULL, n_seeds=3, half_seeds=6)
OURS = tuple(c for c in CLAIMS if c.experiment == "half_precision")


def noise(seed: int) -> float:
    """A few percent, a seed each."""
    return 1 + 0.01 * (seed % 3)


@dataclass(frozen=True)
class World:
    """What is measured, as formulas of the case and the seed."""

    error: Callable[[Arm, float, str, int], float]
    largest: Callable[[int], float] = lambda seed: 255 + 0.1 * seed
    smallest: Callable[[int], float] = lambda seed: 2e-4 * noise(seed)
    running: Callable[[int], float] = lambda seed: 0.05 * noise(seed)
    loss: Callable[[RunConfig], float] = lambda c: 2.5 + 0.01 * c.seed
    exists: Callable[[Arm, float], bool] = lambda arm, scale: True


def evidence(world: World, size=SMALL) -> Evidence:
    setting = Setting(size, load_corpus())
    seeds = setting.half_seeds

    def point(arm: Arm, scale: float) -> Point:
        errors = tuple(Errors(*(world.error(arm, scale, q, s) for q in ("y", "dx", "dweight"))) for s in seeds)
        least = 1e-4 if world.exists(arm, scale) else math.inf
        return Point(errors, (Errors(least, least, least),) * len(seeds))

    def result(config: RunConfig) -> RunResult:
        loss = world.loss(config)
        return RunResult(
            config, (4.6, loss), (2,), (loss,), loss, None, outcome_of(loss, setting.baselines), (), 1.0
        )  # fmt: skip

    def of(values: Callable[[int], float]) -> tuple[float, ...]:
        return tuple(values(seed) for seed in seeds)

    nothing = tuple(math.inf for _ in seeds), tuple(0.0 for _ in seeds), ""
    results = HalfResults(
        lines={arm: {scale: point(arm, scale) for scale in scales} for arm, scales in CASES.items()},
        ends=tuple(
            Ends(kind, stats, *((of(world.largest), of(world.smallest), "0") if stats == "input" else nothing))
            for kind in KINDS
            for stats in STATS
        ),
        sums=tuple(
            Sums(dtype, width, of(world.running), of(lambda seed: 0.002 * noise(seed)))
            for dtype in HALVES
            for width in SUM_WIDTHS
        ),
    )
    return Evidence(setting, [result(c) for c in dict.fromkeys(half_precision.plan(setting))], results)


def judged(world: World, size=SMALL) -> dict[str, str]:
    return {c.id: c.judge(evidence(world, size)).verdict for c in OURS}


def folklore_error(arm: Arm, scale: float, quantity: str, seed: int) -> float:
    """No upcast costs float16 a factor of 10 and bfloat16 nothing; LayerNorm is worse, above all with a mean."""
    error = 1e-3 * noise(seed)
    error *= 10 if arm.stats == "input" and arm.dtype == "float16" else 1
    error *= 1.5 if arm.kind == "layernorm" else 1
    error *= 1.4 if arm.product == "input" else 1
    return error * (1 + arm.mean)


def folklore_loss(c: RunConfig) -> float:
    return 2.5 + 0.01 * c.seed + (0.02 if c.model.norm.stats_dtype == "input" else 0) + 0.001 * c.seed


FOLKLORE = World(folklore_error, loss=folklore_loss)


def opposite_error(arm: Arm, scale: float, quantity: str, seed: int) -> float:
    """No upcast costs bfloat16 a factor of 10 and float16 nothing; all else is alike."""
    return 1e-3 * noise(seed) * (10 if arm.stats == "input" and arm.dtype == "bfloat16" else 1)


OPPOSITE = World(
    opposite_error,
    largest=lambda seed: 200.0 + seed,
    smallest=lambda seed: 2e-3 * noise(seed),
    running=lambda seed: 0.002 * noise(seed),
    loss=lambda c: 2.5 + 0.01 * c.seed + (0.3 + 0.001 * c.seed if c.dtype == "bfloat16" else 0)
    - (0.1 if c.model.norm.stats_dtype == "input" else 0),
)  # fmt: skip


def test_where_the_folklore_is_true():
    verdicts = judged(FOLKLORE)
    for claim in (
        "half-needs-float32-sums", "float16-overflow-256", "float16-underflow-2.4e-4", "bfloat16-no-upcast",
        "product-before-cast", "rmsnorm-robust", "recentering-loses-digits", "bfloat16-statistics-train-worse",
        "bfloat16-trains-like-float32",
    ):  # fmt: skip
        assert verdicts[claim] == "holds", claim
    # Not in bfloat16, and the verdict names the part that tells.
    claim = next(c for c in OURS if c.id == "half-needs-float32-statistics")
    assert str(claim.judge(evidence(FOLKLORE))) == "holds only when float16"


def test_where_it_is_false():
    verdicts = judged(OPPOSITE)
    assert verdicts.pop("half-needs-float32-statistics") == "holds only when"
    assert set(verdicts.values()) == {"does not hold"}


def test_one_bad_scale_is_enough_and_only_where_the_dtype_holds_it():
    """Errors grow at scale 1e5 alone."""

    def error(arm: Arm, scale: float, quantity: str, seed: int) -> float:
        return 1e-3 * noise(seed) * (5 if scale == 1e5 and arm.stats == "input" else 1)

    assert judged(World(error))["half-needs-float32-statistics"] == "holds"
    assert judged(World(error))["bfloat16-no-upcast"] == "does not hold"
    without = World(error, exists=lambda arm, scale: scale < 1e5)
    assert judged(without)["half-needs-float32-statistics"] == "does not hold"
    assert judged(without)["bfloat16-no-upcast"] == "holds"


def test_infinite_errors_count_and_two_have_no_ratio():
    def broken(*, both: bool) -> World:
        def error(arm: Arm, scale: float, quantity: str, seed: int) -> float:
            bad = scale < 1e-7 and arm.dtype != "float32" and (both or arm.stats == "input")
            return math.inf if bad else 1e-3 * noise(seed)

        return World(error)

    assert judged(broken(both=False))["half-needs-float32-statistics"] == "holds"
    assert judged(broken(both=True))["half-needs-float32-statistics"] == "undecided"


def test_never_and_always_finite():
    """A dtype without ends: no overflow (infinite), no underflow (0)."""
    verdicts = judged(World(folklore_error, largest=lambda seed: math.inf, smallest=lambda seed: 0.0))
    assert verdicts["float16-overflow-256"] == "does not hold"
    assert verdicts["float16-underflow-2.4e-4"] == "does not hold"


def test_noise_is_undecided():
    def error(arm: Arm, scale: float, quantity: str, seed: int) -> float:
        # Seeds disagree about every comparison, widely.
        parts = (arm.kind == "layernorm") + 2 * (arm.product == "input") + 4 * (arm.stats == "input")
        return 1e-3 * 10 ** (parts * (seed - 2.2) / 2)

    noisy = World(
        error,
        largest=lambda seed: 200.0 + 20 * seed,
        smallest=lambda seed: 1e-4 * 2**seed,
        running=lambda seed: 0.002 * 10 ** (seed - 2),
        loss=lambda c: 2.5 + (0.2 * (c.seed - 1) if c.model.norm.stats_dtype == "input" else 0)
        - (0.3 * (c.seed - 1) if c.dtype == "bfloat16" else 0),
    )  # fmt: skip
    verdicts = judged(noisy)
    # A mean moves what all seeds measure alike.
    assert verdicts.pop("recentering-loses-digits") == "does not hold"
    assert set(verdicts.values()) == {"undecided"}, verdicts


@pytest.mark.parametrize("world", [FOLKLORE, OPPOSITE])
def test_one_seed_decides_nothing(world):
    assert set(judged(world, replace(SMALL, n_seeds=1, half_seeds=1)).values()) == {"undecided"}


def test_a_run_that_becomes_nan():
    """In bfloat16 with half statistics: infinitely worse. In bfloat16 at all: nothing between the two."""

    def world(*, stats: set[str]) -> World:
        def loss(c: RunConfig) -> float:
            return math.nan if c.dtype == "bfloat16" and c.model.norm.stats_dtype in stats else 2.5 + c.seed / 99

        return World(folklore_error, loss=loss)

    verdicts = judged(world(stats={"input"}))
    assert verdicts["bfloat16-statistics-train-worse"] == "holds"
    assert verdicts["bfloat16-trains-like-float32"] == "holds only when"
    verdicts = judged(world(stats={"input", "float32"}))
    assert verdicts["bfloat16-statistics-train-worse"] == "undecided"
    assert verdicts["bfloat16-trains-like-float32"] == "does not hold"


@pytest.mark.parametrize(
    ("larger", "smaller", "ratio"),
    [(1e-2, 1e-3, 1), (1e-3, 1e-2, -1), (0, 0, 0), (1, 0, math.inf), (0, 1, -math.inf), (math.inf, 1, math.inf),
     (1, math.inf, -math.inf), (math.inf, 0, math.inf), (0, math.inf, -math.inf)],
)  # fmt: skip
def test_log_ratio(larger, smaller, ratio):
    assert log_ratio(larger, smaller) == pytest.approx(ratio)


def test_two_infinite_errors_have_no_ratio():
    assert math.isnan(log_ratio(math.inf, math.inf))


def test_sizes():
    """Enough seeds where nothing is trained, and the float32 runs are those of the four configurations."""
    for size in (QUICK, FULL):
        assert size.half_seeds >= 24
        assert size.half_layers in size.comparison_layers
        assert set(size.half_rates) <= set(size.rates)


def test_words_in_a_world_where_nothing_is_finite():
    """Tables, sentences, numbers and the picture do not stumble over inf and NaN."""
    world = World(
        lambda arm, scale, quantity, seed: math.inf, largest=lambda seed: math.inf, smallest=lambda seed: 0.0,
        running=lambda seed: math.inf, loss=lambda c: math.nan,
    )  # fmt: skip
    ev = evidence(world)
    assert half_precision.tables(ev)
    sentences = half_precision.reading(ev)
    assert "not comparable" in sentences[-1]
    assert half_precision.numbers(ev)["lines"]
    assert half_precision.EXPERIMENT.draw(ev).axes
