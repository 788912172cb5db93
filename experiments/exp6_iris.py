"""Experiment 6: a small classifier of Iris on normlab's own engine, with each norm and without.

Writes results/iris.png, .json and .csv; --help tells the options.
"""

from _start import start

if __name__ == "__main__":
    start("iris")
