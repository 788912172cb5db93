"""What a claim is, and who makes them."""

from collections.abc import Callable
from dataclasses import dataclass

from normlab.experiments.evidence import Evidence
from normlab.experiments.judge import Judgement, Range, Sample, judge

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
