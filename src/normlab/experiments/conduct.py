"""Carry experiments out: runs, numbers, pictures, verdicts, files."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normlab.bench.busy import busy
from normlab.experiments.base import Experiment
from normlab.experiments.claims import CLAIMS, Claim
from normlab.experiments.evidence import Evidence
from normlab.experiments.judge import Judgement
from normlab.experiments.outputs import write_csv, write_figure, write_json
from normlab.experiments.setting import Setting
from normlab.lab import Store, sweep
from normlab.lab.machine import describe
from normlab.terminal import errors


@dataclass(frozen=True, slots=True)
class Judged:
    """A claim, its verdict, and the command that measures it again."""

    claim: Claim
    judgement: Judgement
    command: str


@dataclass(frozen=True, slots=True)
class Conducted:
    """An experiment, what it measured, and the claims that it tests."""

    experiment: Experiment
    evidence: Evidence
    judged: list[Judged]


def conduct(
    experiments: Sequence[Experiment],
    setting: Setting,
    out: Path,
    *,
    jobs: int | None = None,
    fresh: bool = False,
) -> list[Conducted]:
    """Run what is not yet kept under `out`, then write every experiment's PNG, JSON and CSV there.

    Args:
        experiments: which; runs that several of them need are made once.
        setting: size, text, device.
        out: folder of the results, made when missing.
        jobs: processes; None: one a physical core.
        fresh: repeat runs that are kept already.
    """
    # Now: after the training runs the load is our own.
    if any(e.timed for e in experiments) and (sentence := busy()):
        errors.print(sentence, markup=False, highlight=False, soft_wrap=True)
    plans = {e.name: e.plan(setting) for e in experiments}
    store = Store(out / "runs.sqlite")
    try:
        if fresh:
            store.forget(config for plan in plans.values() for config in plan)
        wanted = list(dict.fromkeys(config for plan in plans.values() for config in plan))
        results = dict(zip(wanted, sweep(wanted, store, data=setting.data, jobs=jobs, label="training"), strict=True))
    finally:
        store.close()

    conducted = []
    for e in experiments:
        runs = [results[config] for config in dict.fromkeys(plans[e.name])]
        with errors.status(f"measuring: {e.title}") if errors.is_terminal else nullcontext():
            evidence = Evidence(setting, runs, e.measure(setting) if e.measure else None)
        judged = [
            Judged(claim, claim.judge(evidence), e.command(setting)) for claim in CLAIMS if claim.experiment == e.name
        ]
        conducted.append(Conducted(e, evidence, judged))
        write(conducted[-1], out)
    return conducted


def write(conducted: Conducted, out: Path) -> None:
    """NAME.png, NAME.json and NAME.csv."""
    e, evidence = conducted.experiment, conducted.evidence
    write_csv(out / f"{e.name}.csv", *e.curves(evidence))
    write_json(
        out / f"{e.name}.json",
        {
            "experiment": e.name,
            "title": e.title,
            **facts(evidence.setting),
            "command": e.command(evidence.setting),
            "settings": e.settings(evidence.setting),
            "claims": [claim_numbers(j) for j in conducted.judged],
            **e.numbers(evidence),
        },
    )
    write_figure(out / f"{e.name}.png", e.draw(evidence))


def facts(setting: Setting) -> dict[str, Any]:
    """The setting and the machine, for a result file."""
    corpus = setting.corpus
    return {
        "size": setting.size,
        "text": {
            "source": corpus.source,
            "digest": corpus.digest,
            "characters": len(corpus.train) + len(corpus.validation),
            "vocabulary": len(corpus.vocab),
            "baselines": setting.baselines,
            "trained_below": setting.trained_below,
        },
        "machine": describe(setting.device),
    }


def claim_numbers(judged: Judged) -> dict[str, Any]:
    """A claim and its verdict, for a result file.

    "effect", "interval" and "n" are the mean, its 95% interval and the number of seeds under the first condition, or
    null where nothing was measured; "findings" holds all conditions.
    """
    claim, judgement = judged.claim, judged.judgement
    first = judgement.findings[0]
    interval = first.interval
    return {
        "id": claim.id,
        "text": claim.text,
        "source": claim.source,
        "experiment": claim.experiment,
        "verdict": judgement.verdict,
        "statement": str(judgement),
        "when": judgement.when,
        "measured": claim.effect,
        "condition": first.condition,
        "effect": None if interval is None else interval.mean,
        "interval": None if interval is None or interval.low is None else [interval.low, interval.high],
        "n": 0 if interval is None else interval.n,
        "words": str(first),
        "claimed": str(claim.claimed),
        "claimed_range": [claim.claimed.low, claim.claimed.high],
        "findings": judgement.findings,
        "command": judged.command,
    }
