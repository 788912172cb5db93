"""Many runs: those not yet kept are computed, by a pool of processes of one thread each, and kept as they come."""

import os
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

import joblib
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from normlab.heap import keep_heap
from normlab.kernels import chosen, use_kernels
from normlab.lab.config import RunConfig
from normlab.lab.run import RunResult, run
from normlab.lab.store import Store
from normlab.lab.text import load_corpus
from normlab.terminal import errors


@cache
def _settle(parent: int) -> None:
    """What a worker does once. It keeps its memory, and it ends soon after its parent: a parent that was killed cannot
    stop the run under way here."""
    keep_heap()

    def watch() -> None:
        while os.getppid() == parent:
            sleep(1)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _task(config: RunConfig, data: str | None, parent: int, which: str) -> RunResult | Exception:
    """One run, in a worker of the process `parent` or in that process itself, with the parent's choice of kernels.

    An error is returned: raised in a worker, it would overtake the results of runs that finished before it.
    """
    if os.getpid() == parent:
        return run(config, load_corpus(data))
    _settle(parent)
    try:
        with use_kernels(which):
            return run(config, load_corpus(data))
    except Exception as error:
        # The traceback itself does not travel between processes.
        error.add_note(traceback.format_exc())
        return error


@contextmanager
def _finished(
    configs: Sequence[RunConfig], data: str | None, jobs: int, starting: Callable[[RunConfig], None]
) -> Iterator[Iterator[RunResult | Exception]]:
    """The results in the order in which they finish; no run goes on after the with block.

    `starting` is called with each run before it starts.
    """

    def started() -> Iterator:
        for config in configs:
            starting(config)
            yield joblib.delayed(_task)(config, data, os.getpid(), chosen())

    parallel: dict[str, Any] = {"n_jobs": 1, "return_as": "generator"}
    if jobs > 1:
        # A task is handed over when a worker is free for it, so that `starting` tells the truth.
        parallel = {"n_jobs": jobs, "return_as": "generator_unordered", "pre_dispatch": jobs, "batch_size": 1}
    with joblib.parallel_config("loky", inner_max_num_threads=1) if jobs > 1 else nullcontext():
        results: Any = joblib.Parallel(**parallel)(started())
    try:
        yield results
    finally:
        with warnings.catch_warnings():
            # Left early, after an error or Ctrl-C, joblib advises to ask for fewer tasks.
            warnings.filterwarnings("ignore", message=".*benefit from adjusting the input task", category=UserWarning)
            results.close()


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
    # Workers that have served another sweep may be in another folder.
    data = None if data is None else str(Path(data).absolute())
    results = {config: store.get(config) for config in configs}
    # Long runs first, so that no long one is left over at the end for a single core.
    missing = sorted((c for c, r in results.items() if r is None), key=lambda c: -c.cost)
    if (kept := len(results) - len(missing)) and errors.is_terminal:
        errors.print(f"{kept} of {len(results)} runs are kept already and are not repeated.", highlight=False)
    if missing:
        n_jobs = workers(len(missing), jobs, "cuda" if any(c.device == "cuda" for c in missing) else "cpu")
        in_flight: list[RunConfig] = []
        with _progress() as progress:
            task = progress.add_task(label, total=sum(c.cost for c in missing), runs=len(missing), done=0, now="")

            def starting(config: RunConfig) -> None:
                in_flight.append(config)
                progress.update(task, now=str(in_flight[0]))

            try:
                with _finished(missing, data, n_jobs, starting) as finished:
                    for done, result in enumerate(finished, start=1):
                        if isinstance(result, Exception):
                            raise result
                        store.put(result)
                        results[result.config] = result
                        in_flight.remove(result.config)
                        now = str(in_flight[0]) if in_flight else ""
                        progress.update(task, advance=result.config.cost, done=done, now=now)
            except KeyboardInterrupt:
                kept = sum(store.get(config) is not None for config in results)
                errors.print(f"Stopped: {kept} of {len(results)} runs are kept; the same command goes on from there.")
                raise
    return [result for config in configs if (result := results[config]) is not None]
