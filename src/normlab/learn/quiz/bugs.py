"""The judge of find-the-bug answers: a norm that a learner has mended, against its definition in `normlab.norms`.

What the code defines, with x of shape (*rows, n), or for BatchNorm (N, C) in training, and `parameters` standing for
weight, or weight and bias where the norm has one:

    language "numpy"    forward(x, parameters, eps) -> y
                        backward(dy, x, parameters, eps) -> (dx, dweight), or (dx, dweight, dbias)
    language "engine"   norm(x, parameters, eps) -> y, on Tensors; the engine differentiates it

It runs in the sandbox, on every input of `cases`; here its results are compared with those of the definition.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from normlab.learn.quiz.schema import Bug
from normlab.learn.sandbox import Call, run
from normlab.norms import batchnorm, layernorm, rmsnorm

Array = NDArray[np.float64]

EPS = 1e-5
# Of the largest number of an array. Formulas that are equal on paper differ by rounding: float64 has 16 digits, and
# E[x^2] - E[x]^2 at a mean of 1e3 and a standard deviation of 1 loses 6 of them, in the gradient some more. Errors
# are larger: eps in another place changes the tiny rows by a tenth and more.
TOLERANCE = 1e-7

_DEFINITIONS: dict[str, ModuleType] = {"rmsnorm": rmsnorm, "layernorm": layernorm, "batchnorm": batchnorm}


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """An input: what is special about it, x, the parameters by name, and the upstream gradient."""

    words: str
    x: Array
    parameters: dict[str, Array]
    dy: Array


@dataclass(frozen=True, slots=True)
class Difference:
    """The worst place of a result.

    Attributes:
        what: "y", "dx", "dweight" or "dbias".
        case: on which input.
        index: of the number there.
        got, expected: the code's number and the definition's.
        apart: their distance, as a part of the largest number that the definition has there.
    """

    what: str
    case: str
    index: tuple[int, ...]
    got: float
    expected: float
    apart: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the code is right; why, in one sentence; where it differs; and what it printed.

    `difference` is None for right code, and for code that did not get as far as a result.
    """

    right: bool
    sentence: str
    difference: Difference | None = None
    printed: str = ""


def cases(norm: str) -> tuple[Case, ...]:
    """The inputs: always the same."""
    rng = np.random.default_rng(5)
    plain = {"batchnorm": [(6, 3)]}.get(norm, [(3, 5), (2, 3, 4)])
    shape = plain[0]
    drawn = [
        *(("random numbers", rng.standard_normal(s)) for s in plain),
        ("numbers about 1000", 1e3 + rng.standard_normal(shape)),
        ("numbers about 0.001", 1e-3 * rng.standard_normal(shape)),
    ]
    return tuple(_case(f"{words}, shape {x.shape}", x, norm, rng) for words, x in drawn)


def _case(words: str, x: Array, norm: str, rng: np.random.Generator) -> Case:
    names = ("weight",) if norm == "rmsnorm" else ("weight", "bias")
    return Case(words, x, {name: rng.standard_normal(x.shape[-1]) for name in names}, rng.standard_normal(x.shape))


def expected(norm: str, case: Case) -> dict[str, Array]:
    """y, dx, dweight and, where there is a bias, dbias, by the definition."""
    definition = _DEFINITIONS[norm]
    options = {"eps": EPS, "training": True} if norm == "batchnorm" else {"eps": EPS}
    y = definition.forward(case.x, **case.parameters, **options)
    gradients = definition.backward(case.dy, case.x, case.parameters["weight"], **options)
    return {"y": y.y if norm == "batchnorm" else y, **gradients._asdict()}


def judge(question: Bug, code: str) -> Verdict:
    """Run the code and compare, forward and gradient.

    Raises:
        RuntimeError: when no interpreter can be started for it.
    """
    inputs = cases(question.norm)
    right = [expected(question.norm, case) for case in inputs]
    calls = _numpy_calls if question.language == "numpy" else _engine_calls
    asked = [calls(case, values) for case, values in zip(inputs, right, strict=True)]
    outcome = run(code, [call for of_case in asked for call in of_case])
    if outcome.trouble is not None:
        return Verdict(False, outcome.trouble, printed=outcome.printed)
    results = iter(outcome.results)
    got = [{name: value for _ in of_case for name, value in next(results).items()} for of_case in asked]
    found = list(_differences(inputs, got, right))
    names = list(right[0])
    if not found:
        return Verdict(
            True, f"{_listed(names)} agree with the definition on {len(inputs)} inputs", printed=outcome.printed
        )
    # A wrong y explains wrong gradients, and not the other way round. An error shows best where it matters most.
    worst = min(found, key=lambda difference: (names.index(difference.what), -difference.apart))
    return Verdict(False, _sentence(worst, names, {d.what for d in found}), worst, outcome.printed)


def _shapes(values: dict[str, Array]) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in values.items()}


def _numpy_calls(case: Case, values: dict[str, Array]) -> tuple[Call, Call]:
    gradients = {name: value for name, value in values.items() if name != "y"}
    arguments = {"x": case.x, **case.parameters, "eps": EPS}
    return (
        Call("forward", arguments, {"y": case.x.shape}),
        Call("backward", {"dy": case.dy, **arguments}, _shapes(gradients)),
    )


def _engine_calls(case: Case, values: dict[str, Array]) -> tuple[Call]:
    return (Call("norm", {"x": case.x, **case.parameters, "eps": EPS}, _shapes(values), case.dy),)


def _differences(
    inputs: tuple[Case, ...], got: list[dict[str, Array]], right: list[dict[str, Array]]
) -> Iterator[Difference]:
    for case, ours, values in zip(inputs, got, right, strict=True):
        for what, value in values.items():
            apart = np.abs(ours[what] - value)
            # What is no number is furthest away.
            apart[np.isnan(apart)] = np.inf
            apart /= np.abs(value).max()
            if apart.max() > TOLERANCE:
                index = tuple(int(i) for i in np.unravel_index(np.argmax(apart), apart.shape))
                yield Difference(
                    what, case.words, index, float(ours[what][index]), float(value[index]), float(apart[index])
                )


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _sentence(worst: Difference, names: list[str], wrong: set[str]) -> str:
    numbers = next(
        pair
        for digits in (4, 6, 9, 17)
        if len(set(pair := (f"{worst.got:.{digits}g}", f"{worst.expected:.{digits}g}"))) == 2
    )
    place = f"{worst.what}[{', '.join(map(str, worst.index))}]"
    right = [name for name in names if name not in wrong]
    besides = f"; {_listed(right)} {'is' if len(right) == 1 else 'are'} right" if right else ""
    return f"{place} is {numbers[0]}, and should be {numbers[1]} (x: {worst.case}){besides}"
