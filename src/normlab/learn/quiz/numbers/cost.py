"""Numbers for questions on what a norm costs: parameters, memory traffic, and float16's range."""

import math

from normlab.learn.quiz.numbers.drawn import Drawn, Random, text

FLOAT16_MAX = 65504


def norm_parameters(rng: Random) -> Drawn:
    """{layers}, {dim}: (2 · layers + 1) · 2 · dim, the parameters of all LayerNorms (weight and bias) of a Pre-LN model
    with two norms a block and a final one. Slips: one parameter a feature (no-bias); without the final norm (no-final).
    """
    layers, dim = int(rng.choice([2, 4, 6, 8, 10, 12, 16, 24])), int(rng.choice([64, 128, 256, 512, 768, 1024]))
    norms = 2 * layers + 1
    return Drawn(
        {"layers": text(layers), "dim": text(dim)},
        (float(norms * 2 * dim),),
        {"no-bias": (float(norms * dim),), "no-final": (float((norms - 1) * 2 * dim),)},
        counted=True,
    )


def norm_traffic(rng: Random) -> Drawn:
    """{rows}, {dim}, {bytes} a number, {bandwidth} in GB/s (10⁹ bytes a second): the microseconds that a fused norm
    needs at least, forward and backward, when 5 tensors of rows · dim numbers must move: x and y, then x, dy and dx.
    Slips: the 2 tensors of the forward (forward-only); 4 bytes a number (float32).
    """
    rows, dim = int(rng.choice([1000, 2000, 4000, 5000, 8000, 10000])), int(rng.choice([512, 768, 1024, 2048, 4096]))
    bandwidth = int(rng.choice([20, 25, 40, 50, 100, 200, 1000, 2000]))
    tensor = rows * dim * 2 / (bandwidth * 1e9) * 1e6
    return Drawn(
        {"rows": text(rows), "dim": text(dim), "bytes": "2", "bandwidth": text(bandwidth)},
        (5 * tensor,),
        {"forward-only": (2 * tensor,), "float32": (10 * tensor,)},
    )


def fp16_largest(rng: Random) -> Drawn:
    """{largest}: √65504 / largest, the factor by which a row whose largest entry has that size may be multiplied until
    that entry's square is more than 65504, float16's largest number. Slips: the entry itself, 65504 / largest
    (no-square); √(65504 / largest), the entry not squared (root-of-the-ratio).
    """
    largest = int(rng.integers(2, 101))
    return Drawn(
        {"largest": text(largest)},
        (math.sqrt(FLOAT16_MAX) / largest,),
        {"no-square": (FLOAT16_MAX / largest,), "root-of-the-ratio": (math.sqrt(FLOAT16_MAX / largest),)},
    )
