"""Claims about the four configurations: what trains, how well, at which rates."""

from normlab.experiments import training_effects
from normlab.experiments.claims.claim import CHAPTER, NOTES, ZHANG, Claim
from normlab.experiments.configurations import POST_LN, PRE_LN, PRE_RMS
from normlab.experiments.judge import Range

EXPERIMENT = "norm_comparison"
LOSS = "final validation loss at its best rate (nats per character)"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="nonorm-fails",
        text="Without normalization a Transformer does not train.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect="log10 of the final loss at the best rate over the loss below which a run trains",
        claimed=Range(low=0.0),
        measure=training_effects.nonorm_loss,
    ),
    Claim(
        id="nonorm-nan-500",
        text="Without normalization the loss becomes NaN near step 500.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect=f"steps between the first non-finite loss and step {training_effects.CLAIMED_NAN_STEP}",
        claimed=Range(high=training_effects.NAN_TOLERANCE),
        measure=training_effects.nonorm_nan,
    ),
    Claim(
        id="post-ln-3.5",
        text="Post-LN ends at a loss of about 3.5.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect=LOSS,
        claimed=Range(3.4, 3.6),
        measure=training_effects.at_best(POST_LN),
    ),
    Claim(
        id="pre-ln-2.8",
        text="Pre-LN + LayerNorm ends at about 2.8.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect=LOSS,
        claimed=Range(2.7, 2.9),
        measure=training_effects.at_best(PRE_LN),
    ),
    Claim(
        id="pre-rms-2.7",
        text="Pre-LN + RMSNorm ends at about 2.7.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect=LOSS,
        claimed=Range(2.6, 2.8),
        measure=training_effects.at_best(PRE_RMS),
    ),
    Claim(
        id="post-worse-than-pre",
        text="Post-LN ends higher than Pre-LN.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect="Post-LN's final loss minus Pre-LN's, each at its best rate (nats)",
        claimed=Range(low=0.0),
        measure=training_effects.difference(PRE_LN, POST_LN),
    ),
    Claim(
        id="rmsnorm-best",
        text="Pre-LN + RMSNorm is the best of the four.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect="final loss of the best of the other three minus RMSNorm's (nats)",
        claimed=Range(low=0.0),
        measure=training_effects.lead_of_rmsnorm,
    ),
    Claim(
        id="rmsnorm-0.1-better",
        text="RMSNorm ends about 0.1 below LayerNorm.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect="LayerNorm's final loss minus RMSNorm's in Pre-LN (nats)",
        claimed=Range(0.05, 0.15),
        measure=training_effects.difference(PRE_RMS, PRE_LN),
    ),
    Claim(
        id="rmsnorm-equal",
        text="RMSNorm is as good as LayerNorm.",
        source=f"{ZHANG}; {CHAPTER}",
        experiment=EXPERIMENT,
        effect="LayerNorm's final loss minus RMSNorm's in Pre-LN (nats)",
        claimed=Range(-0.05, 0.05),
        measure=training_effects.difference(PRE_RMS, PRE_LN),
    ),
    Claim(
        id="post-needs-1e-4",
        text="Post-LN needs learning rates below 1e-4.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect="log10 of the largest learning rate at which it trains",
        claimed=Range(high=-4),
        measure=training_effects.largest_rate,
    ),
    Claim(
        id="pre-tolerates-more",
        text="Pre-LN tolerates larger learning rates than Post-LN.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect="log10 of the largest rate at which Pre-LN trains over that at which Post-LN does",
        claimed=Range(low=0.1),
        measure=training_effects.tolerance,
    ),
    Claim(
        id="post-sensitive",
        text="Post-LN is more sensitive to the learning rate.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect="mean loss above the best over the rates, Post-LN minus Pre-LN (nats)",
        claimed=Range(low=0.0),
        measure=training_effects.more_sensitive,
    ),
)
