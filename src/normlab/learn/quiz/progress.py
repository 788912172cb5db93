"""What is kept between sessions: one JSON file in the user's data folder.

Every answer is written at once, as a whole new file that takes the place of the old one. Several processes take turns
by a lock, and each reads the file anew before it adds to it.
"""

import os
import tempfile
from itertools import chain, count
from pathlib import Path

import msgspec
import platformdirs
from filelock import FileLock

from normlab.learn.quiz.session import Answer, Session, Tally, tallied

VERSION = 1

# Seconds to wait for another process that writes, before an answer is put off until the next one.
PATIENCE = 5


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Questions by id, and sessions in the order in which they began."""

    version: int = VERSION
    questions: dict[str, Tally] = {}
    sessions: tuple[Session, ...] = ()

    def record(self, session: Session, answer: Answer) -> "Progress":
        """With the answer to the next question of a session.

        Where that question holds an answer already, another process goes on with the same session: the question's tally
        counts both, the session keeps the first. The very same answer is counted once.
        """
        place = len(session.answers)
        sessions = {s.key: s for s in self.sessions}
        kept = sessions.setdefault(session.key, session)
        if answer in kept.answers[place : place + 1]:
            return self
        if place == len(kept.answers):
            sessions[session.key] = kept.after(answer)
        name = session.questions[place]
        tally = tallied(self.questions.get(name), answer)
        questions = self.questions if tally is None else {**self.questions, name: tally}
        return msgspec.structs.replace(self, questions=questions, sessions=tuple(sessions.values()))


class _Head(msgspec.Struct):
    """All that is read of a file whose version is not known yet."""

    version: int


class Unusable(Exception):
    """A file that is not progress of this version: a word for its new name."""


def decode(content: bytes) -> Progress:
    """The progress in a file.

    Raises:
        Unusable: when it is something else.
    """
    try:
        version = msgspec.json.decode(content, type=_Head).version
        if version == VERSION:
            return msgspec.json.decode(content, type=Progress)
    except (msgspec.MsgspecError, RecursionError):
        raise Unusable("broken") from None
    raise Unusable(f"version-{version}")


def default_path() -> Path:
    """Where progress is kept: quiz.json in the user's data folder."""
    return platformdirs.user_data_path("normlab") / "quiz.json"


def write(path: Path, progress: Progress) -> None:
    """Put the file there as a whole, or leave the old one as it was.

    Raises:
        OSError: when the folder cannot be written.
    """
    # A file that the user has put elsewhere by a symbolic link stays there.
    path = path.resolve()
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(progress)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _aside(path: Path, why: str) -> str:
    """Rename a file that cannot be used, and say so."""
    numbers = chain([""], (f"-{n}" for n in count(2)))
    names = (path.with_name(f"{path.stem}.{why}{number}{path.suffix}") for number in numbers)
    other = next(name for name in names if not name.exists())
    path.rename(other)
    return str(other)


class Keeper:
    """The file, and what has not been written into it yet.

    Attributes:
        path: the file.
        progress: what is known, with all that this process has added, written or not.
        failing: whether the last attempt to write has failed.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()
        self.progress = Progress()
        self.failing = False
        self._trouble: list[str] = []
        self._pending: list[tuple[Session, Answer]] = []
        try:
            self.progress = decode(self.path.read_bytes())
        except FileNotFoundError:
            pass
        except (Unusable, OSError):
            self._save()

    def troubles(self) -> list[str]:
        """What has gone wrong since the last call, a sentence each."""
        said, self._trouble = self._trouble, []
        return said

    def record(self, session: Session, answer: Answer) -> None:
        """Keep the answer to the next question of a session."""
        self._pending.append((session, answer))
        self.progress = self._with_pending(self.progress)
        self._save()

    def finish(self) -> None:
        """Try once more to write what is not written yet."""
        if self._pending:
            self._save()

    def _with_pending(self, progress: Progress) -> Progress:
        for session, answer in self._pending:
            progress = progress.record(session, answer)
        return progress

    def _save(self) -> None:
        """Read the file, add what is pending, and write it; when that fails, it is tried again with the next answer."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_name(f"{self.path.name}.lock"), timeout=PATIENCE):
                progress = self._with_pending(self._read())
                if self._pending:
                    write(self.path, progress)
            self.progress, self._pending, self.failing = progress, [], False
        except OSError as error:
            if not self.failing:
                reason = error.strerror or str(error)
                self._trouble.append(f"Progress is not kept: {str(self.path)!r} cannot be used ({reason}).")
            self.failing = True

    def _read(self) -> Progress:
        """The file's content; a file that cannot be used is renamed, and what this process knows takes its place."""
        try:
            return decode(self.path.read_bytes())
        except FileNotFoundError:
            return self.progress
        except Unusable as error:
            why = str(error)
        other = _aside(self.path, why)
        kind = "could not be read" if why == "broken" else f"is of another version of the quiz ({why})"
        self._trouble.append(f"The progress in {str(self.path)!r} {kind}: it was renamed to {other!r}.")
        return self.progress
