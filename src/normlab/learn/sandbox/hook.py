"""An audit hook that ends the process when it reaches for anything but arithmetic.

Python tells audit hooks of every open file, socket, process, import and so on before it happens. Events that code
without such wishes causes are listed; at any other the hook says what was tried and ends the process, so that no
`except` can pass over it.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

_HARMLESS = frozenset(
    {
        "array.__new__",
        "builtins.id",
        "compile",
        "exec",
        "object.__delattr__",
        "object.__getattr__",
        "object.__setattr__",
        "sys._getframe",
        "sys._getframemodulename",
        "sys.excepthook",
        "sys.unraisablehook",
        "time.sleep",
    }
)
_NETWORK = ("ftplib", "http", "imaplib", "poplib", "smtplib", "socket", "ssl", "telnetlib", "urllib")
_NETWORK_MODULES = (*_NETWORK, "_socket", "_ssl", "asyncio", "requests", "xmlrpc")
_PROCESSES = ("subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "os.system", "pty.")
# Functions that make files, processes and modules, and send signals.
_FILES = ("mkfifo", "mknod", "memfd_create", "pidfd_open", "setpriority")
_UNTOLD = {
    "os": _FILES,
    "posix": _FILES,
    "_imp": ("create_builtin",),
    "_posixsubprocess": ("fork_exec",),
    "_signal": ("pidfd_send_signal",),
    "signal": ("pidfd_send_signal",),
}
ARRAYS_ONLY = "only the arrays that are given may be used"
NUMPY_ONLY = "only numpy and math may be used"


def sentence(event: str, arguments: tuple[Any, ...]) -> str:
    """What was tried."""
    first = arguments[0] if arguments else None
    # Of another type its text would be made by the code that is watched.
    named = first if type(first) in (str, bytes, int) else ""
    root = event.partition(".")[0]
    if event == "open":
        return f"tried to open a file ({named!r:.200}): {ARRAYS_ONLY}"
    if event == "import":
        if str(named).partition(".")[0] in _NETWORK_MODULES:
            return f"tried to use the network (import {named:.200})"
        return f"tried to import {named:.200}: {NUMPY_ONLY}"
    if root in _NETWORK:
        return "tried to use the network"
    if event.startswith(_PROCESSES):
        return "tried to start another process"
    if event.startswith("os.kill"):
        return "tried to send a signal to a process"
    if root in ("glob", "os", "pathlib", "shutil", "tempfile"):
        return f"tried to look at or change files ({event}): {ARRAYS_ONLY}"
    if root in ("ctypes", "mmap"):
        return f"tried to reach memory outside of its arrays ({root})"
    if root == "builtins" and "input" in event:
        return "tried to read from the keyboard"
    return f"tried to use {event}: {NUMPY_ONLY}"


def install(tell: Callable[[str], None]) -> None:
    """From now on end this process with a word to `tell` when it tries what it may not."""
    # Held here, for the code could give the modules' names another meaning.
    harmless, end, words = _HARMLESS, os._exit, sentence
    # Python tells no hook of these.
    for module, names in _UNTOLD.items():
        for name in names:
            vars(sys.modules.get(module, os)).pop(name, None)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in harmless:
            try:
                tell(words(event, arguments))
            finally:
                end(1)

    sys.addaudithook(hook)
