"""What a CPU kernel touches: what it is given, what it returns, and nothing beside."""

import sys

import pytest

BOUNDS = """
import ctypes, itertools, mmap
import torch
from normlab import NormSpec
from normlab.kernels import cpu_plan

libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
PAGE = mmap.PAGESIZE
kept = []

def at_the_end(tensor):
    \"\"\"A copy whose last byte is followed by a page that kills whoever touches it.\"\"\"
    if tensor is None:
        return 0
    size = tensor.numel() * tensor.element_size()
    pages = -(-size // PAGE) * PAGE
    memory = mmap.mmap(-1, pages + PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(start + pages, PAGE, 0) == 0
    ctypes.memmove(start + pages - size, tensor.data_ptr(), size)
    kept.append(memory)
    return start + pages - size

name = NAME
dtype = getattr(torch, name)
wide = torch.float64 if dtype == torch.float64 else torch.float32
CASES = [("rmsnorm", True, False), ("rmsnorm", False, False), ("layernorm", True, False), ("layernorm", True, True),
         ("layernorm", False, True)]
for kind, weighted, biased in CASES:
    for rows, n in itertools.product((1, 5, 33), (1, 31, 64, 77)):
        print(kind, weighted, biased, rows, n, flush=True)
        spec = NormSpec(kind)
        x = at_the_end(torch.randn(rows, n).to(dtype))
        dy = at_the_end(torch.randn(rows, n).to(dtype))
        y, dx = at_the_end(torch.empty(rows, n, dtype=dtype)), at_the_end(torch.empty(rows, n, dtype=dtype))
        w = at_the_end(torch.randn(n).to(dtype)) if weighted else 0
        b = at_the_end(torch.randn(n).to(dtype)) if biased else 0
        dw = at_the_end(torch.empty(n, dtype=dtype)) if weighted else 0
        db = at_the_end(torch.empty(n, dtype=dtype)) if biased else 0
        stats = at_the_end(torch.empty(rows, 2 if kind == "layernorm" else 1, dtype=torch.float64))
        plan = cpu_plan.plan(name, name if weighted else "", name if biased else "", False, False, spec)
        partial = at_the_end(torch.empty(cpu_plan.partial_length(rows, n, weighted + biased), dtype=wide))
        cpu_plan.run_forward(plan, rows, n, x, 0, w, b, y, 0, stats)
        cpu_plan.run_backward(plan, rows, n, dy, 0, x, w, stats, dx, partial, dw, db)
print("within bounds")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the way to protect a page is Linux's")
@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16", "float64"])
def test_no_memory_beyond_a_tensor_is_touched(name, python):
    """Every buffer ends where a protected page begins; the last line says what was being computed."""
    done = python(BOUNDS.replace("NAME", repr(name)))
    assert done.returncode == 0, [*done.stdout.splitlines()[-1:], done.stderr]
    assert done.stdout.endswith("within bounds\n")
