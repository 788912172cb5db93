"""Experiment 1: what deep stacks do to activations and gradients.

Writes results/gradient_vanishing.png, .json and .csv; --help tells the options.
"""

from _start import start

if __name__ == "__main__":
    start("gradient_vanishing")
