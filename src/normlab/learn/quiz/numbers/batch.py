"""Numbers for questions on BatchNorm: a column in training, the running statistics, and evaluation. eps is 0."""

import numpy as np

from normlab.learn.quiz.numbers.drawn import Drawn, Random, numbers, text
from normlab.learn.quiz.numbers.rows import whole_std
from normlab.norms import batchnorm

MOMENTA = [0.1, 0.2, 0.25]


def batchnorm_of_a_column(rng: Random) -> Drawn:
    """{column}, {gamma}, {beta}: in training (x - mean(x)) / std(x) · γ + β, over the column. Slip: n - 1 in the std
    (sample-std).
    """
    column = whole_std(rng)
    gamma, beta = float(rng.choice([0.5, 1.0, 2.0, 3.0])), float(rng.choice([-1.0, 0.0, 0.5, 1.0]))
    y = batchnorm.forward(np.array(column)[:, None], [gamma], [beta], eps=0.0).y
    return Drawn(
        {"column": text(column), "gamma": text(gamma), "beta": text(beta)},
        numbers(y),
        {"sample-std": numbers((y - beta) * np.sqrt(3 / 4) + beta)},
    )


def batchnorm_running_mean(rng: Random) -> Drawn:
    """{running}, {batch_mean}, {momentum}: (1 - momentum) · running + momentum · batch mean, momentum as in
    PyTorch. Slip: the shares exchanged (swapped).
    """
    running, mean = int(rng.integers(-5, 11)), int(rng.integers(-5, 11))
    momentum = float(rng.choice(MOMENTA))
    batch = [[mean - 1], [mean + 1]]
    return Drawn(
        {"running": text(running), "batch_mean": text(mean), "momentum": text(momentum)},
        numbers(batchnorm.forward(batch, None, None, [running], [1.0], momentum=momentum).running_mean),
        {"swapped": numbers(momentum * running + (1 - momentum) * mean)},
    )


def batchnorm_running_var(rng: Random) -> Drawn:
    """{running}, {column}, {momentum}: (1 - momentum) · running + momentum · v · n / (n - 1), v = var(column), as
    PyTorch does. Slips: v as it is (biased); the shares exchanged (swapped).
    """
    column, running = whole_std(rng), int(rng.integers(1, 11))
    momentum = float(rng.choice(MOMENTA))

    def moved(share: float, unbiased: bool) -> tuple[float, ...]:
        batch = np.array(column)[:, None]
        out = batchnorm.forward(
            batch, None, None, [0.0], [running], momentum=share, eps=0.0, unbiased_running_var=unbiased
        )
        return numbers(out.running_var)

    return Drawn(
        {"running": text(running), "column": text(column), "momentum": text(momentum)},
        moved(momentum, True),
        {"biased": moved(momentum, False), "swapped": moved(1 - momentum, True)},
    )


def batchnorm_in_evaluation(rng: Random) -> Drawn:
    """{x}, {running_mean}, {running_var}, {gamma}, {beta}: (x - running mean) / √(running variance) · γ + β. Slip: no
    root (no-root).
    """
    x, mean = int(rng.integers(-9, 10)), int(rng.integers(-5, 6))
    variance = float(rng.choice([0.25, 4.0, 9.0, 16.0, 25.0]))
    gamma, beta = float(rng.choice([0.5, 1.0, 2.0, 3.0])), float(rng.choice([-1.0, 0.0, 0.5, 1.0]))
    y = batchnorm.forward([[x]], [gamma], [beta], [mean], [variance], training=False, eps=0.0).y
    drawn = {"x": x, "running_mean": mean, "running_var": variance, "gamma": gamma, "beta": beta}
    return Drawn(
        {name: text(value) for name, value in drawn.items()},
        numbers(y),
        {"no-root": numbers((x - mean) / variance * gamma + beta)},
    )
