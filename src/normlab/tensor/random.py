"""The random numbers of the engine: initialization, dropout, the order of a DataLoader."""

import numpy as np

_generator = np.random.default_rng()


def manual_seed(seed: int) -> np.random.Generator:
    """Start the random numbers again from a seed; the same seed gives the same ones."""
    global _generator
    _generator = np.random.default_rng(seed)
    return _generator


def generator() -> np.random.Generator:
    """Where they come from."""
    return _generator
