"""Inside, the same seed gives the same bits; after, also after an error, the process is as it was."""

from contextlib import nullcontext

import pytest
import torch

from normlab.lab.reproducible import reproducible


@pytest.fixture
def state():
    """What a process may have set, as one value; all of it is put back after the test."""

    def read():
        return (
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.is_grad_enabled(),
        )

    before = read()
    yield read
    torch.set_num_threads(before[0])
    torch.set_default_dtype(before[1])
    torch.use_deterministic_algorithms(before[2], warn_only=before[3])


def draw(seed: int) -> list[float]:
    with reproducible(seed):
        return torch.randn(5).tolist()


def test_same_seed_same_bits():
    first = draw(7)
    torch.randn(3)
    assert draw(7) == first
    assert draw(8) != first


def test_state_inside(state):
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float64)
    with torch.no_grad(), reproducible(0):
        # No deterministic-algorithms switch: on a CPU one thread is enough.
        assert state() == (1, torch.float32, False, False, True)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("deterministic", "warn_only"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("fails", [False, True])
def test_state_is_restored(state, threads, dtype, deterministic, warn_only, fails):
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    before, generator = state(), torch.get_rng_state()
    with pytest.raises(RuntimeError, match="in the run") if fails else nullcontext(), reproducible(3):
        torch.randn(4)
        if fails:
            raise RuntimeError("in the run")
    assert state() == before
    assert torch.equal(torch.get_rng_state(), generator)


def test_state_is_restored_after_a_seed_that_torch_refuses(state):
    torch.set_num_threads(2)
    before = state()
    with pytest.raises(ValueError, match="Overflow"), reproducible(2**64):
        pass
    assert state() == before
