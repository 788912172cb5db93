"""The sandbox: what comes back of code, and that it ends; test_sandbox_layers.py keeps it from the outside world."""

import os
import platform
import signal
import sys
import time

import msgspec
import numpy as np
import pytest

from normlab.learn import sandbox
from normlab.learn.sandbox import Call, Outcome, parent, seccomp, wire
from normlab.learn.sandbox.outcome import Unfit, read
from normlab.learn.sandbox.parent import supervise

posix = pytest.mark.skipif(os.name != "posix", reason="limits and signals of POSIX")
filtered = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in seccomp._ARCHITECTURES, reason="no system call filter here"
)
X = np.random.default_rng(0).standard_normal((3, 5))
WEIGHT = np.linspace(-1, 2, 5)
FORWARD = Call("forward", {"x": X, "weight": WEIGHT, "eps": 1e-5}, {"y": X.shape})
RIGHT = """
def forward(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight
"""
GIB = 1 << 30


def raw(code: str, *layers: str, calls=(), seconds: float = 20, memory: int = GIB) -> Outcome:
    """Without reading the code first."""
    return supervise(code, calls, seconds, memory, layers)


def body(line: str) -> Outcome:
    return sandbox.run(f"def forward(x, weight, eps):\n    {line}\n", [FORWARD])


# What comes back.


def test_results_come_back_bit_for_bit():
    outcome = sandbox.run(RIGHT, [FORWARD, FORWARD])
    assert outcome.trouble is None
    expected = X / np.sqrt(np.mean(X * X, axis=-1, keepdims=True) + 1e-5) * WEIGHT
    assert len(outcome.results) == 2
    for result in outcome.results:
        np.testing.assert_array_equal(result["y"], expected)


def test_the_engine_differentiates():
    call = Call("norm", {"x": X, "weight": WEIGHT}, {"y": X.shape, "dx": X.shape, "dweight": WEIGHT.shape}, 2 * X)
    outcome = sandbox.run("def norm(x, weight):\n    return x * weight", [call])
    assert outcome.trouble is None
    np.testing.assert_array_equal(outcome.results[0]["dx"], 2 * X * WEIGHT)
    np.testing.assert_allclose(outcome.results[0]["dweight"], (2 * X * X).sum(0), rtol=1e-14)
    cut = sandbox.run("def norm(x, weight):\n    return Tensor(x.data) * weight", [call])
    assert cut.trouble == "no gradient reaches x: the graph is cut on the way to it"
    array = sandbox.run("def norm(x, weight):\n    return x.data * weight.data", [call])
    assert array.trouble == "norm returned ndarray, expected a Tensor"


@pytest.mark.parametrize(
    "function",
    [
        "F.rms_norm(x, (5,), weight)",
        "F.layer_norm(x, (5,), weight)",
        "F.batch_norm(x, training=True) * weight",
        "F.softmax(x) * weight",
    ],
)
def test_the_engines_own_functions_run_under_the_hook(function):
    call = Call("norm", {"x": X, "weight": WEIGHT}, {"y": X.shape, "dx": X.shape, "dweight": WEIGHT.shape}, X)
    assert sandbox.run(f"def norm(x, weight):\n    return {function}", [call]).trouble is None


def test_much_of_numpy_runs_under_the_hook():
    """Nothing that a norm may be written with loads a module, or does else what the hook takes for mischief."""
    code = """
import math
import numpy as np
from numpy import sqrt
def forward(x, weight, eps):
    print(x, f"{x[0, 0]:.3f}", repr(weight), np.array2string(x))
    np.linalg.norm(x), np.einsum("ij,j->i", x, weight), x @ weight, np.dot(x, weight), np.vecdot(x, x)
    np.median(x), np.percentile(x, 30), np.cov(x), np.pad(x, 1), np.vectorize(lambda v: v + 1)(x), np.sort(x)
    np.apply_along_axis(np.mean, 1, x), np.nan_to_num(x), np.allclose(x, x), np.average(x), np.unique(x), np.cumsum(x)
    np.log(x - 100), 1 / np.zeros(3), np.full((2, 2), math.pi), np.finfo(np.float64).eps
    rows = [[float(v) / sqrt(sum(u * u for u in row) / len(row) + eps) for v in row] for row in x]
    return np.array(rows) * weight
"""
    outcome = sandbox.run(code, [FORWARD])
    assert outcome.trouble is None
    assert "array([-1." in outcome.printed


