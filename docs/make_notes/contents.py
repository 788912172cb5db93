"""The makers of the index: which pages there are, in which order, and how long they are."""

import re

from marks import MARK, NOTES, Place, maker
from tables import table

# In the order in which they are read. Each begins with a heading and a paragraph that says what one knows after it.
PAGES = (
    "why.md",
    "layernorm.md",
    "rmsnorm.md",
    "batchnorm.md",
    "layernorm-and-rmsnorm.md",
    "placement.md",
    "half-precision.md",
    "verification.md",
    "minimind.md",
    "choosing.md",
    "debugging.md",
    "takeaways.md",
    "reading.md",
)


def words(text: str) -> int:
    """The words of a page that are read: without what is made, listings and tables."""
    text = re.sub(r"```.*?```", "", MARK.sub("", text), flags=re.DOTALL)
    return len(re.findall(r"\w+", "\n".join(line for line in text.splitlines() if not line.startswith("|"))))


# Who has an hour reads these.
HOUR = (
    "why.md",
    "layernorm.md",
    "rmsnorm.md",
    "layernorm-and-rmsnorm.md",
    "placement.md",
    "half-precision.md",
    "takeaways.md",
)
WORDS_A_MINUTE = 200


def minutes_of(*names: str) -> int:
    """How long pages take to read, without trying their code."""
    return round(sum(words((NOTES / name).read_text(encoding="utf-8")) for name in names) / WORDS_A_MINUTE)


@maker
def minutes(_: Place, which: str) -> str:
    """How long all pages take, or those for who has an hour."""
    return str(minutes_of(*{"all": PAGES, "hour": HOUR}[which]))


@maker
def contents(_: Place) -> str:
    """A row a page: title, what it promises, how long it takes; those for who has an hour are bold."""
    rows = []
    for name in PAGES:
        text = (NOTES / name).read_text(encoding="utf-8")
        title, promise = re.match(r"# (.+)\n\n((?:.+\n)+)", text).groups()  # pyright: ignore[reportOptionalMemberAccess]
        link = f"**[{title}]({name})**" if name in HOUR else f"[{title}]({name})"
        promise = " ".join(promise.split()).removeprefix("After this page you ")
        rows.append((link, f"you {promise}", minutes_of(name)))
    return table(["page", "after it you know", "minutes"], rows)
