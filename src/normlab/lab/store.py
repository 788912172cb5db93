"""Where results are kept: one SQLite file, written run by run.

A run's key is the hash of its config, of the code that determines it, of the PyTorch version, and of which kernels were
asked for and, on the CPU, could run, so that a result is found again exactly when repeating the run would give it
again. A run is written in one transaction: a process killed at any moment leaves whole runs and nothing else.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from time import monotonic, sleep

import msgspec
import torch

import normlab
from normlab._check import InputError
from normlab.kernels import choice, cpu
from normlab.lab.config import RunConfig
from normlab.lab.run import RunResult

SCHEMA = "CREATE TABLE IF NOT EXISTS runs (key TEXT PRIMARY KEY, config TEXT NOT NULL, result TEXT NOT NULL)"

# Seconds to wait for another process that writes to the same file, before failing.
PATIENCE = 60

# What a run's numbers depend on. Other modules may change without making kept results stale.
CODE = (
    "spec.py",
    "kernels/*.py",
    "layers/*.py",
    *(f"models/{name}.py" for name in ("attention", "blocks", "config", "feedforward", "init", "transformer")),
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
    # Without Numba a norm is PyTorch's operations, whose last bits are others.
    kernels = "torch" if config.device == "cpu" and cpu.unusable() else choice.chosen()
    parts = (config.canonical(), code_digest(), torch.__version__, kernels)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _write_ahead(db: sqlite3.Connection) -> None:
    """Switch to WAL, for which SQLite itself does not wait while another process switches the same new file."""
    deadline = monotonic() + PATIENCE
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                raise
            sleep(0.01)


class Store:
    """Results by config.

    Args:
        path: the SQLite file; it and its folder are made when missing.

    Raises:
        InputError: when the path cannot be used, or holds something else; at any later use, when the file
            can no longer be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._usable():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=PATIENCE)
            try:
                _write_ahead(self._db)
                self._db.execute(SCHEMA)
                self._db.execute("SELECT key, config, result FROM runs LIMIT 0")
                self._db.commit()
            except sqlite3.Error:
                self._db.close()
                raise

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            folder, name = str(self._path.parent), self._path.name
            raise InputError(f"--out must be a folder to keep results in, got {folder!r}: {name}: {error}") from None

    def get(self, config: RunConfig) -> RunResult | None:
        """The kept result of this run; None when there is none, or one that cannot be read and is to be repeated."""
        with self._usable():
            row = self._db.execute("SELECT result FROM runs WHERE key = ?", (key_of(config),)).fetchone()
        try:
            # json reads NaN and Infinity, which strict JSON lacks; msgspec checks every field's type.
            result = None if row is None else msgspec.convert(json.loads(row[0]), RunResult)
        except (TypeError, ValueError, msgspec.ValidationError):
            return None
        return result if result is not None and result.config == config else None

    def put(self, result: RunResult) -> None:
        """Keep a result."""
        row = (key_of(result.config), result.config.canonical(), json.dumps(asdict(result)))
        with self._usable(), self._db:
            self._db.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", row)

    def forget(self, configs: Iterable[RunConfig]) -> None:
        """Drop the results of these runs."""
        with self._usable(), self._db:
            self._db.executemany("DELETE FROM runs WHERE key = ?", [(key_of(c),) for c in configs])

    def __len__(self) -> int:
        with self._usable():
            return self._db.execute("SELECT COUNT(*) FROM runs").fetchone()[0]

    def close(self) -> None:
        """Close the file."""
        self._db.close()
