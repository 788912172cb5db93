"""What experiment 5 measures: norms in one arithmetic each, and the input scales at which they are tried."""

import math
from dataclasses import dataclass
from typing import Literal

from normlab.lab.config import Dtype
from normlab.spec import ScaleDtype, StatsDtype

Kind = Literal["rmsnorm", "layernorm"]
Half = Literal["float16", "bfloat16"]
Library = Literal["torch", "normlab"]

KINDS: dict[Kind, str] = {"rmsnorm": "RMSNorm", "layernorm": "LayerNorm"}
HALVES: tuple[Half, ...] = ("float16", "bfloat16")
STATS: dict[StatsDtype, str] = {"float32": "float32 statistics", "input": "half statistics"}
LIBRARIES: dict[Library, str] = {"torch": "PyTorch's own function", "normlab": "normlab's layer"}
QUANTITIES = ("y", "dx", "dweight")

# Half a power of ten apart: 1e-8 to 1e5.
SCALES = tuple(10 ** (k / 2) for k in range(-16, 11))
ORDINARY = 1.0
# Where a tiny eps matters.
SMALL_SCALES = tuple(scale for scale in SCALES if scale <= ORDINARY)

ROWS, WIDTH = 16, 256
SUM_WIDTHS = (64, 512, 4096)
MEANS = (10.0, 100.0)

EPS = 1e-5
# The eps of the code that came with the RMSNorm paper: below float16's smallest number, 2^-24 = 6e-8.
TINY_EPS = 1e-8

# Where x^2 leaves float16: its largest number is 65504, its smallest 2^-24.
OVERFLOW = math.sqrt(65504)
UNDERFLOW = math.sqrt(2**-24)
# Where rstd^3, of which autograd makes the gradient by the mean square, leaves it: rstd = 1 / scale there.
CUBE_OVERFLOW = 65504 ** (-1 / 3)


@dataclass(frozen=True, slots=True)
class Arm:
    """A norm in one arithmetic.

    Attributes:
        kind: "rmsnorm" or "layernorm", with a weight and no bias.
        dtype: of input, weight, upstream gradient and output.
        stats: "float32": the norm of the input as float32, cast back (the upcast); "input": each operation is rounded
            to the input's dtype; "torch", "normlab": whatever that library's function does with this dtype.
        eps: added to the mean square or variance.
        product: where the weight is multiplied: "stats": before the cast back to the input's dtype; "input": after it.
        mean: of the input, in standard deviations.
    """

    kind: Kind
    dtype: Half | Dtype
    stats: StatsDtype | Library = "float32"
    eps: float = EPS
    product: ScaleDtype = "stats"
    mean: float = 0.0


_SWEPT = (
    *(Arm(kind, "float32") for kind in KINDS),
    *(Arm(kind, dtype, stats) for dtype in HALVES for kind in KINDS for stats in STATS),
)
_SMALL = tuple(Arm(kind, "float16", stats, eps=TINY_EPS) for kind in KINDS for stats in STATS)
_SINGLE = (
    *(Arm(kind, dtype, library) for library in LIBRARIES for dtype in HALVES for kind in KINDS),
    *(Arm(kind, dtype, product="input") for dtype in HALVES for kind in KINDS),
    *(Arm("layernorm", dtype, stats, mean=mean) for dtype in HALVES for stats in STATS for mean in MEANS),
)
# Which arms at which scales.
CASES: dict[Arm, tuple[float, ...]] = (
    dict.fromkeys(_SWEPT, SCALES) | dict.fromkeys(_SMALL, SMALL_SCALES) | dict.fromkeys(_SINGLE, (ORDINARY,))
)
