"""Experiment 4: how fast RMSNorm, LayerNorm and their square roots are, and what that is worth in a model.

Writes results/speed.png, .json and .csv; --help tells the options.
"""

from _start import start

if __name__ == "__main__":
    start("speed")
