"""Many runs: those not yet kept are computed, by a pool of processes of one thread each, and kept as they come."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import joblib
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from normlab.lab.config import RunConfig
from normlab.lab.run import RunResult, run
from normlab.lab.store import Store
from normlab.lab.text import load_corpus
from normlab.terminal import errors


def _task(config: RunConfig, data: str | None) -> RunResult:
    """One run in a worker, which reads the text once and keeps it for its next runs."""
    return run(config, load_corpus(data))


def _finished(
    configs: Sequence[RunConfig], data: str | None, jobs: int, in_flight: list[RunConfig]
) -> Iterator[RunResult]:
    """Results in the order in which they finish. `in_flight` always holds the runs under way."""

    def started() -> Iterator:
        for config in configs:
            in_flight.append(config)
            yield joblib.delayed(_task)(config, data)

    parallel: dict[str, Any] = {"n_jobs": 1, "return_as": "generator"}
    if jobs > 1:
        # A task is handed over when a worker is free for it, so that `in_flight` tells the truth.
        parallel = {"n_jobs": jobs, "return_as": "generator_unordered", "pre_dispatch": jobs, "batch_size": 1}
    with joblib.parallel_config("loky", inner_max_num_threads=1) if jobs > 1 else nullcontext():
        results: Any = joblib.Parallel(**parallel)(started())
        for result in results:
            in_flight.remove(result.config)
            yield result


def _progress() -> Progress:
    """A bar that says what is running and how long it still takes; silent when nobody watches."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[done]}/{task.fields[runs]} runs"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[now]}", style="dim"),
    )
    return Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal)


def workers(n_runs: int, jobs: int | None, device: str) -> int:
    """How many processes: one on a GPU, else one a physical core, and never more than there are runs."""
    if device == "cuda":
        return 1
    cores = joblib.cpu_count(only_physical_cores=True) if jobs is None else jobs
    return max(1, min(cores, n_runs))


def sweep(
    configs: Iterable[RunConfig],
    store: Store,
    *,
    data: str | None = None,
    jobs: int | None = None,
    label: str = "runs",
) -> list[RunResult]:
    """The results of all configs, in their order.

    Args:
        configs: may repeat; a run is computed once.
        store: where results are looked up and kept.
        data: path of the text; None: the default text.
        jobs: processes; None: one a physical core.
        label: what the progress bar calls the whole.
    """
    configs = list(configs)
    results = {config: store.get(config) for config in configs}
    # Long runs first, so that no long one is left over at the end for a single core.
    missing = sorted((c for c, r in results.items() if r is None), key=lambda c: -c.cost)
    if missing:
        n_jobs = workers(len(missing), jobs, missing[0].device)
        in_flight: list[RunConfig] = []
        with _progress() as progress:
            task = progress.add_task(label, total=sum(c.cost for c in missing), runs=len(missing), done=0, now="")
            try:
                for done, result in enumerate(_finished(missing, data, n_jobs, in_flight), start=1):
                    store.put(result)
                    results[result.config] = result
                    now = str(in_flight[0]) if in_flight else ""
                    progress.update(task, advance=result.config.cost, done=done, now=now)
            except KeyboardInterrupt:
                kept = sum(r is not None for r in results.values())
                errors.print(f"Stopped: {kept} of {len(results)} runs are kept; the same command goes on from there.")
                raise
    return [result for config in configs if (result := results[config]) is not None]
