"""The sandbox against the outside world: each layer of defence holds without the others; and what may be written."""

import os
import platform
import socket
import sys
import time

import numpy as np
import pytest

from normlab.learn import sandbox
from normlab.learn.sandbox import Call, Outcome, hook, policy, seccomp, wire
from normlab.learn.sandbox.parent import supervise

posix = pytest.mark.skipif(os.name != "posix", reason="processes and signals of POSIX")
filtered = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in seccomp._ARCHITECTURES, reason="no system call filter here"
)
X = np.ones((3, 5))
FORWARD = Call("forward", {"x": X}, {"y": X.shape})


def raw(code: str, *layers: str, calls=(), seconds: float = 20) -> Outcome:
    """Without reading the code first."""
    return supervise(code, calls, seconds, 1 << 30, layers)


def attempt(code: str, layer: str) -> None:
    """With that layer alone the attempt is refused, caught or not. Tests show without a layer that it would succeed."""
    caught = "try:\n    " + code.replace("\n", "\n    ") + "\nexcept BaseException: pass\n" + "def forward(x): return x"
    outcome = raw(code, layer)
    if layer == "hook":
        assert str(outcome.trouble).startswith("tried to")
        assert str(raw(caught, layer, calls=[FORWARD]).trouble).startswith("tried to")
    else:
        # A file that holds a module cannot be read either.
        assert any(error in str(outcome.trouble) for error in ("PermissionError", "ImportError", "ModuleNotFoundError"))
        raw(caught, layer, calls=[FORWARD])


each_layer = pytest.mark.parametrize("layer", ["hook", pytest.param("seccomp", marks=filtered)])


@each_layer
def test_files_are_out_of_reach(layer, tmp_path):
    secret, new = tmp_path / "secret", tmp_path / "new"
    secret.write_text("sesame")
    read_it, remove, write = (
        f"print(open({str(secret)!r}).read())",
        f"os.remove({str(secret)!r})",
        f"open({str(new)!r}, 'w')",
    )
    changes = [write, f"open({str(secret)!r}, 'w')", f"import os\n{remove}", f"import os\nos.mkdir({str(new)!r})"]
    changes += [f"import os\nos.rename({str(secret)!r}, {str(new)!r})", f"import os\nos.chmod({str(secret)!r}, 0)"]
    mode = secret.stat().st_mode
    for code in (read_it, *changes, "open('inside', 'w')"):
        attempt(code, layer)
    assert secret.read_text() == "sesame"
    assert secret.stat().st_mode == mode
    assert list(tmp_path.iterdir()) == [secret]
    assert "sesame" not in raw(read_it, layer).printed
    assert raw(read_it).printed == "sesame\n"
    raw(f"import os\n{remove}")
    assert not secret.exists()


def test_the_message_names_the_file():
    trouble = "tried to open a file ('/etc/passwd'): only the arrays that are given may be used"
    assert raw("open('/etc/passwd')", *wire.LAYERS).trouble == trouble


@each_layer
def test_the_network_is_out_of_reach(layer):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        for name in ("_socket", "socket"):
            code = f"import {name} as s\nc = s.socket()\nc.connect({server.getsockname()!r})\nc.send(b'x')"
            attempt(code, layer)
            with pytest.raises(BlockingIOError):
                server.accept()
        raw(code)
        server.settimeout(20)
        server.accept()[0].close()
    assert hook.sentence("socket.connect", ()) == "tried to use the network"
    assert raw("import socket", "hook").trouble == "tried to use the network (import socket)"


@posix
@each_layer
def test_no_process_is_started_or_signalled(layer):
    attempt("import os\nwhile True: os.fork()", layer)
    attempt("import os\nos.execv('/bin/true', ['true'])", layer)
    attempt("import os\nos.posix_spawn('/bin/true', ['true'], {})", layer)
    attempt(f"import os, signal\nos.kill({os.getpid()}, signal.SIGTERM)", layer)
    attempt("import subprocess\nsubprocess.run(['true'])", layer)


def test_memory_of_others_is_out_of_reach():
    code = "import ctypes\nctypes.string_at(0)"
    assert raw(code, "hook").trouble == "tried to reach memory outside of its arrays (ctypes)"
    if os.name == "posix":
        crashed = "the interpreter crashed (SIGSEGV): is there a recursion that does not end, or no memory left?"
        assert raw(code).trouble == crashed


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="the state of a process stands in /proc")
def test_children_end_with_the_process():
    outcome = raw("import os\npid = os.fork()\nif pid: print(pid, flush=True)\nwhile True: pass", seconds=3)
    assert outcome.trouble == "stopped after 3 s: is there a loop that does not end?"
    state = "R"
    for _ in range(100):
        try:
            with open(f"/proc/{int(outcome.printed)}/stat", encoding="ascii") as file:
                state = file.read().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            state = "X"
        if state in "ZX":
            break
        time.sleep(0.1)
    assert state in "ZX"


