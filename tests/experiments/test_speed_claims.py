"""Verdicts on speed follow the times: worlds in which these are known."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from normlab.experiments import speed
from normlab.experiments.claims import CLAIMS
from normlab.experiments.evidence import Evidence
from normlab.experiments.setting import FULL, QUICK, Setting
from normlab.experiments.speed_cases import (
    COPY,
    DECODING,
    LENGTHS,
    ROOTS,
    ROOTS_IN_NORM,
    TRAINING,
    VARIANTS,
    norm_cases,
    variant,
)
from normlab.experiments.speed_results import SpeedResults, Timing, speed_of
from normlab.lab import load_corpus

OURS = tuple(c for c in CLAIMS if c.experiment == "speed")
SMALL = replace(FULL, speed_rounds=6)

# Seconds of a contender of a group in a round.
World = Callable[[str, str, int], float]


def evidence(world: World, size=SMALL) -> Evidence:
    def timing(group, case: str, contender: str, moved: int = 0) -> Timing:
        return Timing(
            group, case, contender, tuple(world(group, contender, i) for i in range(size.speed_rounds)), moved
        )

    names = [variant(*v) for v in VARIANTS]
    timings = [
        *(timing("norms", str(c), name, 5) for c in norm_cases(size.speed_large) for name in names),
        *(timing("norms", str(c), COPY, 2) for c in norm_cases(size.speed_large)),
        *(timing("roots", f"{n} numbers", name) for n in LENGTHS for name in ROOTS),
        *(timing("roots in a norm", "1024 x 512", name) for name in ROOTS_IN_NORM),
        *(timing("training", TRAINING, name) for name in names),
        *(timing("decoding", DECODING, name) for name in names),
    ]
    return Evidence(Setting(size, load_corpus()), [], SpeedResults(2, "", 10**6, tuple(timings)))


def judged(world: World, size=SMALL) -> dict[str, str]:
    return {c.id: c.judge(evidence(world, size)).verdict for c in OURS}


def jitter(i: int) -> float:
    """Half a percent, by round."""
    return 1 + 0.005 * (i % 3 - 1)


def folklore(group: str, contender: str, i: int) -> float:
    """RMSNorm saves 10% of a norm and 8% of a step, rsqrt 8%; PyTorch's norms make a step 10% longer."""
    seconds = 1.0
    if "LayerNorm" in contender:
        seconds /= 0.9 if group == "norms" else 0.92
    if "torch.nn" in contender:
        seconds *= 1.1
    if "sqrt" in contender and "rsqrt" not in contender:
        seconds /= 0.92
    if contender == COPY:
        seconds = 2 / 5 * 0.95
    return seconds * jitter(i)


def opposite(group: str, contender: str, i: int) -> float:
    """RMSNorm takes twice as long but in normlab's norms, where both are alike; rsqrt is slower."""
    seconds = 1.0
    if "RMSNorm" in contender and (group != "norms" or "torch.nn" in contender):
        seconds *= 2
    if "torch.nn" in contender and group != "norms":
        seconds *= 0.8
    if "rsqrt" in contender:
        seconds *= 1.5
    if contender == COPY:
        seconds = 0.1
    return seconds * jitter(i + len(contender))


def test_where_the_folklore_is_true():
    verdicts = judged(folklore)
    assert verdicts.pop("fused-norms-alike") == "does not hold"
    # 95% of the copy's bandwidth for RMSNorm, 0.9 times that for LayerNorm.
    assert set(verdicts.values()) == {"holds"}, verdicts


def test_where_it_is_false():
    verdicts = judged(opposite)
    assert verdicts.pop("fused-norms-alike") == "holds"
    assert set(verdicts.values()) == {"does not hold"}, verdicts


def test_a_claim_that_is_true_in_one_library_alone():
    def world(group: str, contender: str, i: int) -> float:
        slow = contender == "torch.nn RMSNorm" or contender == "normlab LayerNorm"
        return (1.5 if slow else 1.0) * jitter(i)

    claim = next(c for c in OURS if c.id == "rmsnorm-model-7-64-faster")
    judgement = claim.judge(evidence(world))
    assert (judgement.verdict, judgement.when) == ("holds only when", (f"normlab, {TRAINING}",))


def test_noise_is_undecided():
    def world(group: str, contender: str, i: int) -> float:
        return random.Random(f"{group} {contender} {i}").uniform(0.5, 1.5)

    verdicts = judged(world)
    for claim in ("rmsnorm-10-faster", "rmsnorm-trains-6.9-faster", "fused-norms-alike", "rsqrt-norm-5-10-faster"):
        assert verdicts[claim] == "undecided", claim


def test_what_a_size_does_not_time_is_undecided():
    verdicts = judged(folklore, replace(QUICK, speed_rounds=6))
    for claim in ("norms-move-memory", "fused-norms-alike"):
        assert verdicts[claim] == "undecided"
    assert verdicts["rmsnorm-7-64-faster"] == "holds"


def test_one_round_decides_nothing():
    assert set(judged(folklore, replace(SMALL, speed_rounds=1)).values()) == {"undecided"}


def test_ratios_are_of_the_same_round():
    results = speed_of(evidence(lambda group, contender, i: (i + 1) * (2.0 if "LayerNorm" in contender else 1.0)))
    (case,) = results.cases("training")
    ratios = results.ratios("training", case, "normlab LayerNorm", "normlab RMSNorm")
    assert ratios == [2.0] * SMALL.speed_rounds
    with pytest.raises(KeyError, match="decoding, nothing, nobody"):
        results.get("decoding", "nothing", "nobody")


@pytest.mark.parametrize("size", [SMALL, replace(QUICK, speed_rounds=2)], ids=lambda size: size.name)
def test_what_is_shown(size):
    ev = evidence(folklore, size)
    norms, roots, models = speed.tables(ev)
    assert len(norms.rows) == len(norm_cases(size.speed_large))
    assert all(len(row) == len(table.columns) for table in (norms, roots, models) for row in table.rows)
    assert any("1.11 (normlab" in sentence for sentence in speed.reading(ev))
    header, rows = speed.curves(ev)
    assert len(rows) == len(speed_of(ev).timings) * size.speed_rounds
    assert all(len(row) == len(header) for row in rows)
    assert len(speed.EXPERIMENT.draw(ev).axes) == 4
