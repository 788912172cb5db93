"""Where results are kept: one SQLite file, written run by run.

A run's key is the hash of its config, of the code that determines it, and of the PyTorch version, so that a
result is found again exactly when repeating the run would give it again. A run is written in one transaction:
a process killed at any moment leaves whole runs and nothing else.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import torch

import normlab
from normlab.lab.config import RunConfig
from normlab.lab.run import RunResult

SCHEMA = "CREATE TABLE IF NOT EXISTS runs (key TEXT PRIMARY KEY, config TEXT NOT NULL, result TEXT NOT NULL)"

# What a run's numbers depend on. Other modules may change without making kept results stale.
CODE = (
    "spec.py",
    "kernels/*.py",
    "layers/*.py",
    "models/*.py",
    *(f"lab/{name}.py" for name in ("config", "reproducible", "run", "scales", "text")),
)


@cache
def code_digest() -> str:
    """Hash of the source files that determine a run."""
    root = Path(normlab.__file__).parent
    files = sorted(path for pattern in CODE for path in root.glob(pattern))
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def key_of(config: RunConfig) -> str:
    """The key of a run."""
    return hashlib.sha256(f"{config.canonical()}\n{code_digest()}\n{torch.__version__}".encode()).hexdigest()


class Store:
    """Results by config.

    Args:
        path: the SQLite file; it and its folder are made when missing.

    Raises:
        ValueError: when the path cannot be used, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Wait for another process that writes to the same file, rather than fail.
            self._db = sqlite3.connect(path, timeout=60)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute(SCHEMA)
            self._db.commit()
        except (OSError, sqlite3.Error) as error:
            raise ValueError(f"--out must be a folder to write results in, got {str(path.parent)!r}: {error}") from None

    def get(self, config: RunConfig) -> RunResult | None:
        """The kept result of this run, or None."""
        row = self._db.execute("SELECT result FROM runs WHERE key = ?", (key_of(config),)).fetchone()
        # json reads NaN and Infinity, which strict JSON lacks; msgspec checks every field's type.
        return None if row is None else msgspec.convert(json.loads(row[0]), RunResult)

    def put(self, result: RunResult) -> None:
        """Keep a result."""
        builtins: dict[str, Any] = msgspec.to_builtins(result)
        row = (key_of(result.config), result.config.canonical(), json.dumps(builtins))
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", row)

    def forget(self, configs: Iterable[RunConfig]) -> None:
        """Drop the results of these runs."""
        with self._db:
            self._db.executemany("DELETE FROM runs WHERE key = ?", [(key_of(c),) for c in configs])

    def __len__(self) -> int:
        return self._db.execute("SELECT COUNT(*) FROM runs").fetchone()[0]

    def close(self) -> None:
        """Close the file."""
        self._db.close()
