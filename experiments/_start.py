"""Let `python experiments/SCRIPT.py` work with any Python: the repository's own environment has what is needed."""

import os
import sys
from pathlib import Path

VENV = Path(__file__).resolve().parent.parent / ".venv"


def start(name: str) -> None:
    """Run an experiment with this Python, or with .venv's when normlab is installed only there."""
    try:
        from normlab.cli import script
    except ModuleNotFoundError as missing:
        python = VENV / "bin" / "python"
        if not python.exists() or Path(sys.prefix).resolve() == VENV.resolve():
            sys.exit(f"{missing.name} is not installed: run `make lab` once, in the repository, to make .venv")
        os.execv(python, [str(python), *sys.argv])
    script(name)
