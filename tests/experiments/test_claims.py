"""A verdict follows the evidence: the same claims in a world where the folklore is true, and in its opposite."""

from dataclasses import replace

from normlab.experiments.catalogue import EXPERIMENTS
from normlab.experiments.claims import CLAIMS
from normlab.experiments.evidence import Evidence
from normlab.experiments.setting import FULL, QUICK
from normlab.lab import RunConfig

SMALL_FULL = replace(FULL, n_seeds=3, cheap_seeds=3, depths=(4, 8, 16), rates=(1e-4, 1e-3, 1e-2))


def judged(evidence: Evidence) -> dict[str, str]:
    """Verdict by claim id, for the claims that runs alone decide."""
    return {c.id: c.judge(evidence).verdict for c in CLAIMS if EXPERIMENTS[c.experiment].measure is None}


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
    # At 4 layers both train at the largest rate tried, which tells nothing of larger ones.
    assert verdicts["pre-tolerates-more"] == "undecided"
    assert verdicts["rmsnorm-equal"] == "does not hold"
    assert verdicts["post-gradients-vanish"] == "does not hold"


def test_where_it_is_false(in_world):
    verdicts = judged(in_world(SMALL_FULL, opposite))
    for claim in (
        "nonorm-fails", "nonorm-nan-500", "post-ln-3.5", "pre-ln-2.8", "pre-rms-2.7", "post-worse-than-pre",
        "rmsnorm-best", "rmsnorm-0.1-better", "post-needs-1e-4", "pre-tolerates-more",
    ):  # fmt: skip
        assert verdicts[claim] == "does not hold", claim
    assert verdicts["rmsnorm-equal"] == "holds"
    assert verdicts["four-layers-converge"] == "holds only when"
    # Where Pre-LN does not train at 4 layers, what deeper ones do is no matter of depth.
    for claim in ("eight-post-unstable", "eight-pre-stable", "deep-post-unstable", "warmup-rescues-post"):
        assert verdicts[claim] == "undecided", claim


def test_where_depth_and_warmup_do_nothing(in_world):
    """Everything trains, but for Post-LN at 8 layers, which a warm-up does not help."""

    def world(c: RunConfig) -> tuple[float, int | None]:
        stuck = c.model.placement == "post" and c.model.n_layers == 8
        return (3.3 if stuck else 2.5) + 0.001 * c.seed, None

    verdicts = judged(in_world(SMALL_FULL, world))
    assert verdicts["eight-post-unstable"] == "holds"
    assert verdicts["deep-post-unstable"] == "does not hold"
    assert verdicts["warmup-rescues-post"] == "does not hold"
    assert verdicts["pre-tolerates-more"] == "undecided"


def test_the_best_rival_is_chosen_by_its_mean(in_world):
    """Three rivals that win a seed each, none of them by its mean, do not beat RMSNorm together."""

    def world(c: RunConfig) -> tuple[float, int | None]:
        rival = {("none", "none"): 0, ("post", "layernorm"): 1, ("pre", "layernorm"): 2}.get(
            (c.model.placement, c.model.norm.kind)
        )
        return (2.5 if rival is None else 2.49 if c.seed == rival else 2.7), None

    verdicts = judged(in_world(SMALL_FULL, world))
    assert verdicts["rmsnorm-best"] == "undecided"


def test_nan_at_step_56_is_not_near_500(in_world):
    """One seed early and two never: every seed is far from 500, and so is the verdict."""

    def world(c: RunConfig) -> tuple[float, int | None]:
        return (20.0, 56 if c.seed == 0 else None) if c.model.placement == "none" else (2.5, None)

    assert judged(in_world(SMALL_FULL, world))["nonorm-nan-500"] == "does not hold"


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


def test_every_experiment_but_the_engines_tests_claims():
    """Iris shows the engine at work; nobody's sentence is about it."""
    assert set(EXPERIMENTS) - {c.experiment for c in CLAIMS} == {"iris"}