@pytest.mark.parametrize(
    ("line", "trouble"),
    [
        ("return", "forward returned None, expected an array of shape (3, 5)"),
        ("return [1.0]", "forward returned a list, expected an array of shape (3, 5)"),
        ("return x.sum()", "forward returned a float64, expected an array of shape (3, 5)"),
        ("return x[0]", "forward returned an array of shape (5,), expected an array of shape (3, 5)"),
        (
            "return np.zeros((3000, 3000))",
            "forward returned an array of shape (3000, 3000), expected an array of shape",
        ),
        ("return x.astype(object)", "forward returned an array of shape (3, 5) of object, expected an array of shape"),
        ("return x.astype(np.float32)", "(3, 5) of float32, expected an array of shape (3, 5) of float64"),
        ("return x > 0", "forward returned an array of shape (3, 5) of bool, expected"),
        ("return (v for v in x)", "forward returned a generator, expected an array"),
        ("return forward", "forward returned a function, expected"),
        ("x -= 1; return x", "forward has changed its argument x: it must leave it as it is"),
        ("weight[0] = 9; return x", "forward has changed its argument weight: it must leave it as it is"),
        ("return rsm(x)", "line 2: NameError: name 'rsm' is not defined (in forward, x of shape (3, 5))"),
        ("return x @ x", "line 2: ValueError: matmul"),
        ("return forward(x, weight, eps)", "line 2: RecursionError: maximum recursion depth exceeded"),
        ("raise BaseException('out')", "line 2: BaseException: out (in forward"),
        ("raise SystemExit", "line 2: SystemExit (in forward"),
        ("raise KeyboardInterrupt", "line 2: KeyboardInterrupt (in forward"),
    ],
)
def test_a_result_that_is_none_gets_one_sentence(line, trouble):
    outcome = body(line)
    assert outcome.results == ()
    assert outcome.trouble is not None
    assert trouble in outcome.trouble


@pytest.mark.parametrize("value", ["np.nan", "np.inf", "-np.inf"])
def test_what_is_no_number_is_a_result(value):
    np.testing.assert_array_equal(
        body(f"return np.full((3, 5), {value})").results[0]["y"], np.full((3, 5), eval(value))
    )


def test_tuples_are_counted():
    call = Call("f", {"x": X}, {"dx": X.shape, "dweight": (5,)})
    for returned, trouble in [
        ("x", "f returned an array of shape (3, 5), expected 2 arrays: (dx, dweight)"),
        ("(x,)", "f returned 1 results, expected 2: (dx, dweight)"),
        ("(x, x, x)", "f returned 3 results, expected 2: (dx, dweight)"),
        ("(x, x)", "f returned an array of shape (3, 5) as dweight, expected an array of shape (5,)"),
        ("[x] * 10**7", "f returned 10000000 results, expected 2: (dx, dweight)"),
    ]:
        assert sandbox.run(f"def f(x):\n    return {returned}", [call]).trouble == trouble


def test_a_function_must_be_there():
    assert sandbox.run("y = 1", [FORWARD]).trouble == "the code does not define forward(x, weight, eps)"
    assert sandbox.run("forward = 1", [FORWARD]).trouble == "the code does not define forward(x, weight, eps)"
    assert sandbox.run("return 1", [FORWARD]).trouble == "line 1: SyntaxError: 'return' outside function"


