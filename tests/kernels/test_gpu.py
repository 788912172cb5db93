"""The Triton kernels. Most of their tests are in the files of `gpu/`, and are run from here, each in a process of its
own: whether Triton interprets or compiles, and for what, holds for a whole process.
"""

import os
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from packaging.version import Version

from normlab.kernels import gpu
from normlab.spec import NormSpec

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def run_files(*names: str, cache: Path, **environment: str) -> None:
    """Run the tests of files in gpu/, in another process; its report is the error message."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TRITON_", "PYTEST_"))}
    files = [str(Path(__file__).parent / "gpu" / name) for name in names]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *files],
        env=kept | {"TRITON_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@needs_triton
@pytest.mark.heavy
def test_in_the_interpreter(tmp_path):
    if Version(version("triton")) < Version("3.9") and Version(np.__version__) >= Version("2.4"):
        pytest.skip("the interpreter of Triton before 3.9 does not run with NumPy from 2.4 on")
    run_files("formula.py", "promises.py", cache=tmp_path, TRITON_INTERPRET="1", CUDA_VISIBLE_DEVICES="")


@needs_triton
@pytest.mark.heavy
@pytest.mark.skipif(sys.platform != "linux", reason="Triton's compiler runs on Linux")
def test_through_the_compiler(tmp_path):
    run_files("compiled.py", cache=tmp_path, CUDA_VISIBLE_DEVICES="")


@needs_triton
@needs_gpu
@pytest.mark.heavy
def test_on_the_gpu(tmp_path):
    run_files("formula.py", "promises.py", "large.py", cache=tmp_path)


def test_a_tensor_on_the_cpu_is_refused():
    x = torch.ones(2, 3)
    assert gpu.refusal(x, None, None, None, NormSpec("rmsnorm")) == "the tensor is on cpu, not on a CUDA device"


def test_a_missing_triton_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    gpu._no_triton.cache_clear()
    try:
        assert gpu._no_triton() == "triton is not installed (pip install triton)"
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        x = torch.ones(2, 3)
        assert gpu.refusal(x, None, None, None, NormSpec("rmsnorm")) == "the tensor is on cpu, not on a CUDA device"
    finally:
        gpu._no_triton.cache_clear()


def test_a_triton_that_cannot_launch_is_said_once(monkeypatch):
    class Driver:
        asked = 0

        @property
        def active(self) -> Any:
            self.asked += 1
            raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    driver = Driver()
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(runtime=SimpleNamespace(driver=driver)))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    on_gpu: Any = SimpleNamespace(is_cuda=True, device=torch.device("cuda", 0))
    caches = gpu._no_triton, gpu._too_old, gpu._no_launch
    try:
        for function in caches:
            function.cache_clear()
        sentence = "triton cannot launch kernels here: Failed to find C compiler."
        with pytest.warns(UserWarning, match=f"PyTorch's own operations, which are slower: {sentence}"):
            assert gpu.refusal(on_gpu, None, None, None, NormSpec("rmsnorm")) == sentence
        assert gpu.refusal(on_gpu, None, None, None, NormSpec("layernorm")) == sentence
        assert driver.asked == 1
        # Neither without a GPU nor in the interpreter is it asked.
        gpu._no_launch.cache_clear()
        assert gpu.refusal(torch.ones(2, 3), None, None, None, NormSpec("rmsnorm")) is not None
        monkeypatch.setattr(gpu, "_interpreted", lambda: True)
        assert gpu._refused_device(on_gpu) is None
        assert driver.asked == 1
    finally:
        for function in caches:
            function.cache_clear()


def test_importing_does_not_import_triton():
    # torch may import it by itself, so what counts is whether it is looked for.
    code = "import sys; sys.modules['triton'] = None; import normlab, normlab.kernels.gpu"
    subprocess.run([sys.executable, "-c", code], check=True)
