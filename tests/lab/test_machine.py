"""What a report says about the machine."""

import os
import platform

import numpy as np
import torch

import normlab
from normlab.lab.machine import describe


def test_describe():
    facts = describe()
    assert list(facts) == ["processor", "system", "python", "normlab", "torch", "numpy"]
    assert facts["processor"].endswith(f", {os.cpu_count()} logical cores, one thread a run")
    assert len(facts["processor"].partition(",")[0]) > 2
    assert facts["system"] == f"{platform.system()} {platform.machine()}"
    assert facts["python"] == platform.python_version()
    assert facts["normlab"] == normlab.__version__
    assert facts["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert facts["numpy"] == np.__version__


def test_describe_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A GPU")
    assert describe("cuda")["processor"] == "A GPU"