@pytest.mark.parametrize(
    "hostile",
    [
        "class E:\n    def __array__(self, *a, **k):\n        while True: pass\n    __len__ = __iter__ = __array__",
        "class E(np.ndarray):\n    tobytes = shape = dtype = property(lambda self: 1 / 0)",
        "class M(type):\n    __name__ = property(lambda self: 1 / 0)\nclass E(metaclass=M):\n    pass",
        "class E(tuple):\n    def __len__(self):\n        while True: pass",
    ],
)
def test_a_hostile_result_is_not_asked_for_its_numbers(hostile):
    make = "np.zeros((3, 5)).view(E)" if "ndarray" in hostile else "E()"
    code = f"{hostile}\ndef forward(x, weight, eps):\n    return {make}"
    outcome = raw(code, *wire.LAYERS, calls=[FORWARD], seconds=20)
    assert outcome.trouble is not None
    assert "stopped after" not in outcome.trouble


def test_a_hostile_error_has_no_text():
    code = "class E(Exception):\n    def __str__(self):\n        raise SystemExit\nraise E"
    assert raw(code, *wire.LAYERS).trouble == "line 4: E"


# Time, memory, prints.


@pytest.mark.parametrize("layers", [(), wire.LAYERS])
@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "import time\ntime.sleep(1000)",
        "9 ** 9 ** 9",
        "import os\nfor i in range(1, 16):\n    try: os.close(i)\n    except OSError: pass\nwhile True: pass",
    ],
)
def test_a_loop_is_stopped(code, layers):
    began = time.monotonic()
    closes = "close" in code
    outcome = raw(code, *layers, seconds=20 if closes else 0.5)
    assert time.monotonic() - began < 15
    stopped = "stopped after 0.5 s: is there a loop that does not end?"
    assert outcome.trouble == ("the process was killed before there was a result" if closes else stopped)


@posix
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS does not limit memory")
@pytest.mark.parametrize(
    "code", ["np.ones(100 * 2**27)", "a = []\nwhile True: a.append(bytes(1 << 20))", "b'x' * 2**36"]
)
def test_memory_is_limited(code):
    outcome = raw(code, "limits", memory=1 << 28)
    assert outcome.trouble is not None
    assert outcome.trouble.endswith("asked for more than 256 MiB of memory")
    assert sandbox.run("a = np.ones(2**37)", []).trouble == "line 1: asked for more than 1 GiB of memory"


@posix
def test_the_systems_limits_are_set():
    names = "'CPU FSIZE NPROC NOFILE CORE'.split()"
    code = f"import resource as r\nfor n in {names}: print(r.getrlimit(getattr(r, 'RLIMIT_' + n)))"
    cpu, *rest = raw(code, "limits", seconds=20).printed.splitlines()
    assert rest == ["(0, 0)", "(0, 0)", "(16, 16)", "(0, 0)"]
    assert 20 < int(cpu.strip("()").split(",")[0]) < 60
    for ended in (signal.SIGXCPU, signal.SIGALRM):
        assert str(parent._ending("end", -ended, 20)).startswith("stopped after 20 s")


@posix
def test_no_file_grows():
    code = "file = open('big', 'wb', buffering=0)\nwhile True: file.write(bytes(1 << 20))"
    assert "OSError" in str(raw(code, "limits").trouble)


def test_prints_are_cut():
    assert raw("print('a\\x1b[2J')", *wire.LAYERS).printed == "a\N{REPLACEMENT CHARACTER}[2J\n"
    for code in ("for i in range(10**6): print('x' * 1000)", "import os\nwhile True: os.write(2, b'x' * 1000)"):
        outcome = raw(code, *wire.LAYERS)
        assert outcome.trouble == "printed more than 1 MiB: is there a print in a loop that does not end?"
        assert len(outcome.printed) == parent.SHOWN


# The channel of results.


