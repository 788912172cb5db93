"""From an answer as it is typed to a grade, without input or output.

An answer, once read, is about the question as it stands in the file, whatever the order in which it was shown: the
places of options, lines or points of the rubric, counted from 0; numbers; or code.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from normlab._check import InputError
from normlab.learn.quiz.arithmetic import read_numbers
from normlab.learn.quiz.numbers import Drawn, agree, random_source
from normlab.learn.quiz.schema import Bug, Choice, Multiple, Number, Open, Option, Order, Question

LETTERS = "abcdefg"

Places = tuple[int, ...]
Answer = Places | tuple[float, ...] | str


@dataclass(frozen=True, slots=True)
class Grade:
    """What an answer is worth.

    Attributes:
        points: 0 to 1.
        right: whether nothing is missing or wrong.
        explanations: what there is to say about this answer beside the question's own explanation, in Markdown.
    """

    points: float
    right: bool
    explanations: tuple[str, ...] = ()


def _lines_agree(question: Order, places: Sequence[int]) -> bool:
    return tuple(question.lines[place] for place in places) == question.lines


def shuffled(question: Question, seed: int) -> Places:
    """The order in which options or lines are shown: what is shown first, second, ... as places in the file.

    The same for the same id and seed. Lines are never shown in a right order. Of other kinds: ().
    """
    match question:
        case Choice(options=parts) | Multiple(options=parts) | Order(lines=parts):
            rng = random_source("shuffled", question.id, seed)
            places = tuple(rng.permutation(len(parts)).tolist())
            while isinstance(question, Order) and _lines_agree(question, places):
                places = tuple(rng.permutation(len(parts)).tolist())
            return places
    return ()


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _read_options(options: Sequence[Option], typed: str, several: bool) -> Places:
    """The places typed as letters or numbers, each once, in order: "a c", "ac", "a,c", "1 3"."""
    letters = LETTERS[: len(options)]
    signs = re.sub(r"[\s,;.()]+", "", typed.lower())
    what = f"the letters of all that are right, such as {letters[0]} {letters[2]}" if several else _listed(letters)
    if not signs:
        raise InputError(f"Nothing was chosen: type {what}.")
    if unknown := [sign for sign in signs if sign not in letters and sign not in "1234567"[: len(letters)]]:
        raise InputError(f"There is no option {unknown[0]!r}: type {what}.")
    places = sorted({letters.index(sign) if sign in letters else int(sign) - 1 for sign in signs})
    if not several and len(places) > 1:
        raise InputError(f"Only one can be chosen, got {len(places)}: type {what}.")
    return tuple(places)


def _read_count(count: int, typed: str) -> tuple[float, ...]:
    numbers = read_numbers(typed)
    if len(numbers) != count:
        expected = "One number is" if count == 1 else f"{count} numbers with spaces between them are"
        hint = " (decimals have a point, thousands no comma)" if "," in typed else ""
        raise InputError(f"{expected} expected, got {len(numbers) or 'none'}{hint}.")
    return numbers


def _digits(what: str, count: int, typed: str) -> list[int]:
    """Numbers from 1 to `count`, at most 9, with or without something between them."""
    found = re.sub(r"[\s,;.>→-]+", "", typed)
    for sign in found:
        if sign not in "123456789"[:count]:
            raise InputError(f"There is no {what} {sign!r}: they have the numbers 1 to {count}.")
    return [int(sign) for sign in found]


def _read_order(count: int, typed: str) -> Places:
    numbers = _digits("line", count, typed)
    example = " ".join(str(number) for number in range(count, 0, -1))
    if twice := sorted({number for number in numbers if numbers.count(number) > 1}):
        raise InputError(f"Line {twice[0]} stands there more than once: type each number once, such as {example}.")
    if missing := sorted(set(range(1, count + 1)) - set(numbers)):
        raise InputError(f"Line {missing[0]} is missing: type the numbers of all {count} lines, such as {example}.")
    return tuple(number - 1 for number in numbers)


def _read_met(count: int, typed: str) -> Places:
    word = typed.strip().lower()
    if word == "all":
        return tuple(range(count))
    if word == "none":
        return ()
    numbers = _digits("point", count, typed)
    if not numbers:
        raise InputError("Type the numbers of the points that your answer makes, such as 1 2, or all, or none.")
    return tuple(sorted({number - 1 for number in numbers}))


def read(question: Question, drawn: Drawn | None, typed: str, order: Sequence[int] = ()) -> Answer:
    """An answer from what was typed.

    Args:
        question: what was asked.
        drawn: its numbers; None for all kinds but Number.
        typed: letters (Choice, Multiple), numbers (Number, with arithmetic), the numbers of the lines as shown (Order),
            the whole code (Bug), or which points of the rubric the learner's own answer makes (Open).
        order: of what was shown, from `shuffled`; () when it was shown as in the file.

    Raises:
        InputError: one sentence, which says what can be typed.
    """

    def in_file(places: Places) -> Places:
        return tuple(order[place] for place in places) if order else places

    match question:
        case Choice(options=options):
            return in_file(_read_options(options, typed, several=False))
        case Multiple(options=options):
            return tuple(sorted(in_file(_read_options(options, typed, several=True))))
        case Number():
            return _read_count(len(cast("Drawn", drawn).answer), typed)
        case Order(lines=lines):
            return in_file(_read_order(len(lines), typed))
        case Open(rubric=rubric):
            return _read_met(len(rubric), typed)
        case Bug():
            if not typed.strip():
                raise InputError("There is no code: type what the listing should be.")
            return typed


def _grade_choice(question: Choice, places: Places) -> Grade:
    option = question.options[places[0]]
    return Grade(float(option.right), option.right, (option.why,))


def _grade_multiple(question: Multiple, places: Places) -> Grade:
    explanations = []
    for place, option in enumerate(question.options):
        if option.right != (place in places):
            what = "Not chosen, but right" if option.right else "Chosen, but wrong"
            explanations.append(f"{what}: {option.text}\n\n{option.why}")
    return Grade(float(not explanations), not explanations, tuple(explanations))


def _grade_number(question: Number, drawn: Drawn, numbers: Sequence[float]) -> Grade:
    if drawn.accepts(numbers):
        return Grade(1.0, True)

    def distance(wrong: Sequence[float]) -> float:
        return sum(abs(a - b) for a, b in zip(numbers, wrong, strict=True))

    known = [mistake for mistake in question.mistakes if agree(numbers, drawn.mistakes[mistake.name])]
    nearest = min(known, key=lambda mistake: distance(drawn.mistakes[mistake.name]), default=None)
    return Grade(0.0, False, (drawn.fill(nearest.why),) if nearest else ())


def _grade_bug(question: Bug, code: str) -> Grade:
    # Loaded when code is to be run: it brings the sandbox along.
    from normlab.learn.quiz.bugs import judge

    verdict = judge(question, code)
    printed = (f"The code printed:\n{verdict.printed}",) if verdict.printed else ()
    return Grade(float(verdict.right), verdict.right, (verdict.sentence, *printed))


def _grade_open(question: Open, places: Places) -> Grade:
    missing = tuple(f"Missing: {point}" for place, point in enumerate(question.rubric) if place not in places)
    return Grade(len(places) / len(question.rubric), not missing, missing)


def grade(question: Question, drawn: Drawn | None, answer: Answer) -> Grade:
    """The grade of an answer that `read` has returned. A Bug's code is run, in a process of its own."""
    given: Any = answer  # of the type that belongs to the kind
    match question:
        case Choice():
            return _grade_choice(question, given)
        case Multiple():
            return _grade_multiple(question, given)
        case Number():
            return _grade_number(question, cast("Drawn", drawn), given)
        case Order():
            right = _lines_agree(question, given)
            return Grade(float(right), right, () if right else (question.wrong,))
        case Bug():
            return _grade_bug(question, given)
        case Open():
            return _grade_open(question, given)
