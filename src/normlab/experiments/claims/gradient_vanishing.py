"""Claims about what deep stacks do to activations and gradients."""

from normlab.experiments import stack_effects
from normlab.experiments.claims.claim import NOTES, Claim
from normlab.experiments.judge import Range
from normlab.experiments.stack_cases import DEPTH, OVERFLOW_DEPTH

EXPERIMENT = "gradient_vanishing"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="vanishing-activations",
        text="Without normalization activations shrink towards 0, layer by layer.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect=f"std at layer {DEPTH} over std at layer 1, ReLU stack",
        claimed=Range(high=0.1),
        measure=stack_effects.std_ratio,
    ),
    Claim(
        id="published-sequence",
        text="Their std goes 1.04, 0.85, 0.62, 0.38, 0.21, ..., 0.016 over 8 layers.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect="largest factor between a published std and the measured one",
        claimed=Range(high=1.2),
        measure=stack_effects.published_misfit,
    ),
    Claim(
        id="vanishing-gradients",
        text="Without normalization gradients vanish.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect=f"gradient RMS at layer 1 over that at layer {DEPTH}, ReLU stack",
        claimed=Range(high=0.1),
        measure=stack_effects.gradient_ratio,
    ),
    Claim(
        id="exploding-to-nan",
        text="Activations can grow until they are NaN.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect=f"first layer with a NaN, of {OVERFLOW_DEPTH}, each 4 times the one before",
        claimed=Range(1, OVERFLOW_DEPTH),
        measure=stack_effects.first_nan,
    ),
    Claim(
        id="std-around-1",
        text="With normalization the std of activations stays around 1.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect=f"std at the one of {DEPTH} layers where it is farthest from 1",
        claimed=Range(0.9, 1.1),
        measure=stack_effects.normed_std,
    ),
    Claim(
        id="scale-under-control",
        text="With normalization the scale of activations does not depend on that of the weights.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect="std at the last layer with gain 2 over that with gain 1",
        claimed=Range(0.9, 1.1),
        measure=stack_effects.weights_forgotten,
    ),
    Claim(
        id="better-gradient-flow",
        text="Normalization improves gradient flow.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect="powers of ten by which a norm brings the gradient at layer 1 nearer to the last layer's",
        claimed=Range(low=0.1),
        measure=stack_effects.gradient_gain,
    ),
    Claim(
        id="gradients-stay",
        text="With normalization gradients neither vanish nor explode.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect=f"gradient RMS at layer 1 over that at layer {DEPTH}, ReLU stack",
        claimed=Range(1 / 3, 3),
        measure=stack_effects.normed_gradient,
    ),
)
