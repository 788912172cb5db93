"""A session, without input or output: which questions, in which order, with which numbers, and how far it has come.

What is drawn follows from a seed and a question's id by a hash, so that a seed asks the same on every machine and in
every version of Python, and goes on doing so when questions are added.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Annotated

import msgspec
from msgspec import Meta

from normlab.learn.quiz.schema import Question, Quiz

Natural = Annotated[int, Meta(ge=0)]
Points = Annotated[float, Meta(ge=0, le=1)]


class Selection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was asked for: a topic and a level (None: all), how many questions, and a seed (None: any)."""

    topic: str | None = None
    level: int | None = None
    count: int = 10
    seed: int | None = None


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a question was answered, and when; skipped: no points."""

    when: datetime
    points: Points | None
    right: bool = False


class Tally(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question over all sessions: how often it was answered, how often rightly, all points, and the last answer."""

    asked: Natural
    right: Natural
    points: Annotated[float, Meta(ge=0)]
    last: Answer


class Session(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Questions in their order, and the answers to the first of them.

    Attributes:
        key: its name.
        selection: what was asked for.
        seed: of the order and the numbers.
        questions: ids.
        answers: one for each question up to where the session stands.
    """

    key: str
    selection: Selection
    seed: Natural
    questions: Annotated[tuple[str, ...], Meta(min_length=1)]
    answers: tuple[Answer, ...] = ()

    def __post_init__(self) -> None:
        if len(self.answers) > len(self.questions):
            raise ValueError(f"{len(self.answers)} answers to {len(self.questions)} questions")

    @property
    def finished(self) -> bool:
        """Whether every question was answered or skipped."""
        return len(self.answers) == len(self.questions)

    def after(self, answer: Answer) -> "Session":
        """The session when its next question has been answered.

        Raises:
            ValueError: when there is no next question.
        """
        return msgspec.structs.replace(self, answers=(*self.answers, answer))


def tallied(before: Tally | None, answer: Answer) -> Tally | None:
    """A question's tally after an answer; a skipped question is as if it had not been asked."""
    if answer.points is None:
        return before
    asked, right, points = (before.asked, before.right, before.points) if before else (0, 0, 0.0)
    return Tally(asked + 1, right + answer.right, points + answer.points, answer)


def question_seed(seed: int, question_id: str) -> int:
    """The seed of a question's numbers and of the order of its options: another one for every question."""
    return int.from_bytes(sha256(f"{seed} {question_id}".encode()).digest()[:6])


def choose(quiz: Quiz, selection: Selection, seed: int, tallies: Mapping[str, Tally]) -> tuple[str, ...]:
    """The ids of a new session's questions.

    With a seed asked for, they depend on it alone. Else those come first that were answered wrongly the last time, then
    those never answered, then the others.
    """

    def need(question: Question) -> int:
        tally = tallies.get(question.id)
        return 1 if tally is None else 2 * tally.last.right

    questions = sorted(quiz.select(selection.topic, selection.level), key=lambda q: question_seed(seed, q.id))
    if selection.seed is None:
        questions.sort(key=need)
    return tuple(q.id for q in questions[: selection.count])


def to_go_on(sessions: Iterable[Session], selection: Selection, quiz: Quiz) -> Session | None:
    """The session that the same choice of questions goes on with: the last with it, where that is unfinished.

    None when a question that it has yet to ask is no longer in the quiz.
    """
    same = [s for s in sessions if s.selection == selection or _shown_seed(s, selection)]
    if not same or same[-1].finished or not all(quiz.question(name) for name in same[-1].questions):
        return None
    return same[-1]


def to_repeat(sessions: Iterable[Session], selection: Selection, quiz: Quiz) -> tuple[str, ...] | None:
    """The questions of the last session that drew, by chance, the seed that is asked for now.

    Its questions followed from the tallies of that day, so that its seed alone would not bring them back.
    """
    same = [s for s in sessions if _shown_seed(s, selection)]
    return same[-1].questions if same and all(quiz.question(name) for name in same[-1].questions) else None


def _shown_seed(session: Session, selection: Selection) -> bool:
    """Whether the choice names the seed that a session without one has drawn."""
    return session.selection == msgspec.structs.replace(selection, seed=None) and session.seed == selection.seed


@dataclass(frozen=True, slots=True)
class Score:
    """A sum over questions."""

    asked: int = 0
    right: int = 0
    points: float = 0.0
    skipped: int = 0


def score(answers: Iterable[Answer]) -> Score:
    """The sum of a session's answers."""
    given = list(answers)
    counted = [a for a in given if a.points is not None]
    points = sum(a.points or 0.0 for a in counted)
    return Score(len(counted), sum(a.right for a in counted), points, len(given) - len(counted))


def total(tallies: Iterable[Tally]) -> Score:
    """The sum over all sessions."""
    listed = list(tallies)
    return Score(sum(t.asked for t in listed), sum(t.right for t in listed), sum(t.points for t in listed))


def by_topic(quiz: Quiz, session: Session) -> dict[str, Score]:
    """The sums of a session by topic, in the quiz's order; topics without an answer are left out.

    A question that is no longer in the quiz counts under "".
    """
    answers: dict[str, list[Answer]] = {name: [] for name in (*quiz.topics, "")}
    for name, answer in zip(session.questions, session.answers, strict=False):
        question = quiz.question(name)
        answers[question.topic if question else ""].append(answer)
    return {topic: score(given) for topic, given in answers.items() if given}


def to_read(quiz: Quiz, session: Session) -> Sequence[Question]:
    """The questions of a session that were not answered rightly, one for each place in the notes."""
    wrong = (
        n for n, a in zip(session.questions, session.answers, strict=False) if a.points is not None and not a.right
    )
    found = filter(None, map(quiz.question, wrong))
    return tuple({question.notes: question for question in found}.values())
