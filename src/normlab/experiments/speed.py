"""Experiment 4: how fast RMSNorm and LayerNorm are, their square roots, and what that is worth in a model."""

from collections.abc import Sequence
from typing import Any

from normlab.experiments import speed_effects as effects
from normlab.experiments import text
from normlab.experiments.base import Experiment, Table
from normlab.experiments.evidence import Evidence
from normlab.experiments.figures import speed as figure
from normlab.experiments.judge import Sample
from normlab.experiments.setting import Setting
from normlab.experiments.speed_cases import (
    COPY,
    KINDS,
    LIBRARIES,
    ROOTS,
    ROOTS_IN_NORM,
    TOKENS,
    VARIANTS,
    norm_cases,
    variant,
)
from normlab.experiments.speed_measure import Request, measure_apart
from normlab.experiments.speed_results import Group, speed_of
from normlab.experiments.stats import mean_interval


def settings(setting: Setting) -> str:
    """What was run."""
    size = setting.size
    whole = "MiniMind" if size.speed_large else "a small MiniMind (4 layers of width 256)"
    return (
        f"what is compared takes turns in one process on the CPU, on all cores, with freed memory kept in the process: "
        f"{size.speed_rounds} rounds, in each the median of up to five calls after untimed ones; {whole}: a "
        f"training step with AdamW on a sequence of {TOKENS} tokens, a forward pass of one token"
    )


def _time(seconds: Sequence[float]) -> str:
    """The mean over rounds, with a unit."""
    mean = mean_interval(seconds).mean
    return f"{text.number(1e3 * mean)} ms" if mean >= 1e-3 else f"{text.number(1e6 * mean)} µs"


def _ratio(values: Sequence[float]) -> str:
    return text.interval(mean_interval(values))


def _norms(evidence: Evidence) -> Table:
    results = speed_of(evidence)
    rows = tuple(
        (
            str(case),
            *(_time(results.get("norms", str(case), variant(*v)).rounds) for v in VARIANTS),
            *(
                _ratio(results.ratios("norms", str(case), variant(library, "layernorm"), variant(library, "rmsnorm")))
                for library in LIBRARIES
            ),
            *(
                f"{mean_interval(results.of_copy(str(case), variant('normlab', kind), COPY)).mean:.0f}%"
                for kind in KINDS
            ),
        )
        for case in norm_cases(evidence.setting.size.speed_large)
    )
    columns = (
        "case", *(variant(*v) for v in VARIANTS), *(f"{words}: LayerNorm / RMSNorm" for words in LIBRARIES.values()),
        *(f"{variant('normlab', kind)}, of copy_" for kind in KINDS),
    )  # fmt: skip
    return Table("Times of norms, forward + backward unless said", columns, rows)


def _roots(evidence: Evidence) -> Table:
    results = speed_of(evidence)
    groups: tuple[tuple[Group, tuple[str, str], str], ...] = (
        ("roots", ROOTS, "a vector of "),
        ("roots in a norm", ROOTS_IN_NORM, "in the plain formula, "),
    )
    rows = tuple(
        (
            f"{words}{case}",
            *(_time(results.get(group, case, name).rounds) for name in names),
            _ratio(results.ratios(group, case, names[1], names[0])),
        )
        for group, names, words in groups
        for case in results.cases(group)
    )
    return Table("rsqrt and 1 / sqrt, float32", ("of", "with rsqrt", "with sqrt", "sqrt / rsqrt"), rows)


def _models(evidence: Evidence) -> Table:
    results = speed_of(evidence)
    groups: tuple[Group, ...] = ("training", "decoding")
    rows = tuple(
        (
            case,
            *(_time(results.get(group, case, variant(*v)).rounds) for v in VARIANTS),
            *(_ratio(effects.fused_in(group, kind, evidence)) for kind in KINDS),
        )
        for group in groups
        for case in results.cases(group)
    )
    columns = ("step", *(variant(*v) for v in VARIANTS), *(f"{words}: torch.nn / normlab" for words in KINDS.values()))
    return Table(f"MiniMind, {results.parameters:,} parameters", columns, rows)


def tables(evidence: Evidence) -> list[Table]:
    """All of them."""
    return [_norms(evidence), _roots(evidence), _models(evidence)]


def _range(samples: Sequence[Sample]) -> str:
    """The smallest and the largest mean, and where."""
    means = [(mean_interval(s.values).mean, s.condition) for s in samples if s.values]
    if not means:
        return "not measured"
    (low, first), (high, last) = min(means), max(means)
    if first == last:
        return f"{text.number(low)} ({first})"
    return f"{text.number(low)} ({first}) to {text.number(high)} ({last})"


def reading(evidence: Evidence) -> list[str]:
    """Sentences computed from the evidence."""
    norms = effects.layernorm_over_rmsnorm(evidence)
    by_library = {words: [s for s in norms if s.condition.startswith(words)] for words in LIBRARIES.values()}
    return [
        *(f"LayerNorm's time over RMSNorm's in {words}: {_range(samples)}." for words, samples in by_library.items()),
        f"Bandwidth of normlab's norms, in percent of copy_'s: {_range(effects.bandwidths(evidence))}.",
        f"1 / sqrt over rsqrt: {_range(effects.roots(evidence))}; inside a norm: "
        f"{_range(effects.roots_in_a_norm(evidence))}.",
        f"A training step with LayerNorm over one with RMSNorm: {_range(effects.training_with_layernorm(evidence))}; "
        f"decoding: {_range(effects.decoding_with_layernorm(evidence))}.",
        f"A training step with PyTorch's norms over one with normlab's: {_range(effects.fused_in_training(evidence))}; "
        f"decoding: {_range(effects.fused_in_decoding(evidence))}.",
    ]


def numbers(evidence: Evidence) -> dict[str, Any]:
    """Every timing, a value a round."""
    results = speed_of(evidence)
    return {
        "threads": results.threads,
        "heap": results.heap,
        "parameters": results.parameters,
        "timings": results.timings,
    }


def curves(evidence: Evidence) -> tuple[Sequence[str], list[Sequence[Any]]]:
    """One line a contender and round."""
    header = ("group", "case", "contender", "round", "seconds", "bytes")
    rows: list[Sequence[Any]] = [
        (t.group, t.case, t.contender, i, seconds, t.moved or "")
        for t in speed_of(evidence).timings
        for i, seconds in enumerate(t.rounds)
    ]
    return header, rows


EXPERIMENT = Experiment(
    name="speed",
    script="exp4_speed.py",
    title="Speed",
    question="Is RMSNorm faster than LayerNorm, rsqrt than 1 / sqrt, and what is it worth in a model?",
    settings=settings,
    plan=lambda setting: [],
    measure=lambda setting: measure_apart(Request(setting.size.speed_rounds, setting.size.speed_large)),
    numbers=numbers,
    tables=tables,
    reading=reading,
    curves=curves,
    draw=figure.draw,
    timed=True,
)
