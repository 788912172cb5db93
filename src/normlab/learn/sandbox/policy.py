"""What a learner's code may say: read before it runs, so that most trouble has a line and a reason.

It is a courtesy and a first fence. What gets past it meets the limits of the process (limits.py, seccomp.py, hook.py).
"""

import ast
import re
import types
import warnings
from collections.abc import Iterator

import numpy as np

from normlab.learn.sandbox.hook import ARRAYS_ONLY, NUMPY_ONLY

MODULES = ("math", "numpy")
# A norm has ten lines.
LONGEST = 20_000

_LISTED_BUILTINS = """
__import__ breakpoint compile delattr dir eval exec exit getattr globals help input locals memoryview open quit setattr
vars
"""
# Of NumPy's modules and arrays, and of Python's strings and classes.
_LISTED_ATTRIBUTES = """
DataSource core ctypes ctypeslib distutils dump dumps emath f2py format format_map fromfile frombuffer fromregex
fromstring genfromtxt lib load loads loadtxt memmap mro open_memmap rec recfromcsv recfromtxt save savetxt savez
savez_compressed setflags test testing tofile
"""
_BUILTINS = frozenset(_LISTED_BUILTINS.split())
_ATTRIBUTES = frozenset(_LISTED_ATTRIBUTES.split())
# Of generators, frames and tracebacks.
_FRAMES = re.compile("(ag|co|cr|f|gi|tb)_")


def check(code: str) -> str | None:
    """The first thing in the code that is not allowed, in one sentence with its line; None if there is none."""
    if len(code) > LONGEST:
        return f"the code has {len(code)} characters: at most {LONGEST} are read"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(code)
    except SyntaxError as error:
        return f"line {error.lineno}: SyntaxError: {error.msg}" if error.lineno else f"SyntaxError: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"the code cannot be read: {error or 'it is nested too deeply'}"
    found = sorted(_offences(tree), key=lambda offence: offence[0])
    return f"line {found[0][0]}: {found[0][1]}" if found else None


def _offences(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        # Nodes without a line have no names.
        if isinstance(line := getattr(node, "lineno", None), int):
            for said in _about(node):
                yield line, said


def _about(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            for alias in names:
                if alias.name not in MODULES:
                    yield f"import {alias.name}: only numpy and math may be imported"
        case ast.ImportFrom(module=module, names=names, level=level):
            if level or module not in MODULES:
                yield f"from {'.' * level}{module or ''} import: only numpy and math may be imported"
            elif module == "numpy":
                for alias in names:
                    yield from _of_numpy(alias.name)
            for alias in names:
                yield from _attribute(alias.name)
        case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in ("np", "numpy"):
            yield from _attribute(attribute)
            yield from _of_numpy(attribute)
        case ast.Attribute(attr=attribute):
            yield from _attribute(attribute)
        case ast.MatchClass(kwd_attrs=attributes):
            for attribute in attributes:
                yield from _attribute(attribute)
        case ast.Name(id=name) if name in _BUILTINS:
            yield f"{name} may not be used: {ARRAYS_ONLY if name in ('open', 'input') else NUMPY_ONLY}"
        case _:
            for name in _identifiers(node):
                if name.startswith("__"):
                    yield f"{name} may not be used: no name may begin with two underscores"


def _identifiers(node: ast.AST) -> Iterator[str]:
    """All names in a node itself: of what it defines, reads, imports, passes or captures."""
    if isinstance(node, ast.Constant):
        return
    for _, value in ast.iter_fields(node):
        yield from (v for v in (value if isinstance(value, list) else [value]) if isinstance(v, str))


def _attribute(name: str) -> Iterator[str]:
    if name.startswith("_"):
        yield f".{name} may not be used: no attribute may begin with an underscore"
    elif name in _ATTRIBUTES or _FRAMES.match(name):
        yield f".{name} may not be used: {ARRAYS_ONLY}"


def _of_numpy(name: str) -> Iterator[str]:
    # Not getattr, by which NumPy would load some modules here.
    module = name not in vars(np) or isinstance(vars(np)[name], types.ModuleType)
    if name != "linalg" and module and name not in _ATTRIBUTES and not name.startswith("_"):
        yield f"np.{name} may not be used: it is no function of NumPy, or a module"
