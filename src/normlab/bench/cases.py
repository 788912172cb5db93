"""What is measured: operations, directions, dtypes, sizes; and how many bytes each must move."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Op = Literal["rms_norm", "layer_norm", "add_rms_norm", "add_layer_norm"]
Mode = Literal["forward", "forward+backward"]
Dtype = Literal["float32", "bfloat16", "float16", "float64"]
Size = tuple[int, int]

OPS: tuple[Op, ...] = get_args(Op)
MODES: tuple[Mode, ...] = get_args(Mode)
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
BYTES: dict[Dtype, int] = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}

SMALL: tuple[Size, ...] = ((1, 64), (128, 512))
BAR: tuple[Size, ...] = ((1024, 512), (4096, 1024), (8192, 4096))
LARGEST: Size = (32768, 4096)
# The rows are chosen so that a tensor has 16 to 512 MB in bfloat16: what keeps a GPU busy.
GPU: tuple[Size, ...] = ((32768, 256), (32768, 1024), LARGEST, (16384, 8192), (4096, 32768))

# x-sized tensors that must be read or written. Forward: x in, y out; with a residual two in, the sum and y out.
# Backward: x and dy in, dx out; with a residual the sum, its gradient and dy in, and one gradient out for both.
TENSORS: dict[tuple[bool, Mode], int] = {
    (False, "forward"): 2,
    (False, "forward+backward"): 5,
    (True, "forward"): 4,
    (True, "forward+backward"): 8,
}
COPIED = 2

# The plain formula keeps about so many tensors of the wider dtype alive at a time.
ALIVE = 16


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to time: an operation, in a direction, on (rows, dim) numbers of a dtype."""

    op: Op
    mode: Mode
    dtype: Dtype
    rows: int
    dim: int

    @property
    def adds(self) -> bool:
        """Whether a residual is added first."""
        return self.op.startswith("add_")

    @property
    def layer(self) -> bool:
        """LayerNorm, with a bias; RMSNorm otherwise."""
        return self.op.endswith("layer_norm")

    @property
    def tensor_bytes(self) -> int:
        """Of one x-sized tensor."""
        return self.rows * self.dim * BYTES[self.dtype]

    @property
    def bytes_moved(self) -> int:
        """What must be read and written, whoever computes it: x-sized tensors and parameters.

        The forward pass reads the parameters; the backward pass reads the weight and writes the parameters' gradients.
        """
        parameters = 1 + self.layer
        vectors = parameters if self.mode == "forward" else 2 * parameters + 1
        return TENSORS[self.adds, self.mode] * self.tensor_bytes + vectors * self.dim * BYTES[self.dtype]

    @property
    def bytes_copied(self) -> int:
        """What `copy_` of one such tensor moves."""
        return COPIED * self.tensor_bytes

    @property
    def memory(self) -> int:
        """About how much memory the hungriest contender takes."""
        return ALIVE * self.rows * self.dim * max(4, BYTES[self.dtype])

    def __str__(self) -> str:
        return f"{self.op}, {self.mode}, {self.dtype}, {self.rows} x {self.dim}"


def available_memory(device: str) -> int:
    """Bytes that can be had without paging."""
    if device == "cuda":
        import torch

        return torch.cuda.mem_get_info()[0]
    info = Path("/proc/meminfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
