"""Training runs as rows of a CSV, and without their curves for a JSON."""

from collections.abc import Sequence
from typing import Any

from normlab.experiments.evidence import Evidence
from normlab.lab import RunResult


def run_numbers(r: RunResult) -> dict[str, Any]:
    """A run without its curves."""
    return {
        "config": r.config,
        "final_loss": r.final_loss,
        "outcome": r.outcome,
        "first_nonfinite_step": r.first_nonfinite_step,
        "scales": r.scales,
        "step_ms": r.step_ms,
    }


def loss_curves(evidence: Evidence) -> tuple[Sequence[str], list[Sequence[Any]]]:
    """Header and rows: one line a run and step."""
    header = ("placement", "norm", "layers", "lr", "warmup", "seed", "step", "train_loss", "validation_loss")
    lines: list[Sequence[Any]] = []
    for r in evidence.runs:
        c = r.config
        run = (c.model.placement, c.model.norm.kind, c.model.n_layers, c.lr, c.warmup, c.seed)
        validation = dict(zip(r.eval_steps, r.eval_loss, strict=True))
        lines += [(*run, step, loss, validation.get(step, "")) for step, loss in enumerate(r.train_loss)]
        # The last validation comes after the last step.
        lines.append((*run, r.eval_steps[-1], "", r.eval_loss[-1]))
    return header, lines
