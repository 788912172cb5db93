"""Object code in a folder: kept, found again, and never trusted to be whole."""

import pytest

NORM = """
import sys, torch, normlab
y = normlab.functional.rms_norm(torch.full((3, 8), 2.0), [8], eps=0.0)
assert torch.equal(y, torch.ones(3, 8))
print(normlab.explain(y, spec=normlab.NormSpec("rmsnorm")).kernel, "numba" in sys.modules)
"""


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
def test_a_damaged_file_is_compiled_again(python, kept, tmp_path, damage):
    """A power cut leaves such files, and LLVM ends the process that loads one."""
    _, name, code = kept
    (tmp_path / name).write_bytes(DAMAGES[damage](code))
    done = python(NORM, NORMLAB_CACHE=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "numba True\n"), done.stderr
    done = python(NORM, NORMLAB_CACHE=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "numba False\n"), done.stderr


def test_without_a_home_it_works_too(python, tmp_path):
    """As in a container whose user is not in the list of users."""
    code = "import pathlib\ndef home(*_): raise RuntimeError('Could not determine home directory.')\n"
    code += "pathlib.Path.home = home\n" + NORM
    done = python(code, NORMLAB_CACHE=None, XDG_CACHE_HOME=None, TMPDIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "numba True\n"), done.stderr


@pytest.mark.parametrize("where", ["a file", "below a file", "nowhere"])
def test_without_a_place_to_write_it_works_too(python, tmp_path, where):
    file = tmp_path / "file"
    file.write_text("not a folder")
    folder = {"a file": file, "below a file": file / "folder", "nowhere": "/proc/nowhere"}[where]
    done = python(NORM, NORMLAB_CACHE=str(folder))
    assert (done.returncode, done.stdout) == (0, "numba True\n"), done.stderr


def test_numba_without_its_compiler(python, tmp_path):
    """NUMBA_DISABLE_JIT is what people set to measure coverage of their own code."""
    code = NORM.replace("print(", "print(str(float(y[0, 0])),")
    done = python(code, NORMLAB_CACHE=str(tmp_path), NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0, done.stderr
