"""Makers of what docs/results/claims.json says: verdicts, effects, tables of claims."""

import json
from functools import cache

from marks import ROOT, Place, maker
from tables import table

# The head of the column with a claim's numbers, which are those of one of its conditions.
MEASURED = "measured: mean [95% interval] (condition)"


@cache
def results() -> dict:
    """The committed claims."""
    return json.loads((ROOT / "docs" / "results" / "claims.json").read_text(encoding="utf-8"))


def claim_of(name: str) -> dict:
    """A claim by its id."""
    found = [c for c in results()["claims"] if c["id"] == name]
    if not found:
        raise ValueError(f"no claim {name!r}: one of {', '.join(c['id'] for c in results()['claims'])}")
    return found[0]


def digits(value: float) -> str:
    """A number with three significant digits, without an exponent where it would be short."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def finding(name: str, condition: str | None) -> dict:
    """What was measured of a claim under a condition; None: the condition that its table row names."""
    claim = claim_of(name)
    wanted = claim["condition"] if condition is None else condition
    found = [f for f in claim["findings"] if f["condition"] == wanted]
    if not found:
        raise ValueError(f"no condition {wanted!r}: one of {'; '.join(f['condition'] for f in claim['findings'])}")
    return found[0]


@maker
def effect(_: Place, name: str, condition: str | None = None, *, form: str = "", power: str = "") -> str:
    """The mean that was measured. form: as in Python's format; power=10: ten to the power of it."""
    mean = float(finding(name, condition)["interval"]["mean"])
    mean = float(power) ** mean if power else mean
    return format(mean, form) if form else digits(mean)


@maker
def interval(_: Place, name: str, condition: str | None = None, *, form: str = ".3g") -> str:
    """Mean and 95% interval: "0.0053 [0.0043, 0.0063]"."""
    i = finding(name, condition)["interval"]
    mean, low, high = (format(float(i[key]), form) for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


@maker
def verdict(_: Place, name: str, *, short: str = "") -> str:
    """The verdict and its conditions, in bold. short=1: how many conditions in the place of which."""
    claim = claim_of(name)
    if not short:
        return f"**{claim['statement']}**"
    if claim["verdict"] != "holds only when":
        return f"**{claim['verdict']}**"
    held = sum(f["holds"] is True for f in claim["findings"])
    return f"**holds under {held} of {len(claim['findings'])} conditions**"


@maker
def bounds(_: Place, name: str, *, form: str = ".3g") -> str:
    """The lowest and the highest end of the intervals of all conditions: "-0.0017 to 0.0014"."""
    found = [f["interval"] for f in claim_of(name)["findings"]]
    low, high = min(float(i["low"]) for i in found), max(float(i["high"]) for i in found)
    return f"{format(low, form)} to {format(high, form)}"


@maker
def command(_: Place, name: str) -> str:
    """What measures a claim."""
    return f"`{claim_of(name)['command']}`"


@maker
def claims(_: Place, *names: str, experiment: str = "") -> str:
    """A table of claims: those named, or all of an experiment."""
    chosen = [c for c in results()["claims"] if c["experiment"] == experiment] if experiment else map(claim_of, names)
    rows = [
        (f"{c['text']} ({c['source']})", c["statement"], f"{c['measured']}: {c['words']}", c["claimed"]) for c in chosen
    ]
    return table(["claim (source)", "verdict", MEASURED, "claimed"], rows)


@maker
def refuted(_: Place) -> str:
    """The claims that do not hold, and what was measured instead."""
    rows = [
        (f"{c['text']} ({c['source']})", f"{c['measured']}: {c['words']}", c["claimed"], c["experiment"])
        for c in results()["claims"]
        if c["verdict"] == "does not hold"
    ]
    return table(["does not hold (source)", MEASURED, "claimed", "experiment"], rows)


@maker
def setting(_: Place, name: str) -> str:
    """How an experiment was run, and the command that runs it."""
    path = ROOT / "docs" / "results" / "experiments.json"
    one = json.loads(path.read_text(encoding="utf-8"))[name]
    return f"{one['settings'][0].upper()}{one['settings'][1:]}. Again: `{one['command']}`."


@maker
def machine(_: Place) -> str:
    """Where all this was measured."""
    its, text = results()["machine"], results()["text"]
    return f"{its['processor']}; Python {its['python']}, torch {its['torch']}; the text: {text['source']}"


@maker
def counts(_: Place) -> str:
    """How many claims got which verdict."""
    verdicts = [c["verdict"] for c in results()["claims"]]
    kinds = ("holds", "holds only when", "does not hold", "undecided")
    return f"{len(verdicts)} claims: " + ", ".join(f"{verdicts.count(k)} “{k}”" for k in kinds)
