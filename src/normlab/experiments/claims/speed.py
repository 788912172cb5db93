"""Claims about speed. Their ranges are those of the claims' own words, fixed before the experiment was first run."""

from normlab.experiments import speed_effects
from normlab.experiments.claims.claim import NOTES, ZHANG, Claim
from normlab.experiments.judge import Range

EXPERIMENT = "speed"


def saving(least: float, most: float) -> Range:
    """The ratio of times when a share of the longer one is saved."""
    return Range(1 / (1 - least), 1 / (1 - most))


# "Faster": by more than anyone would have to look for.
FASTER = Range(low=1.05)
ALIKE = Range(0.95, 1.05)

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="rmsnorm-7-64-faster",
        text="RMSNorm is 7% to 64% faster than LayerNorm.",
        source=f"{NOTES}; after {ZHANG}",
        experiment=EXPERIMENT,
        effect="LayerNorm's time over RMSNorm's, forward + backward (7% to 64% saved: 1.08 to 2.78)",
        claimed=saving(0.07, 0.64),
        measure=speed_effects.layernorm_over_rmsnorm,
    ),
    Claim(
        id="rmsnorm-10-faster",
        text="RMSNorm is about 10% faster than LayerNorm: 8.7% forward, 11.1% backward.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect="LayerNorm's time over RMSNorm's, forward + backward (5% to 15% saved: 1.05 to 1.18)",
        claimed=saving(0.05, 0.15),
        measure=speed_effects.layernorm_over_rmsnorm,
    ),
    Claim(
        id="rmsnorm-model-7-64-faster",
        text="A model with RMSNorm runs in 7% to 64% less time than with LayerNorm.",
        source=f"{ZHANG}, arXiv:1910.07467",
        experiment=EXPERIMENT,
        effect="time of MiniMind's training step with LayerNorm over that with RMSNorm",
        claimed=saving(0.07, 0.64),
        measure=speed_effects.training_with_layernorm,
    ),
    Claim(
        id="rmsnorm-trains-6.9-faster",
        text="Training with RMSNorm takes 6.9% less time than with LayerNorm.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect="time of MiniMind's training step with LayerNorm over that with RMSNorm (5% to 9% saved: 1.05 to 1.10)",
        claimed=saving(0.05, 0.09),
        measure=speed_effects.training_with_layernorm,
    ),
    Claim(
        id="rmsnorm-decodes-faster",
        text="A model with RMSNorm decodes faster than with LayerNorm.",
        source="a common belief",
        experiment=EXPERIMENT,
        effect="time of MiniMind's decoding step, batch 1, with LayerNorm over that with RMSNorm",
        claimed=FASTER,
        measure=speed_effects.decoding_with_layernorm,
    ),
    Claim(
        id="norms-move-memory",
        text="A fused norm is bound by memory: it takes about as long as its bytes.",
        source="Ivanov et al. 2021, arXiv:2007.00072",
        experiment=EXPERIMENT,
        effect="bandwidth of normlab's norms, forward + backward, of that of copy_ (%), large tensors",
        claimed=Range(low=80.0),
        measure=speed_effects.of_copy,
    ),
    Claim(
        id="fused-norms-alike",
        text="Fused alike, RMSNorm and LayerNorm take the same time on large tensors: the mean moves no bytes.",
        source="the roofline argument: Williams et al. 2009",
        experiment=EXPERIMENT,
        effect="LayerNorm's time over RMSNorm's, normlab, forward + backward",
        claimed=ALIKE,
        measure=speed_effects.fused_layernorm_over_rmsnorm,
    ),
    Claim(
        id="rsqrt-faster",
        text="rsqrt is faster than 1 / sqrt.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect="time of 1 / torch.sqrt(v) over that of torch.rsqrt(v), float32",
        claimed=FASTER,
        measure=speed_effects.roots,
    ),
    Claim(
        id="rsqrt-norm-5-10-faster",
        text="A norm that multiplies by rsqrt is 5% to 10% faster than one that divides by sqrt.",
        source=NOTES,
        experiment=EXPERIMENT,
        effect="time of x / sqrt(v) over that of x * rsqrt(v), mean square included, forward, float32",
        claimed=saving(0.05, 0.10),
        measure=speed_effects.roots_in_a_norm,
    ),
    Claim(
        id="fused-norms-train-faster",
        text="Fusing a model's norms makes its training steps faster.",
        source="behind Liger-Kernel, whose 20% are for all its kernels: Hsu et al. 2024, arXiv:2410.10989",
        experiment=EXPERIMENT,
        effect="time of MiniMind's training step with PyTorch's norms over that with normlab's",
        claimed=FASTER,
        measure=speed_effects.fused_in_training,
    ),
)
