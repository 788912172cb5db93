"""The claims: sentences from teaching material and papers, each with what would make it true here.

Adding one is adding an entry to CLAIMS: its text and source, the experiment that measures it, the effect in words,
the range in which the claim says that the effect lies, and a function from the evidence to the effect's values.
The verdict is computed (see `judge`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from normlab.experiments import stack_effects, training_effects
from normlab.experiments.configurations import POST_LN, PRE_LN, PRE_RMS
from normlab.experiments.evidence import Evidence
from normlab.experiments.judge import Judgement, Range, Sample, judge
from normlab.experiments.stack_cases import DEPTH, OVERFLOW_DEPTH

NOTES = "minimind-notes, Normalization"
CHAPTER = "TensorWeaver, ch. 14"
XIONG = "Xiong et al. 2020"
ZHANG = "Zhang & Sennrich 2019"


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence that can be measured.

    Attributes:
        id: short and stable.
        text: the claim, in our words.
        source: who says it.
        experiment: the name of the experiment that measures it.
        effect: what is measured, with its unit.
        claimed: where the claim says that the effect lies.
        measure: the effect's values, a seed each, under each condition; the first is the one shown first.
    """

    id: str
    text: str
    source: str
    experiment: str
    effect: str
    claimed: Range
    measure: Callable[[Evidence], list[Sample]]

    def judge(self, evidence: Evidence) -> Judgement:
        """The verdict on this evidence."""
        return judge(self.measure(evidence), self.claimed)


