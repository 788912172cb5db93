"""Claims about depth: Pre-LN and Post-LN, warm-up, gradients at initialization."""

from normlab.experiments import training_effects
from normlab.experiments.claims.claim import NOTES, XIONG, Claim
from normlab.experiments.configurations import POST_LN, PRE_LN
from normlab.experiments.judge import Range

EXPERIMENT = "prenorm_vs_postnorm"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="four-layers-converge",
        text="At 4 layers Pre-LN and Post-LN both converge.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect="final loss minus the loss below which a run trains (nats)",
        claimed=Range(high=0.0),
        measure=training_effects.four_layers,
    ),
    Claim(
        id="eight-post-unstable",
        text="At 8 layers Post-LN becomes unstable.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect="final loss minus the loss below which a run trains (nats)",
        claimed=Range(low=0.0),
        measure=training_effects.trained_at(POST_LN, lambda layers: layers == 8),
    ),
    Claim(
        id="eight-pre-stable",
        text="At 8 layers Pre-LN remains stable.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect="final loss minus the loss below which a run trains (nats)",
        claimed=Range(high=0.0),
        measure=training_effects.trained_at(PRE_LN, lambda layers: layers == 8),
    ),
    Claim(
        id="deep-post-unstable",
        text="Beyond 12 layers Post-LN is unstable.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect="final loss minus the loss below which a run trains (nats)",
        claimed=Range(low=0.0),
        measure=training_effects.trained_at(POST_LN, lambda layers: layers > 12),
    ),
    Claim(
        id="post-smaller-rate",
        text="Post-LN requires a smaller learning rate than Pre-LN.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect="log10 of Pre-LN's best rate over Post-LN's",
        claimed=Range(low=0.1),
        measure=training_effects.best_rate_ratio,
    ),
    Claim(
        id="warmup-rescues-post",
        text="A warm-up lets Post-LN train where it does not without.",
        source=XIONG,
        experiment=EXPERIMENT,
        effect="final loss with a warm-up minus the loss below which a run trains (nats)",
        claimed=Range(high=0.0),
        measure=training_effects.rescued,
    ),
    Claim(
        id="post-gradient-order-1",
        text="At initialization Post-LN's last gradient does not shrink with depth.",
        source=XIONG,
        experiment=EXPERIMENT,
        effect="power of depth in the gradient norm",
        claimed=Range(low=-0.1),
        measure=training_effects.power_of_depth(POST_LN),
    ),
    Claim(
        id="pre-gradient-order-root",
        text="At initialization Pre-LN's last gradient falls as 1/√layers.",
        source=XIONG,
        experiment=EXPERIMENT,
        effect="power of depth in the gradient norm",
        claimed=Range(-0.6, -0.4),
        measure=training_effects.power_of_depth(PRE_LN),
    ),
    Claim(
        id="pre-gradients-direct",
        text="In Pre-LN gradients flow directly, unchanged in scale, to the first layer.",
        source=f"{NOTES}; {XIONG}",
        experiment=EXPERIMENT,
        effect="gradient RMS at the embedding over that at the last block, at initialization",
        claimed=Range(1 / 3, 3),
        measure=training_effects.gradient_through_blocks(PRE_LN),
    ),
    Claim(
        id="post-gradients-vanish",
        text="In Post-LN gradients vanish on their way to the first layer.",
        source="a common explanation; see Liu et al. 2020",
        experiment=EXPERIMENT,
        effect="gradient RMS at the embedding over that at the last block, at initialization",
        claimed=Range(high=1 / 3),
        measure=training_effects.gradient_through_blocks(POST_LN),
    ),
)
