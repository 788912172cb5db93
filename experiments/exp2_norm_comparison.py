"""Experiment 2: NoNorm, Post-LN, Pre-LN + LayerNorm, Pre-LN + RMSNorm.

Writes results/norm_comparison.png, .json and .csv; --help tells the options.
"""

from _start import start

if __name__ == "__main__":
    start("norm_comparison")
