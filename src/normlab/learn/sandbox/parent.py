"""Running code in a process of its own, and ending that whatever it does."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from normlab import _check
from normlab.learn.sandbox import policy
from normlab.learn.sandbox.outcome import Call, Outcome, Unfit, read
from normlab.learn.sandbox.wire import LAYERS, READY, Answer, Request

# To load NumPy, or the engine: 0.3 s, and more on a machine that is busy or has not read them since it was started.
START = 60.0
# Bytes: for the sentence about a lack of memory.
LEAST = 1 << 26
# Bytes: of prints that end the process, and of prints that are shown.
FLOOD, SHOWN = 1 << 20, 10_000
# Characters: of a sentence about the trouble.
LONGEST = 1000
# It finds modules where this process does.
_CHILD = "import sys; sys.path[:] = sys.argv[1:]; from normlab.learn.sandbox.child import main; main()"
# One thread, whatever NumPy computes with; no compiler, which would need files.
_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"),
    "NUMBA_DISABLE_JIT": "1",
}
# Without these the interpreter does not start on some machines.
_NEEDED = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def run(code: str, calls: Sequence[Call], *, seconds: float = 5, memory: int = 1 << 30) -> Outcome:
    """Run Python code, call functions that it defines, and give back their results.

    The code finds `np` and `math` there, and for calls with an `upstream` gradient `Tensor` and `F`
    (`normlab.tensor.nn.functional`). Calls are made in order, in one process; the first trouble ends it.

    Args:
        code: Python.
        calls: of its functions.
        seconds: for all of it, once the interpreter has started.
        memory: bytes that it may ask for, at least 64 MiB.

    Raises:
        RuntimeError: when the interpreter does not start, which is not the code's doing.
        TypeError, ValueError: for arguments that are not as above.
    """
    if not isinstance(code, str):
        raise TypeError(f"code must be a str, got {type(code).__name__}")
    _check.number("seconds", seconds, above=0)
    _check.whole("memory", memory, least=LEAST)
    refused = policy.check(code)
    return Outcome(trouble=plain(refused)) if refused else supervise(code, calls, seconds, memory)


def supervise(
    code: str, calls: Sequence[Call], seconds: float, memory: int, layers: tuple[str, ...] = LAYERS
) -> Outcome:
    """`run` without reading the code first, and with these layers alone."""
    sizes = [_numbers(shape) for call in calls for shape in call.returns.values()]
    request = Request(
        code, tuple(call.asked() for call in calls), max(sizes, default=0), float(seconds), memory, layers
    )
    limit = FLOOD + 8 * sum(sizes)
    with contextlib.ExitStack() as stack:
        try:
            process = stack.enter_context(_started(msgspec.msgpack.encode(request)))
        except OSError as error:
            raise RuntimeError(f"the interpreter for the code did not start: {error}") from error
        watch = _Watch(process, limit)
        try:
            end = watch.end(seconds)
        finally:
            _kill(process)
            watch.stop()
    if end == "unstarted":
        last = watch.printed.text().strip().splitlines()[-1:] or ["it said nothing"]
        raise RuntimeError(f"the interpreter for the code did not start: {last[0]}")
    printed = watch.printed.text()
    results, trouble = (), _ending(end, process.returncode, seconds)
    if trouble is None:
        results, trouble = _read(bytes(watch.answer.got[1:]), tuple(calls), process.returncode)
    return Outcome(() if trouble else results, None if trouble is None else plain(trouble[:LONGEST]), printed)


def plain(text: str) -> str:
    """A text on its way to a terminal: without control characters, line ends and tabs excepted."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _numbers(shape: tuple[int, ...]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total


@contextlib.contextmanager
def _started(request: bytes) -> Iterator["subprocess.Popen[bytes]"]:
    """A child with a request before it, in an empty folder that is removed after it."""
    environment = _ENVIRONMENT | {name: os.environ[name] for name in _NEEDED if name in os.environ}
    places = [*map(os.path.abspath, sys.path), str(Path(__file__).parents[3])]
    if not sys.executable:
        raise FileNotFoundError("Python does not know its own program")
    command = [sys.executable, "-I", "-B", "-u", "-X", "utf8", "-W", "ignore", "-c", _CHILD, *places]
    with (
        tempfile.TemporaryDirectory(prefix="normlab-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as message,
    ):
        message.write(request)
        message.seek(0)
        environment |= {"HOME": folder, "TMPDIR": folder, "TEMP": folder, "TMP": folder}
        with subprocess.Popen(
            command,
            stdin=message,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=folder,
            env=environment,
            # A process group of its own, to be ended as one.
            start_new_session=True,
        ) as process:
            yield process


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End the process and all of its group, before it is waited for: until then its number is not given to another."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


class _Reader(threading.Thread):
    """Reads a pipe to its end, but no more than `limit` bytes."""

    def __init__(self, descriptor: int, limit: int, said: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self.descriptor, self.limit, self.said = descriptor, limit, said
        self.got, self.stopped = bytearray(), False

    def run(self) -> None:
        while not self.stopped and (chunk := os.read(self.descriptor, 1 << 16)):
            first = not self.got
            self.got += chunk
            if first:
                self.said("begun")
            if len(self.got) > self.limit:
                self.said("flood")
                return
        self.said("end")

    def text(self) -> str:
        """The beginning, as text."""
        return plain(bytes(self.got[:SHOWN]).decode("utf-8", "replace"))


class _Watch:
    """Two readers, and a clock."""

    def __init__(self, process: "subprocess.Popen[bytes]", limit: int) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.answer = _Reader(process.stdout.fileno(), limit, self.said.put)
        self.printed = _Reader(
            process.stderr.fileno(), FLOOD, lambda word: self.said.put("printed") if word == "flood" else None
        )
        self.answer.start()
        self.printed.start()

    def end(self, seconds: float) -> str:
        """How it ends: "end", "flood", "printed", "time" or "unstarted"."""
        try:
            first = self.said.get(timeout=START)
        except queue.Empty:
            return "unstarted"
        if first != "begun" or not self.answer.got.startswith(READY):
            return "unstarted"
        try:
            return self.said.get(timeout=seconds)
        except queue.Empty:
            return "time"

    def stop(self) -> None:
        """Let the readers take what is left. Should a pipe be held open by a process that got away, leave them."""
        for reader in (self.answer, self.printed):
            reader.join(1)
            reader.stopped = True


def _ending(end: str, code: int, seconds: float) -> str | None:
    """What is wrong with the way in which the process ended; None where it ended by itself, perhaps with an answer."""
    died = signal.Signals(-code).name if code < 0 and -code in set(signal.Signals) else ""
    if end == "time" or died in ("SIGXCPU", "SIGALRM"):
        return f"stopped after {seconds:g} s: is there a loop that does not end?"
    if end == "printed":
        return "printed more than 1 MiB: is there a print in a loop that does not end?"
    if end == "flood":
        return "the code wrote into the channel of its results"
    if died and died != "SIGKILL":
        return f"the interpreter crashed ({died}): is there a recursion that does not end, or no memory left?"
    return None


def _read(message: bytes, calls: tuple[Call, ...], code: int) -> tuple[tuple, str | None]:
    """The results, or the trouble, of a process that has closed its channel."""
    if not message:
        how = "the process was killed" if code < 0 else f"the code ended the process (status {code})"
        return (), f"{how} before there was a result"
    try:
        answer = msgspec.msgpack.decode(message, type=Answer)
        return ((), answer.trouble) if answer.trouble else (read(answer, calls), None)
    except Unfit as unfit:
        return (), str(unfit)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return (), "the code wrote into the channel of its results"
