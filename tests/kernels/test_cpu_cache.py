"""Object code in a folder: kept, found again, and never trusted to be whole."""

import importlib.metadata
import os
import stat
import tempfile
from pathlib import Path

import pytest

from normlab.kernels import cpu_build

NORM = """
import sys, torch, normlab
y = normlab.functional.rms_norm(torch.full((3, 8), 2.0), [8], eps=0.0)
assert torch.equal(y, torch.ones(3, 8))
print(normlab.explain(y, spec=normlab.NormSpec("rmsnorm")).kernel, "numba" in sys.modules)
"""
# Each compiles a kernel of its own.
TWO_NORMS = "import torch, normlab\nnormlab.functional.layer_norm(torch.ones(3, 8), (8,))\n" + NORM


@pytest.fixture(scope="module")
def kept(python, tmp_path_factory):
    """A folder that a first process has filled: (folder, its only file's name, its bytes)."""
    folder = tmp_path_factory.mktemp("cold") / "made" / "on the way"
    done = python(NORM, NORMLAB_CACHE=str(folder))
    assert (done.returncode, done.stdout) == (0, "numba True\n"), done.stderr
    (file,) = folder.iterdir()
    return folder, file.name, file.read_bytes()


def test_a_second_process_does_without_numba(python, kept):
    folder, name, code = kept
    before = (folder / name).stat().st_mtime_ns
    done = python(NORM, NORMLAB_CACHE=str(folder))
    assert (done.returncode, done.stdout) == (0, "numba False\n"), done.stderr
    assert [(f.name, f.stat().st_mtime_ns, f.read_bytes()) for f in folder.iterdir()] == [(name, before, code)]


