"""The room in which a learner's code runs: `run(code, calls)` gives back arrays, or one sentence about the trouble.

policy.py       reads the code before it runs, and says which line asks for too much
parent.py       starts a process for it, watches it, and ends it; outcome.py reads what came back
child.py        is that process: limits.py, seccomp.py and hook.py are put on before the code runs
wire.py         what the two say to each other: numbers and names, nothing that could be executed

The process sees the code and its inputs, never what the answer should be. Processor time, memory, files and processes
are limited by the system where it has such limits (POSIX; the size of memory not on macOS). Linux on x86-64 and ARM64
leaves the process only the system calls that arithmetic needs. Elsewhere files and network are guarded by the audit
hook alone, which stops Python code but no code that corrupts the interpreter's memory.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from normlab.learn.sandbox.outcome import Call, Outcome
    from normlab.learn.sandbox.parent import run

__all__ = ["Call", "Outcome", "run"]

# The child imports this package too, and what it has not loaded it cannot use against its hook: `subprocess`, say.
_FROM = {"Call": "outcome", "Outcome": "outcome", "run": "parent"}


def __getattr__(name: str) -> Any:
    if name in _FROM:
        return getattr(import_module(f"{__name__}.{_FROM[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
