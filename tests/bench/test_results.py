"""What is said on the machine beside the numbers."""

import torch

from normlab.bench.results import facts


def test_the_facts_of_a_gpu_have_what_torch_may_compute_with(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert "nvidia-cutlass-dsl" in facts("cuda")
    assert "nvidia-cutlass-dsl" not in facts("cpu")
