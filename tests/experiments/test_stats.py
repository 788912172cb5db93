import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from normlab.experiments import text
from normlab.experiments.stats import Interval, exponent, mean_interval


def test_interval_is_scipys_t_interval(rng):
    values = list(rng.normal(3.0, 0.2, 7))
    expected = scipy_stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    i = mean_interval(values)
    assert i.low == pytest.approx(expected.low, rel=1e-12)
    assert i.high == pytest.approx(expected.high, rel=1e-12)
    assert i.mean == pytest.approx(np.mean(values), rel=1e-14)
    assert i.n == 7


def test_interval_covers_the_mean_at_its_rate(rng):
    covered = 0
    for _ in range(2000):
        i = mean_interval(list(rng.normal(0.0, 1.0, 3)))
        assert i.low is not None
        assert i.high is not None
        covered += i.low <= 0 <= i.high
    # Binomial: 2000 draws at 0.95 have a standard deviation of 0.005; four of them.
    assert abs(covered / 2000 - 0.95) < 0.02


def test_one_value_has_no_interval():
    assert mean_interval([2.0]) == Interval(2.0, None, None, 1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, math.inf], (math.inf, 1.0, math.inf)), ([math.inf, math.inf], (math.inf, math.inf, math.inf))],
)
def test_infinite_values_give_their_range(values, expected):
    i = mean_interval(values)
    assert (i.mean, i.low, i.high) == expected


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match="at least one number, got none"):
        mean_interval([])
    with pytest.raises(ValueError, match="must not hold NaN"):
        mean_interval([1.0, math.nan])


def test_exponent_recovers_a_power():
    x = [4, 8, 16, 32]
    assert exponent(x, [7 * v**-0.5 for v in x]) == pytest.approx(-0.5, abs=1e-12)


@pytest.mark.parametrize(
    ("value", "words"),
    [(3.14159, "3.14"), (0.0161, "0.0161"), (204.4, "204"), (5223.97, "5224"), (2e6, "2.0e+06"), (1e-5, "1.0e-05"),
     (0, "0"), (math.inf, "inf"), (-math.inf, "-inf"), (math.nan, "NaN"), (None, "?"), (-0.5, "-0.500")],
)  # fmt: skip
def test_number(value, words):
    assert text.number(value) == words


@pytest.mark.parametrize(("lr", "words"), [(1e-4, "1e-4"), (3e-4, "3e-4"), (1e-2, "1e-2"), (0.5, "5e-1"), (1.0, "1e0")])
def test_rate(lr, words):
    assert text.rate(lr) == words


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (Interval(2.4123, 2.39, 2.43, 3), "2.412 [2.390, 2.430]"),
        (Interval(2.4, 1.1, 3.7, 3), "2.4 [1.1, 3.7]"),
        (Interval(204.0, 130.0, 278.0, 3), "204 [130, 278]"),
        (Interval(8.0, 8.0, 8.0, 3), "8"),
        (Interval(0.5, 0.5, 0.5, 3), "0.500"),
        (Interval(2.4, None, None, 1), "2.40 (1 seed)"),
        (Interval(math.inf, math.inf, math.inf, 3), "inf"),
        (Interval(math.inf, 56.0, math.inf, 3), "inf [56.0, inf]"),
        (Interval(2e6, 1e6, 3e6, 3), "2e+06 [1e+06, 3e+06]"),
    ],
)
def test_interval_words(interval, words):
    assert text.interval(interval) == words


@pytest.mark.parametrize(("some", "words"), [([], "none"), ([1e-3, 1e-2], "all"), ([1e-3], "1e-3")])
def test_rates_words(some, words):
    assert text.rates(some, [1e-3, 1e-2]) == words
