"""The plain stacks of experiment 1, by label; and the published sequence that they are compared with."""

from normlab.models import StackConfig
from normlab.models.stack import NormPlace
from normlab.spec import NormSpec

DEPTH = 16
WIDTH = 256

# The sequence printed in the teaching notes: layer, std of its activations.
PUBLISHED = {1: 1.04, 2: 0.85, 3: 0.62, 4: 0.38, 5: 0.21, 8: 0.016}

# Weights are N(0, gain^2 / width). With ReLU a layer multiplies the scale by gain / sqrt(2).
GAINS = {"gain 1": 1.0, "gain √2 (He)": 2**0.5, "gain 2": 2.0}

NORMED: dict[str, tuple[str, NormPlace]] = {
    "LayerNorm after the ReLU": ("layernorm", "after"),
    "RMSNorm after the ReLU": ("rmsnorm", "after"),
    "LayerNorm before the ReLU": ("layernorm", "before"),
    "RMSNorm before the ReLU": ("rmsnorm", "before"),
}
NO_NORM = "no norm"


def label_of(norm: str, gain: str) -> str:
    """A stack's label: NO_NORM or a key of NORMED, and a key of GAINS."""
    return f"{norm}, {gain}"


def _relu(gain: float, kind: str = "none", place: NormPlace = "none") -> StackConfig:
    norm = NormSpec(kind)  # pyright: ignore[reportArgumentType]
    return StackConfig(depth=DEPTH, width=WIDTH, activation="relu", gain=gain, norm=norm, norm_place=place)


STACKS = {label_of(NO_NORM, name): _relu(gain) for name, gain in GAINS.items()} | {
    label_of(norm, name): _relu(gain, kind, place)
    for norm, (kind, place) in NORMED.items()
    for name, gain in GAINS.items()
}

# Deep enough, and each layer 4 times the one before, that float32 too overflows.
OVERFLOW_DEPTH = 72
OVERFLOWING = StackConfig(depth=OVERFLOW_DEPTH, width=128, activation="relu", gain=4 * 2**0.5)
OVERFLOWING_NORMED = StackConfig(
    depth=OVERFLOW_DEPTH,
    width=128,
    activation="relu",
    gain=4 * 2**0.5,
    norm=NormSpec("rmsnorm"),
    norm_place="before",
)
