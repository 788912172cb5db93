"""The CPU kernels among threads and processes."""

import os
import signal

import pytest
import torch

from normlab import functional
from normlab.kernels import cpu_build


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


def test_a_child_forked_while_a_thread_compiles(in_a_child, monkeypatch):
    """The child has the locks of all threads as they were, and nobody there who would release them."""
    # As if nothing had been loaded yet.
    monkeypatch.setattr(cpu_build, "_addresses", {})
    monkeypatch.setattr(cpu_build, "_engines", {})
    x = torch.randn(3, 7, dtype=torch.float64)
    with cpu_build._lock:
        assert in_a_child(lambda: functional.rms_norm(x, [7]).shape == (3, 7)) == 0
