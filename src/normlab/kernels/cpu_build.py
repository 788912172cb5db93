"""From a kernel's body to the address of its machine code.

Numba compiles a body once for a kind of processor; the object code is kept in a folder and loaded by every later
process through llvmlite alone, in a few milliseconds, where importing Numba takes 0.2 s.

The folder is $NORMLAB_CACHE, or normlab/ in the user's cache folder ($XDG_CACHE_HOME, ~/.cache). Files are written
whole or not at all; their names say everything that the code depends on, so that none is ever out of date. Where there
is no such folder, every process compiles, and one warning says so.
"""

import hashlib
import os
import platform
import stat
import tempfile
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

SOURCES = tuple(f"cpu_{name}.py" for name in ("args", "backward", "build", "forward", "memory", "sweeps", "vector"))
ENTRY = "normlab_kernel"


class BuildError(RuntimeError):
    """Machine code could not be made."""


class Variant(NamedTuple):
    """Which kernel: see `cpu_forward` and `cpu_backward`. Element types by torch's names, "" where there is none. How
    many rows go together does not change the bits."""

    direction: str
    layer: bool
    x: str
    weight: str
    bias: str
    add: bool
    shifted: bool
    cast: bool
    together: int


@cache
def unusable() -> str | None:
    """Why no kernel of this module can run on this machine, or None."""
    try:
        if find_spec("llvmlite") is None or find_spec("numba") is None:
            return "Numba is not installed (pip install numba)"
        if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
            return "Numba's compiler is switched off (NUMBA_DISABLE_JIT)"
        import llvmlite.binding as llvm

        features = llvm.get_host_cpu_features()
    except Exception as error:
        # Of whatever kind: a library that is missing, versions that do not fit, an import hook that forbids it.
        return f"Numba cannot be imported: {type(error).__name__}: {error}"
    if platform.machine().lower() in ("x86_64", "amd64"):
        missing = [name for name in ("fma", "f16c") if not features.get(name)]
        if missing:
            return f"this processor has no {' and no '.join(missing)}"
    return None


def folder() -> Path | None:
    """Where object code is kept; None where there is no place for it."""
    given = os.environ.get("NORMLAB_CACHE")
    if given:
        try:
            # Files of settings hold a ~ as it was typed.
            return Path(given).expanduser()
        except RuntimeError:
            return Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "normlab"
    except RuntimeError:
        # A user without a home.
        return _shared()


def _shared() -> Path | None:
    """A folder for this user where everybody may make one, or None: whoever else can write to it, or has made it, would
    have their machine code run here."""
    user = os.getuid() if hasattr(os, "getuid") else None
    try:
        path = Path(tempfile.gettempdir()) / f"normlab-{'' if user is None else user}"
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError:
        return None
    others = stat.S_IWGRP | stat.S_IWOTH
    owned = user is None or (found.st_uid == user and not found.st_mode & others)
    return path if owned and stat.S_ISDIR(found.st_mode) else None


def _machine() -> tuple[str, str]:
    """The processor's name and features, in LLVM's words."""
    import llvmlite.binding as llvm

    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def wide() -> bool:
    """Whether a register holds 64 bytes, a whole line of a tile's row; there are 32 of these."""
    return "+avx512f" in _machine()[1].split(",")


def _target() -> Any:
    """This processor as a target; each engine owns one."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu, features = _machine()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="static", codemodel="jitdefault", jit=True
    )


def _version(package: str) -> str:
    """From the package's metadata: importing Numba takes longer than all the rest."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


@cache
def _digest() -> str:
    """Of all that object code depends on beside the variant."""
    import llvmlite.binding as llvm

    here = Path(__file__).parent
    versions = [_version(package) for package in ("numba", "llvmlite")]
    parts = [*_machine(), str(llvm.llvm_version_info), *versions, *((here / name).read_text() for name in SOURCES)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def compiled(variant: Variant) -> bytes:
    """The object code of a variant: one function ENTRY(arguments) that depends on nothing else.

    Raises:
        ImportError: without Numba.
    """
    import llvmlite.binding as llvm
    import numba

    from normlab.kernels.cpu_backward import backward
    from normlab.kernels.cpu_forward import forward
    from normlab.kernels.cpu_memory import ELEMENTS

    direction, layer, *names, add, shifted, cast, together = variant
    types = [ELEMENTS.get(name) for name in names]
    make = forward if direction == "forward" else backward
    function = make(*types, layer=layer, add=add, shifted=shifted, cast=cast, together=together)
    body = numba.cfunc("void(voidptr)", error_model="numpy")(function)
    module = llvm.parse_assembly(body.inspect_llvm())
    # Numba's own wrapper reports exceptions through Numba, which is not there when the code is loaded again. The body
    # raises none; this wrapper takes its place.
    defined = [function for function in module.functions if not function.is_declaration]
    (inner,) = (function.name for function in defined if not function.name.startswith("cfunc."))
    for function in defined:
        function.linkage = "external" if function.name == inner else "internal"
    wrapper = f"""
        declare i32 @"{inner}"(ptr, ptr, ptr)
        define void @{ENTRY}(ptr %arguments) {{
            %result = alloca ptr
            %exception = alloca ptr
            %status = call i32 @"{inner}"(ptr %result, ptr %exception, ptr %arguments)
            ret void
        }}"""
    module.link_in(llvm.parse_assembly(wrapper))
    target = _target()
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options()))
    return target.emit_object(module)


_warned = False


def _warn(why: str) -> None:
    """Once a process. Set before: where warnings are errors, it is one call that fails, and not every one."""
    global _warned
    if not _warned:
        _warned = True
        advice = "every process compiles them again; set NORMLAB_CACHE to a folder that can be written"
        warnings.warn(f"normlab cannot keep compiled kernels {why}: {advice}", stacklevel=2)


def _keep(path: Path | None, code: bytes) -> None:
    """Write the file in one step, a digest before the code. Without a place for it the next process compiles again."""
    if path is None:
        _warn("without a home, or a folder for temporary files that this user alone can write to")
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(code).digest() + code)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        _warn(f"in {path.parent} ({error.strerror})")


def _kept(path: Path | None) -> bytes | None:
    """What was kept, if it is there and whole: damaged code would take the process with it."""
    if path is None:
        return None
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, code = content[:32], content[32:]
    return code if hashlib.sha256(code).digest() == digest else None


# A signal's handler may call a norm while its own thread compiles one.
_lock = RLock()


def _new_lock() -> None:
    """A thread of the parent may have held the lock when this process was forked from it."""
    global _lock
    _lock = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)

_engines: dict[Variant, Any] = {}
_addresses: dict[Variant, int] = {}


def address(variant: Variant) -> int:
    """The address of a variant's machine code, a C function `void (void *arguments)`; compiles it where needed.

    Raises:
        BuildError: where it must be compiled and cannot be.
    """
    known = _addresses.get(variant)
    if known is not None:
        return known
    with _lock:
        if variant not in _addresses:
            name = "-".join(str(part).lower() for part in variant)
            place = folder()
            path = None if place is None else place / f"{name}-{_digest()}.o"
            code = _kept(path)
            if code is None:
                try:
                    code = compiled(variant)
                except Exception as error:
                    raise BuildError(f"{type(error).__name__}: {error}") from error
                _keep(path, code)
            _engines[variant] = engine = _load(code)
            _addresses[variant] = engine.get_function_address(ENTRY)
        return _addresses[variant]


def _load(code: bytes) -> Any:
    import llvmlite.binding as llvm

    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine
