"""The system calls that are left to a process that only computes, on Linux.

A filter (seccomp, of classic BPF) that the kernel runs before each system call of this process: those on the list
pass, all others fail with EPERM. There is no way back. So no file is opened, no process started or signalled, no
socket made, whatever the interpreter is brought to do.
"""

import ctypes
import errno
import platform
import struct
import sys

# From the kernel's headers: linux/audit.h, asm/unistd.h.
_ARCHITECTURES = {"x86_64": (0xC000003E, 317), "aarch64": (0xC00000B7, 277)}
_CALLS = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "exit": (60, 93),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "getrandom": (318, 278),
    "membarrier": (324, 283),
    "rseq": (334, 293),
}
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_PR_SET_NO_NEW_PRIVS, _SET_MODE_FILTER, _ALL_THREADS = 38, 1, 1


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _program(machine: str) -> bytes:
    """The filter: struct seccomp_data has the number at byte 0 and the architecture at byte 4."""
    place = list(_ARCHITECTURES).index(machine)
    numbers = [call[place] for call in _CALLS.values()]
    n = len(numbers)
    steps = [
        (_LOAD, 0, 0, 4),
        # A 32-bit call on a 64-bit system has other numbers.
        (_EQUAL, 0, n + 1, _ARCHITECTURES[machine][0]),
        (_LOAD, 0, 0, 0),
        *((_EQUAL, n - i, 0, number) for i, number in enumerate(numbers)),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def apply() -> bool:
    """Confine all threads of this process; whether that was possible here."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _ARCHITECTURES or sys.maxsize < 2**32:
        return False
    libc = ctypes.CDLL(None)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    program = _program(machine)
    given = _Program(len(program) // 8, program)
    number = ctypes.c_long(_ARCHITECTURES[machine][1])
    return libc.syscall(number, _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(given)) == 0
