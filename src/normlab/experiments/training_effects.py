"""What the claims about training are measured by: functions from the evidence to samples, a value a seed."""

import math
from collections.abc import Callable

from normlab.experiments.configurations import CONFIGURATIONS, NO_NORM, POST_LN, PRE_LN, PRE_RMS, Configuration
from normlab.experiments.evidence import Evidence, finals
from normlab.experiments.judge import Range, Sample
from normlab.experiments.prenorm_vs_postnorm import exponents
from normlab.experiments.text import rate
from normlab.lab.run import LEARNED_MARGIN


def _losses(ev: Evidence, c: Configuration, layers: int, lr: float, warmup: int = 0) -> list[float]:
    return ev.losses(c.placement, c.kind, layers, lr, warmup)


def _best(ev: Evidence, c: Configuration, layers: int, warmup: int = 0) -> list[float]:
    return ev.best(c.placement, c.kind, layers, warmup).losses


def _deepest_first(ev: Evidence) -> list[int]:
    return sorted(ev.setting.size.comparison_layers, reverse=True)


def _above_trained(ev: Evidence, losses: list[float]) -> list[float]:
    """Nats above the loss at which a run counts as trained; negative: it trains."""
    return [loss - (ev.setting.corpus.unigram - LEARNED_MARGIN) for loss in losses]


def at_best(config: Configuration) -> Callable[[Evidence], list[Sample]]:
    """Final loss at the best rate."""
    return lambda ev: [Sample(f"{n} layers", _best(ev, config, n)) for n in _deepest_first(ev)]


def difference(better: Configuration, worse: Configuration) -> Callable[[Evidence], list[Sample]]:
    """Final loss of one minus that of another, each at its best rate, seed by seed."""
    return lambda ev: [
        Sample(f"{n} layers", [w - b for w, b in zip(_best(ev, worse, n), _best(ev, better, n), strict=True)])
        for n in _deepest_first(ev)
    ]


def lead_of_rmsnorm(ev: Evidence) -> list[Sample]:
    """Final loss of the best other configuration minus RMSNorm's, each at its best rate."""
    samples = []
    for n in _deepest_first(ev):
        others = zip(*(_best(ev, c, n) for c in CONFIGURATIONS if c is not PRE_RMS), strict=True)
        samples.append(Sample(f"{n} layers", [min(o) - b for o, b in zip(others, _best(ev, PRE_RMS, n), strict=True)]))
    return samples


def nonorm_trains(ev: Evidence) -> list[Sample]:
    """NoNorm's final loss at its best rate over the loss of having learned, in powers of ten: it can be any number."""
    learned = ev.setting.corpus.unigram - LEARNED_MARGIN
    return [Sample(f"{n} layers", [math.log10(x / learned) for x in _best(ev, NO_NORM, n)]) for n in _deepest_first(ev)]


def nonorm_nan(ev: Evidence) -> list[Sample]:
    """The step of the first NaN; infinite for a run that stays finite beyond the claimed steps."""
    size = ev.setting.size
    steps = size.long_steps or size.steps
    rates = size.long_rates if size.long_steps else size.rates
    samples = []
    for lr in sorted(rates, reverse=True):
        runs = ev.select("none", "none", max(size.comparison_layers), lr=lr, steps=steps)
        first = [math.inf if r.first_nonfinite_step is None else r.first_nonfinite_step for r in runs]
        # A run that ended finite before the claimed steps says nothing about them.
        told = [f for f in first if math.isfinite(f) or steps >= NAN_STEPS.high]
        samples.append(Sample(f"rate {rate(lr)}", told if len(told) == len(first) else []))
    return samples


NAN_STEPS = Range(250, 750)


def _count_trains(ev: Evidence, c: Configuration, layers: int, seed: int) -> int:
    return sum(r.outcome == "trains" for r in ev.select(c.placement, c.kind, layers) if r.config.seed == seed)


def more_rates(ev: Evidence) -> list[Sample]:
    """Number of rates at which Pre-LN trains minus that of Post-LN."""
    return [
        Sample(
            f"{n} layers",
            [
                float(_count_trains(ev, PRE_LN, n, seed) - _count_trains(ev, POST_LN, n, seed))
                for seed in ev.setting.seeds
            ],
        )
        for n in _deepest_first(ev)
    ]


