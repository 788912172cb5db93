"""Numbers for questions on depth: how a signal's RMS changes from layer to layer."""

import math

from normlab.learn.quiz.numbers.drawn import Drawn, Random, text

# Half of each is a square, so that √(width / 2) is a whole number.
WIDTHS = [32, 128, 200, 512, 800, 2048]


def _stack(rng: Random, least: float, most: float) -> tuple[int, float, float]:
    """Width, weight std, and the factor std · √(width / 2), which is about `least` to `most`."""
    width = int(rng.choice(WIDTHS))
    root = math.sqrt(width / 2)
    std = float(f"{rng.uniform(least, most) / root:.1g}")
    return width, std, std * root


def relu_stack_factor(rng: Random) -> Drawn:
    """{width}, {std}: std · √(width / 2), the factor a layer by which the RMS changes in a stack of layers
    x ← ReLU(W x), W of shape (width, width), its entries N(0, std²). ReLU keeps half of the mean square. Slips: without
    the ReLU, std · √width (no-relu); half of the RMS, std · √width / 2 (quarter).
    """
    width, std, factor = _stack(rng, 0.3, 2.0)
    return Drawn(
        {"width": text(width), "std": text(std)},
        (factor,),
        {"no-relu": (factor * math.sqrt(2),), "quarter": (factor / math.sqrt(2),)},
    )


def relu_stack_depth(rng: Random) -> Drawn:
    """{width}, {std}, {threshold}: after how many layers of such a stack the RMS, 1 at its input, is below the
    threshold for the first time: the least L with (std · √(width / 2))^L < threshold. Slip: without the ReLU (no-relu).
    """
    threshold = float(rng.choice([0.1, 0.01, 0.001]))
    while True:
        width, std, factor = _stack(rng, 0.25, 0.68)
        exact = [math.log(threshold) / math.log(f) for f in (factor, factor * math.sqrt(2)) if f < 1]
        # Not on the edge, where rounding on the way would change the count.
        if len(exact) == 2 and all(0.05 < depth % 1 < 0.95 for depth in exact):
            right, no_relu = (math.ceil(depth) for depth in exact)
            values = {"width": text(width), "std": text(std), "threshold": text(threshold)}
            return Drawn(values, (float(right),), {"no-relu": (float(no_relu),)}, counted=True)


def residual_growth(rng: Random) -> Drawn:
    """{layers}: √(1 + 2 · layers), the RMS of the residual stream, 1 at its beginning, after so many Pre-LN blocks.
    Each of a block's two branches adds an independent output of RMS 1, so mean squares add. Slips: 1 + 2 · layers
    (linear); √(1 + layers) (one-branch).
    """
    layers = int(rng.integers(2, 49))
    return Drawn(
        {"layers": text(layers)},
        (math.sqrt(1 + 2 * layers),),
        {"linear": (float(1 + 2 * layers),), "one-branch": (math.sqrt(1 + layers),)},
    )
