"""Keep freed memory in the process, so that the next tensor does not have to ask the system for it.

With glibc's defaults every block of more than some megabytes is mapped afresh and given back when it is freed; then
each of its pages costs a fault when it is first written, and the faults of a large tensor cost more than the
arithmetic on it. After `keep_heap` such blocks come from the heap, which is never given back.
"""

import ctypes
import sys
from contextlib import suppress

# mallopt's parameters, from malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
# The manual's word for no limit at all. The largest int would be one: 2 GiB, less than some steps free at once.
NEVER = -1
TOP_PAD = 1 << 26


def keep_heap() -> str:
    """Tell glibc to keep freed memory for the process, for the rest of its life, and say what was done.

    It concerns all of the process, not only this library: that is why nothing calls it unasked. Without glibc nothing
    is done, and the sentence says so.

    The process keeps at least the memory of its highest moment, and may keep several times as much. Free memory lies
    between tensors that are alive, and a larger tensor does not fit there. That is little where steps repeat the same
    sizes, as those of a training do, and much where sizes are random. Between two pieces of work of other sizes,
    `normlab.heap.trim_heap` gives back what is free.

    Equivalent, from outside: MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=9223372036854775807 MALLOC_TOP_PAD_=67108864.

    Returns:
        A sentence.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version.restype = ctypes.c_char_p
        version = libc.gnu_get_libc_version().decode()
        mallopt = libc.mallopt
    except (OSError, AttributeError, TypeError):
        return f"The heap is as it was: only glibc can be told to keep it, and this is {sys.platform} without it."
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER), (M_TOP_PAD, TOP_PAD))
    if not all(mallopt(parameter, value) for parameter, value in settings):
        return f"The heap is as it was, or nearly: glibc {version} refused a setting."
    return f"glibc {version} keeps freed memory for this process: no block is mapped on its own or given back."


def trim_heap() -> None:
    """Give back what is free now, of a kept heap too (glibc's malloc_trim); nothing happens without glibc.

    Call it between two pieces of work whose tensors have other sizes (a training and an evaluation, two models), which
    would otherwise lie beside the free memory that the first has left; not in every step, since the next tensors pay
    their page faults again.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
