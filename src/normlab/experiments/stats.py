"""Means with intervals over seeds, and slopes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95% confidence interval; the interval is None with fewer than two values."""

    mean: float
    low: float | None
    high: float | None
    n: int


def mean_interval(values: Sequence[float]) -> Interval:
    """Student's t interval of the mean over independent seeds.

    Values may be infinite ("never", "overflowed"). Then no t interval exists and the range of the values
    stands in for it; the mean is infinite. NaN values are not allowed.
    """
    if not values:
        raise ValueError("values must hold at least one number, got none")
    if any(math.isnan(v) for v in values):
        raise ValueError(f"values must not hold NaN, got {list(values)}")
    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return Interval(mean, None, None, n)
    if not math.isfinite(mean):
        return Interval(mean, min(values), max(values), n)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """a in the least-squares fit of log y = a log x + b."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
