"""The makers of the index: which pages there are, in which order, and how long they are."""

import re

from marks import MARK, NOTES, Place, maker

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


@maker
def contents(_: Place) -> str:
    """A row a page: title, what it promises, its length in hundreds of words."""
    rows = ["| page | after it you know | words |", "| --- | --- | --- |"]
    for name in PAGES:
        text = (NOTES / name).read_text(encoding="utf-8")
        title, promise = re.match(r"# (.+)\n\n((?:.+\n)+)", text).groups()  # pyright: ignore[reportOptionalMemberAccess]
        rows.append(f"| [{title}]({name}) | {' '.join(promise.split())} | {round(words(text), -2)} |")
    return "\n".join(rows)
