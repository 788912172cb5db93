"""Whether steps are remembered, and who looks on while they are done."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local
from typing import Any


class _Mode(local):
    """Of each Python thread: whether steps are kept, and who looks on."""

    recording = True
    observer: Any = None


mode = _Mode()


@contextmanager
def no_grad() -> Iterator[None]:
    """Within this context nothing is remembered: results do not require a gradient."""
    before, mode.recording = mode.recording, False
    try:
        yield
    finally:
        mode.recording = before
