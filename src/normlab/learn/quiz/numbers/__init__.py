"""Questions with fresh numbers: each generator draws the numbers, computes the answer, and the results of known slips.

A generator is a function of a random source; its docstring names what it puts into the text, in braces, the formula
of the answer, and the slips. What it draws has few digits, so that a question can be done on paper; every result is
computed in float64, a norm's by its definition in `normlab.norms`.
"""

from collections.abc import Callable

from normlab.learn.quiz.numbers import batch, cost, depth, rows
from normlab.learn.quiz.numbers.drawn import Drawn, Random, agree, clear, random_source, shown

__all__ = ["GENERATORS", "Drawn", "agree", "draw", "random_source", "shown"]

GENERATORS: dict[str, Callable[[Random], Drawn]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        rows.rms_of_a_row,
        rows.std_of_a_row,
        rows.rmsnorm_of_a_row,
        rows.layernorm_of_a_row,
        rows.gemma_of_a_row,
        rows.eps_of_a_small_row,
        rows.rmsnorm_gradient,
        batch.batchnorm_of_a_column,
        batch.batchnorm_running_mean,
        batch.batchnorm_running_var,
        batch.batchnorm_in_evaluation,
        depth.relu_stack_factor,
        depth.relu_stack_depth,
        depth.residual_growth,
        cost.norm_parameters,
        cost.norm_traffic,
        cost.fp16_largest,
    )
}


def draw(name: str, seed: int) -> Drawn:
    """What a generator draws for a seed, always the same; drawn again while a slip leads to the answer."""
    rng = random_source(name, seed)
    while not clear(drawn := GENERATORS[name](rng)):
        pass
    return drawn
