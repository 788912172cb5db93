"""Rows of Markdown tables."""


def row(*cells: str) -> str:
    """A row; a bar within a cell is not its end."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
