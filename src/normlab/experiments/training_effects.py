"""What the claims about training are measured by: functions from the evidence to samples, a value a seed."""

import math
from collections.abc import Callable

from normlab.experiments.configurations import CONFIGURATIONS, NO_NORM, POST_LN, PRE_LN, PRE_RMS, Configuration
from normlab.experiments.evidence import Evidence, finals
from normlab.experiments.judge import Sample
from normlab.experiments.prenorm_vs_postnorm import exponents
from normlab.experiments.stats import mean_interval
from normlab.experiments.text import rate


def _losses(ev: Evidence, c: Configuration, layers: int, lr: float, warmup: int = 0) -> list[float]:
    return ev.losses(c.placement, c.kind, layers, lr, warmup)


def _best(ev: Evidence, c: Configuration, layers: int, warmup: int = 0) -> list[float]:
    return ev.best(c.placement, c.kind, layers, warmup).losses


def _deepest_first(ev: Evidence) -> list[int]:
    return sorted(ev.setting.size.comparison_layers, reverse=True)


def _above_trained(ev: Evidence, losses: list[float]) -> list[float]:
    """Nats above the loss at which a run counts as trained; negative: it trains."""
    return [loss - ev.setting.trained_below for loss in losses]


def _trains(ev: Evidence, losses: list[float]) -> bool:
    """Whether every seed trains."""
    return all(loss <= ev.setting.trained_below for loss in losses)


def _at(layers: int) -> str:
    return f"{layers} layers"


def at_best(config: Configuration) -> Callable[[Evidence], list[Sample]]:
    """Final loss at the best rate. It depends on text and steps, so these are part of the condition."""
    return lambda ev: [
        Sample(f"{_at(n)}, {ev.setting.size.steps} steps on {ev.setting.corpus.source}", _best(ev, config, n))
        for n in _deepest_first(ev)
    ]


def difference(better: Configuration, worse: Configuration) -> Callable[[Evidence], list[Sample]]:
    """Final loss of one minus that of another, each at its best rate, seed by seed."""
    return lambda ev: [
        Sample(f"{n} layers", [w - b for w, b in zip(_best(ev, worse, n), _best(ev, better, n), strict=True)])
        for n in _deepest_first(ev)
    ]


def lead_of_rmsnorm(ev: Evidence) -> list[Sample]:
    """Final loss of the other configuration with the lowest mean, minus RMSNorm's, each at its best rate."""
    samples = []
    for n in _deepest_first(ev):
        others = [_best(ev, c, n) for c in CONFIGURATIONS if c is not PRE_RMS]
        rival = min(others, key=lambda losses: mean_interval(losses).mean)
        samples.append(Sample(_at(n), [r - b for r, b in zip(rival, _best(ev, PRE_RMS, n), strict=True)]))
    return samples


def nonorm_loss(ev: Evidence) -> list[Sample]:
    """log10 of NoNorm's final loss at its best rate over the loss below which a run trains."""
    return [
        Sample(_at(n), [math.log10(x / ev.setting.trained_below) for x in _best(ev, NO_NORM, n)])
        for n in _deepest_first(ev)
    ]


CLAIMED_NAN_STEP, NAN_TOLERANCE = 500, 250


def nonorm_nan(ev: Evidence) -> list[Sample]:
    """Steps between the first NaN and the claimed step; infinite for a run that stays finite well beyond it."""
    size = ev.setting.size
    steps = size.long_steps or size.steps
    samples = []
    for lr in sorted(size.long_rates if size.long_steps else size.rates, reverse=True):
        runs = ev.select("none", "none", max(size.comparison_layers), lr=lr, steps=steps)
        first = [math.inf if r.first_nonfinite_step is None else r.first_nonfinite_step for r in runs]
        long_enough = steps >= CLAIMED_NAN_STEP + NAN_TOLERANCE or all(map(math.isfinite, first))
        samples.append(
            Sample(
                f"rate {rate(lr)}",
                [abs(f - CLAIMED_NAN_STEP) for f in first] if long_enough else [],
                f"runs of {steps} steps end too early",
            )
        )
    return samples


def _largest_trained(ev: Evidence, c: Configuration, layers: int, seed: int) -> float | None:
    """The largest rate at which this seed trains."""
    trained = [
        r.config.lr for r in ev.select(c.placement, c.kind, layers) if r.config.seed == seed and r.outcome == "trains"
    ]
    return max(trained, default=None)


def largest_rate(ev: Evidence) -> list[Sample]:
    """log10 of the largest rate at which Post-LN trains."""
    samples = []
    for n in _deepest_first(ev):
        largest = [_largest_trained(ev, POST_LN, n, seed) for seed in ev.setting.seeds]
        values = [math.log10(lr) for lr in largest if lr is not None]
        samples.append(Sample(_at(n), values if len(values) == len(largest) else [], "a seed trains at no rate"))
    return samples


def tolerance(ev: Evidence) -> list[Sample]:
    """log10 of the largest rate at which Pre-LN trains over Post-LN's; at least this where Post-LN trains at none."""
    rates = list(ev.setting.size.rates)
    # Below the grid: as far below its first rate as the next is above.
    below = rates[0] ** 2 / rates[1] if len(rates) > 1 else rates[0] / 10
    samples = []
    for n in _deepest_first(ev):
        pairs = [[_largest_trained(ev, c, n, seed) or below for c in (PRE_LN, POST_LN)] for seed in ev.setting.seeds]
        censored = all(pre == post == rates[-1] for pre, post in pairs)
        values = [] if censored else [math.log10(pre / post) for pre, post in pairs]
        samples.append(Sample(_at(n), values, "both train at the largest rate tried"))
    return samples


