"""The two ends of the conversation: what is printed, and the lines that are typed.

Everything is answered by a line and Enter, so that a keyboard is enough, and a pipe can answer as well.
"""

import importlib
import sys
from collections.abc import Mapping
from io import TextIOWrapper
from types import MappingProxyType

from rich.console import Console, RenderableType
from rich.markdown import Markdown
from rich.padding import Padding
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from normlab.learn.quiz.schema import Question, Quiz

# Of a wide terminal; longer lines are hard to read.
WIDTH = 96

# To be read on a dark and on a light background.
THEME = Theme({"markdown.code": "cyan", "markdown.code_block": "none"})

COMMON = {
    "s": "skips the question",
    "n": "names the place in the notes",
    "q": "quits; what is answered is kept",
}

QUIT = ("q", "quit", "exit")


class Stop(Exception):
    """The learner ends the session: q, or the end of the input. Ctrl-C does the same by KeyboardInterrupt."""


class Skip(Exception):
    """The learner leaves a question out."""


class Screen:
    """A console, and the quiz whose notes are pointed to.

    Attributes:
        interactive: whether somebody types. What comes from a pipe is shown, as a terminal shows what is typed.
    """

    def __init__(self, console: Console, quiz: Quiz) -> None:
        self.console, self.quiz = console, quiz
        console.push_theme(THEME)
        if isinstance(sys.stdin, TextIOWrapper):
            # Bytes that are no text are a wrong answer, not an error.
            sys.stdin.reconfigure(errors="replace")
        self.interactive = sys.stdin is not None and sys.stdin.isatty()
        if self.interactive and sys.stdout.isatty():
            _line_editing()

    def show(self, what: RenderableType) -> None:
        """Print something for rich, followed by an empty line."""
        self.console.print(what, width=WIDTH)
        self.console.print()

    def text(self, markdown: str) -> None:
        """Print Markdown."""
        self.show(rendered(markdown))

    def say(self, sentence: str, style: str = "") -> None:
        """Print a sentence as it is."""
        self.show(Text(sentence, style))

    def command(self, sentence: str, command: str) -> None:
        """Print a sentence, and below it a command: in one line, however long, so that it can be copied."""
        self.console.print(Text(sentence), width=WIDTH)
        self.console.print(Text(f"  {command}"), soft_wrap=True)
        self.console.print()

    def rule(self, title: str) -> None:
        """Print where a question begins."""
        self.show(Rule(Text(title, "bold"), align="left", style="dim"))

    def heading(self, words: str) -> None:
        """Print what the next text is."""
        self.console.print(Text(f"{words}:", "bold"))

    def gap(self) -> None:
        """Print an empty line."""
        self.console.print()

    def listed(self, labels: list[str], texts: list[str]) -> None:
        """Print texts in Markdown, each beside its label."""
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True)
        grid.add_column()
        for label, text in zip(labels, texts, strict=True):
            grid.add_row(Text(label, "bold"), rendered(text))
        self.show(Padding(grid, (0, 0, 0, 2)))

    def code(self, code: str, *, language: str = "python", numbered: bool = False) -> None:
        """Print code."""
        self.show(Syntax(code.rstrip("\n"), language, theme="ansi_dark", line_numbers=numbered, word_wrap=True))

    def notes(self, question: Question) -> str:
        """Where the notes speak of a question, and the title of its topic."""
        return f"docs/notes/{question.notes} ({self.quiz.topics[question.topic].title})"

    def line(self, prompt: str = "> ") -> str:
        """A line that is typed.

        Raises:
            Stop: at the end of the input.
        """
        if sys.stdin is None:
            raise Stop
        try:
            typed = input(prompt)
        except EOFError:
            self.console.print()
            raise Stop from None
        if not self.interactive:
            self.console.print(typed, markup=False, highlight=False, soft_wrap=True)
        return typed

    def answer(self, question: Question, hint: str, commands: Mapping[str, str] = MappingProxyType({})) -> str:
        """A line that is an answer; the commands that every question knows are carried out here.

        Args:
            question: what the answer is to.
            hint: shown for "?", in Markdown.
            commands: what else can be typed, and what it does: shown for "?" too, and carried out by the caller.

        Raises:
            Stop, Skip: when the learner wants that.
        """
        while True:
            typed = self.line()
            match typed.strip().lower():
                case "?" | "help":
                    self.gap()
                    self.text(hint)
                    known = {**commands, **COMMON}
                    self.listed(list(known), list(known.values()))
                case "n" | "notes":
                    self.say(f"In the notes: {self.notes(question)}")
                case "s" | "skip":
                    raise Skip
                case word if word in QUIT:
                    raise Stop
                case _:
                    return typed

    def wait(self, what: str) -> None:
        """Wait for Enter.

        Raises:
            Stop: when the learner types q instead.
        """
        self.say(f"Enter for {what}, q to quit.", "dim")
        while typed := self.line().strip().lower():
            if typed in QUIT:
                raise Stop
            self.say("Type nothing but Enter to go on, or q to quit.")
        self.console.print()


def rendered(markdown: str) -> Markdown:
    """Markdown for rich."""
    return Markdown(markdown, code_theme="ansi_dark", hyperlinks=False)


def _line_editing() -> None:
    """Arrow keys and a history while typing, where Python has readline; Tab is a tab, and completes no file names."""
    try:
        readline = importlib.import_module("readline")
    except ImportError:
        return
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I ed-insert" if libedit else "tab: self-insert")
