"""The pictures of the experiments, where the numbers are at an edge."""

from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from normlab.experiments.figures.gradient_vanishing import _plot


def test_one_seed_has_a_range_of_nothing():
    """Its geometric mean is off by a rounding, and an error bar must not be negative."""
    figure, ax = plt.subplots()
    depth = 200
    seed = SimpleNamespace(std=np.random.default_rng(0).lognormal(size=depth))
    case: Any = SimpleNamespace(config=SimpleNamespace(depth=depth), seeds=[seed], prediction=seed)
    _plot(ax, case, "std", "black", "one", "o")
    plt.close(figure)
