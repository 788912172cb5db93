"""The marks in the notes: what stands between two of them is written by a maker, and by nobody else.

    <!-- make: NAME ARGUMENT "ARGUMENT WITH SPACES" key=value -->anything<!-- end -->

NAME is a function that was entered with `maker`; it gets the page, the arguments and the keys, and returns Markdown. In
the middle of a sentence it returns a number or some words; on lines of its own, a table, a listing, a picture.
"""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTES = ROOT / "docs" / "notes"

MARK = re.compile(r"<!-- make: (?P<call>.*?) -->(?P<made>.*?)<!-- end -->", flags=re.DOTALL)
OPENING = re.compile(r"<!-- make: ")
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a mark stands.

    Attributes:
        page: the file.
        text: all of it, as it was before anything was made.
        start: the mark's first character in `text`.
    """

    page: Path
    text: str
    start: int

    @property
    def blocks_before(self) -> int:
        """How many Python blocks, not counting made ones, stand before the mark."""
        return len(blocks(self.text[: self.start]))


Maker = Callable[..., str]
MAKERS: dict[str, Maker] = {}


def maker(make: Maker) -> Maker:
    """Enter a function under its name: `make(place, *arguments, **keys)`."""
    MAKERS[make.__name__.rstrip("_").replace("_", "-")] = make
    return make


def blocks(text: str) -> list[str]:
    """The Python blocks that a page's author wrote; what was made is left out."""
    return BLOCK.findall(MARK.sub("", text))


def renewed(page: Path, text: str) -> str:
    """The page with everything between marks made anew.

    Raises:
        ValueError: for a mark that cannot be made, with the page and the mark.
    """

    def make(match: re.Match[str]) -> str:
        name, *rest = shlex.split(match["call"])
        keys = dict(part.split("=", 1) for part in rest if re.match(r"[a-z_]+=", part))
        arguments = [part for part in rest if not re.match(r"[a-z_]+=", part)]
        if name not in MAKERS:
            raise ValueError(f"{page.name}: there is no maker {name!r}: one of {', '.join(sorted(MAKERS))}")
        try:
            made = MAKERS[name](Place(page, text, match.start()), *arguments, **keys)
        except Exception as error:
            raise ValueError(f"{page.name}, <!-- make: {match['call']} -->: {type(error).__name__}: {error}") from error
        # A block stands on lines of its own.
        block = "\n" in made or match["made"].startswith("\n")
        before = text[: match.start()].rpartition("\n")[2].strip()
        after = text[match.end() :].partition("\n")[0].strip()
        if block and (before or after):
            raise ValueError(f"{page.name}, <!-- make: {match['call']} -->: a block must have its lines for itself")
        if not block and not before:
            # A line that begins with a comment is HTML to Markdown, all of it.
            raise ValueError(f"{page.name}, <!-- make: {match['call']} -->: must not begin a line")
        if block:
            made = f"\n{made.strip()}\n"
        return f"<!-- make: {match['call']} -->{made}<!-- end -->"

    if len(OPENING.findall(text)) != len(MARK.findall(text)):
        raise ValueError(f"{page.name}: a mark is not closed with <!-- end -->")
    return MARK.sub(make, text)
