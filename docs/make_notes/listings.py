"""Makers of listings: source as it is in the repository."""

import ast
import os

from marks import ROOT, Place, maker


def source(path: str, symbol: str) -> str:
    """A function, class or method by its name ("Class.method"), with its indentation taken away."""
    text = (ROOT / path).read_text(encoding="utf-8")
    node: ast.AST = ast.parse(text)
    for name in symbol.split("."):
        found = [n for n in ast.iter_child_nodes(node) if getattr(n, "name", None) == name]
        if not found:
            raise ValueError(f"{path} has no {symbol}")
        node = found[0]
    assert isinstance(node, ast.FunctionDef | ast.ClassDef)
    lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
    return "\n".join(line[node.col_offset :] for line in lines)


@maker
def listing(place: Place, path: str, symbol: str) -> str:
    """A function or class of the repository, and a link to its file."""
    link = os.path.relpath(ROOT / path, place.page.parent)
    return f"```python\n{source(path, symbol)}\n```\n`{symbol}` in [{path}]({link})"
