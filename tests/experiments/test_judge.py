import math

import pytest

from normlab.experiments.judge import Range, Sample, find, judge

INSIDE, OUTSIDE, ACROSS = [1.0, 1.01, 0.99], [5.0, 5.01, 4.99], [1.9, 2.1, 2.0]
CLAIMED = Range(0.5, 2.0)


@pytest.mark.parametrize(
    ("values", "holds"),
    [(INSIDE, True), (OUTSIDE, False), (ACROSS, None), ([1.0], None), ([5.0], None), ([], None),
     ([math.inf] * 3, False), ([1.0, math.inf], None), ([1.0, math.nan], None)],
)  # fmt: skip
def test_a_condition(values, holds):
    assert find(Sample("c", values), CLAIMED).holds is holds


@pytest.mark.parametrize(
    ("samples", "verdict", "statement"),
    [
        ([INSIDE, INSIDE], "holds", "holds"),
        ([OUTSIDE, OUTSIDE], "does not hold", "does not hold"),
        ([INSIDE, OUTSIDE], "holds only when", "holds only when c0"),
        ([OUTSIDE, INSIDE, ACROSS], "holds only when", "holds only when c1 (undecided: c2)"),
        ([INSIDE, INSIDE, OUTSIDE], "holds only when", "holds only when c0; c1 (not: c2)"),
        ([ACROSS], "undecided", "undecided"),
        ([INSIDE, ACROSS], "undecided", "undecided; holds when c0"),
        ([OUTSIDE, []], "undecided", "undecided; fails when c0"),
        ([[]], "undecided", "undecided"),
    ],
)
def test_together(samples, verdict, statement):
    judgement = judge([Sample(f"c{i}", values) for i, values in enumerate(samples)], CLAIMED)
    assert judgement.verdict == verdict
    assert str(judgement) == statement


def test_the_range_is_closed():
    assert find(Sample("c", [2.0] * 3), CLAIMED).holds is True
    assert find(Sample("c", [0.5] * 3), CLAIMED).holds is True


def test_two_equal_counts_decide_nothing():
    assert find(Sample("c", [1.0, 1.0]), CLAIMED).holds is None


def test_why_there_is_no_value_is_said():
    assert str(find(Sample("c", [], missing="no rate trains"), CLAIMED)) == "no rate trains (c)"
    assert "both became NaN" in str(find(Sample("c", [math.nan] * 3), CLAIMED))


def test_unbounded_range_takes_infinity():
    assert find(Sample("never", [math.inf] * 3), Range(low=3.0)).holds is True


@pytest.mark.parametrize(
    ("held", "failed", "statement"),
    [
        (["a, gain 1", "b, gain 1"], ["a, gain 2", "b, gain 2"], "holds only when gain 1"),
        (["a, gain 1", "a, gain 2"], ["b, gain 1", "b, gain 2"], "holds only when a"),
        (["a, gain 1"], ["b, gain 2"], "holds only when a, gain 1"),
        (["a, gain 1", "b, gain 2"], ["a, gain 2"], "holds only when a, gain 1; b, gain 2 (not: a, gain 2)"),
        (["a, x, gain 1"], ["a, gain 2"], "holds only when a, x, gain 1"),
    ],
)
def test_only_the_telling_part_of_conditions_is_named(held, failed, statement):
    samples = [Sample(c, INSIDE) for c in held] + [Sample(c, OUTSIDE) for c in failed]
    assert str(judge(samples, CLAIMED)) == statement
