"""Experiment 3: Pre-LN and Post-LN at several depths.

Writes results/prenorm_vs_postnorm.png, .json and .csv; --help tells the options.
"""

from _start import start

if __name__ == "__main__":
    start("prenorm_vs_postnorm")