E1, E2, E3 = "gradient_vanishing", "norm_comparison", "prenorm_vs_postnorm"
LOSS = "final validation loss at its best rate (nats per character)"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="vanishing-activations",
        text="Without normalization activations shrink towards 0, layer by layer.",
        source=NOTES,
        experiment=E1,
        effect=f"std at layer {DEPTH} over std at layer 1, ReLU stack",
        claimed=Range(high=0.1),
        measure=stack_effects.std_ratio,
    ),
    Claim(
        id="published-sequence",
        text="Their std goes 1.04, 0.85, 0.62, 0.38, 0.21, ..., 0.016 over 8 layers.",
        source=NOTES,
        experiment=E1,
        effect="largest factor between a published std and the measured one",
        claimed=Range(high=1.2),
        measure=stack_effects.published_misfit,
    ),
    Claim(
        id="vanishing-gradients",
        text="Without normalization gradients vanish.",
        source=NOTES,
        experiment=E1,
        effect=f"gradient RMS at layer 1 over that at layer {DEPTH}, ReLU stack",
        claimed=Range(high=0.1),
        measure=stack_effects.gradient_ratio,
    ),
    Claim(
        id="exploding-to-nan",
        text="Activations can grow until they are NaN.",
        source=NOTES,
        experiment=E1,
        effect=f"first layer with a NaN, of {OVERFLOW_DEPTH}, each 4 times the one before",
        claimed=Range(1, OVERFLOW_DEPTH),
        measure=stack_effects.first_nan,
    ),
    Claim(
        id="std-around-1",
        text="With normalization the std of activations stays around 1.",
        source=NOTES,
        experiment=E1,
        effect=f"std at the one of {DEPTH} layers where it is farthest from 1",
        claimed=Range(0.9, 1.1),
        measure=stack_effects.normed_std,
    ),
    Claim(
        id="scale-under-control",
        text="With normalization the scale of activations does not depend on that of the weights.",
        source=NOTES,
        experiment=E1,
        effect="std at the last layer with gain 2 over that with gain 1",
        claimed=Range(0.9, 1.1),
        measure=stack_effects.weights_forgotten,
    ),
    Claim(
        id="better-gradient-flow",
        text="Normalization improves gradient flow.",
        source=NOTES,
        experiment=E1,
        effect="powers of ten by which a norm brings the gradient at layer 1 nearer to the last layer's",
        claimed=Range(low=0.1),
        measure=stack_effects.gradient_gain,
    ),
    Claim(
        id="gradients-stay",
        text="With normalization gradients neither vanish nor explode.",
        source=NOTES,
        experiment=E1,
        effect=f"gradient RMS at layer 1 over that at layer {DEPTH}, ReLU stack",
        claimed=Range(1 / 3, 3),
        measure=stack_effects.normed_gradient,
    ),
    Claim(
        id="nonorm-fails",
        text="Without normalization a Transformer does not train.",
        source=NOTES,
        experiment=E2,
        effect="log10 of the final loss at the best rate over the loss below which a run trains",
        claimed=Range(low=0.0),
        measure=training_effects.nonorm_loss,
    ),
    Claim(
        id="nonorm-nan-500",
        text="Without normalization the loss becomes NaN near step 500.",
        source=NOTES,
        experiment=E2,
        effect=f"steps between the first non-finite loss and step {training_effects.CLAIMED_NAN_STEP}",
        claimed=Range(high=training_effects.NAN_TOLERANCE),
        measure=training_effects.nonorm_nan,
    ),
    Claim(
        id="post-ln-3.5",
        text="Post-LN ends at a loss of about 3.5.",
        source=NOTES,
        experiment=E2,
        effect=LOSS,
        claimed=Range(3.4, 3.6),
        measure=training_effects.at_best(POST_LN),
    ),
    Claim(
        id="pre-ln-2.8",
        text="Pre-LN + LayerNorm ends at about 2.8.",
        source=NOTES,
        experiment=E2,
        effect=LOSS,
        claimed=Range(2.7, 2.9),
        measure=training_effects.at_best(PRE_LN),
    ),
    Claim(
        id="pre-rms-2.7",
        text="Pre-LN + RMSNorm ends at about 2.7.",
        source=NOTES,
        experiment=E2,
        effect=LOSS,
        claimed=Range(2.6, 2.8),
        measure=training_effects.at_best(PRE_RMS),
    ),
    Claim(
        id="post-worse-than-pre",
        text="Post-LN ends higher than Pre-LN.",
        source=NOTES,
        experiment=E2,
        effect="Post-LN's final loss minus Pre-LN's, each at its best rate (nats)",
        claimed=Range(low=0.0),
        measure=training_effects.difference(PRE_LN, POST_LN),
    ),
    Claim(
        id="rmsnorm-best",
        text="Pre-LN + RMSNorm is the best of the four.",
        source=NOTES,
        experiment=E2,
        effect="final loss of the best of the other three minus RMSNorm's (nats)",
        claimed=Range(low=0.0),
        measure=training_effects.lead_of_rmsnorm,
    ),
    Claim(
        id="rmsnorm-0.1-better",
        text="RMSNorm ends about 0.1 below LayerNorm.",
        source=NOTES,
        experiment=E2,
        effect="LayerNorm's final loss minus RMSNorm's in Pre-LN (nats)",
        claimed=Range(0.05, 0.15),
        measure=training_effects.difference(PRE_RMS, PRE_LN),
    ),
    Claim(
        id="rmsnorm-equal",
        text="RMSNorm is as good as LayerNorm.",
        source=f"{ZHANG}; {CHAPTER}",
        experiment=E2,
        effect="LayerNorm's final loss minus RMSNorm's in Pre-LN (nats)",
        claimed=Range(-0.05, 0.05),
        measure=training_effects.difference(PRE_RMS, PRE_LN),
    ),
    Claim(
        id="post-needs-1e-4",
        text="Post-LN needs learning rates below 1e-4.",
        source=NOTES,
        experiment=E2,
        effect="log10 of the largest learning rate at which it trains",
        claimed=Range(high=-4),
        measure=training_effects.largest_rate,
    ),
    Claim(
        id="pre-tolerates-more",
        text="Pre-LN tolerates larger learning rates than Post-LN.",
        source=NOTES,
        experiment=E2,
        effect="log10 of the largest rate at which Pre-LN trains over that at which Post-LN does",
        claimed=Range(low=0.1),
        measure=training_effects.tolerance,
    ),
    Claim(
        id="post-sensitive",
        text="Post-LN is more sensitive to the learning rate.",
        source=NOTES,
        experiment=E2,
        effect="mean loss above the best over the rates, Post-LN minus Pre-LN (nats)",
        claimed=Range(low=0.0),
        measure=training_effects.more_sensitive,
    ),
    Claim(
        id="four-layers-converge",
        text="At 4 layers Pre-LN and Post-LN both converge.",
        source=NOTES,
        experiment=E3,
        effect="final loss minus the loss below which a run trains (nats)",
        claimed=Range(high=0.0),
        measure=training_effects.four_layers,
    ),
    Claim(
        id="eight-post-unstable",
        text="At 8 layers Post-LN becomes unstable.",
        source=NOTES,
        experiment=E3,
        effect="final loss minus the loss below which a run trains (nats)",
        claimed=Range(low=0.0),
        measure=training_effects.trained_at(POST_LN, lambda layers: layers == 8),
    ),
    Claim(
        id="eight-pre-stable",
        text="At 8 layers Pre-LN remains stable.",
        source=NOTES,
        experiment=E3,
        effect="final loss minus the loss below which a run trains (nats)",
        claimed=Range(high=0.0),
        measure=training_effects.trained_at(PRE_LN, lambda layers: layers == 8),
    ),
    Claim(
        id="deep-post-unstable",
        text="Beyond 12 layers Post-LN is unstable.",
        source=NOTES,
        experiment=E3,
        effect="final loss minus the loss below which a run trains (nats)",
        claimed=Range(low=0.0),
        measure=training_effects.trained_at(POST_LN, lambda layers: layers > 12),
    ),
    Claim(
        id="post-smaller-rate",
        text="Post-LN requires a smaller learning rate than Pre-LN.",
        source=NOTES,
        experiment=E3,
        effect="log10 of Pre-LN's best rate over Post-LN's",
        claimed=Range(low=0.1),
        measure=training_effects.best_rate_ratio,
    ),
    Claim(
        id="warmup-rescues-post",
        text="A warm-up lets Post-LN train where it does not without.",
        source=XIONG,
        experiment=E3,
        effect="final loss with a warm-up minus the loss below which a run trains (nats)",
        claimed=Range(high=0.0),
        measure=training_effects.rescued,
    ),
    Claim(
        id="post-gradient-order-1",
        text="At initialization Post-LN's last gradient does not shrink with depth.",
        source=XIONG,
        experiment=E3,
        effect="power of depth in the gradient norm",
        claimed=Range(low=-0.1),
        measure=training_effects.power_of_depth(POST_LN),
    ),
    Claim(
        id="pre-gradient-order-root",
        text="At initialization Pre-LN's last gradient falls as 1/√layers.",
        source=XIONG,
        experiment=E3,
        effect="power of depth in the gradient norm",
        claimed=Range(-0.6, -0.4),
        measure=training_effects.power_of_depth(PRE_LN),
    ),
    Claim(
        id="pre-gradients-direct",
        text="In Pre-LN gradients flow directly, unchanged in scale, to the first layer.",
        source=f"{NOTES}; {XIONG}",
        experiment=E3,
        effect="gradient RMS at the embedding over that at the last block, at initialization",
        claimed=Range(1 / 3, 3),
        measure=training_effects.gradient_through_blocks(PRE_LN),
    ),
    Claim(
        id="post-gradients-vanish",
        text="In Post-LN gradients vanish on their way to the first layer.",
        source="a common explanation; see Liu et al. 2020",
        experiment=E3,
        effect="gradient RMS at the embedding over that at the last block, at initialization",
        claimed=Range(high=1 / 3),
        measure=training_effects.gradient_through_blocks(POST_LN),
    ),
)