@pytest.mark.parametrize(
    ("code", "trouble"),
    [
        ("os._exit(3)", "the code ended the process (status 3) before there was a result"),
        ("write(b'garbage'); os._exit(0)", "the code wrote into the channel of its results"),
        ("write(b'garbage')", "the code wrote into the channel of its results"),
        ("while True: write(bytes(1 << 20))", "the code wrote into the channel of its results"),
    ],
)
def test_a_forged_message_is_no_result(code, trouble):
    tries = "\n    for fd in range(3, 16):\n        try: os.write(fd, data)\n        except OSError: pass\n"
    write = f"import os\ndef write(data):{tries}"
    assert raw(write + code, *wire.LAYERS, calls=[FORWARD]).trouble == trouble


def test_forged_answers_are_checked():
    right = wire.Result("ndarray", "float64", X.shape, X.tobytes())
    assert read(wire.Answer((wire.Returned((right,), None, ()),)), (FORWARD,))[0]["y"].tolist() == X.tolist()
    short = msgspec.structs.replace(right, data=b"x")
    for results in ([], [short], [msgspec.structs.replace(right, data=X.tobytes()[8:])], [right, right]):
        with pytest.raises(Unfit, match="channel"):
            read(wire.Answer((wire.Returned(tuple(results), None, ()),)), (FORWARD,))
    with pytest.raises(Unfit, match="channel"):
        read(wire.Answer(()), (FORWARD,))
    with pytest.raises(Unfit, match="expected an array"):
        read(
            wire.Answer((wire.Returned((msgspec.structs.replace(right, shape=(1 << 62, 1 << 62)),), None, ()),)),
            (FORWARD,),
        )


def test_an_interpreter_that_does_not_start_is_an_error(monkeypatch):
    monkeypatch.setattr(parent, "_CHILD", "raise SystemExit('no NumPy here')")
    with pytest.raises(RuntimeError, match="did not start: no NumPy here"):
        sandbox.run(RIGHT, [FORWARD])


def test_bad_arguments():
    with pytest.raises(TypeError, match="code must be a str"):
        sandbox.run(b"", [])  # pyright: ignore[reportArgumentType]
    for seconds in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="seconds"):
            sandbox.run("", [], seconds=seconds)
    with pytest.raises(ValueError, match="memory must be at least"):
        sandbox.run("", [], memory=1)
    with pytest.raises(ValueError, match="returns must name the result and 1 gradients"):
        Call("f", {"x": X}, {"y": X.shape}, X)


@pytest.mark.parametrize("message", [b"\x81\xa1z" + b"\x91" * 500_000, b"\x81\xa7trouble\xa2\xff\xfe"])
def test_a_forged_answer_that_cannot_be_read_is_trouble(message):
    assert parent._read(message, (FORWARD,), 0) == ((), "the code wrote into the channel of its results")


def test_a_forged_sentence_is_cut():
    forged = msgspec.msgpack.encode(wire.Answer(trouble="x" * 900_000))
    code = f"import os\nfor fd in range(3, 16):\n    try: os.write(fd, {forged[:-900_000]!r} + b'x' * 900_000)\n"
    outcome = raw(code + "    except OSError: pass\nos._exit(0)", *wire.LAYERS, calls=[FORWARD])
    assert outcome.trouble == "x" * 1000


def test_an_error_text_that_cannot_be_sent_is_mended():
    assert sandbox.run("raise ValueError('\\ud800')", []).trouble == "line 1: ValueError: ?"
    huge = sandbox.run("raise ValueError('x' * 10**9)", []).trouble
    assert huge is not None
    assert huge.startswith("line 1: ValueError")


def test_no_place_for_the_folder_is_an_error_of_the_start(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(RuntimeError, match="did not start"):
        sandbox.run(RIGHT, [FORWARD])


def test_gelu_runs_under_the_hook():
    call = Call("norm", {"x": X}, {"y": X.shape, "dx": X.shape}, X)
    assert sandbox.run("def norm(x):\n    return F.gelu(x)", [call]).trouble is None
