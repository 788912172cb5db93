"""The CPU kernels in forked and spawned processes, in processes that start together, and over many calls."""

import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

# What a process runs is in a module, which spawned ones import. Bytes are compared by NumPy: torch's own operations on
# several threads wait forever in a forked child, which is what ours must not do.
WORK = """
import signal
import numpy as np
import torch
from normlab import functional

ROWS, N = 600, 200

def inputs():
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(ROWS, N, generator=generator), torch.randn(N, generator=generator),
            torch.randn(ROWS, N, generator=generator))

def digest():
    \"\"\"The bytes of y, dx and dweight; of LayerNorm with a residual too.\"\"\"
    x, weight, dy = inputs()
    found = []
    for norm in (lambda x, w: functional.rms_norm(x, [N], w),
                 lambda x, w: functional.add_layer_norm(x, x.detach(), [N], w).normed):
        leaves = [x.requires_grad_(), weight.requires_grad_()]
        y = norm(*leaves)
        found += [y.detach(), *torch.autograd.grad(y, leaves, dy)]
    return b"".join(t.numpy().tobytes() for t in found)

def check(expected):
    signal.alarm(60)
    assert digest() == expected

class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        return torch.from_numpy(np.frombuffer(digest(), dtype=np.float32).copy())
"""

FORK = """
import os, signal, torch, work
torch.set_num_threads(2)
expected = work.digest()
pid = os.fork()
if pid == 0:
    status = 1
    try:
        work.check(expected)
        status = 0
    finally:
        os._exit(status)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
# The parent has its threads still.
assert work.digest() == expected
"""

MULTIPROCESSING = """
import torch, work
import torch.multiprocessing as mp
torch.set_num_threads(2)
expected = work.digest()
context = mp.get_context(METHOD)
children = [context.Process(target=work.check, args=(expected,)) for _ in range(2)]
for child in children:
    child.start()
for child in children:
    child.join()
assert [child.exitcode for child in children] == [0, 0]
"""

LOADER = """
import torch, work
torch.set_num_threads(2)
expected = work.digest()
options = {"batch_size": 2, "num_workers": 2, "timeout": 60, "multiprocessing_context": "fork"}
loader = torch.utils.data.DataLoader(work.Rows(), **options)
batches = list(loader)
assert len(batches) == 4
for batch in batches:
    assert all(row.numpy().tobytes() == expected for row in batch)
"""

COLD = """
import torch, normlab
x = torch.full((3, 8), 2.0, requires_grad=True)
y = normlab.functional.rms_norm(x, [8], eps=0.0)
y.sum().backward()
assert torch.equal(y, torch.ones(3, 8))
# What scales all of a row does not move it.
assert x.grad.abs().max() < 1e-6
print(normlab.explain(x, spec=normlab.NormSpec("rmsnorm")).kernel)
"""

MEMORY = """
import resource
import torch
from normlab import functional

def pages():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

torch.set_num_threads(2)
x, residual = (torch.randn(24, 1000).requires_grad_() for _ in range(2))
weight, bias = (torch.randn(1000).requires_grad_() for _ in range(2))

def step():
    total, y = functional.add_layer_norm(x, residual, [1000], weight, bias)
    torch.autograd.grad([total, y], [x, residual, weight, bias], [x.detach(), residual.detach()])

for _ in range(1000):
    step()
before = pages()
for _ in range(10_000):
    step()
print((pages() - before) * resource.getpagesize())
"""


@pytest.fixture
def run(python, tmp_path):
    """Run code beside the module of work; a process that hangs is ended, which is a failure."""
    (tmp_path / "work.py").write_text(WORK)
    path = f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n"

    def checked(code):
        done = python(path + code)
        assert done.returncode == 0, done.stderr

    return checked


unix = pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="there is no fork on Windows")


@unix
def test_a_forked_child_of_a_process_that_used_several_threads(run):
    run(FORK)


@pytest.mark.parametrize("method", [pytest.param("fork", marks=unix), "spawn"])
def test_multiprocessing(run, method):
    run(MULTIPROCESSING.replace("METHOD", repr(method)))


@unix
def test_workers_of_a_data_loader(run):
    """A dataset that normalizes, and differentiates, in forked workers."""
    run(LOADER)


def test_two_cold_processes_at_once(python, tmp_path):
    """Both compile the same kernels into the same empty folder; neither reads what the other has half written."""
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: python(COLD, NORMLAB_CACHE=str(tmp_path)), range(2)))
    for done in both:
        assert (done.returncode, done.stdout) == (0, "numba\n"), done.stderr
    # One file a kernel, and nothing on the way to being one.
    assert sorted(file.name.split("-")[0] for file in tmp_path.iterdir()) == ["backward", "forward"]


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_memory_does_not_grow_over_ten_thousand_calls(python):
    """100 bytes lost in each would be a megabyte."""
    done = python(MEMORY)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1_000_000


INTERRUPTED = """
import signal
import torch
import normlab
from normlab.kernels import cpu_build

x = torch.randn(4, 8)
compiled, found = cpu_build.compiled, []

def slow(variant):
    # While this thread compiles a kernel.
    cpu_build.compiled = compiled
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    for _ in range(10**7):
        if found:
            break
    return compiled(variant)

signal.signal(signal.SIGALRM, lambda *_: found.append(normlab.functional.layer_norm(x, (8,))))
cpu_build.compiled = slow
normlab.functional.rms_norm(x, (8,))
assert len(found) == 1
"""


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no timers that signal")
def test_a_handler_of_a_signal_may_call_a_norm_while_one_compiles(python, tmp_path):
    done = python(INTERRUPTED, NORMLAB_CACHE=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
