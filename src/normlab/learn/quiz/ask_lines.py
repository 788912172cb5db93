"""Editing a listing line by line: what a learner types about a numbered line, and the code that results."""

import re

from normlab._check import InputError

REPLACE = re.compile(r"\s*(?P<insert>\+?)\s*(?P<line>\d{1,6})\s*:(?P<text>.*)")
DELETE = re.compile(r"\s*-\s*(?P<line>\d{1,6})\s*")

COMMANDS = {
    "4: text": "is the new text of line 4; two spaces or more before it are its indentation, else the old one stays",
    "+4: text": "is a new line after line 4",
    "-4": "deletes line 4",
    "e": "opens your editor",
    "r": "begins again with the given code",
    "Enter": "runs the code",
}


def edited(code: str, typed: str) -> str:
    """The code after a command: `4: text` replaces a line, `+4: text` inserts one after it, `-4` deletes it.

    Raises:
        InputError: when what is typed is none of these, or names a line that is not there.
    """
    lines = code.splitlines()
    if found := DELETE.fullmatch(typed):
        del lines[_index(found["line"], lines)]
    elif found := REPLACE.fullmatch(typed.replace("\t", "    ")):
        number, text = found["line"], found["text"]
        if not text.strip():
            raise InputError(f"There is no text after the colon; -{number} deletes the line.")
        if found["insert"]:
            place = _index(number, lines) + 1 if int(number) else 0
            lines.insert(place, _inner(lines[place - 1] if place else "", text) + text.strip())
        else:
            place = _index(number, lines)
            lines[place] = (_own(text) or _indentation(lines[place])) + text.strip()
    else:
        raise InputError("Type a line's number, a colon and its new text, such as 4: x = 1, or ? for all that works.")
    return "".join(f"{line}\n" for line in lines)


def _index(number: str, lines: list[str]) -> int:
    """The index of a line by its number."""
    if not lines:
        raise InputError("There are no lines left: +0: and a text begins anew, r brings the given code back.")
    if not 1 <= int(number) <= len(lines):
        raise InputError(f"There is no line {int(number)}: the lines are 1 to {len(lines)}.")
    return int(number) - 1


def _own(text: str) -> str:
    """The indentation that a text brings along. Of an odd number of spaces the first is the gap after the colon."""
    spaces = len(text) - len(text.lstrip())
    return " " * (spaces - spaces % 2)


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _inner(above: str, text: str) -> str:
    """The indentation of a text that is put below a line."""
    deeper = "    " if above.rstrip().endswith(":") else ""
    return _own(text) or _indentation(above) + deeper
