"""All that is generated in docs/notes, and what of it is not what is there."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import figures
from marks import NOTES, ROOT, renewed

# Every module beside this one may enter makers and figures.
for module in sorted(Path(__file__).parent.glob("[a-z]*.py")):
    if module.stem not in ("marks", "pages"):
        import_module(module.stem)

QUIZ = NOTES / "quiz.md"


def made(names: Sequence[str] = ()) -> dict[Path, str]:
    """Every generated file and what it should hold; with names, of those pages alone."""
    unknown = [name for name in names if not (NOTES / name).is_file()]
    if unknown:
        raise ValueError(f"docs/notes has no {', '.join(unknown)}")
    pages = [NOTES / name for name in names] or sorted(NOTES.glob("*.md"))
    files = {page: renewed(page, page.read_text(encoding="utf-8")) for page in pages if page != QUIZ}
    if not names or QUIZ.name in names:
        from normlab.learn.quiz.reading import page

        files[QUIZ] = page()
    if not names:
        files |= {figures.FOLDER / f"{name}.svg": figures.draw(name) for name in figures.FIGURES}
    return files


def stale(names: Sequence[str] = ()) -> dict[Path, str]:
    """The generated files that are not what they should be, and what they should hold."""
    return {
        path: text
        for path, text in made(names).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }


def write(files: dict[Path, str]) -> None:
    """Write them."""
    for path, text in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


__all__ = ["NOTES", "ROOT", "made", "stale", "write"]
