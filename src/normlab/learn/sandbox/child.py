"""The process in which a learner's code runs.

Reads a Request from the standard input; writes READY, and an Answer, to what was the standard output. What the code
prints goes to the standard error. Everything is loaded, and the message read, before the layers of defence are put on.
"""

import math
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from types import CodeType
from typing import Any, NoReturn

import msgspec
import numpy as np

# np.median and np.unique load the one when they are first used, which the hook would take for the code's doing. The
# code may import the other.
import numpy.ma
import numpy.typing

from normlab.learn.sandbox import hook, limits, seccomp
from normlab.learn.sandbox.wire import READY, Answer, Asked, Numbers, Request, Result, Returned, size

FILENAME = "<answer>"


class Trouble(Exception):
    """One sentence."""


def _channels() -> tuple[Request, int]:
    """The request, and where to answer; then the standard streams lead to the parent's reader of prints."""
    request = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Request)
    answers = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return request, answers


def _writer(answers: int) -> Callable[[bytes], None]:
    write = os.write

    def send(message: bytes) -> None:
        rest = memoryview(message)
        while rest:
            rest = rest[write(answers, rest) :]

    return send


def _namespace(code: str, *, engine: bool) -> dict[str, Any]:
    """What the code finds there."""
    names: dict[str, Any] = {"__name__": "answer", "np": np, "math": math}
    if engine:
        import normlab.tensor.nn.functional as functional
        from normlab.kernels.cpu_build import unusable
        from normlab.tensor import Tensor

        # It looks for Numba's files the first time, which the hook would take for the code's doing.
        unusable()
        names |= {"Tensor": Tensor, "F": functional}
        if "gelu" in code:
            # F.gelu loads it when it is first used.
            import scipy.special  # noqa: F401
    return names


def _words(error: BaseException, memory: int) -> str:
    """The line, the type and the text of an error."""
    line, trace = None, error.__traceback__
    while trace is not None:
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == FILENAME else line
        trace = trace.tb_next
    if isinstance(error, SyntaxError):
        line = error.lineno
    where = "" if line is None else f"line {line}: "
    if isinstance(error, MemoryError):
        return f"{where}asked for more than {size(memory)} of memory"
    try:
        text = str(error.msg if isinstance(error, SyntaxError) else error)[:500]
    except BaseException:
        text = ""
    return _sendable(f"{where}{type(error).__name__[:100]}{': ' * bool(text)}{text}"[:500])


def _sendable(text: str) -> str:
    """A text without halves of characters, which UTF-8 does not have."""
    return text.encode("utf-8", "replace").decode()


def _described(value: Any, most: int) -> Result:
    # A subclass could do as it likes when it is asked for its numbers.
    if type(value) is not np.ndarray:
        return Result(_sendable(type(value).__name__[:100]))
    described = Result("ndarray", _sendable(str(value.dtype)[:100]), value.shape)
    if value.dtype != np.float64 or value.size > most:
        return described
    return Result("ndarray", "float64", value.shape, Numbers.of(value).data)


def _call(function: Callable[..., Any], call: Asked, most: int) -> Returned:
    values = {name: v.array() if isinstance(v, Numbers) else v for name, v in call.arguments}
    arrays = {name: v for name, v in values.items() if isinstance(v, np.ndarray)}
    before = {name: v.tobytes() for name, v in arrays.items()}
    count = None
    if call.upstream is None:
        result = function(*values.values())
        if call.results > 1 and type(result) in (tuple, list):
            count = len(result)
            results = list(result[: call.results])
        else:
            results = [result]
    else:
        y, tensors = _applied(call.function, function, values)
        if y.shape == call.upstream.shape and y.requires_grad:
            y.backward(call.upstream.array())
        results = [y.data, *(t.grad for t in tensors.values())]
        arrays = {name: t.data for name, t in tensors.items()}
    changed = tuple(name for name, v in arrays.items() if v.tobytes() != before[name])
    return Returned(tuple(_described(value, most) for value in results), count, changed)


def _applied(name: str, function: Callable[..., Any], values: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The result on Tensors, and those that were made of the arrays."""
    from normlab.tensor import Tensor

    tensors = {n: Tensor(v, requires_grad=True) for n, v in values.items() if isinstance(v, np.ndarray)}
    y = function(*(tensors.get(n, v) for n, v in values.items()))
    if type(y) is not Tensor:
        raise Trouble(f"{name} returned {type(y).__name__}, expected a Tensor")
    return y, tensors


def _compiled(request: Request) -> CodeType | Answer:
    """The code, or what is wrong with it. Python looks for the file of a line that it cannot compile."""
    try:
        return compile(request.code, FILENAME, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Answer(trouble=_words(error, request.memory))


def _compute(request: Request, code: CodeType, names: dict[str, Any]) -> Answer:
    """Run the code, then make the calls."""
    # What is said of a lack of memory needs some.
    reserve = [bytearray(1 << 24)]
    where = ""
    try:
        exec(code, names)
        returned = []
        for call in request.calls:
            function = names.get(call.function)
            if not callable(function):
                signature = ", ".join(name for name, _ in call.arguments)
                raise Trouble(f"the code does not define {call.function}({signature})")
            arrays = [f"{name} of shape {v.shape}" for name, v in call.arguments if isinstance(v, Numbers)]
            where = f" (in {call.function}, {arrays[0]})" if arrays else f" (in {call.function})"
            returned.append(_call(function, call, request.most))
        return Answer(tuple(returned))
    except Trouble as trouble:
        return Answer(trouble=str(trouble))
    except BaseException as error:
        reserve.clear()
        return Answer(trouble=_words(error, request.memory) + where)


def main() -> NoReturn:
    """Do what the request says, and end."""
    request, answers = _channels()
    send, encode = _writer(answers), msgspec.msgpack.encode
    names = _namespace(request.code, engine=any(call.upstream is not None for call in request.calls))

    def tell(tried: str) -> None:
        with suppress(BaseException):
            sys.stdout.flush()
        send(encode(Answer(trouble=tried)))

    if "limits" in request.layers:
        limits.apply(request.seconds, request.memory)
    if "seccomp" in request.layers:
        seccomp.apply()
    send(READY)
    compiled = _compiled(request)
    if "hook" in request.layers:
        hook.install(tell)
    with np.errstate(all="ignore"):
        answer = compiled if isinstance(compiled, Answer) else _compute(request, compiled, names)
    with suppress(BaseException):
        sys.stdout.flush()
    send(encode(answer))
    os._exit(0)
