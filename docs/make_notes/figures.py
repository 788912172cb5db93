"""The figures of the notes: SVG, drawn from committed results; the same bytes on every machine."""

import io
from collections.abc import Callable
from typing import Any

from marks import NOTES, Place, maker
from matplotlib.figure import Figure

FOLDER = NOTES / "figures"
# A name: what it shows to whom cannot see it, and who draws it.
FIGURES: dict[str, tuple[str, Callable[[], Figure]]] = {}
STYLE: dict[Any, Any] = {"svg.hashsalt": "normlab", "svg.fonttype": "path", "font.size": 9, "axes.spines.top": False}


def figure_of(words: str) -> Callable[[Callable[[], Figure]], Callable[[], Figure]]:
    """Enter a function as a figure under its name with dashes; the words say what is seen."""

    def enter(draw: Callable[[], Figure]) -> Callable[[], Figure]:
        FIGURES[draw.__name__.replace("_", "-")] = (words, draw)
        return draw

    return enter


def draw(name: str) -> str:
    """A figure as SVG."""
    import matplotlib as mpl

    with mpl.rc_context({**STYLE, "axes.spines.right": False}):
        file = io.StringIO()
        FIGURES[name][1]().savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


@maker
def figure(_: Place, name: str) -> str:
    """A picture."""
    return f"![{FIGURES[name][0]}](figures/{name}.svg)"
