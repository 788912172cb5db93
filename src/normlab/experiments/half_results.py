"""All that experiment 5 measures beside its training runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from normlab.experiments.evidence import Evidence
from normlab.experiments.half_cases import Arm
from normlab.experiments.half_range import Ends, Sums, measure_ends, measure_sums
from normlab.experiments.halves import Point, measure_lines
from normlab.lab.reproducible import reproducible


@dataclass(frozen=True, slots=True)
class HalfResults:
    """Errors by arm and scale, and what becomes of squares.

    Attributes:
        lines: errors, by arm and scale.
        ends: of float16's range.
        sums: of squares.
    """

    lines: Mapping[Arm, Mapping[float, Point]]
    ends: tuple[Ends, ...]
    sums: tuple[Sums, ...]


def measure_halves(seeds: Sequence[int]) -> HalfResults:
    """Everything, on the CPU."""
    with reproducible(0):
        ends, sums = measure_ends(seeds), measure_sums(seeds)
    return HalfResults(measure_lines(seeds), ends, sums)


def halves_of(ev: Evidence) -> HalfResults:
    """The experiment's measurements."""
    return ev.of(HalfResults)
