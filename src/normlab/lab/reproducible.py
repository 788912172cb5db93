"""The state of PyTorch in which the same seed gives the same bits."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def reproducible(seed: int, device: str = "cpu") -> Iterator[None]:
    """One thread, deterministic operations, a seeded generator; the process's own state comes back after."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    cuda = device == "cuda"
    if cuda:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with torch.random.fork_rng(devices=[0] if cuda else []), sdpa_kernel(SDPBackend.MATH) if cuda else nullcontext():
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
            torch.set_num_threads(threads)
