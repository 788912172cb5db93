"""Real processes that sweep: killed, interrupted from the keyboard, watched on a terminal."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from normlab.lab import Store, sweep

pytestmark = [pytest.mark.heavy, pytest.mark.skipif(sys.platform == "win32", reason="no signals, no terminals")]

# Sweeps with argv[2] jobs. After each run is kept, its seed goes to the standard output.
# Seed 0 would take hours; it is the most costly and so starts first.
SWEEP = """
import sys
from dataclasses import replace
from pathlib import Path
from normlab.lab import RunConfig, Store, load_corpus, sweep
from normlab.models import TransformerConfig

corpus = load_corpus()
model = TransformerConfig(vocab_size=len(corpus.vocab), n_layers=1, dim=16, n_heads=2, context=8)
run = RunConfig(model=model, text=corpus.digest, lr=1e-2, seed=0, batch=2, eval_windows=5, steps=int(sys.argv[3]))
put = Store.put

def told(store, result):
    put(store, result)
    print(result.config.seed, flush=True)

Store.put = told
try:
    sweep(
        [replace(run, steps=10**7)] * (sys.argv[4] == "endless") + [replace(run, seed=s) for s in range(1, 9)],
        Store(Path(sys.argv[1])),
        jobs=int(sys.argv[2]),
    )
except KeyboardInterrupt:
    sys.exit(130)
"""
DEADLINE = 60


@pytest.fixture
def start(tmp_path):
    """Start the sweep, in a process group of its own; it ends with the test."""
    processes = []

    def go(jobs: int, steps: int, endless: str = "", **streams) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", "-c", SWEEP, str(tmp_path / "runs.sqlite"), str(jobs), str(steps)]
        processes.append(subprocess.Popen([*command, endless], text=True, start_new_session=True, **streams))
        return processes[-1]

    yield go
    for process in processes:
        # Also when it has ended itself: a worker that outlived it would be in its group.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def children(pid: int) -> set[int]:
    """The processes that this one has started and that still run."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return {int(child) for child, parent, state in rows if int(parent) == pid and not state.startswith("Z")}


def alive(pids: set[int]) -> set[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,stat="], capture_output=True, text=True, check=True).stdout
    return {int(p) for p, state in map(str.split, listed.splitlines()) if int(p) in pids and not state.startswith("Z")}


def wait_until(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not after {seconds} s"
        time.sleep(0.1)


def told(process: subprocess.Popen[str], n: int) -> list[int]:
    """The seeds of the next n runs that are kept."""
    assert process.stdout is not None
    return [int(process.stdout.readline()) for _ in range(n)]


def test_killed_in_the_middle(start, tmp_path: Path, tiny, bits, sweep_module, monkeypatch):
    """One worker is in a run of hours, the other in the fourth short run or soon after."""
    process = start(2, 100, "endless", stdout=subprocess.PIPE)
    seen = told(process, 1)
    started = children(process.pid)
    assert len(started) >= 2
    seen += told(process, 2)
    os.kill(process.pid, signal.SIGKILL)
    seen += [int(line) for line in process.communicate(timeout=DEADLINE)[0].split()]
    assert process.returncode == -signal.SIGKILL
    wait_until(lambda: not alive(started), 15)

    store = Store(tmp_path / "runs.sqlite")
    configs = [tiny(seed=s, steps=100) for s in range(1, 9)]
    kept = [c.seed for c in configs if store.get(c) is not None]
    # Every run of which was told, and the one whose telling was cut off.
    assert set(seen) <= set(kept)
    assert len(kept) <= len(seen) + 1
    assert len(store) == len(kept) < len(configs)

    computed = []
    finished = sweep_module._finished
    monkeypatch.setattr(sweep_module, "_finished", lambda cs, *rest: computed.extend(cs) or finished(cs, *rest))
    resumed = sweep(configs, store, jobs=2)
    assert [c.seed for c in computed] == [c.seed for c in configs if c.seed not in kept]
    store.close()

    fresh = Store(tmp_path / "uninterrupted.sqlite")
    assert [bits(r) for r in resumed] == [bits(r) for r in sweep(configs, fresh, jobs=1)]
    fresh.close()


@pytest.mark.parametrize("jobs", [1, 2])
def test_interrupted_from_the_keyboard(start, tmp_path: Path, tiny, jobs):
    """Ctrl-C reaches the whole process group, the workers among it."""
    process = start(jobs, 300, "" if jobs == 1 else "endless", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    seen = told(process, 1)
    started = children(process.pid)
    seen += told(process, 1)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE)
    seen += [int(line) for line in out.split()]
    assert process.returncode == 130, err
    wait_until(lambda: not alive(started), 15)

    store = Store(tmp_path / "runs.sqlite")
    kept = [s for s in range(1, 9) if store.get(tiny(seed=s, steps=300)) is not None]
    store.close()
    assert set(seen) <= set(kept)
    of = 8 if jobs == 1 else 9
    said = f"Stopped: {len(kept)} of {of} runs are kept; the same command goes on from there."
    assert " ".join(err.split()) == said


def test_bar_on_a_terminal(start):
    """It says how many runs there are, how many are done, and what is under way; at the end it is gone."""
    ours, theirs = os.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    process = start(1, 30, stdout=subprocess.DEVNULL, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 1)[0]:
            try:
                shown += os.read(ours, 65536)
            except OSError:
                # So a pseudo-terminal says that the other side is closed.
                break
    os.close(ours)
    assert process.wait(timeout=DEADLINE) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert re.search(r"runs\s.*0/8 runs.* left .*pre layernorm, 1 layers, rate 0.01, seed 1", text)
    assert "Traceback" not in text
    assert shown.rstrip().endswith(b"\x1b[2K"), shown[-60:]
