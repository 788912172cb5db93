"""A module of ours as a process of its own, for times that nothing before it has touched."""

import os
import subprocess
import sys

# What the user has told the allocator, or this library, from outside would hide what is measured.
HIDDEN = ("MALLOC_", "GLIBC_TUNABLES", "NORMLAB_KERNELS")


def environment() -> dict[str, str]:
    """This process's variables, without those that would hide what is measured."""
    return {k: v for k, v in os.environ.items() if not k.startswith(HIDDEN)}


def last_words(complaints: bytes) -> str:
    """The last line of what a process wrote to its standard error."""
    return (complaints.decode(errors="replace").strip().splitlines() or ["no words"])[-1]


def run_apart(module: str, request: bytes = b"", **variables: str) -> bytes:
    """What `python -m module` writes, given the request to read and some variables more.

    Raises:
        RuntimeError: when it broke.
    """
    command = [sys.executable, "-m", module]
    done = subprocess.run(command, input=request, capture_output=True, env=environment() | variables, check=False)
    if done.returncode:
        words = last_words(done.stderr)
        raise RuntimeError(f"the process that takes the times ended with code {done.returncode}: {words}")
    return done.stdout
