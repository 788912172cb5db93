"""Experiment 5: norms in bfloat16 and float16, with and without float32 statistics; training in bfloat16.

Writes results/half_precision.png, .json and .csv; --help tells the options.
"""

from _start import start

if __name__ == "__main__":
    start("half_precision")
