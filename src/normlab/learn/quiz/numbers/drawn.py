"""What a generator hands over, how numbers are written, and when two count as the same."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

Random = np.random.Generator

# A number counts as right within 1% or 0.005, whichever is more: enough for one who rounds to three digits on the way.
# The last digits let 0.13 stand for 0.125.
RELATIVE = 0.01 + 1e-12
ABSOLUTE = 0.005 + 1e-12


@dataclass(frozen=True, slots=True)
class Drawn:
    """A question's numbers.

    Attributes:
        values: texts by the names that stand in the question between braces; a row stands in brackets, [3, -1, 0.5].
        answer: the right numbers, one or several.
        mistakes: by the name of a slip, the numbers that it leads to.
        counted: whether the answer is a count, of which no digit may be off.
    """

    values: dict[str, str]
    answer: tuple[float, ...]
    mistakes: dict[str, tuple[float, ...]] = field(default_factory=dict)
    counted: bool = False

    def accepts(self, given: Sequence[float]) -> bool:
        """Whether these numbers are the answer."""
        return tuple(given) == self.answer if self.counted else agree(given, self.answer)

    def fill(self, text: str) -> str:
        """The text with the numbers in it; {answer} is the answer."""
        return text.format(**self.values, answer=shown(self.answer))


def random_source(*key: object) -> Random:
    """The random source of a key, such as a name and a seed: any key has its own, the same on every machine."""
    digest = hashlib.sha256(" ".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def agree(given: Sequence[float], wanted: Sequence[float], times: float = 1) -> bool:
    """Whether as many numbers were given as wanted, each within `times` the tolerance."""
    return len(given) == len(wanted) and all(
        abs(a - b) <= times * max(RELATIVE * abs(b), ABSOLUTE) for a, b in zip(given, wanted, strict=True)
    )


def _shown(x: float) -> str:
    """One number. What differs from a whole number by rounding errors alone is written as that."""
    if abs(x - round(x)) <= 1e-12 * max(1.0, abs(x)) and abs(x) < 1e15:
        return str(round(x))
    if abs(x) < 0.01:
        return f"{x:.3g}"
    return f"{x:.3f}" if abs(x) < 1000 else f"{x:.1f}"


def shown(numbers: Sequence[float]) -> str:
    """Numbers as they are shown and typed: three digits after the point, small ones with an exponent."""
    return " ".join(_shown(x) for x in numbers)


def clear(drawn: Drawn) -> bool:
    """Whether every slip leads far from the answer, by twice the tolerance, and no two slips look the same."""
    slips = drawn.mistakes.values()
    apart = not any(agree(wrong, drawn.answer, times=2) for wrong in slips)
    return apart and len({tuple(map(float, shown(wrong).split())) for wrong in slips}) == len(slips)


def text(value: float | Sequence[float]) -> str:
    """A number, or a row in brackets, for the text of a question."""
    return f"{value:g}" if isinstance(value, int | float) else f"[{', '.join(f'{x:g}' for x in value)}]"


def numbers(array: object) -> tuple[float, ...]:
    """An array, of any shape, as the numbers of an answer."""
    return tuple(float(x) for x in np.ravel(np.asarray(array, dtype=np.float64)))
