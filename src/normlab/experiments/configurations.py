"""The four configurations that the notes compare, in the order of their table."""

from dataclasses import dataclass

from normlab.models.config import Placement


@dataclass(frozen=True, slots=True)
class Configuration:
    """A placement and a norm, under the notes' name."""

    label: str
    placement: Placement
    kind: str


NO_NORM = Configuration("NoNorm", "none", "none")
POST_LN = Configuration("Post-LN", "post", "layernorm")
PRE_LN = Configuration("Pre-LN + LayerNorm", "pre", "layernorm")
PRE_RMS = Configuration("Pre-LN + RMSNorm", "pre", "rmsnorm")

CONFIGURATIONS = (NO_NORM, POST_LN, PRE_LN, PRE_RMS)
