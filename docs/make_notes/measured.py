"""Makers of single numbers and tables from the committed CSV files of docs/results/ and bench/."""

import csv
from functools import cache

from claims import digits
from marks import ROOT, Place, maker


@cache
def rows(path: str) -> tuple[dict[str, str], ...]:
    """The lines of a CSV file of the repository, without comments."""
    with (ROOT / path).open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(line for line in file if not line.startswith("#")))


def where(path: str, **keys: str) -> list[dict[str, str]]:
    """The lines with these values."""
    lines = rows(path)
    if unknown := set(keys) - set(lines[0]):
        raise ValueError(f"{path} has no column {', '.join(sorted(unknown))}: {', '.join(lines[0])}")
    return [line for line in lines if all(line[key] == value for key, value in keys.items())]


def one(path: str, **keys: str) -> dict[str, str]:
    """The only line with these values."""
    found = where(path, **keys)
    if len(found) != 1:
        raise ValueError(f"{len(found)} lines of {path} have {keys}")
    return found[0]


@maker
def value(_: Place, path: str, column: str, *, form: str = "", times: str = "1", **keys: str) -> str:
    """A number of the only line of a file with these values: `value bench/x.csv median_us op=rms_norm times=1e-3`."""
    number = float(one(path, **keys)[column]) * float(times)
    return format(number, form) if form else digits(number)
