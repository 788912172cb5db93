"""What a learner's code may say: read before it runs, so that most trouble has a line and a reason.

It is a courtesy and a first fence. What gets past it meets the limits of the process (limits.py, seccomp.py, hook.py).
"""

import ast
import re
import types
import warnings
from collections.abc import Collection, Iterator

import numpy as np

from normlab.learn.sandbox.hook import ARRAYS_ONLY, NUMPY_ONLY

MODULES = ("math", "numpy", "numpy.linalg")
# What may be imported from others. The engine is loaded where the code is to use it; elsewhere the hook refuses it.
_FROM = {
    "__future__": ("annotations",),
    "typing": ("Any", "Callable", "Optional", "Union"),
    "numpy.typing": ("ArrayLike", "NDArray"),
    "normlab.tensor": ("Tensor", "exp", "log", "maximum", "minimum", "sqrt", "tanh", "where"),
    "normlab.tensor.nn": ("functional",),
}
_FUNCTIONAL = "normlab.tensor.nn.functional"
# A norm has ten lines.
LONGEST = 20_000

_LISTED_BUILTINS = """
__import__ breakpoint compile delattr dir eval exec exit getattr globals help input locals memoryview open quit setattr
vars
"""
# Of NumPy's modules and arrays, and of Python's strings and classes. ndarray.resize and the end of an nditer free
# memory that views still read and write.
_LISTED_ATTRIBUTES = """
DataSource core ctypes ctypeslib distutils dump dumps emath f2py format format_map fromfile frombuffer fromregex
fromstring genfromtxt lib load loads loadtxt memmap modules mro nditer nested_iters
open_memmap rec recfromcsv recfromtxt save savetxt savez savez_compressed setflags sys test testing tofile warnings
"""
_BUILTINS = frozenset(_LISTED_BUILTINS.split())
_ATTRIBUTES = frozenset(_LISTED_ATTRIBUTES.split())
# Of generators, frames and tracebacks.
_FRAMES = re.compile("(ag|co|cr|f|gi|tb)_")
# A text whose fields reach no attributes: "{:.3f}".
_PLAIN = re.compile(r"([^{}]|{{|}}|{\w*(![rsa])?(:[^{}]*)?})*")


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
    nodes = list(ast.walk(tree))
    imported = [alias for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    numpys = {"np", "numpy"} | {a.asname for a in imported if a.name == "numpy" and a.asname}
    # Elsewhere NumPy could get another name, under which its modules, and theirs, would be out of sight.
    fitting = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)} | set(_compared(nodes))
    for node in nodes:
        # Nodes without a line have no names.
        if isinstance(line := getattr(node, "lineno", None), int):
            for said in _about(node, numpys):
                yield line, said
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and id(node) not in fitting:
            if node.id in numpys:
                yield node.lineno, f"{node.id} may only be used with a dot: {node.id}.sqrt"
            elif node.id == "type":
                yield node.lineno, "type may only be compared or printed: type(x) == np.ndarray"


def _compared(nodes: list[ast.AST]) -> Iterator[int]:
    """The id of each `type` of a type(x) that goes no further: the class of classes makes classes of any attributes."""
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    printing = {id(c.func) for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"}
    printed = all(id(node) in printing for node in nodes if "print" in _identifiers(node))
    ends = [part for node in nodes if isinstance(node, ast.Compare) for part in (node.left, *node.comparators)]
    ends += [node.value for node in nodes if isinstance(node, ast.FormattedValue)]
    ends += [part for call in calls if printed and id(call.func) in printing for part in call.args]
    for end in ends:
        match end:
            case ast.Call(func=ast.Name(id="type"), args=[_], keywords=[]):
                yield id(end.func)


def _about(node: ast.AST, numpys: Collection[str]) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            for alias in names:
                if alias.name not in MODULES and (alias.name != _FUNCTIONAL or not alias.asname):
                    yield f"import {alias.name}: only numpy and math may be imported"
        case ast.ImportFrom(module=module, names=names, level=level):
            if not level and all(alias.name in _FROM.get(str(module), ()) for alias in names):
                pass
            elif level or module not in MODULES:
                yield f"from {'.' * level}{module or ''} import: only numpy and math may be imported"
            elif module == "numpy":
                for alias in names:
                    yield from _of_numpy(alias.name)
            for alias in names:
                yield from _attribute(alias.name)
        case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in numpys:
            yield from _attribute(attribute)
            yield from _of_numpy(attribute)
        case ast.Attribute(value=ast.Constant(value=str(text)), attr="format") if _PLAIN.fullmatch(text):
            pass
        case ast.Attribute(attr="resize"):
            yield ".resize may not be used: np.resize makes a new array"
        case ast.Attribute(attr=attribute):
            yield from _attribute(attribute)
        case ast.MatchClass(kwd_attrs=attributes):
            for attribute in attributes:
                yield from _attribute(attribute)
        case ast.Name(id=name) if name in _BUILTINS:
            yield f"{name} may not be used: {ARRAYS_ONLY if name in ('open', 'input') else NUMPY_ONLY}"
        case ast.Name(id="__name__", ctx=ast.Load()) | ast.FunctionDef(name="__init__" | "__call__"):
            pass
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
