"""The state of PyTorch in which the same seed gives the same bits."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def reproducible(seed: int, device: str = "cpu") -> Iterator[None]:
    """One thread, deterministic operations, float32, a seeded generator; the process's own state comes back after."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cuda = device == "cuda"
    if cuda:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    attention = sdpa_kernel(SDPBackend.MATH) if cuda else nullcontext()
    with torch.random.fork_rng(devices=[0] if cuda else []), torch.enable_grad(), attention:
        try:
            torch.set_num_threads(1)
            torch.set_default_dtype(torch.float32)
            # On a CPU one thread is enough, and the switch costs a second of imports in every process.
            if cuda:
                torch.use_deterministic_algorithms(True)
            torch.manual_seed(seed)
            yield
        finally:
            if cuda:
                torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            torch.set_default_dtype(dtype)
            torch.set_num_threads(threads)
