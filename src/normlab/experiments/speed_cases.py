"""What experiment 4 times: norms, square roots, MiniMind."""

from dataclasses import dataclass
from typing import Literal

from normlab.bench.cases import MODES, Dtype, Mode, Size
from normlab.models import TransformerConfig, minimind
from normlab.spec import NormSpec

Kind = Literal["rmsnorm", "layernorm"]
Library = Literal["torch", "normlab"]

KINDS: dict[Kind, str] = {"rmsnorm": "RMSNorm", "layernorm": "LayerNorm"}
LIBRARIES: dict[Library, str] = {"torch": "torch.nn", "normlab": "normlab"}
DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16")
BOTH: Mode = "forward+backward"
COPY = "copy_"

SIZES: tuple[Size, ...] = ((1024, 512), (4096, 1024))
# Its tensors are larger than any cache.
LARGEST: Size = (8192, 4096)

# As many numbers as a norm has rows, and as many as its largest tensor here.
LENGTHS = (1024, 1 << 20)
ROOTS = ("rsqrt(v)", "1 / sqrt(v)")
ROOTS_IN_NORM = ("x * rsqrt(v)", "x / sqrt(v)")
NORM_SIZE: Size = (1024, 512)

# In a training step.
TOKENS = 64
TRAINING, DECODING = f"training, {TOKENS} tokens", "decoding, one token"


@dataclass(frozen=True, slots=True)
class NormCase:
    """Both norms, of both libraries, in one direction, on one size and dtype."""

    mode: Mode
    dtype: Dtype
    rows: int
    dim: int

    def __str__(self) -> str:
        mode = "" if self.mode == BOTH else ", forward alone"
        return f"{self.dtype}, {self.rows} x {self.dim}{mode}"


def norm_cases(large: bool) -> list[NormCase]:
    """Forward and backward; `large` adds the largest size, and the forward pass alone."""
    modes = tuple(reversed(MODES)) if large else (BOTH,)
    sizes = (*SIZES, LARGEST) if large else SIZES
    return [NormCase(mode, dtype, *size) for mode in modes for dtype in DTYPES for size in sizes]


def model(kind: Kind, large: bool) -> TransformerConfig:
    """MiniMind with a norm of this kind; `large`: with its 64 million parameters."""
    norm = NormSpec.preset("minimind") if kind == "rmsnorm" else NormSpec("layernorm", eps=1e-6)
    if large:
        return minimind.config(norm=norm)
    return minimind.config(
        norm=norm, vocab_size=1600, n_layers=4, dim=256, n_heads=4, n_kv_heads=2, hidden=768, context=TOKENS
    )


def variant(library: Library, kind: Kind) -> str:
    """A norm's name."""
    return f"{LIBRARIES[library]} {KINDS[kind]}"


VARIANTS: tuple[tuple[Library, Kind], ...] = tuple((library, kind) for library in LIBRARIES for kind in KINDS)
