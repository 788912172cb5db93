"""A verdict follows the evidence: the same claims in a world where the folklore is true, and in its opposite."""

from dataclasses import replace

import pytest

from normlab.experiments.catalogue import EXPERIMENTS
from normlab.experiments.claims import CLAIMS
from normlab.experiments.evidence import Evidence
from normlab.experiments.setting import FULL, QUICK
from normlab.lab import RunConfig

SMALL_FULL = replace(FULL, n_seeds=3, cheap_seeds=3, depths=(4, 8, 16), rates=(1e-4, 1e-3, 1e-2))


def judged(evidence: Evidence) -> dict[str, str]:
    """Verdict by claim id, for the claims about training."""
    return {c.id: c.judge(evidence).verdict for c in CLAIMS if c.experiment != "gradient_vanishing"}


def folklore(c: RunConfig) -> tuple[float, int | None]:
    """All the notes say."""
    placement, kind, noise = c.model.placement, c.model.norm.kind, 0.001 * c.seed
    if placement == "none":
        return 0.0, 490 + c.seed
    if placement == "pre":
        # Best at the middle rate, trained at all.
        return (2.7 if kind == "rmsnorm" else 2.8) + 0.05 * abs(c.lr - 1e-3) / c.lr * 1e-1 + noise, None
    if c.model.n_layers <= 4:
        return 3.0 + noise + 10 * c.lr, None
    return (3.5 + noise, None) if not c.warmup else (3.0 + noise, None)


def opposite(c: RunConfig) -> tuple[float, int | None]:
    """Everything else trains well, Pre-LN does not."""
    noise = 0.001 * c.seed
    if c.model.placement == "pre":
        return 3.4 + noise, None
    # Best at the largest rate.
    return 2.0 - 5 * c.lr + noise, None


def test_where_the_folklore_is_true(in_world):
    verdicts = judged(in_world(SMALL_FULL, folklore))
    for claim in (
        "nonorm-fails", "nonorm-nan-500", "post-worse-than-pre", "rmsnorm-best", "rmsnorm-0.1-better",
        "four-layers-converge", "eight-post-unstable", "eight-pre-stable", "deep-post-unstable", "pre-rms-2.7",
        "pre-ln-2.8", "warmup-rescues-post", "post-gradient-order-1", "pre-gradient-order-root", "pre-gradients-direct",
    ):  # fmt: skip
        assert verdicts[claim] == "holds", claim
    # 3.5 at 8 layers, 3.0 at 4.
    assert verdicts["post-ln-3.5"] == "holds only when"
    assert verdicts["pre-tolerates-more"] == "holds only when"
    assert verdicts["rmsnorm-equal"] == "does not hold"
    assert verdicts["post-gradients-vanish"] == "does not hold"


def test_where_it_is_false(in_world):
    verdicts = judged(in_world(SMALL_FULL, opposite))
    for claim in (
        "nonorm-fails", "nonorm-nan-500", "post-ln-3.5", "pre-ln-2.8", "pre-rms-2.7", "post-worse-than-pre",
        "rmsnorm-best", "rmsnorm-0.1-better", "post-needs-1e-4", "pre-tolerates-more", "eight-post-unstable",
        "eight-pre-stable", "deep-post-unstable", "warmup-rescues-post",
    ):  # fmt: skip
        assert verdicts[claim] == "does not hold", claim
    assert verdicts["rmsnorm-equal"] == "holds"
    assert verdicts["four-layers-converge"] == "holds only when"


def test_noise_is_undecided(in_world):
    def noisy(c: RunConfig) -> tuple[float, int | None]:
        return 2.75 + 0.4 * (c.seed - 1) * (1 if c.model.norm.kind == "rmsnorm" else -1), None

    verdicts = judged(in_world(SMALL_FULL, noisy))
    for claim in ("rmsnorm-best", "rmsnorm-0.1-better", "rmsnorm-equal", "pre-ln-2.8", "post-ln-3.5"):
        assert verdicts[claim] == "undecided", claim


def test_one_seed_decides_nothing(in_world):
    verdicts = judged(in_world(replace(SMALL_FULL, n_seeds=1, cheap_seeds=1), folklore))
    assert set(verdicts.values()) == {"undecided"}


def test_what_a_size_does_not_run_is_undecided(in_world):
    verdicts = judged(in_world(QUICK, folklore))
    assert verdicts["deep-post-unstable"] == "undecided"


def test_a_run_that_ends_too_early_says_nothing_about_step_500(in_world):
    def finite(c: RunConfig) -> tuple[float, int | None]:
        return 20.0, None

    assert judged(in_world(QUICK, finite))["nonorm-nan-500"] == "undecided"
    assert judged(in_world(SMALL_FULL, finite))["nonorm-nan-500"] == "does not hold"


def test_two_infinite_losses_have_no_difference(in_world):
    def broken(c: RunConfig) -> tuple[float, int | None]:
        return 0.0, 3

    verdicts = judged(in_world(SMALL_FULL, broken))
    assert verdicts["rmsnorm-equal"] == "undecided"
    assert verdicts["four-layers-converge"] == "does not hold"


def test_claims_are_well_formed():
    assert len({c.id for c in CLAIMS}) == len(CLAIMS)
    for c in CLAIMS:
        assert c.experiment in EXPERIMENTS
        assert c.text.endswith(".")
        assert c.source
        assert c.effect
        assert c.claimed.low < c.claimed.high


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_tests_claims(name):
    assert any(c.experiment == name for c in CLAIMS)
