"""What the claims about speed are measured by: functions from the evidence to samples, a value a round."""

from normlab.experiments.evidence import Evidence
from normlab.experiments.judge import Sample
from normlab.experiments.speed_cases import (
    BOTH,
    COPY,
    DTYPES,
    KINDS,
    LARGEST,
    LIBRARIES,
    ROOTS,
    ROOTS_IN_NORM,
    Kind,
    Library,
    NormCase,
    norm_cases,
    variant,
)
from normlab.experiments.speed_results import Group, speed_of


def _both(ev: Evidence) -> list[NormCase]:
    return [c for c in norm_cases(ev.setting.size.speed_large) if c.mode == BOTH]


def _over_rmsnorm(ev: Evidence, group: Group, case: str, library: Library) -> list[float]:
    """LayerNorm's time over RMSNorm's."""
    return speed_of(ev).ratios(group, case, variant(library, "layernorm"), variant(library, "rmsnorm"))


def layernorm_over_rmsnorm(ev: Evidence) -> list[Sample]:
    """LayerNorm's time over RMSNorm's, forward and backward, in both libraries."""
    return [
        Sample(f"{words}, {case}", _over_rmsnorm(ev, "norms", str(case), library))
        for library, words in LIBRARIES.items()
        for case in _both(ev)
    ]


def fused_layernorm_over_rmsnorm(ev: Evidence) -> list[Sample]:
    """The same where both are fused in the same way, on tensors larger than the caches."""
    measured = _both(ev)
    return [
        Sample(str(c), _over_rmsnorm(ev, "norms", str(c), "normlab") if c in measured else [])
        for c in (NormCase(BOTH, dtype, *LARGEST) for dtype in DTYPES)
    ]


def _models(ev: Evidence, group: Group) -> list[Sample]:
    results = speed_of(ev)
    return [
        Sample(f"{words}, {case}", _over_rmsnorm(ev, group, case, library))
        for library, words in LIBRARIES.items()
        for case in results.cases(group)
    ]


def training_with_layernorm(ev: Evidence) -> list[Sample]:
    """The time of a training step with LayerNorm over that with RMSNorm."""
    return _models(ev, "training")


def decoding_with_layernorm(ev: Evidence) -> list[Sample]:
    """The time of decoding a token with LayerNorm over that with RMSNorm."""
    return _models(ev, "decoding")


def fused_in(group: Group, kind: Kind, ev: Evidence) -> list[float]:
    """A step's time with PyTorch's own norms over that with this library's."""
    results = speed_of(ev)
    (case,) = results.cases(group)
    return results.ratios(group, case, variant("torch", kind), variant("normlab", kind))


def fused_in_training(ev: Evidence) -> list[Sample]:
    """The same for a training step, by norm."""
    return [Sample(words, fused_in("training", kind, ev)) for kind, words in KINDS.items()]


def fused_in_decoding(ev: Evidence) -> list[Sample]:
    """The same for a decoding step, by norm."""
    return [Sample(words, fused_in("decoding", kind, ev)) for kind, words in KINDS.items()]


def roots(ev: Evidence) -> list[Sample]:
    """The time of 1/sqrt over that of rsqrt, on vectors."""
    results = speed_of(ev)
    fast, slow = ROOTS
    return [Sample(case, results.ratios("roots", case, slow, fast)) for case in results.cases("roots")]


def roots_in_a_norm(ev: Evidence) -> list[Sample]:
    """The time of RMSNorm's plain formula with a division by sqrt over that with a product by rsqrt."""
    results = speed_of(ev)
    fast, slow = ROOTS_IN_NORM
    return [
        Sample(case, results.ratios("roots in a norm", case, slow, fast)) for case in results.cases("roots in a norm")
    ]


def bandwidths(ev: Evidence) -> list[Sample]:
    """Percent of the copy's bandwidth that this library's norms come to, by norm and case."""
    results = speed_of(ev)
    return [
        Sample(f"{words}, {c}", results.of_copy(str(c), variant("normlab", kind), COPY))
        for kind, words in KINDS.items()
        for c in _both(ev)
    ]


def of_copy(ev: Evidence) -> list[Sample]:
    """The same on tensors larger than the caches."""
    found = {s.condition: s for s in bandwidths(ev)}
    wanted = [f"{words}, {NormCase(BOTH, dtype, *LARGEST)}" for words in KINDS.values() for dtype in DTYPES]
    return [found.get(condition, Sample(condition, [])) for condition in wanted]