def _sensitivity(ev: Evidence, c: Configuration, layers: int, seed: int) -> float:
    """Mean over the rates of the final loss, at most ln V, above the best one (Wortsman et al. 2023)."""
    losses = finals(r for r in ev.select(c.placement, c.kind, layers) if r.config.seed == seed)
    capped = [min(loss, ev.setting.baselines.uniform) for loss in losses]
    return sum(capped) / len(capped) - min(capped)


NOWHERE = "Post-LN trains at no rate"


def more_sensitive(ev: Evidence) -> list[Sample]:
    """Post-LN's sensitivity to the rate minus Pre-LN's. What trains nowhere is bad, not sensitive: no value."""
    samples = []
    for n in _deepest_first(ev):
        values = [_sensitivity(ev, POST_LN, n, s) - _sensitivity(ev, PRE_LN, n, s) for s in ev.setting.seeds]
        samples.append(Sample(_at(n), values if _trains(ev, _best(ev, POST_LN, n)) else [], NOWHERE))
    return samples


def best_rate_ratio(ev: Evidence) -> list[Sample]:
    """log10 of Pre-LN's best rate over Post-LN's, at the depths at which Post-LN has one at which it trains."""

    def best_rate(c: Configuration, layers: int, seed: int) -> float:
        runs = [r for r in ev.select(c.placement, c.kind, layers) if r.config.seed == seed]
        return min(runs, key=lambda r: finals([r])[0]).config.lr

    samples = [
        Sample(_at(n), [math.log10(best_rate(PRE_LN, n, s) / best_rate(POST_LN, n, s)) for s in ev.setting.seeds])
        for n in sorted(ev.setting.size.depths, reverse=True)
        if _trains(ev, _best(ev, POST_LN, n))
    ]
    return samples or [Sample("all depths", [], NOWHERE)]


SHALLOW = 4


def four_layers(ev: Evidence) -> list[Sample]:
    """Distance from the trained state at 4 layers, each at its best rate."""
    run = SHALLOW in ev.setting.size.depths
    return [
        Sample(f"{c.label} at its best rate", _above_trained(ev, _best(ev, c, SHALLOW)) if run else [])
        for c in (POST_LN, PRE_LN)
    ]


def _telling_rates(ev: Evidence) -> list[float]:
    """The rates at which Pre-LN trains at 4 layers, the largest first: elsewhere a run may only be slow, and depth
    is not to blame."""
    if SHALLOW not in ev.setting.size.depths:
        return []
    rates = sorted(ev.setting.size.rates, reverse=True)
    return [lr for lr in rates if _trains(ev, _losses(ev, PRE_LN, SHALLOW, lr))]


def trained_at(c: Configuration, depths: Callable[[int], bool]) -> Callable[[Evidence], list[Sample]]:
    """Distance from the trained state at every rate at which Pre-LN trains at 4 layers."""

    def measure(ev: Evidence) -> list[Sample]:
        layers = [n for n in ev.setting.size.depths if depths(n)]
        samples = [
            Sample(
                f"{_at(n)}, rate {rate(lr)}" if len(layers) > 1 else f"rate {rate(lr)}",
                _above_trained(ev, _losses(ev, c, n, lr)),
            )
            for n in layers
            for lr in _telling_rates(ev)
        ]
        missing = f"{PRE_LN.label} trains at no rate at {SHALLOW} layers" if layers else "not run in this size"
        return samples or [Sample("depth of the claim", [], missing)]

    return measure


def rescued(ev: Evidence) -> list[Sample]:
    """Distance of Post-LN from the trained state with a warm-up, where Post-LN does not train without, at the rates
    at which Pre-LN trains at 4 layers."""
    size = ev.setting.size
    if size.steps < 2 * size.warmup:
        missing = f"runs of {size.steps} steps end too soon after a warm-up of {size.warmup}"
        return [Sample("depth of the warm-up", [], missing)]
    samples = [
        Sample(f"{_at(n)}, rate {rate(lr)}", _above_trained(ev, _losses(ev, POST_LN, n, lr, size.warmup)))
        for n in size.warmup_layers
        for lr in _telling_rates(ev)
        if all(r.outcome != "trains" for r in ev.select(POST_LN.placement, POST_LN.kind, n, lr=lr))
    ]
    return samples or [Sample("depth of the warm-up", [], "Post-LN trains without a warm-up")]


def power_of_depth(c: Configuration) -> Callable[[Evidence], list[Sample]]:
    """The fitted power of depth in the gradient at initialization."""

    def measure(ev: Evidence) -> list[Sample]:
        depths = ev.setting.size.init_layers
        return [Sample(f"{min(depths)} to {max(depths)} layers", exponents(ev, c))]

    return measure


def gradient_through_blocks(c: Configuration) -> Callable[[Evidence], list[Sample]]:
    """RMS of the gradient by the embedding over that by the last block's output, at initialization."""
    return lambda ev: [
        Sample(
            f"{n} layers",
            [r.scales[0].gradient[0] / r.scales[0].gradient[-1] for r in ev.select(c.placement, c.kind, n, steps=1)],
        )
        for n in ev.setting.size.init_layers
    ]