DAMAGES = {
    "empty": lambda code: b"",
    "one byte": lambda code: code[:1],
    "half": lambda code: code[: len(code) // 2],
    "all but the end": lambda code: code[:-64],
    "text": lambda code: b"garbage" * 100,
    "zeros": lambda code: bytes(len(code)),
    "zeros at the end": lambda code: code[: len(code) // 2] + bytes(len(code) - len(code) // 2),
    "one bit": lambda code: code[: len(code) // 2] + bytes([code[len(code) // 2] ^ 1]) + code[len(code) // 2 + 1 :],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_not_taken(kept, tmp_path, damage):
    """A power cut leaves such files, and LLVM ends the process that loads one."""
    folder, name, code = kept
    (tmp_path / name).write_bytes(DAMAGES[damage](code))
    assert cpu_build._kept(folder / name)
    assert cpu_build._kept(tmp_path / name) is None


def test_a_damaged_file_is_compiled_again(python, kept, tmp_path):
    _, name, code = kept
    (tmp_path / name).write_bytes(DAMAGES["half"](code))
    done = python(NORM, NORMLAB_CACHE=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "numba True\n"), done.stderr
    done = python(NORM, NORMLAB_CACHE=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "numba False\n"), done.stderr


HOMELESS = """
import pathlib
def home(*_): raise RuntimeError("Could not determine home directory.")
pathlib.Path.home = home
"""
# What is kept in a folder that everybody may write to is machine code, which the next process runs.
MADE = {
    "not there": (lambda folder: None, True),
    "mine": (lambda folder: folder.mkdir(0o700), True),
    "of a group that may read": (lambda folder: folder.mkdir(0o750), True),
    "writable by all": (lambda folder: (folder.mkdir(), folder.chmod(0o777)), False),
    "writable by a group": (lambda folder: (folder.mkdir(), folder.chmod(0o770)), False),
    "a link": (lambda folder: ((folder.parent / "other").mkdir(0o700), folder.symlink_to("other")), False),
    "a file": (lambda folder: folder.write_text("not a folder"), False),
}


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="where users have no numbers, each has a folder of their own")
@pytest.mark.parametrize("found", MADE)
def test_a_shared_folder_is_used_only_where_nobody_else_can_write(monkeypatch, tmp_path, found):
    make, used = MADE[found]
    folder = tmp_path / f"normlab-{os.getuid()}"
    make(folder)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    assert cpu_build._shared() == (folder if used else None)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="where users have no numbers, each has a folder of their own")
@pytest.mark.parametrize("found", ["not there", "writable by all"])
def test_without_a_home_a_shared_folder_is_used(python, tmp_path, found):
    """As in a container whose user is not in the list of users."""
    make, used = MADE[found]
    folder = tmp_path / f"normlab-{os.getuid()}"
    make(folder)
    code = HOMELESS + "import warnings; warnings.simplefilter('default')\n" + NORM
    done = python(code, NORMLAB_CACHE=None, XDG_CACHE_HOME=None, TMPDIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "numba True\n"), done.stderr
    kept = list(folder.glob("*.o")) if folder.is_dir() else []
    assert len(kept) == used
    assert ("set NORMLAB_CACHE" in done.stderr) != used
    if found == "not there":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="where users have no numbers, each has a folder of their own")
def test_a_shared_folder_of_another_user_is_not_used(monkeypatch, tmp_path):
    def home(*_):
        raise RuntimeError("Could not determine home directory.")

    for name in ("NORMLAB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", home)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    mine = tmp_path / f"normlab-{os.getuid()}"
    assert cpu_build.folder() == mine
    mine.rename(tmp_path / "normlab-12345")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert cpu_build.folder() is None


@pytest.mark.parametrize("where", ["a file", "below a file", "nowhere"])
def test_without_a_place_to_write_one_warning_says_so(python, tmp_path, where):
    file = tmp_path / "file"
    file.write_text("not a folder")
    folder = {"a file": file, "below a file": file / "folder", "nowhere": "/proc/nowhere"}[where]
    done = python("import warnings; warnings.simplefilter('always')\n" + TWO_NORMS, NORMLAB_CACHE=str(folder))
    assert (done.returncode, done.stdout) == (0, "numba True\n"), done.stderr
    assert done.stderr.count(f"Warning: normlab cannot keep compiled kernels in {folder} (") == 1
    assert done.stderr.count("NORMLAB_CACHE") == 1


def test_where_the_warning_is_an_error_the_next_call_computes(python, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    code = "import torch, normlab\ntry: normlab.functional.rms_norm(torch.ones(3, 8), (8,))\n"
    code += "except UserWarning as warning: print('NORMLAB_CACHE' in str(warning))\n"
    done = python(code + TWO_NORMS, NORMLAB_CACHE=str(tmp_path / "file"))
    assert (done.returncode, done.stdout) == (0, "True\nnumba True\n"), done.stderr


@pytest.mark.parametrize("function", ["fdopen", "replace"])
def test_a_file_that_cannot_be_written_is_not_left_behind(python, tmp_path, function):
    """As on a full disk."""
    code = f"""
import os, warnings
warnings.simplefilter("default")
def full(*_): raise OSError(28, "No space left on device")
os.{function} = full
"""
    done = python(code + NORM, NORMLAB_CACHE=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "numba True\n"), done.stderr
    assert "No space left on device" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["numba", "llvmlite"])
def test_another_version_compiles_anew(package, monkeypatch):
    known = importlib.metadata.version
    before = cpu_build._digest()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9" if name == package else known(name))
    cpu_build._digest.cache_clear()
    try:
        assert cpu_build._digest() != before
    finally:
        cpu_build._digest.cache_clear()


BROKEN = {
    "numba": "raise ImportError('Numba needs NumPy 2.2 or less')",
    "llvmlite": "raise OSError('libLLVM.so: cannot open shared object file')",
}


@pytest.mark.parametrize("package", BROKEN)
def test_a_broken_package_is_said_and_every_call_runs(python, tmp_path, package):
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text(BROKEN[package])
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import warnings; warnings.simplefilter('default')\n"
    code += NORM.replace(".kernel,", ",")
    done = python(code, NORMLAB_CACHE=str(tmp_path / "cache"))
    words = BROKEN[package].partition("'")[2].rstrip("')")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("torch: ")
    assert words in done.stdout
    assert done.stderr.count("slower: ") == 1
    assert words in done.stderr


def test_a_package_that_may_not_be_imported(python, tmp_path):
    code = """
import sys, warnings
warnings.simplefilter("default")
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "numba": raise ModuleNotFoundError("numba is not allowed here")
sys.meta_path.insert(0, Guard())
"""
    done = python(code + NORM.replace(".kernel,", ","), NORMLAB_CACHE=str(tmp_path))
    assert done.returncode == 0, done.stderr
    reason = "torch: Numba cannot be imported: ModuleNotFoundError: numba is not allowed here"
    assert done.stdout == f"{reason} False\n"


def test_numba_without_its_compiler(python, tmp_path):
    """NUMBA_DISABLE_JIT is what people set to measure coverage of their own code."""
    code = NORM.replace("print(", "print(str(float(y[0, 0])),")
    done = python(code, NORMLAB_CACHE=str(tmp_path), NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0, done.stderr


def test_a_tilde_is_the_home(monkeypatch, tmp_path):
    """Docker's ENV and files of settings hold it as it was typed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("NORMLAB_CACHE", "~/kept")
    assert cpu_build.folder() == tmp_path / "kept"
