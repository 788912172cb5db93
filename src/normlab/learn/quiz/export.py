"""The last session and the sum of all, to be kept or sent: as Markdown or as JSON."""

from dataclasses import asdict, dataclass
from datetime import datetime

import msgspec

from normlab.learn.quiz.progress import Progress
from normlab.learn.quiz.schema import LEVELS, Quiz
from normlab.learn.quiz.session import Score, Selection, Session, by_topic, score, to_read, total


@dataclass(frozen=True, slots=True)
class Line:
    """A question of the session. Topic and level are None when it is no longer in the quiz; points, when skipped."""

    question: str
    topic: str | None
    level: int | None
    when: datetime
    points: float | None
    right: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What is exported.

    Attributes:
        selection: what was asked for.
        seed: of the session.
        questions: how many the session has.
        finished: whether all were answered or skipped.
        answers: in the order in which they were asked.
        topics: the sums of the session by topic.
        session: their sum.
        total: the sum of all sessions.
        read_again: places in the notes.
    """

    selection: Selection
    seed: int
    questions: int
    finished: bool
    answers: list[Line]
    topics: dict[str, Score]
    session: Score
    total: Score
    read_again: list[str]


def last_session(progress: Progress) -> Session | None:
    """The session with the latest answer; None: nothing was answered yet."""
    return max((s for s in progress.sessions if s.answers), key=lambda s: s.answers[-1].when, default=None)


def report(quiz: Quiz, progress: Progress) -> Report | None:
    """What is to be said about the last session; None without one."""
    session = last_session(progress)
    if session is None:
        return None
    lines = []
    for name, answer in zip(session.questions, session.answers, strict=False):
        question = quiz.question(name)
        topic, level = (question.topic, question.level) if question else (None, None)
        lines.append(Line(name, topic, level, answer.when, answer.points, answer.right))
    return Report(
        selection=session.selection,
        seed=session.seed,
        questions=len(session.questions),
        finished=session.finished,
        answers=lines,
        topics=by_topic(quiz, session),
        session=score(session.answers),
        total=total(progress.questions.values()),
        read_again=[f"docs/notes/{question.notes}" for question in to_read(quiz, session)],
    )


def as_json(report: Report) -> str:
    """The report as one JSON object."""
    return msgspec.json.format(msgspec.json.encode(asdict(report))).decode()


def as_markdown(report: Report, quiz: Quiz) -> str:
    """The report as a page."""
    first, last = (report.answers[i].when.strftime("%Y-%m-%d %H:%M") for i in (0, -1))
    done = "finished" if report.finished else f"stopped after question {len(report.answers)} of {report.questions}"
    chosen = report.selection
    parts = [
        *([f"topic {chosen.topic}"] if chosen.topic else []),
        *([f"level {chosen.level}"] if chosen.level else []),
        f"seed {report.seed}",
    ]
    rows = [
        "| topic | asked | right | points |",
        "| --- | ---: | ---: | ---: |",
        *(_sum(title_of(quiz, topic), one) for topic, one in report.topics.items()),
        _sum("this session", report.session),
        _sum("all sessions", report.total),
    ]
    answers = [
        "| question | topic | level | result |",
        "| --- | --- | --- | --- |",
        *(f"| {a.question} | {title_of(quiz, a.topic)} | {_level(a)} | {result(a)} |" for a in report.answers),
    ]
    again = ["Read again:", "", *(f"- {place}" for place in report.read_again)] if report.read_again else []
    head = ["# normlab quiz", "", f"{first} to {last} UTC, {done}; {', '.join(parts)}."]
    return "\n".join([*head, "", *rows, "", *answers, *([""] if again else []), *again])


def title_of(quiz: Quiz, topic: str | None) -> str:
    """A topic's title; questions whose topic is not known are no longer in the quiz."""
    return quiz.topics[topic].title if topic in quiz.topics else "no longer asked"


def result(line: Line) -> str:
    """An answer's result in words."""
    if line.points is None:
        return "skipped"
    if line.right:
        return "right"
    return f"in part ({line.points:.0%})" if line.points else "not right"


def _level(line: Line) -> str:
    return "" if line.level is None else f"{line.level} ({LEVELS[line.level]})"


def _sum(name: str, score: Score) -> str:
    return f"| {name} | {score.asked} | {score.right} | {score.points:.4g} |"
