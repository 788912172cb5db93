"""How contenders are timed: in turns, each after a call of its own.

Times in one process drift (other work on the machine, the clock of the processor), so contenders are not timed one
after the other but in rounds, each of which holds all of them. And they leave the caches in different states: an
operation that writes ten temporaries empties them, and whoever is timed next starts with cold caches and looks up to
twice as slow as it is. So in each round a contender first runs untimed, over its own leavings, and only then with the
clock. At 1024 x 512 one such call was not enough (320 us beside torch.nn's RMSNorm, 220 alone): after two milliseconds
of them a contender is as fast as it is alone. The medians over all rounds are compared; the 20th and 80th percentiles
say how much a single call varies.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import numpy as np

Call = Callable[[], object]
Timer = Callable[[Call], float]

# A contender is timed so many times a round, or until its calls have taken so long, in seconds.
SLOW = 0.05
MOST_CALLS = 3
# Untimed calls go on for so long, in seconds; there is one in any case.
SETTLE = 2e-3
# Cycles of a GPU's clock: about a millisecond.
BUSY = 2_000_000


@dataclass(frozen=True, slots=True)
class Times:
    """What calls took, in seconds.

    Attributes:
        rounds: the timed calls of each round.
    """

    rounds: tuple[tuple[float, ...], ...]

    @property
    def calls(self) -> tuple[float, ...]:
        """All of them."""
        return tuple(t for r in self.rounds for t in r)

    @property
    def median(self) -> float:
        """Over all calls."""
        return median(self.calls)

    @property
    def by_round(self) -> tuple[float, ...]:
        """The median of each round."""
        return tuple(median(r) for r in self.rounds)

    def percentile(self, p: float) -> float:
        """Over all calls."""
        return float(np.percentile(self.calls, p))


def on_cpu(call: Call) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def on_gpu() -> Timer:
    """Seconds between two events around a call, with the caches of the GPU filled with something else before it.

    What is measured is how long the GPU computes. After the filling it waits for about a millisecond (BUSY), in which
    the call's kernels queue up, so that launching them, and all that Python does for it, does not count unless it takes
    longer than both. A model that waits for the launches of its small tensors is slower than these times say.
    """
    import torch

    flushed = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")

    def timer(call: Call) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        flushed.zero_()
        torch.cuda._sleep(BUSY)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3

    return timer


@contextmanager
def _no_collection() -> Iterator[None]:
    """Garbage is collected now, and not within."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def alternate(
    contenders: Mapping[str, Call],
    *,
    budget: float,
    least: int = 3,
    most: int = 40,
    calls: int = MOST_CALLS,
    timer: Timer = on_cpu,
    finish: Call | None = None,
    warm_up: int = 2,
) -> dict[str, Times]:
    """Time all contenders, in rounds.

    Args:
        contenders: by name; each call does the same work every time.
        budget: seconds after which no further round begins, once there are `least` of them.
        least, most: rounds.
        calls: of each that are timed in a round, as long as they take less than SLOW.
        timer: what times one call.
        finish: waits for the end of an untimed call that returns before it, as on a GPU; without it such calls would
            pile up there while they settle.
        warm_up: calls of each before the first round.
    """

    def untimed(call: Call) -> None:
        call()
        if finish is not None:
            finish()

    for call in contenders.values():
        for _ in range(warm_up):
            untimed(call)
    names = list(contenders)
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
    begun = time.perf_counter()
    with _no_collection():
        for i in range(most):
            if i >= least and time.perf_counter() - begun >= budget:
                break
            first = i % max(1, len(names))
            for name in names[first:] + names[:first]:
                call = contenders[name]
                settled = time.perf_counter() + SETTLE
                untimed(call)
                while time.perf_counter() < settled:
                    untimed(call)
                times = [timer(call)]
                while len(times) < calls and sum(times) < SLOW:
                    times.append(timer(call))
                found[name].append(tuple(times))
    return {name: Times(tuple(rounds)) for name, rounds in found.items()}
