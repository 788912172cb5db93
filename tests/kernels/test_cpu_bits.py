"""What the bits of a result depend on, and which memory a CPU kernel touches: its own row's and the parameters'; what
it is given and what it returns, and nothing beside."""

import sys

import pytest
import torch

from normlab import NormSpec, functional
from normlab.kernels import cpu, cpu_plan, cpu_threads

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
# Every way to read and to write once: a parameter's code is the same whatever else there is.
CASES = [("rmsnorm", True, False, True), ("layernorm", True, True, False), ("layernorm", False, True, False)]
def random(*shape):
    return at_the_end(torch.randn(*shape).to(dtype))

for kind, weighted, biased, added in CASES:
    for rows, n in itertools.product((1, 5, 33), (1, 31, 64, 77)):
        print(kind, weighted, biased, added, rows, n, flush=True)
        spec = NormSpec(kind)
        x, dy, y, dx = (random(rows, n) for _ in range(4))
        r, t, dt = (random(rows, n) if added else 0 for _ in range(3))
        w, dw = (random(n) if weighted else 0 for _ in range(2))
        b, db = (random(n) if biased else 0 for _ in range(2))
        stats = at_the_end(torch.empty(rows, 2 if kind == "layernorm" else 1, dtype=torch.float64))
        call = name, name if weighted else "", name if biased else "", added, spec, rows, n, torch.get_num_threads()
        forward, backward = cpu_plan.forward_plan(*call), cpu_plan.backward_plan(*call)
        partial = at_the_end(torch.empty(backward.partial, dtype=torch.uint8))
        cpu_plan.run_forward(forward, x, r, w, b, y, t, stats)
        cpu_plan.run_backward(backward, dy, dt, t or x, w, stats, dx, partial, dw, db)
print("within bounds")
"""


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform != "linux", reason="the way to protect a page is Linux's")
@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16", "float64"])
def test_no_memory_beyond_a_tensor_is_touched(name, python):
    """Every buffer ends where a protected page begins; the last line says what was being computed."""
    done = python(BOUNDS.replace("NAME", repr(name)))
    assert done.returncode == 0, [*done.stdout.splitlines()[-1:], done.stderr]
    assert done.stdout.endswith("within bounds\n")


DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
# Few rows and many, a rest behind the last tile and none; all large enough for several threads, which must be many
# blocks of dweight's sum in the second and a few long rows in the third.
SHAPES = [(40, 1000), (2200, 64), (7, 4224)]
SPECS = {"rmsnorm": NormSpec("rmsnorm"), "layernorm": NormSpec("layernorm")}


def drawn(kind, rows, n, dtype):
    """[x, residual, weight, bias, dy, dtotal]; None for the bias of RMSNorm."""
    x, residual, dy, dtotal = (torch.randn(rows, n).to(dtype) for _ in range(4))
    weight, bias = (torch.randn(n).to(dtype) for _ in range(2))
    return [x, residual, weight, bias if kind == "layernorm" else None, dy, dtotal]


def both_ways(kind, x, residual, weight, bias, dy, dtotal):
    """{name: result} of the two kernels."""
    y, total, stats = cpu.forward(x, residual, weight, bias, x.shape[0], x.shape[1], SPECS[kind])
    assert total is not None
    dx, dweight, dbias = cpu.backward(
        dy, dtotal, total, weight, stats, None if bias is None else bias.dtype, x.shape[0], x.shape[1], SPECS[kind]
    )
    found = {"y": y, "total": total, "stats": stats, "dx": dx, "dweight": dweight, "dbias": dbias}
    return {name: t for name, t in found.items() if t is not None}


def assert_same_bits(got, expected):
    assert got.keys() == expected.keys()
    for name, t in got.items():
        assert torch.equal(t.view(torch.uint8), expected[name].view(torch.uint8)), name


@pytest.fixture
def on_threads():
    """Set the number of threads, until the end of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_threads_and_the_time_of_day_do_not_matter(kind, shape, dtype, on_threads, monkeypatch):
    given = drawn(kind, shape[0], shape[1], dtype)
    expected = both_ways(kind, *given)
    teams, run = [], cpu_threads.run
    monkeypatch.setattr(cpu_threads, "run", lambda code, data, team: (teams.append(team), run(code, data, team))[1])
    for threads in (1, 2, 3, 5):
        on_threads(threads)
        # Which thread takes which rows differs from one time to the next.
        for _ in range(4):
            assert_same_bits(both_ways(kind, *given), expected)
    if cpu_threads._team() is not None:
        assert set(teams) == {1, 2, 3, 5} if shape != (40, 1000) else max(teams) > 1


@pytest.mark.parametrize("n", [33, 64, 4224])
@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_does_not_depend_on_the_others(kind, n, dtype):
    """Alone, or anywhere in a batch: rows go in twos or fours, and what is left one at a time."""
    x, residual, weight, bias, dy, dtotal = drawn(kind, 11, n, dtype)
    whole = both_ways(kind, x, residual, weight, bias, dy, dtotal)
    pieces = [slice(i, i + 1) for i in range(11)] + [slice(0, 2), slice(1, 6), slice(3, 11), slice(4, 8)]
    for piece in pieces:
        part = both_ways(kind, x[piece], residual[piece], weight, bias, dy[piece], dtotal[piece])
        for name in ("y", "total", "stats", "dx"):
            assert torch.equal(part[name], whole[name][piece]), (piece, name)


@pytest.mark.parametrize("n", [33, 64, 4224])
@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_where_a_tensor_lies_does_not_matter(kind, n, dtype):
    """One number off the address that PyTorch's allocator gives, which is a multiple of 64 bytes."""
    given = drawn(kind, 11, n, dtype)
    moved = [None if t is None else torch.cat([t.new_zeros(1), t.view(-1)])[1:].view(t.shape) for t in given]
    assert all(t is None or t.data_ptr() % 64 == t.element_size() for t in moved)
    assert_same_bits(both_ways(kind, *moved), both_ways(kind, *given))


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_stores_past_the_caches_write_the_same(kind, dtype, on_threads, monkeypatch, forget_plans):
    """A later reader on another core must find them, which takes a fence."""
    # 3 rows more than fours, and 3 tiles a row in each dtype.
    given = drawn(kind, 403, 96, dtype)
    monkeypatch.setattr(cpu_plan, "CACHE_SIZE", 1 << 60)
    expected = both_ways(kind, *given)
    streamed = []
    for name in ("run_forward", "run_backward"):
        run = getattr(cpu_plan, name)
        monkeypatch.setattr(cpu_plan, name, lambda plan, *a, run=run: (streamed.append(plan.streams), run(plan, *a)))
    monkeypatch.setattr(cpu_plan, "CACHE_SIZE", 0)
    forget_plans()
    for threads in (1, 2):
        on_threads(threads)
        assert_same_bits(both_ways(kind, *given), expected)
    assert streamed == [True] * 4


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_does_not_see_how_its_neighbours_are_summed(dtype):
    """Statistics are taken a second time where a row's first numbers say little of it, or are none."""
    x = torch.randn(23, 200)
    x[::3, :40] += 100
    x[4, 7], x[9, 0] = torch.nan, torch.inf
    x = x.to(dtype)
    together = functional.layer_norm(x, (200,))
    for row in range(len(x)):
        alone = functional.layer_norm(x[row : row + 1], (200,))
        assert torch.equal(alone.view(torch.uint8), together[row : row + 1].view(torch.uint8)), row
    assert torch.isnan(together).any(1).nonzero().flatten().tolist() == [4, 9]
