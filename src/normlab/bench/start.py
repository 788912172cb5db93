"""What a new process waits for: `import normlab`, and the first call of a layer."""

import subprocess
import sys
from dataclasses import dataclass
from statistics import median

IMPORT = """
import time, torch
start = time.perf_counter()
import normlab
print(time.perf_counter() - start)
"""

FIRST_CALL = """
import time, torch
x = torch.randn(1024, 512, requires_grad=True)
start = time.perf_counter()
import {module} as library
library.RMSNorm(512)(x).backward(torch.ones_like(x))
print(time.perf_counter() - start)
"""


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds, the median of several processes.

    Attributes:
        importing: `import normlab` after `import torch`.
        first: from there to the first gradients of normlab.RMSNorm, with its import and with kernels that an earlier
            process compiled.
        torchs: the same of torch.nn.RMSNorm.
    """

    importing: float
    first: float
    torchs: float


def _seconds(code: str) -> float:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure(repeats: int) -> Start:
    """In `repeats` processes each, in turns."""
    codes = (IMPORT, FIRST_CALL.format(module="normlab"), FIRST_CALL.format(module="torch.nn"))
    _seconds(codes[1])  # compiles the kernels where they are not kept yet
    rounds = [[_seconds(code) for code in codes] for _ in range(repeats)]
    return Start(*(median(times) for times in zip(*rounds, strict=True)))
