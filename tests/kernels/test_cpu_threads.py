"""The CPU kernels among threads and processes."""

import itertools
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from normlab import functional
from normlab.kernels import cpu_build, cpu_threads


@pytest.fixture
def in_a_child():
    """Call a function in a forked child, which is killed if it takes too long; its exit status, 0 for True."""

    def fork(function):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.alarm(30)
                status = 0 if function() else 2
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    return fork


def test_a_child_forked_while_a_thread_compiles(in_a_child, monkeypatch, forget_plans):
    """The child has the locks of all threads as they were, and nobody there who would release them."""
    # As if nothing had been loaded yet.
    monkeypatch.setattr(cpu_build, "_addresses", {})
    monkeypatch.setattr(cpu_build, "_engines", {})
    x = torch.randn(3, 7, dtype=torch.float64)
    with cpu_build._lock:
        assert in_a_child(lambda: functional.rms_norm(x, (7,)).shape == (3, 7)) == 0


@pytest.fixture
def teams(monkeypatch):
    """How many threads each run of a kernel is given."""
    found, run = [], cpu_threads.run

    def recorded(address, arguments, teammates):
        found.append(teammates)
        run(address, arguments, teammates)

    monkeypatch.setattr(cpu_threads, "run", recorded)
    return found


@pytest.fixture
def on_threads():
    """Set the number of threads, until the end of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def both_ways(x, weight):
    """[y, dx, dweight] of a norm, with dy = x."""
    leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    y = functional.rms_norm(leaves[0], [x.shape[-1]], leaves[1])
    return [y.detach(), *torch.autograd.grad(y, leaves, x)]


def test_torchs_number_of_threads_is_followed(teams, on_threads):
    x, weight = torch.randn(500, 100), torch.randn(100)
    for threads in (1, 2, 3, 1):
        on_threads(threads)
        both_ways(x, weight)
        usable = threads if cpu_threads._team() is not None else 1
        assert teams[-2:] == [usable] * 2


def test_torchs_number_of_threads_is_followed_in_another_python_thread(teams, on_threads):
    """OpenMP keeps such a number for each thread; torch hands its own on."""
    on_threads(1)
    x = torch.randn(500, 100)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(functional.rms_norm, x, [100]).result()
    assert teams == [1]


@pytest.mark.parametrize("shape", [(1, 1), (16, 1000), (1, 16000)])
def test_a_small_input_stays_on_the_calling_thread(shape, teams, on_threads):
    on_threads(2)
    both_ways(torch.randn(shape), torch.randn(shape[1]))
    assert teams == [1, 1]


@pytest.mark.heavy
def test_eight_python_threads_at_once(on_threads):
    """Each with inputs of its own, on teams of two, for ten seconds: no buffer, counter or plan is another's."""
    on_threads(2)
    dtypes = [torch.float32, torch.bfloat16]
    shapes = [(3, 40), (300, 100), (1000, 64), (5, 8192)]
    cases = [
        (torch.randn(shape).to(dtype), torch.randn(shape[1]).to(dtype))
        for dtype, shape in itertools.product(dtypes, shapes)
    ]
    expected = [both_ways(*case) for case in cases]
    end = time.monotonic() + 10

    def work(first):
        done = 0
        while done < len(cases) or time.monotonic() < end:
            i = (first + done) % len(cases)
            for got, want in zip(both_ways(*cases[i]), expected[i], strict=True):
                assert torch.equal(got, want), cases[i][0].shape
            done += 1
        return done

    with ThreadPoolExecutor(8) as pool:
        # Every thread comes round all cases, however slow the machine.
        assert min(pool.map(work, range(8))) >= len(cases)
