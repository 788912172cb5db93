"""The limits that the system keeps for a process: processor time, memory, files, processes.

Where it has none of them (Windows), only the parent's clock is left. Linux exempts root from the number of processes.
"""

import math
import signal
import time
from contextlib import suppress

try:
    import resource
except ImportError:
    resource = None


def _mapped() -> int:
    """Bytes of address space in use; 0 where Linux does not say."""
    with suppress(OSError, ValueError), open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * (resource.getpagesize() if resource else 0)
    return 0


def apply(seconds: float, memory: int) -> None:
    """Limit this process, from now on and for good, to so many seconds and bytes more, no new process, no file."""
    if resource is None:
        return
    # The parent ends it sooner; these two are for a parent that has died.
    processor = math.ceil(time.process_time() + seconds) + 2
    signal.alarm(math.ceil(seconds) + 2)
    for name, value in (
        ("CPU", processor),
        ("AS", _mapped() + memory),
        ("FSIZE", 0),
        ("NPROC", 0),
        ("NOFILE", 16),
        ("CORE", 0),
    ):
        kind = getattr(resource, f"RLIMIT_{name}", None)
        # macOS has names for limits that it refuses to set.
        with suppress(ValueError, OSError):
            if kind is not None:
                resource.setrlimit(kind, (value, value))
