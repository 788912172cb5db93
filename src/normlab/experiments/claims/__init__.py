"""The claims: sentences from teaching material and papers, each with what would make it true here.

A module an experiment, of the same name. Adding a claim is adding an entry to its CLAIMS: its text and source, the
experiment that measures it, the effect in words, the range in which the claim says that the effect lies, and a
function from the evidence to the effect's values. The verdict is computed (see `judge`).
"""

from normlab.experiments.claims import gradient_vanishing, half_precision, norm_comparison, prenorm_vs_postnorm, speed
from normlab.experiments.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = tuple(
    claim
    for module in (gradient_vanishing, norm_comparison, prenorm_vs_postnorm, speed, half_precision)
    for claim in module.CLAIMS
)

__all__ = ["CLAIMS", "Claim"]
