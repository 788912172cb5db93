"""Markdown tables."""

from collections.abc import Iterable, Sequence


def row(*cells: object) -> str:
    """A row; a bar within a cell is not its end."""
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def table(heads: Sequence[str], lines: Iterable[Iterable[object]]) -> str:
    """A table: a head a column, and the cells of each line."""
    return "\n".join([row(*heads), row(*["---"] * len(heads)), *(row(*cells) for cells in lines)])