def test_the_folder_is_empty_and_removed_and_the_environment_is_small(monkeypatch):
    monkeypatch.setenv("SECRET", "sesame")
    code = (
        "import os\nprint(os.getcwd(), os.listdir(), 'SECRET' in os.environ)\nopen('left', 'w').close()\nos.mkdir('a')"
    )
    for end in ("", "\nwhile True: pass"):
        folder, *rest = raw(code + end, seconds=3).printed.split()
        assert rest == ["[]", "False"]
        assert not os.path.exists(folder)


@pytest.mark.parametrize(
    ("code", "trouble"),
    [
        ("x = 1\nimport os", "line 2: import os: only numpy and math may be imported"),
        ("import numpy as np, sys", "line 1: import sys: only"),
        ("import numpy.lib", "line 1: import numpy.lib: only"),
        ("from os import path", "line 1: from os import: only"),
        ("from . import a", "line 1: from . import: only"),
        ("from numpy import load", "line 1: .load may not be used: only the arrays that are given may be used"),
        ("from numpy import random", "line 1: np.random may not be used: it is no function of NumPy, or a module"),
        ("from numpy import __loader__", "line 1: "),
        ("open('/etc/passwd')", "line 1: open may not be used: only the arrays that are given may be used"),
        ("f = open", "line 1: open may not be used"),
        ("eval('1')", "line 1: eval may not be used: only numpy and math may be used"),
        ("exec('1')", "line 1: exec may not"),
        ("compile('1', '', 'exec')", "line 1: compile may not"),
        ("getattr(np, 'load')", "line 1: getattr may not"),
        ("setattr(np, 'load', 1)", "line 1: setattr may not"),
        ("globals()", "line 1: globals may not"),
        ("input()", "line 1: input may not be used"),
        ("__import__('os')", "line 1: __import__ may not"),
        ("__builtins__", "line 1: __builtins__ may not be used: no name may begin with two underscores"),
        ("().__class__", "line 1: .__class__ may not be used: no attribute may begin with an underscore"),
        ("np._core", "line 1: ._core may not"),
        ("x = y._data", "line 1: ._data may not"),
        ("np.load('a')", "line 1: .load may not"),
        ("x.tofile('a')", "line 1: .tofile may not"),
        ("np.fromfile('a')", "line 1: .fromfile may not"),
        ("np.memmap('a')", "line 1: .memmap may not"),
        ("np.ctypeslib", "line 1: .ctypeslib may not"),
        ("np.lib.stride_tricks", "line 1: .lib may not"),
        ("np.random.seed(0)", "line 1: np.random may not"),
        ("np.testing.measure('1')", "line 1: .testing may not"),
        ("'{0.__class__}'.format(1)", "line 1: .format may not"),
        ("(i for i in x).gi_frame", "line 1: .gi_frame may not"),
        ("def __f(): pass", "line 1: __f may not"),
        ("class __A: pass", "line 1: __A may not"),
        ("def f(__a): pass", "line 1: __a may not"),
        ("f(__a=1)", "line 1: __a may not"),
        ("import numpy as __a", "line 1: __a may not"),
        ("def f():\n    global __a", "line 2: __a may not"),
        ("try: pass\nexcept Exception as __a: pass", "line 2: __a may not"),
        ("match 1:\n    case object(__class__=c): pass", "line 2: .__class__ may not"),
        ("match 1:\n    case __a: pass", "line 2: __a may not"),
        ("match 1:\n    case [*__a]: pass", "line 2: __a may not"),
        ("match 1:\n    case {**__a}: pass", "line 2: __a may not"),
        ("f'{().__class__}'", "line 1: .__class__ may not"),
        ("y = x +", "line 1: SyntaxError: invalid syntax"),
        ("if x:\ny = 1", "line 2: SyntaxError: expected an indented block after 'if' statement on line 1"),
        ("x = 1\0", "null bytes"),
        ("(" * 9000, "line 1: SyntaxError: too many nested parentheses"),
        ("-" * 19_000 + "1", ""),
        ("x" + ".a" * 9000, ""),
        ("#" * 20_001, "the code has 20001 characters: at most 20000 are read"),
    ],
)
def test_what_may_not_be_written_is_named_with_its_line(code, trouble):
    said = sandbox.run(code, [FORWARD]).trouble
    assert said is not None
    assert trouble in said
    assert len(said) < 200


def test_what_may_be_written():
    code = '''
"""__doc__ strings may hold anything: open, __import__, \\d."""
import math
import numpy
import numpy as np
from numpy import sqrt, mean as average
from numpy import linalg
class Norm:
    eps = np.float64(1e-5)
    def call(self, x, *, axis=-1, **_):
        return x / (sqrt(average(x * x, axis, keepdims=True)) + self.eps + np.pi * 0)
def forward(x: np.ndarray) -> "np.ndarray":
    y, _ = Norm().call(x)[..., None], np.linalg.norm(x) + math.sqrt(2) + numpy.ones(1).item()
    assert isinstance(y, np.ndarray) and x.T.shape == (5, 3) and x.dtype == np.float64
    return y.squeeze()
'''
    assert policy.check(code) is None
    outcome = sandbox.run(code, [FORWARD])
    assert outcome.trouble is None
    np.testing.assert_allclose(outcome.results[0]["y"], 1 / 1.00001)


