"""Finding the bug: a listing is mended, run against the definition, and mended again."""

import difflib
import sys

from normlab._check import InputError
from normlab.learn.quiz import grading
from normlab.learn.quiz.ask_lines import COMMANDS, edited
from normlab.learn.quiz.ask_screen import Screen, Skip
from normlab.learn.quiz.grading import Grade
from normlab.learn.quiz.schema import Bug

TRIES = 3

SHORT = "Type 4: and the new text of line 4, as often as needed. Enter alone runs the code. (? for a hint and help)"

TENSORS = "A tensor knows `+ - * / **`, `mean`, `sum`, `var`, `sqrt` and more; the functions of NumPy do not take one."


def mend(screen: Screen, question: Bug) -> Grade:
    """Let the learner mend the code, three times at most; the grade of the last code that was run.

    Raises:
        Stop, Skip: when the learner wants that.
    """
    code, attempt = question.code, 0
    while True:
        attempt += 1
        code = _edit(screen, question, code)
        screen.say("Running it against the definition ...", "dim")
        try:
            grade = grading.grade(question, None, code)
        except RuntimeError as error:
            # Not the learner's doing, and nothing that another try would mend.
            screen.say(f"It cannot be run here: {error}. The question is skipped.")
            raise Skip from None
        for sentence in grade.explanations:
            screen.say(sentence.rstrip())
        if grade.right or attempt == TRIES:
            return grade
        screen.say(f"That was try {attempt} of {TRIES}.")


def show_fix(screen: Screen, question: Bug) -> None:
    """Print what has to be changed in the given code: lines that go with a minus, lines that come with a plus."""
    lines = difflib.unified_diff(
        question.code.splitlines(), question.fix.splitlines(), lineterm="", n=len(question.code)
    )
    screen.code("\n".join(list(lines)[3:]), language="diff")


def _edit(screen: Screen, question: Bug, run: str) -> str:
    """The code, changed since it was last run."""
    code = run
    hint = f"{question.hint}\n\n{TENSORS}" if question.language == "engine" else question.hint
    screen.code(code, numbered=True)
    screen.say(SHORT, "dim")
    while True:
        typed = screen.answer(question, hint, COMMANDS)
        try:
            match typed.strip().lower():
                case "" if code == run:
                    screen.say("The code has not changed: change a line before it is run.")
                    continue
                case "":
                    return code
                case "e":
                    code = _in_editor(screen, code)
                case "r":
                    code = question.code
                case _:
                    code = edited(code, typed)
        except InputError as error:
            screen.say(str(error))
        else:
            screen.code(code, numbered=True)


def _in_editor(screen: Screen, code: str) -> str:
    """The code as the learner's editor leaves it.

    Raises:
        InputError: when there is no editor, or it saves nothing.
    """
    import click

    if not (screen.interactive and sys.stdout.isatty()):
        raise InputError("An editor needs a terminal: change lines by their numbers instead.")
    try:
        changed = click.edit(code, extension=".py")
    except (click.ClickException, OSError, ValueError) as error:
        words = error.format_message() if isinstance(error, click.ClickException) else str(error)
        raise InputError(f"The editor cannot be used ({words.rstrip('.')}): change lines by their numbers.") from None
    if changed is None:
        raise InputError("The editor was closed without saving: the code is as it was.")
    return changed
