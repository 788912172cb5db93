"""From numbers to a verdict.

A claim says that some effect lies in a range. It is measured under one or more conditions, each with a value a seed.
A condition holds when the whole 95% interval of the mean lies in the range, fails when the whole interval lies
outside, and is open otherwise, or with fewer than two seeds (three, where all are equal). Together:

    all hold                     -> holds
    some hold, some fail         -> holds only when <those that hold>
    all fail                     -> does not hold
    anything else                -> undecided
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from normlab.experiments import text
from normlab.experiments.stats import Interval, mean_interval

Verdict = Literal["holds", "holds only when", "does not hold", "undecided"]


@dataclass(frozen=True, slots=True)
class Sample:
    """Values of the effect under a condition, a seed each. Without values: why there are none."""

    condition: str
    values: Sequence[float]
    missing: str = "not run in this size"


@dataclass(frozen=True, slots=True)
class Range:
    """Where the claim says that the effect lies; a closed range."""

    low: float = float("-inf")
    high: float = float("inf")

    def __str__(self) -> str:
        if math.isinf(self.low):
            return f"at most {self.high:.3g}"
        if math.isinf(self.high):
            return f"at least {self.low:.3g}"
        return f"{self.low:.3g} to {self.high:.3g}"

    def judge(self, interval: Interval) -> bool | None:
        """True: holds; False: fails; None: open."""
        if interval.low is None or interval.high is None:
            return None
        if interval.low == interval.high and interval.n < 3:
            return None  # two equal counts are no evidence of a spread of 0
        if self.low <= interval.low and interval.high <= self.high:
            return True
        if interval.high < self.low or self.high < interval.low:
            return False
        return None


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition's measurement: its interval (None: not measured) and whether the claim holds there."""

    condition: str
    interval: Interval | None
    holds: bool | None
    values: tuple[float, ...]
    missing: str = ""

    def __str__(self) -> str:
        """0.021 [0.018, 0.025] (gain 1)."""
        measured = self.missing if self.interval is None else text.interval(self.interval)
        return f"{measured} ({self.condition})"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, the conditions that it names, and the findings behind it."""

    verdict: Verdict
    when: tuple[str, ...]
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        held, failed, unsure = (
            [f.condition for f in self.findings if f.holds is state] for state in (True, False, None)
        )
        if self.verdict == "undecided":
            seen = [f"holds when {_listed(held)}"] * bool(held) + [f"fails when {_listed(failed)}"] * bool(failed)
            return "; ".join(["undecided", *seen])
        if self.verdict != "holds only when":
            return self.verdict
        if not unsure:
            held, failed = _telling(held, failed)
        words = f"holds only when {_listed(held)}"
        if len(failed) < len(held):
            words += f" (not: {_listed(failed)})"
        return words + (f" (undecided: {_listed(unsure)})" if unsure else "")


def _listed(conditions: Sequence[str]) -> str:
    return "; ".join(conditions)


def _telling(held: list[str], failed: list[str]) -> tuple[list[str], list[str]]:
    """The part of the conditions that alone tells those that hold from those that fail, where there is one:
    "a, gain 1" and "b, gain 1" against "a, gain 2" and "b, gain 2" are "gain 1" against "gain 2"."""
    parts = [[c.split(", ") for c in conditions] for conditions in (held, failed)]
    every = [p for side in parts for p in side]
    # Only of conditions that are all combinations of their parts: else the part alone was not tried everywhere.
    if len({len(p) for p in every}) == 1 and math.prod(len(set(column)) for column in zip(*every, strict=True)) == len(
        every
    ):
        for i in range(len(every[0])):
            ours, theirs = (list(dict.fromkeys(p[i] for p in side)) for side in parts)
            if not set(ours) & set(theirs):
                return ours, theirs
    return held, failed


def find(sample: Sample, claimed: Range) -> Finding:
    """Judge one condition."""
    if not sample.values:
        return Finding(sample.condition, None, None, (), sample.missing)
    if any(math.isnan(v) for v in sample.values):
        # The difference of two runs that both became infinite.
        return Finding(sample.condition, None, None, (), "nothing to compare: both became NaN")
    interval = mean_interval(sample.values)
    return Finding(sample.condition, interval, claimed.judge(interval), tuple(sample.values))


def judge(samples: Sequence[Sample], claimed: Range) -> Judgement:
    """Judge all conditions together."""
    findings = tuple(find(sample, claimed) for sample in samples)
    held = tuple(f.condition for f in findings if f.holds is True)
    failed = any(f.holds is False for f in findings)
    open_ = any(f.holds is None for f in findings)
    verdict: Verdict = "undecided"
    if held and failed:
        verdict = "holds only when"
    elif held and not open_:
        verdict = "holds"
    elif failed and not open_:
        verdict = "does not hold"
    return Judgement(verdict, held if verdict == "holds only when" else (), findings)
