"""Whether the machine has other work to do."""

import os

# A share of the cores.
BUSY = 0.25


def busy() -> str:
    """A sentence where other work goes on: threads that wait for their turn look slow, by milliseconds."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load < BUSY * (os.cpu_count() or 1):
        return ""
    return f"the machine was busy before this began (load {load:.1f}): times may hold waiting"
