"""All experiments, in the order of the notes, and then of their numbers."""

from normlab.experiments import gradient_vanishing, half_precision, iris, norm_comparison, prenorm_vs_postnorm, speed
from normlab.experiments.base import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (gradient_vanishing, norm_comparison, prenorm_vs_postnorm, speed, half_precision, iris)
}
