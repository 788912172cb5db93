"""What experiment 4 measured."""

from dataclasses import dataclass
from typing import Literal

from normlab.experiments.evidence import Evidence

Group = Literal["norms", "roots", "roots in a norm", "training", "decoding"]


@dataclass(frozen=True, slots=True)
class Timing:
    """What a contender took in a case.

    Attributes:
        group, case, contender: who did what.
        rounds: seconds, the median of each round; the rounds of a case are those of all its contenders.
        moved: bytes that must be read and written, where that is what bounds it.
    """

    group: Group
    case: str
    contender: str
    rounds: tuple[float, ...]
    moved: int = 0


@dataclass(frozen=True, slots=True)
class SpeedResults:
    """All of them.

    Attributes:
        threads: on how many they were taken.
        heap: what was done about the allocator, a sentence.
        parameters: of the MiniMind that was timed.
    """

    threads: int
    heap: str
    parameters: int
    timings: tuple[Timing, ...]

    def cases(self, group: Group) -> list[str]:
        """The cases of a group, in order."""
        return list(dict.fromkeys(t.case for t in self.timings if t.group == group))

    def get(self, group: Group, case: str, contender: str) -> Timing:
        """One of them.

        Raises:
            KeyError: when it was not measured.
        """
        for t in self.timings:
            if (t.group, t.case, t.contender) == (group, case, contender):
                return t
        raise KeyError(f"{group}, {case}, {contender}")

    def ratios(self, group: Group, case: str, slower: str, faster: str) -> list[float]:
        """The time of one contender over that of another, a round each."""
        pairs = zip(self.get(group, case, slower).rounds, self.get(group, case, faster).rounds, strict=True)
        return [a / b for a, b in pairs]

    def of_copy(self, case: str, contender: str, copy: str) -> list[float]:
        """Percent of the bandwidth of the copy, a round each."""
        ours, copied = self.get("norms", case, contender), self.get("norms", case, copy)
        scale = 100 * ours.moved / copied.moved
        return [scale * b / a for a, b in zip(ours.rounds, copied.rounds, strict=True)]


def speed_of(ev: Evidence) -> SpeedResults:
    """The experiment's measurements."""
    return ev.of(SpeedResults)