def largest_rate(ev: Evidence) -> list[Sample]:
    """The largest rate at which Post-LN trains, a seed each; nothing when a seed trains at none."""
    samples = []
    for n in _deepest_first(ev):
        runs = ev.select(POST_LN.placement, POST_LN.kind, n)
        by_seed = [
            [r.config.lr for r in runs if r.config.seed == seed and r.outcome == "trains"] for seed in ev.setting.seeds
        ]
        samples.append(Sample(f"{n} layers", [max(lrs) for lrs in by_seed] if all(by_seed) else []))
    return samples


def _sensitivity(ev: Evidence, c: Configuration, layers: int, seed: int) -> float:
    """Mean over the rates of the final loss, at most ln V, above the best one (Wortsman et al. 2023)."""
    losses = finals(r for r in ev.select(c.placement, c.kind, layers) if r.config.seed == seed)
    capped = [min(loss, ev.setting.corpus.uniform) for loss in losses]
    return sum(capped) / len(capped) - min(capped)


def more_sensitive(ev: Evidence) -> list[Sample]:
    """Post-LN's sensitivity to the rate minus Pre-LN's. What trains nowhere is bad, not sensitive: no value."""
    samples = []
    for n in _deepest_first(ev):
        trains = all(distance < 0 for distance in _above_trained(ev, _best(ev, POST_LN, n)))
        values = [_sensitivity(ev, POST_LN, n, s) - _sensitivity(ev, PRE_LN, n, s) for s in ev.setting.seeds]
        samples.append(
            Sample(f"{n} layers" if trains else f"{n} layers (Post-LN trains at no rate)", values if trains else [])
        )
    return samples


def trained_at(c: Configuration, layers: int) -> Callable[[Evidence], list[Sample]]:
    """Distance from the trained state at every rate, the largest first."""

    def measure(ev: Evidence) -> list[Sample]:
        if layers not in ev.setting.size.depths:
            return [Sample(f"{layers} layers (not run in this size)", [])]
        return [
            Sample(f"rate {rate(lr)}", _above_trained(ev, _losses(ev, c, layers, lr)))
            for lr in sorted(ev.setting.size.rates, reverse=True)
        ]

    return measure


def four_layers(ev: Evidence) -> list[Sample]:
    """Distance from the trained state at 4 layers, each at its best rate."""
    return [
        Sample(f"{c.label} at its best rate", _above_trained(ev, _best(ev, c, 4))) if 4 in ev.setting.size.depths
        else Sample(f"{c.label} (4 layers not run in this size)", [])
        for c in (POST_LN, PRE_LN)
    ]  # fmt: skip


def deep_post(ev: Evidence) -> list[Sample]:
    """Distance of Post-LN from the trained state beyond 12 layers, at every rate."""
    deep = [n for n in ev.setting.size.depths if n > 12]
    if not deep:
        return [Sample("more than 12 layers (not run in this size)", [])]
    return [
        Sample(f"{n} layers, rate {rate(lr)}", _above_trained(ev, _losses(ev, POST_LN, n, lr)))
        for n in deep
        for lr in sorted(ev.setting.size.rates, reverse=True)
    ]


def best_rate_ratio(ev: Evidence) -> list[Sample]:
    """Powers of ten between the best rates of Pre-LN and Post-LN, a seed each."""

    def best_rate(c: Configuration, layers: int, seed: int) -> float:
        runs = [r for r in ev.select(c.placement, c.kind, layers) if r.config.seed == seed]
        return min(runs, key=lambda r: math.inf if math.isnan(r.final_loss) else r.final_loss).config.lr

    return [
        Sample(
            f"{n} layers",
            [math.log10(best_rate(PRE_LN, n, s) / best_rate(POST_LN, n, s)) for s in ev.setting.seeds],
        )
        for n in sorted(ev.setting.size.depths, reverse=True)
    ]


def warmup_gain(ev: Evidence) -> list[Sample]:
    """Final loss of Post-LN without a warm-up minus that with one, at every rate."""
    size = ev.setting.size
    return [
        Sample(
            f"{n} layers, rate {rate(lr)}",
            [a - b for a, b in zip(_losses(ev, POST_LN, n, lr), _losses(ev, POST_LN, n, lr, size.warmup), strict=True)],
        )
        for n in size.warmup_layers
        for lr in sorted(size.rates, reverse=True)
    ]


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
