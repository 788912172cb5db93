"""What a result was measured on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe(device: str = "cpu") -> dict[str, str]:
    """Processor, system and versions, for reports."""
    if device == "cuda":
        import torch

        name = torch.cuda.get_device_name()
    else:
        name = f"{processor()}, {os.cpu_count()} logical cores, one thread a run"
    return {
        "processor": name,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "normlab": version("normlab"),
        "torch": version("torch"),
        "numpy": version("numpy"),
    }
