"""Asking one question: it is shown, answered, graded, and explained, whatever its kind."""

from collections.abc import Sequence
from dataclasses import dataclass

from normlab._check import InputError
from normlab.learn.quiz import grading
from normlab.learn.quiz.ask_bug import mend, show_fix
from normlab.learn.quiz.ask_screen import Screen
from normlab.learn.quiz.grading import LETTERS, Grade
from normlab.learn.quiz.numbers import Drawn, draw, shown
from normlab.learn.quiz.numbers.drawn import RELATIVE
from normlab.learn.quiz.schema import Bug, Choice, Multiple, Number, Open, Order, Question


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it stands on the screen.

    Attributes:
        question: from the file.
        drawn: its numbers; None for all kinds but Number.
        order: of its options or lines as they are shown, as places in the file; () for other kinds.
    """

    question: Question
    drawn: Drawn | None
    order: Sequence[int]

    def filled(self, text: str) -> str:
        """A text with the numbers in it."""
        return self.drawn.fill(text) if self.drawn else text


def ask(screen: Screen, question: Question, seed: int) -> tuple[Asked, Grade]:
    """Ask a question until it is answered.

    Args:
        screen: where.
        question: what.
        seed: of its numbers and of the order of its options.

    Raises:
        Stop, Skip: when the learner wants that.
    """
    drawn = draw(question.generator, seed) if isinstance(question, Number) else None
    asked = Asked(question, drawn, grading.shuffled(question, seed))
    screen.text(asked.filled(question.text))
    match question:
        case Bug():
            return asked, mend(screen, question)
        case Open():
            return asked, _grade_oneself(screen, asked, question)
        case _:
            return asked, _answer(screen, asked)


def _answer(screen: Screen, asked: Asked) -> Grade:
    """One line that can be read."""
    question = asked.question
    match question:
        case Choice(options=options) | Multiple(options=options):
            screen.listed([f"{letter})" for letter in LETTERS[: len(options)]], [options[i].text for i in asked.order])
            one = "Type the letter of the right answer."
            what = one if isinstance(question, Choice) else "Type the letters of all that are true, such as a c."
            hint = what
        case Order(lines=lines):
            screen.listed([f"{n}" for n in range(1, len(lines) + 1)], [lines[i] for i in asked.order])
            what = "Type the numbers of the lines in the right order."
            hint = f"{what} Every number stands there once, with or without spaces between them."
        case _:
            count = len(asked.drawn.answer) if asked.drawn else 1
            what = "Type a number." if count == 1 else f"Type {count} numbers with spaces between them."
            counted = asked.drawn is not None and asked.drawn.counted
            near = "every digit counts" if counted else f"{RELATIVE:.0%} off is near enough"
            hint = f"{what} `0.25`, `1e-3`, `1/3` and `2*sqrt(3)` can be read, and {near}."
    screen.say(f"{what} (? for help)", "dim")
    return _until_read(screen, asked, hint)


def _until_read(screen: Screen, asked: Asked, hint: str) -> Grade:
    while True:
        typed = screen.answer(asked.question, hint)
        try:
            answer = grading.read(asked.question, asked.drawn, typed, asked.order)
        except InputError as error:
            screen.say(str(error))
        else:
            screen.gap()
            return grading.grade(asked.question, asked.drawn, answer)


def _grade_oneself(screen: Screen, asked: Asked, question: Open) -> Grade:
    """An answer in the learner's own words, then the model answer, then the points that the learner gives."""
    what = "Answer in your own words, over as many lines as you like; an empty line ends the answer."
    screen.say(f"{what} (? for help, in the first line)", "dim")
    hint = f"{what} Then a model answer is shown, and you say which of its points yours makes."
    while not screen.answer(question, hint).strip():
        screen.say("There is no answer yet: type a sentence, or s to skip the question.")
    while screen.line().strip():
        pass
    screen.gap()
    screen.heading("A model answer")
    screen.text(question.answer)
    screen.heading("What an answer must say")
    screen.listed([f"{n}" for n in range(1, len(question.rubric) + 1)], list(question.rubric))
    what = "Type the numbers of the points that your answer makes, such as 1 2, or all, or none."
    screen.say(what, "dim")
    return _until_read(screen, asked, what)


def explain(screen: Screen, asked: Asked, grade: Grade) -> None:
    """Right or not, in words; why; the right answer; where it stands in the notes."""
    question = asked.question
    if grade.right:
        screen.say("Right.", "bold green")
    elif grade.points:
        screen.say(f"In part: {grade.points:.0%} of the points.", "bold yellow")
    else:
        screen.say("Not right.", "bold red")
    if isinstance(question, Bug):
        if not grade.right:
            screen.text(question.wrong)
    else:
        for explanation in grade.explanations:
            screen.text(explanation)
    if not (grade.right and isinstance(question, Choice | Multiple | Number | Order | Bug)):
        _show_right(screen, asked)
    screen.text(asked.filled(question.explanation))
    screen.say(f"Read on: {screen.notes(question)}")


def _show_right(screen: Screen, asked: Asked) -> None:
    """The right answer to a question that was not answered rightly."""
    match asked.question:
        case Choice(options=options) | Multiple(options=options):
            places = [place for place in asked.order if options[place].right]
            screen.heading("The right answer")
            screen.listed(
                [f"{LETTERS[asked.order.index(place)]})" for place in places], [options[place].text for place in places]
            )
            if isinstance(asked.question, Choice):
                screen.text(options[places[0]].why)
        case Number() if asked.drawn:
            screen.say(f"The right answer: {shown(asked.drawn.answer)}")
        case Order(lines=lines):
            screen.heading("The right order")
            screen.listed([f"{asked.order.index(place) + 1}" for place in range(len(lines))], list(lines))
        case Bug() as bug:
            screen.heading("What has to change: lines with a minus go, lines with a plus come")
            show_fix(screen, bug)
