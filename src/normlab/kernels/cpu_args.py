"""The arguments of the CPU kernels: words of 64 bits in memory, in this order.

Addresses, counts and flags are integers; `eps` and `offset` are float64. `next`, `done` and `workers` start at 0 and
are counted up by the threads. Absent tensors have the address 0.
"""

FORWARD = (
    "next", "rows", "n", "chunk", "streaming", "workers",
    "x", "residual", "weight", "bias", "y", "total", "scratch", "stats", "eps", "offset",
)  # fmt: skip
BACKWARD = (
    "next", "done", "rows", "n", "block", "chunk", "streaming",
    "dy", "dtotal", "x", "weight", "stats", "dx", "partial", "dweight", "dbias", "offset",
)  # fmt: skip
