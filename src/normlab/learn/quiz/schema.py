"""The questions: what quiz.toml may hold, and reading it.

Texts are Markdown with formulas in Unicode, so that a terminal and a page show the same. Every question has an
explanation of its right answer, and one for each wrong answer that can be foreseen.
"""

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from normlab._check import InputError

LEVELS = {1: "recall", 2: "understand", 3: "apply", 4: "analyse"}

Text = Annotated[str, Meta(min_length=1)]
Id = Annotated[str, Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
# A page of docs/notes and a heading on it, as GitHub names it.
Link = Annotated[str, Meta(pattern=r"^[a-z0-9-]+\.md(#[a-z0-9_-]+)?$")]


class Topic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a group of questions is about."""

    title: Text
    page: Link


class Base(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", kw_only=True):
    """What all questions have.

    Attributes:
        id: its name, for ever: scores are kept under it.
        topic: one of the topics.
        level: 1 recall, 2 understand, 3 apply, 4 analyse.
        text: what is asked.
        explanation: why the right answer is right.
        notes: where it stands in the notes.
    """

    id: Id
    topic: Text
    level: Annotated[int, Meta(ge=1, le=4)]
    text: Text
    explanation: Text
    notes: Link


class Option(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A possible answer; `why` it is wrong, or right."""

    text: Text
    why: Text
    right: bool = False


class Choice(Base, frozen=True, tag="single"):
    """One of several."""

    options: Annotated[tuple[Option, ...], Meta(min_length=3, max_length=6)]


class Multiple(Base, frozen=True, tag="multiple"):
    """All that are true, and no other."""

    options: Annotated[tuple[Option, ...], Meta(min_length=3, max_length=7)]


class Mistake(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A wrong number that a known slip leads to: its name in the generator, and what the slip is."""

    name: Id
    why: Text


class Number(Base, frozen=True, tag="number"):
    """Numbers drawn anew each time. `{name}` in the text stands for what the generator has drawn under that name; so it
    does in the explanation and in the mistakes, where `{answer}` is the answer.

    Attributes:
        generator: one of `numbers.GENERATORS`.
        mistakes: each of the generator's.
    """

    generator: Text
    mistakes: tuple[Mistake, ...] = ()


class Order(Base, frozen=True, tag="order"):
    """Lines to be put in order.

    Attributes:
        lines: in the right order; shown shuffled. Lines that are equal are interchangeable.
        wrong: what it means to put them otherwise.
    """

    lines: Annotated[tuple[Text, ...], Meta(min_length=3, max_length=9)]
    wrong: Text


class Bug(Base, frozen=True, tag="bug"):
    """A short norm with an error in it, to be mended; judged by running it.

    Attributes:
        norm: the definition in `normlab.norms` that it must agree with, forward and gradient.
        language: "numpy": the code defines forward(x, ...) and backward(dy, x, ...); "engine": norm(x, ...) on
            `normlab.tensor`, which differentiates it. See `bugs.py` for the arguments.
        code: with the error.
        fix: the code without it.
        hint: for who asks.
        wrong: what most take for the error, or what the given code computes instead.
    """

    norm: Literal["rmsnorm", "layernorm", "batchnorm"]
    language: Literal["numpy", "engine"]
    code: Text
    fix: Text
    hint: Text
    wrong: Text


class Open(Base, frozen=True, tag="open"):
    """Answered in words, and graded by oneself.

    Attributes:
        answer: a model answer.
        rubric: what an answer must say, a point each.
    """

    answer: Text
    rubric: Annotated[tuple[Text, ...], Meta(min_length=2, max_length=6)]


Question = Choice | Multiple | Number | Order | Bug | Open


class Quiz(msgspec.Struct, frozen=True):
    """The topics, by name, and the questions, in the order of the file."""

    topics: dict[str, Topic]
    questions: tuple[Question, ...]

    def question(self, name: str) -> Question | None:
        """The question of that id, if there is one."""
        return next((q for q in self.questions if q.id == name), None)

    def select(self, topic: str | None = None, level: int | None = None) -> tuple[Question, ...]:
        """The questions of a topic and a level; None: of all."""
        return tuple(q for q in self.questions if topic in (None, q.topic) and level in (None, q.level))


def _name(raw: Any, place: int) -> str:
    """How an error names a question: by its id, or by its place in the file."""
    given = raw.get("id") if isinstance(raw, dict) else None
    return f"question {given!r}" if isinstance(given, str) and given else f"question {place} (without an id)"


def _words(error: msgspec.ValidationError) -> str:
    """msgspec's sentence, with its path in words: "Expected `int`, got `str` - at `$.level`"."""
    what, _, where = str(error).partition(" - at `$")
    return f"{where.rstrip('`').lstrip('.')}: {what}" if where.strip("`.") else what


def _placeholders(text: str) -> set[str]:
    """What stands between braces."""
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def _unfilled(question: Number, names: Sequence[str]) -> str | None:
    """What is wrong with the placeholders of a question whose generator has these names."""
    listed = ", ".join([*names, "answer"])
    try:
        asked = _placeholders(question.text)
        rest = [_placeholders(text) for text in (question.explanation, *(m.why for m in question.mistakes))]
    except ValueError as error:
        return f"text: braces stand around one of {listed}: {error}"
    if unknown := asked.union(*rest) - {*names, "answer"}:
        return f"text: {', '.join(sorted(unknown))!r} is none of {listed}"
    return "text: {answer} would give the answer away" if "answer" in asked else None


def _faults(question: Question, topics: dict[str, Topic]) -> Sequence[str]:
    """What is wrong with a question beyond the types of its fields."""
    from normlab.learn.quiz.numbers import GENERATORS, draw

    found = []
    if question.topic not in topics:
        found.append(f"topic: must be one of {', '.join(topics)}, got {question.topic!r}")
    match question:
        case Choice(options=options) | Multiple(options=options):
            right = sum(option.right for option in options)
            if isinstance(question, Choice) and right != 1:
                found.append(f"options: exactly one must be right, got {right}")
            if isinstance(question, Multiple) and right == 0:
                found.append("options: at least one must be right, got none")
            if len({option.text for option in options}) < len(options):
                found.append("options: two have the same text")
        case Number():
            if question.generator not in GENERATORS:
                found.append(f"generator: must be one of {', '.join(GENERATORS)}, got {question.generator!r}")
                return found
            drawn = draw(question.generator, 0)
            named, known = {m.name for m in question.mistakes}, set(drawn.mistakes)
            if named != known:
                listed = (", ".join(sorted(names)) or "none" for names in (known, named))
                found.append("mistakes: must explain {}, got {}".format(*listed))
            if fault := _unfilled(question, list(drawn.values)):
                found.append(fault)
        case Order(lines=lines):
            if len(set(lines)) < 2:
                found.append("lines: all are equal")
        case Bug():
            if question.code == question.fix:
                found.append("fix: is the code as it was given")
        case Open():
            pass
    return found


def parse(text: str, source: str = "quiz.toml") -> Quiz:
    """Read a quiz.

    Raises:
        InputError: for text that is no TOML, and for a question that is not as this file says: one sentence, which
            names the question.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source} is not TOML: {error}") from None
    if unknown := set(raw) - {"topics", "questions"}:
        raise InputError(f"{source}: {', '.join(sorted(unknown))}: only topics and questions may stand there")
    try:
        topics = msgspec.convert(raw.get("topics", {}), dict[str, Topic])
    except msgspec.ValidationError as error:
        raise InputError(f"{source}: topics: {_words(error)}") from None
    listed = raw.get("questions", [])
    if not topics or not isinstance(listed, list) or not listed:
        raise InputError(f"{source} must have [topics] and [[questions]]")
    questions, seen = [], set()
    for place, one in enumerate(listed, 1):
        try:
            question = msgspec.convert(one, Question)
        except msgspec.ValidationError as error:
            raise InputError(f"{source}, {_name(one, place)}: {_words(error)}") from None
        if question.id in seen:
            raise InputError(f"{source}, question {question.id!r}: another question has this id")
        seen.add(question.id)
        for fault in _faults(question, topics):
            raise InputError(f"{source}, question {question.id!r}: {fault}")
        questions.append(question)
    return Quiz(topics, tuple(questions))


@cache
def load() -> Quiz:
    """The quiz of this package."""
    return parse((files("normlab.learn.quiz") / "quiz.toml").read_text(encoding="utf-8"))
