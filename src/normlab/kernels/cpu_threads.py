"""One function on several cores at once, with a hand-over of microseconds.

PyTorch brings an OpenMP runtime and keeps its threads waiting; a kernel runs on the same threads, through the entry
that compilers call for a parallel loop (GOMP_parallel: GNU's runtime, Intel's and LLVM's have it). So there is no
second pool to compete with, `torch.get_num_threads()` and `torch.set_num_threads()` mean what they say, and every
Python thread that calls gets a team of its own.

A forked child has the memory of those threads but not the threads: asking for a team there would wait forever.
It runs everything on the calling thread, as does a process without PyTorch or such a runtime.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@cache
def _team() -> Callable[..., None] | None:
    """GOMP_parallel(function, data, threads, flags) of the runtime that PyTorch runs on, or None."""
    import torch

    if not torch.backends.openmp.is_available():
        return None
    for name in ("libtorch_cpu.so", "libtorch_cpu.dylib"):
        try:
            # Looked up in the library and in what it is linked to: the runtime that is loaded already.
            parallel = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / name)).GOMP_parallel
        except (OSError, AttributeError):
            continue
        parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
        parallel.restype = None
        return parallel
    return None


def threads() -> int:
    """On how many threads a large kernel runs."""
    torch: Any = sys.modules.get("torch")
    return 1 if _forked or torch is None or _team() is None else torch.get_num_threads()


@cache
def function(address: int) -> Callable[[Any], None]:
    """The C function `void (void *)` at an address. A call releases the GIL."""
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)


def run(address: int, arguments: Any, teammates: int) -> None:
    """Call the function at `address` with the arguments on `teammates` threads, and wait for all of them."""
    team = _team() if teammates > 1 and not _forked else None
    if team is None:
        function(address)(arguments)
    else:
        team(address, arguments, teammates, 0)
