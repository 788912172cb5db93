"""The quiz as a page to read, docs/notes/quiz.md: all questions by topic, the answers folded away."""

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from normlab.learn.quiz.grading import LETTERS, shuffled
from normlab.learn.quiz.numbers import draw, shown
from normlab.learn.quiz.schema import LEVELS, Bug, Choice, Multiple, Number, Open, Order, Question, Quiz, load

SEED = 0

HEAD = """\
<!-- Generated from src/normlab/learn/quiz/quiz.toml by `make notes`: change that file, not this page. -->
# Quiz

{count} questions on the notes, by topic, with the answers folded away. `normlab quiz` asks them in the terminal, says
what is wrong with an answer, and runs the code that mends a bug. Levels: {levels}.
"""

TASKS = {
    Choice: "one answer is right",
    Multiple: "choose all that are true",
    Number: "fresh numbers each time in `normlab quiz`",
    Order: "put the lines in order",
    Bug: "find the bug and mend it",
    Open: "answer in your own words",
}

# In GitHub's Markdown text between backticks, and between fences, is shown as it is.
CODE = re.compile(
    r"^ {0,3}```.*?^ {0,3}```[^\n]*$|(?<!`)(?P<ticks>`+)(?!`)(?:(?!\n\s*\n).)+?(?<!`)(?P=ticks)(?!`)",
    flags=re.DOTALL | re.MULTILINE,
)


def _plain(text: str) -> str:
    """The text where a < outside of code opens no HTML."""
    parts, end = [], 0
    for code in CODE.finditer(text):
        parts += [text[end : code.start()].replace("<", "&lt;"), code[0]]
        end = code.end()
    return "".join(parts) + text[end:].replace("<", "&lt;")


def _fenced(code: str) -> str:
    return f"```py\n{code.strip()}\n```"


def _behind(word: str, text: str) -> str:
    """A word before a text; a block of code stays one, on lines of its own."""
    return f"{word}\n\n{text}" if text.startswith("```") else f"{word} {text}"


def _items(marked: Iterable[tuple[str, str]]) -> str:
    """A list: a mark in bold and a text of any number of paragraphs each."""
    return "\n".join(
        "- " + textwrap.indent(_behind(f"**{mark}**", _plain(text)), "  ").strip() for mark, text in marked
    )


def _numbered(texts: Iterable[str]) -> str:
    """A numbered list."""
    return "\n".join(f"{i}. " + textwrap.indent(_plain(text), "   ").strip() for i, text in enumerate(texts, 1))


def _choice(question: Choice | Multiple) -> tuple[str, str]:
    options = [question.options[place] for place in shuffled(question, SEED)]
    letters = [letter for letter, option in zip(LETTERS, options, strict=False) if option.right]
    marks = [f"{letter}." for letter in LETTERS[: len(options)]]
    whys = [_behind("Right." if option.right else "Wrong.", option.why) for option in options]
    return (
        _items(zip(marks, (option.text for option in options), strict=True)),
        f"**{', '.join(letters)}**\n\n{_plain(question.explanation)}\n\n{_items(zip(marks, whys, strict=True))}",
    )


def _number(question: Number) -> tuple[str, str]:
    drawn = draw(question.generator, SEED)
    wrong = [(f"{shown(drawn.mistakes[m.name])}:", drawn.fill(m.why)) for m in question.mistakes]
    answer = f"**{shown(drawn.answer)}**\n\n{_plain(drawn.fill(question.explanation))}"
    return "", f"{answer}\n\nNumbers that a slip leads to:\n\n{_items(wrong)}" if wrong else answer


def _order(question: Order) -> tuple[str, str]:
    asked = _numbered(question.lines[place] for place in shuffled(question, SEED))
    right = _numbered(question.lines)
    return asked, f"{right}\n\n{_plain(question.explanation)}\n\n{_plain(question.wrong)}"


def _bug(question: Bug) -> tuple[str, str]:
    explained = f"{_plain(question.explanation)}\n\n{_plain(question.wrong)}"
    return _fenced(
        question.code
    ), f"{_behind('Hint:', _plain(question.hint))}\n\n{_fenced(question.fix)}\n\n{explained}"


def _open(question: Open) -> tuple[str, str]:
    rubric = _numbered(question.rubric)
    return "", f"{_plain(question.answer)}\n\nA point for each:\n\n{rubric}\n\n{_plain(question.explanation)}"


def _parts(question: Question) -> tuple[str, str]:
    """What stands below the text, "" for nothing, and what is folded away."""
    match question:
        case Choice() | Multiple():
            return _choice(question)
        case Number():
            return _number(question)
        case Order():
            return _order(question)
        case Bug():
            return _bug(question)
        case Open():
            return _open(question)


def _text(question: Question) -> str:
    return draw(question.generator, SEED).fill(question.text) if isinstance(question, Number) else question.text


def _blocks(question: Question, number: int) -> Iterator[str]:
    """A question, block by block."""
    yield f"### {number}. {question.id}"
    yield f"*Level {question.level}, {LEVELS[question.level]}: {TASKS[type(question)]}.*"
    yield _plain(_text(question))
    below, folded = _parts(question)
    if below:
        yield below
    # Without empty lines around it Markdown within HTML stays as it is.
    yield "<details>\n<summary>Answer</summary>"
    yield folded
    yield f"[In the notes]({question.notes})"
    yield "</details>"


def _topics(quiz: Quiz) -> Iterator[tuple[str, Sequence[Question]]]:
    for name, topic in quiz.topics.items():
        if questions := quiz.select(name):
            yield f"## {_plain(topic.title)}\n\n[The notes on it]({topic.page})", questions


def page(quiz: Quiz | None = None) -> str:
    """The page in Markdown; of the packaged quiz, unless another is given. Numbers and orders are those of seed 0."""
    quiz = quiz or load()
    levels = ", ".join(f"{level} {name}" for level, name in LEVELS.items())
    blocks, number = [HEAD.format(count=len(quiz.questions), levels=levels).rstrip()], 0
    for heading, questions in _topics(quiz):
        blocks.append(heading)
        for question in questions:
            number += 1
            blocks += _blocks(question, number)
    return "\n\n".join(blocks) + "\n"
