"""Claims about norms in bfloat16 and float16. Their ranges and seeds were fixed before anything was measured."""

import math

from normlab.experiments import half_effects
from normlab.experiments.claims.claim import Claim
from normlab.experiments.half_cases import HALVES, OVERFLOW, TINY_EPS, UNDERFLOW
from normlab.experiments.judge import Range
from normlab.experiments.text import rate

EXPERIMENT = "half_precision"

MICIKEVICIUS = "Micikevicius et al. 2018"
KALAMKAR = "Kalamkar et al. 2019"

# "Must", "loses digits": at least twice the error. "More exact", "more robust": a tenth.
TWICE, TENTH_MORE = math.log10(2), math.log10(1.1)

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="half-needs-float32-statistics",
        text="In half precision a norm's statistics must be computed in float32.",
        source="transformers, LlamaRMSNorm; pytorch/pytorch#133085",
        experiment=EXPERIMENT,
        effect="log10 of the error without the float32 upcast over that with it, at the scale where this is largest",
        claimed=Range(low=TWICE),
        measure=half_effects.without_upcast(HALVES),
    ),
    Claim(
        id="half-needs-float32-sums",
        text="The sum over which a norm's statistics are taken must be kept in float32.",
        source=f"{MICIKEVICIUS}; sgl-project/sglang#27540",
        experiment=EXPERIMENT,
        effect="log10 of RMSNorm's error with a running sum in half precision over that with float32 statistics",
        claimed=Range(low=TWICE),
        measure=half_effects.running_sums,
    ),
    Claim(
        id="float16-overflow-256",
        text="In float16 x² overflows as soon as |x| is above 256.",
        source="pytorch/pytorch#133085",
        experiment=EXPERIMENT,
        effect="largest entry of a row that is still normalized right without the upcast",
        claimed=Range(0.95 * OVERFLOW, 1.05 * OVERFLOW),
        measure=half_effects.largest_entry,
    ),
    Claim(
        id="float16-underflow-2.4e-4",
        text="In float16 the squares of inputs below about 2.4e-4 vanish.",
        source="a common explanation",
        experiment=EXPERIMENT,
        effect=f"smallest RMS of a row with a finite output, no upcast, eps {rate(TINY_EPS)}, over {UNDERFLOW:.2g}",
        claimed=Range(0.5, 2),
        measure=half_effects.smallest_rms,
    ),
    Claim(
        id="bfloat16-no-upcast",
        text="In bfloat16 a norm needs no float32 statistics, since its range is that of float32.",
        source=f"a common argument; see {KALAMKAR} on the range",
        experiment=EXPERIMENT,
        effect="log10 of the error without the float32 upcast over that with it, at the scale where this is largest",
        claimed=Range(high=TWICE),
        measure=half_effects.without_upcast(("bfloat16",)),
    ),
    Claim(
        id="product-before-cast",
        text="Multiplying by the weight before the cast back (Gemma) is more exact than after it (Llama).",
        source="transformers, GemmaRMSNorm; huggingface/transformers#29402",
        experiment=EXPERIMENT,
        effect="log10 of the error of y with the product after the cast over that before it",
        claimed=Range(low=TENTH_MORE),
        measure=half_effects.late_product,
    ),
    Claim(
        id="rmsnorm-robust",
        text="RMSNorm is more robust to low precision than LayerNorm.",
        source="a common belief",
        experiment=EXPERIMENT,
        effect="log10 of LayerNorm's error over RMSNorm's, standard normal input",
        claimed=Range(low=TENTH_MORE),
        measure=half_effects.layernorm_over_rmsnorm,
    ),
    Claim(
        id="recentering-loses-digits",
        text="Re-centering in half precision loses digits when the mean is large.",
        source="a common explanation",
        experiment=EXPERIMENT,
        effect="log10 of LayerNorm's error of y on an input with a mean over that on one without",
        claimed=Range(low=TWICE),
        measure=half_effects.recentering,
    ),
    Claim(
        id="bfloat16-statistics-train-worse",
        text="Training in bfloat16 with the norms' statistics in bfloat16 ends higher than with float32 statistics.",
        source="a common belief, behind transformers' LlamaRMSNorm",
        experiment=EXPERIMENT,
        effect="final loss with bfloat16 statistics minus that with float32 statistics, Pre-LN in bfloat16 (nats)",
        claimed=Range(low=0.0),
        measure=half_effects.cost_of_half_statistics,
    ),
    Claim(
        id="bfloat16-trains-like-float32",
        text="Training in bfloat16 ends at the loss of float32.",
        source=f"a common belief; {KALAMKAR} with float32 master weights",
        experiment=EXPERIMENT,
        effect="final loss in bfloat16, weights included, minus that in float32, Pre-LN (nats)",
        claimed=Range(-0.05, 0.05),
        measure=half_effects.cost_of_bfloat16,
    ),
)
