"""The heap that is kept, on glibc; and what is said elsewhere."""

import ctypes
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

import normlab
from normlab.heap import trim_heap

FAULTS = """
import ctypes, mmap, resource, statistics
import torch
import normlab

# With huge pages there would be few faults to begin with: PR_SET_THP_DISABLE.
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)
SIZE = 1 << 26

def faults():
    \"\"\"Of one block that is made, written and freed.\"\"\"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(SIZE, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = [faults() for _ in range(9)]
sentence = normlab.keep_heap()
# Small things come to lie between the first blocks; then there are holes enough.
for _ in range(20):
    faults()
after = [faults() for _ in range(9)]
print(SIZE // mmap.PAGESIZE, statistics.median(before), statistics.median(after))
print(sentence)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that keeps the heap")
def test_a_kept_block_is_not_asked_for_again():
    """64 MB: more than the 32 MB up to which glibc learns by itself to keep what was freed."""
    # Neither another allocator nor settings of glibc's from outside.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FAULTS],
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    numbers, sentence = done.stdout.splitlines()
    pages, before, after = (int(number) for number in numbers.split())
    assert before > pages / 2
    assert after < pages / 100
    version = platform.libc_ver()[1]
    assert (
        sentence == f"glibc {version} keeps freed memory for this process: no block is mapped on its own or given back."
    )


def test_the_settings_are_those_that_the_docstring_names(monkeypatch):
    """The numbers of M_MMAP_MAX, M_TRIM_THRESHOLD and M_TOP_PAD in malloc.h."""
    given = []
    libc = SimpleNamespace(gnu_get_libc_version=lambda: b"2.99", mallopt=lambda *setting: given.append(setting) or 1)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: libc)
    assert normlab.keep_heap().startswith("glibc 2.99 keeps freed memory")
    assert given == [(-4, 0), (-1, -1), (-2, 67108864)]


@pytest.mark.parametrize("refused", [-1, -2, -4])
def test_a_refused_setting_is_said(refused, monkeypatch):
    libc = SimpleNamespace(gnu_get_libc_version=lambda: b"2.99", mallopt=lambda parameter, _: parameter != refused)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: libc)
    assert normlab.keep_heap() == "The heap is as it was, or nearly: glibc 2.99 refused a setting."


TRIM = """
import torch
import normlab
from normlab.heap import trim_heap

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

normlab.keep_heap()
before = resident()
tensors = [torch.ones(1 << 24) for _ in range(4)]
held = resident() - before
# The last stays: what lies before it is in the middle of the heap.
del tensors[:3]
kept = resident() - before
trim_heap()
print(held, kept, resident() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="Linux counts a process's pages there")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that keeps the heap")
def test_a_kept_heap_can_be_given_back():
    """4 tensors of 64 MB; all stay after 3 are freed, and a quarter after the trim."""
    command = [sys.executable, "-W", "error", "-c", TRIM]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD"))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    held, kept, trimmed = map(int, done.stdout.split())
    assert kept > 0.95 * held
    assert trimmed < 0.4 * held


def no_library(error):
    def load(name):
        raise error

    return load


# musl and macOS have a library with other functions; Windows does not take None for a library's name.
ELSEWHERE = {
    "another library": lambda name: SimpleNamespace(),
    "no library": no_library(OSError("none")),
    "Windows": no_library(TypeError("bad argument type for built-in operation")),
}


@pytest.mark.parametrize("where", ELSEWHERE)
def test_without_glibc_nothing_is_done_and_that_is_said(where, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", ELSEWHERE[where])
    sentence = f"The heap is as it was: only glibc can be told to keep it, and this is {sys.platform} without it."
    assert normlab.keep_heap() == sentence
    trim_heap()
