"""Numbers as people read them: as many digits as are known."""

import math

from normlab.experiments.stats import Interval


def number(x: float | None) -> str:
    """Three significant digits; large and small ones in powers of ten."""
    if x is None:
        return "?"
    if math.isnan(x):
        return "NaN"
    if math.isinf(x):
        return "inf" if x > 0 else "-inf"
    if x == 0:
        return "0"
    if 1e-3 <= abs(x) < 1e4:
        digits = max(0, 2 - math.floor(math.log10(abs(x))))
        return f"{x:.{digits}f}"
    return f"{x:.1e}"


def rate(lr: float) -> str:
    """A learning rate: 3e-4."""
    mantissa, power = f"{lr:.6e}".split("e")
    return f"{float(mantissa):g}e{int(power)}"


def rates(lrs: list[float], all_rates: list[float]) -> str:
    """A list of learning rates."""
    if not lrs:
        return "none"
    return "all" if lrs == all_rates and len(lrs) > 1 else ", ".join(rate(lr) for lr in lrs)


def interval(i: Interval) -> str:
    """2.41 [2.39, 2.43]."""
    if i.low is None or i.high is None:
        return f"{number(i.mean)} (1 seed)"
    if i.low == i.high:
        # All seeds agree: a count is known exactly.
        return f"{i.mean:.0f}" if i.mean.is_integer() else number(i.mean)
    if not math.isfinite(i.mean):
        return f"{number(i.mean)} [{number(i.low)}, {number(i.high)}]"
    if abs(i.mean) >= 1e4:
        return f"{i.mean:.0e} [{i.low:.0e}, {i.high:.0e}]"
    # The interval's width says how many digits are known.
    digits = min(4, max(0, 1 - math.floor(math.log10(i.high - i.low))))
    return f"{i.mean:.{digits}f} [{i.low:.{digits}f}, {i.high:.{digits}f}]"