def test_the_code_is_read_before_anything_runs(monkeypatch):
    monkeypatch.setattr("normlab.learn.sandbox.parent.supervise", lambda *_: pytest.fail("it ran"))
    assert sandbox.run("import os", []).trouble == "line 1: import os: only numpy and math may be imported"


def test_the_hook_has_a_sentence_for_every_event():
    for event, arguments, words in [
        ("open", (3, "r", 0), "tried to open a file (3): only the arrays that are given may be used"),
        ("open", (object(), "r", 0), "tried to open a file (''): only"),
        ("import", ("urllib.request", None), "tried to use the network (import urllib.request)"),
        ("import", ("pandas", None), "tried to import pandas: only numpy and math may be used"),
        ("socket.__new__", (), "tried to use the network"),
        ("os.system", (b"ls",), "tried to start another process"),
        ("os.killpg", (1, 9), "tried to send a signal to a process"),
        ("shutil.rmtree", ("a",), "tried to look at or change files (shutil.rmtree)"),
        ("mmap.__new__", (), "tried to reach memory outside of its arrays (mmap)"),
        ("builtins.input", ("",), "tried to read from the keyboard"),
        ("gc.get_objects", (), "tried to use gc.get_objects: only numpy and math may be used"),
    ]:
        assert hook.sentence(event, arguments).startswith(words)


@pytest.mark.parametrize(
    ("code", "trouble"),
    [
        # Arrays over any memory, and over memory that was given back.
        ("A = type('A', (), {'__array_' + 'interface__': {}})", "line 1: type may only"),
        ("class M(type): pass", "line 1: type may only"),
        ("t = type(int)", "line 1: type may only"),
        ("def print(t): t('A', (), {})\nprint(type(int))", "line 2: type may only"),
        ("a = np.ones(9)\na.resize((0,), refcheck=False)", "line 2: .resize may not"),
        ("np.ndarray.resize(a, 0)", "line 1: .resize may not"),
        ("np.nditer(a)", "line 1: .nditer may not"),
        # NumPy under another name.
        ("n = np\nn.ma.extras.warnings.sys", "line 1: np may only be used with a dot"),
        ("import numpy as n\nn.ma", "line 2: np.ma may not"),
        ("import numpy as n\n[n]", "line 2: n may only be used with a dot"),
        ("x.extras.sys", "line 1: .sys may not"),
        ("'{:{0.a}}'.format(1)", "line 1: .format may not"),
        ("'{0[a]}'.format(1)", "line 1: .format may not"),
        ("from typing import get_type_hints", "line 1: from typing import: only"),
        ("from normlab.tensor import load", "line 1: from normlab.tensor import: only"),
        ("from typing import Any as __a", "line 1: __a may not"),
        ("import normlab.tensor.nn.functional", "line 1: import normlab"),
    ],
)
def test_ways_around_the_fence_are_closed(code, trouble):
    assert str(policy.check(code)).startswith(trouble)


def test_a_class_imports_hints_and_formats_may_be_written():
    code = """
from __future__ import annotations
from typing import Optional
import numpy as n
import numpy.linalg as LA
from numpy.linalg import norm
from numpy.typing import NDArray
class Norm:
    def __init__(self, eps: Optional[float] = 0.0): self.eps = eps
    def __call__(self, x: NDArray): return n.resize(x, x.shape) / (LA.norm(x) / norm(x)) + self.eps
def forward(x):
    print(type(x), "{:.2f} {}".format(1, 2), f"{type(x)}", type(x) is np.ndarray)
    return Norm()(x)
if __name__ == "__main__":
    print(forward(np.ones(3)))
"""
    outcome = sandbox.run(code, [FORWARD])
    assert outcome.trouble is None
    assert "1.00 2" in outcome.printed
    engine = "from normlab.tensor import Tensor, sqrt\nimport normlab.tensor.nn.functional as F\n"
    engine += "from normlab.tensor.nn import functional\ndef norm(x): return sqrt(x) * F.relu(x)"
    call = Call("norm", {"x": X}, {"y": X.shape, "dx": X.shape}, X)
    assert sandbox.run(engine, [call]).trouble is None
    here = sandbox.run("from normlab.tensor import Tensor", [FORWARD]).trouble
    assert here == "tried to import normlab.tensor: only numpy and math may be used"


@posix
def test_what_python_tells_no_hook_of_is_gone():
    code = "import sys\nfor n in ('mkfifo', 'mknod', 'pidfd_open'):\n    assert not hasattr(sys.modules['posix'], n)\n"
    code += "assert not hasattr(sys.modules['_imp'], 'create_builtin')\nsys.modules['os'].mkfifo('inside')"
    assert "AttributeError" in str(raw(code, "hook").trouble)
