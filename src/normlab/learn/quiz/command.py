"""`normlab quiz`: a session from its first question to its result."""

import shlex
from datetime import UTC, datetime
from secrets import randbelow
from typing import Literal
from uuid import uuid4

from rich.console import Console

from normlab._check import InputError
from normlab.learn.quiz.ask import ask, explain
from normlab.learn.quiz.ask_result import show_result
from normlab.learn.quiz.ask_screen import Screen, Skip, Stop
from normlab.learn.quiz.export import as_json, as_markdown, report
from normlab.learn.quiz.progress import Keeper
from normlab.learn.quiz.schema import LEVELS, Quiz
from normlab.learn.quiz.session import Answer, Selection, Session, choose, question_seed, to_go_on, to_repeat, total

# A seed that was drawn is shown to be typed again.
SEEDS = 1_000_000

WELCOME = "Type an answer and Enter. At any question: ? help, s skip, n notes, q quit; what is answered is kept."


def check(quiz: Quiz, selection: Selection) -> None:
    """Refuse a choice that holds no questions.

    Raises:
        InputError: one sentence, which lists the topics.
    """
    topics = ", ".join(quiz.topics)
    if selection.topic is not None and selection.topic not in quiz.topics:
        raise InputError(f"--topic must be one of {topics}, got {selection.topic!r}")
    levels = sorted({q.level for q in quiz.select(selection.topic)})
    if not levels:
        raise InputError(f"--topic {selection.topic}: there are no questions on it")
    if selection.level not in (None, *levels):
        of_topic = f" on {selection.topic}" if selection.topic else ""
        listed = ", ".join(map(str, levels))
        raise InputError(f"--level {selection.level}: there are no questions{of_topic} of that level, only of {listed}")


def export(quiz: Quiz, form: Literal["markdown", "json"], keeper: Keeper, errors: Console) -> int:
    """Print the last session's result and the sums to standard output; the exit code: 1 when there is none."""
    for sentence in keeper.troubles():
        _say(errors, sentence)
    found = report(quiz, keeper.progress)
    if found is None:
        _say(errors, "There is no result yet: nothing was answered in normlab quiz.")
        return 1
    print(as_json(found) if form == "json" else as_markdown(found, quiz))
    return 0


def conduct(quiz: Quiz, selection: Selection, keeper: Keeper, console: Console, *, fresh: bool = False) -> None:
    """Ask the chosen questions, keep every answer, show the result.

    Args:
        quiz: the questions.
        selection: which of them.
        keeper: where progress is kept.
        console: where they are shown.
        fresh: begin anew where an unfinished session could go on.

    Raises:
        InputError: when there are no such questions.
    """
    check(quiz, selection)
    screen = Screen(console, quiz)
    session = None if fresh else to_go_on(keeper.progress.sessions, selection, quiz)
    if session:
        place = f"question {len(session.answers) + 1} of {len(session.questions)}"
        screen.say(f"Going on with {place}; --fresh begins anew.")
    else:
        session = _begin(quiz, selection, keeper)
        screen.say(f"{_questions(len(session.questions))}. {WELCOME}")
    _say_troubles(keeper, console)
    session = _ask_all(screen, session, keeper)
    _say_troubles(keeper, console)
    if not session.finished:
        _say_stopped(screen, session, selection, keeper)
        return
    show_result(screen, session, total(keeper.progress.questions.values()))
    if selection.seed is not None or not keeper.failing:
        screen.command("The same questions again:", _command(selection, session.seed))


def _questions(count: int) -> str:
    return "One question" if count == 1 else f"{count} questions"


def _begin(quiz: Quiz, selection: Selection, keeper: Keeper) -> Session:
    seed = randbelow(SEEDS) if selection.seed is None else selection.seed
    questions = to_repeat(keeper.progress.sessions, selection, quiz)
    return Session(
        key=uuid4().hex,
        selection=selection,
        seed=seed,
        questions=questions or choose(quiz, selection, seed, keeper.progress.questions),
    )


def _ask_all(screen: Screen, session: Session, keeper: Keeper) -> Session:
    """Ask what has not been asked yet; the session as far as it has come."""
    try:
        while not session.finished:
            place, count = len(session.answers), len(session.questions)
            question = screen.quiz.question(session.questions[place])
            assert question is not None  # a session begins, and goes on, with questions of this quiz alone
            title = screen.quiz.topics[question.topic].title
            screen.rule(f"Question {place + 1} of {count}: {title}, level {question.level} ({LEVELS[question.level]})")
            try:
                asked, grade = ask(screen, question, question_seed(session.seed, question.id))
            except Skip:
                asked, grade, answer = None, None, Answer(datetime.now(UTC), None)
            else:
                answer = Answer(datetime.now(UTC), grade.points, grade.right)
            # Before the explanation, so that an answer is kept whatever happens while it is read.
            keeper.record(session, answer)
            session = session.after(answer)
            _say_troubles(keeper, screen.console)
            if asked is None or grade is None:
                screen.say("Skipped.")
            else:
                explain(screen, asked, grade)
                screen.wait("the result" if session.finished else "the next question")
    except (Stop, KeyboardInterrupt):
        screen.gap()
    keeper.finish()
    return session


def _say_stopped(screen: Screen, session: Session, selection: Selection, keeper: Keeper) -> None:
    """What is said to who leaves a session."""
    place = f"Stopped at question {len(session.answers) + 1} of {len(session.questions)}."
    if not session.answers:
        screen.say(f"{place} Nothing was answered.")
    elif keeper.failing:
        screen.say(f"{place} The answers could not be kept.")
    else:
        screen.command(f"{place} The answers are kept. To go on:", _command(selection, selection.seed))


def _command(selection: Selection, seed: int | None) -> str:
    """The command for a choice of questions."""
    options = {"--topic": selection.topic, "--level": selection.level, "--count": selection.count, "--seed": seed}
    if selection.count == Selection().count:
        del options["--count"]
    return shlex.join(["normlab", "quiz", *(w for k, v in options.items() if v is not None for w in (k, str(v)))])


def _say_troubles(keeper: Keeper, console: Console) -> None:
    """Say what has gone wrong, with an empty line behind each sentence."""
    for sentence in keeper.troubles():
        _say(console, sentence)
        console.print()


def _say(console: Console, sentence: str) -> None:
    """A sentence with file names in it: as it is, however long."""
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)
