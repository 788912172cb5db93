"""All experiments, in the order of the notes."""

from normlab.experiments import gradient_vanishing, norm_comparison, prenorm_vs_postnorm
from normlab.experiments.base import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT for module in (gradient_vanishing, norm_comparison, prenorm_vs_postnorm)
}
