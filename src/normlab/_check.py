"""Checks of arguments: one sentence that names the argument, what came, and what is allowed."""

import math
from collections.abc import Collection
from typing import Any


class InputError(ValueError):
    """What a user gave cannot be used: one sentence for the terminal, without a traceback."""


def one_of(name: str, value: Any, allowed: Collection[Any]) -> None:
    """Raise ValueError unless `value` is among `allowed`."""
    if value not in allowed:
        listed = ", ".join(repr(a) for a in allowed)
        raise ValueError(f"{name} must be one of {listed}, got {value!r}")


def whole(name: str, value: Any, *, least: int = 1) -> None:
    """Raise unless `value` is an int (bool excluded) of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {type(value).__name__} {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def number(name: str, value: Any, *, above: float | None = None, least: float | None = None) -> None:
    """Raise unless `value` is a finite real number, greater than `above` and at least `least`."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {type(value).__name__} {value!r}")
    # Not math.isfinite, into which torch.compile cannot look when the number is one of its symbols.
    if not -math.inf < value < math.inf:
        raise ValueError(f"{name} must be finite, got {value}")
    if above is not None and value <= above:
        raise ValueError(f"{name} must be greater than {above:g}, got {value:g}")
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {least:g}, got {value:g}")


def truth(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {type(value).__name__} {value!r}")
