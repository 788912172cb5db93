"""What the tests of the CPU kernels share: a fresh process, for what holds for a whole process."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from normlab.kernels import choice, cpu_plan


@pytest.fixture(scope="session")
def python() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run code in a new process in which warnings are errors; environment variables by keyword, None to drop one."""

    def run(code: str, *, timeout: float = 120, **environment: str | None) -> "subprocess.CompletedProcess[str]":
        changed = {**os.environ, "OMP_NUM_THREADS": "2", **environment}
        kept = {name: value for name, value in changed.items() if value is not None}
        command = [sys.executable, "-W", "error", "-c", code]
        # A process that hangs is a failure, not a wait.
        return subprocess.run(command, env=kept, capture_output=True, text=True, timeout=timeout, check=False)

    return run


@pytest.fixture
def forget_plans() -> Iterator[Callable[[], None]]:
    """Forget how calls are carried out: at once, whenever it is called, and at the end of the test."""

    def forget() -> None:
        for plans in (cpu_plan.forward_plan, cpu_plan.backward_plan, choice._plans):
            plans.cache_clear()

    forget()
    yield forget
    forget()
