"""A run: RunConfig -> RunResult, a pure function. The same config gives the same bits on the same machine."""

import math
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from time import perf_counter
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from normlab.lab.config import RunConfig
from normlab.lab.reproducible import reproducible
from normlab.lab.scales import Scales, recording
from normlab.lab.text import Baselines, Corpus
from normlab.models import Transformer

Outcome = Literal["trains", "stuck", "diverged", "nan"]

# Below the unigram loss by this many nats, a model has learned more than how often each character occurs.
LEARNED_MARGIN = 0.1


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run measured.

    Attributes:
        config: what was run.
        train_loss: nats per character, one a step; ends at the first non-finite one.
        eval_steps, eval_loss: validation loss before these steps; the last entry is after the last step.
        final_loss: that last entry; NaN when the training loss became non-finite.
        first_nonfinite_step: the step whose training loss was NaN or infinite; the run ends there. The number
            of steps when only the validation after the last one was.
        outcome: by the final loss: "trains" (at least LEARNED_MARGIN below the unigram baseline on the same
            characters), "stuck" (no better than that, but at most ln V), "diverged" (above ln V, worse than
            guessing all characters alike), "nan" (a non-finite loss).
        scales: layer by layer, at the steps of `config.scales_at` that were reached.
        step_ms: median wall time of a step, in milliseconds. The one field that differs between repetitions.
    """

    config: RunConfig
    train_loss: tuple[float, ...]
    eval_steps: tuple[int, ...]
    eval_loss: tuple[float, ...]
    final_loss: float
    first_nonfinite_step: int | None
    outcome: Outcome
    scales: tuple[Scales, ...]
    step_ms: float

    @property
    def diverged(self) -> bool:
        """Whether the loss ended above ln V or became non-finite."""
        return self.outcome in ("diverged", "nan")


def trained_below(baselines: Baselines) -> float:
    """The final loss at and below which a run counts as trained."""
    return baselines.unigram - LEARNED_MARGIN


def outcome_of(final_loss: float, baselines: Baselines) -> Outcome:
    """Classify a final validation loss (see RunResult.outcome)."""
    if not math.isfinite(final_loss):
        return "nan"
    if final_loss > baselines.uniform:
        return "diverged"
    return "trains" if final_loss <= trained_below(baselines) else "stuck"


def windows(ids: Tensor, starts: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """(inputs, targets) of the sequences that begin at `starts`: each target is its input's next character."""
    both = ids[starts[:, None] + torch.arange(context + 1)]
    return both[:, :-1], both[:, 1:]


def loss_of(model: Transformer, inputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats per character, in at least float32: a loss of bfloat16 has three digits."""
    logits = model(inputs).flatten(0, 1)
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets.flatten())


def validation_windows(corpus: Corpus, context: int, n: int) -> tuple[Tensor, Tensor]:
    """(inputs, targets) of n evenly spaced sequences of the validation text: the same for every run."""
    last = len(corpus.validation) - context - 1
    # In float64: above 2^24 float32 would round to a start after the last.
    return windows(corpus.validation, torch.linspace(0, last, n, dtype=torch.float64).long(), context)


@lru_cache(maxsize=8)
def validation_baselines(corpus: Corpus, context: int, n: int) -> Baselines:
    """What guessing costs on the validation windows."""
    return corpus.baselines(*validation_windows(corpus, context, n))


@torch.no_grad()
def validate(model: Transformer, corpus: Corpus, config: RunConfig) -> float:
    """Mean loss over the validation windows."""
    inputs, targets = validation_windows(corpus, config.model.context, config.eval_windows)
    losses = [
        loss_of(model, x.to(config.device), y.to(config.device)).item() * len(x)
        for x, y in zip(inputs.split(16), targets.split(16), strict=True)
    ]
    return sum(losses) / len(inputs)


def run(config: RunConfig, corpus: Corpus) -> RunResult:
    """Train, validate, measure.

    Args:
        config: everything that the result depends on.
        corpus: the text with digest `config.text`.

    Raises:
        ValueError: when the corpus is another one, or too short for the context.
    """
    if corpus.digest != config.text:
        raise ValueError(f"corpus must be the config's text {config.text}, got {corpus.digest} ({corpus.source})")
    if len(corpus.vocab) != config.model.vocab_size:
        raise ValueError(f"model.vocab_size must be the text's {len(corpus.vocab)}, got {config.model.vocab_size}")
    longest = min(len(corpus.train), len(corpus.validation)) - 1
    if config.model.context > longest:
        raise ValueError(f"model.context must be at most {longest} for this text, got {config.model.context}")
    with reproducible(config.seed, config.device):
        return _train(config, corpus)


def _train(config: RunConfig, corpus: Corpus) -> RunResult:
    model = Transformer(config.model).to(config.device, getattr(torch, config.dtype))
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
    order = torch.Generator().manual_seed(config.seed)
    losses: list[float] = []
    evals: list[tuple[int, float]] = []
    scales: list[Scales] = []
    times: list[float] = []

    for step in range(config.steps):
        if config.eval_every and step % config.eval_every == 0:
            evals.append((step, validate(model, corpus, config)))
        starts = torch.randint(len(corpus.train) - config.model.context, (config.batch,), generator=order)
        inputs, targets = windows(corpus.train, starts, config.model.context)
        for group in optimizer.param_groups:
            group["lr"] = config.lr * min(1.0, (step + 1) / config.warmup) if config.warmup else config.lr

        began = perf_counter()
        with recording(model) if step in config.scales_at else nullcontext() as recorder:
            loss = loss_of(model, inputs.to(config.device), targets.to(config.device))
            optimizer.zero_grad()
            loss.backward()
        losses.append(loss.item())
        if recorder is not None:
            scales.append(recorder.read(model, step))
        if not math.isfinite(losses[-1]):
            break
        optimizer.step()
        if config.device == "cuda":
            torch.cuda.synchronize()
        times.append(perf_counter() - began)

    last = losses[-1]
    final = validate(model, corpus, config) if math.isfinite(last) else math.nan
    evals.append((len(losses), final))
    first_nonfinite = None if math.isfinite(final) else len(losses) - (not math.isfinite(last))
    baselines = validation_baselines(corpus, config.model.context, config.eval_windows)
    return RunResult(
        config=config,
        train_loss=tuple(losses),
        eval_steps=tuple(step for step, _ in evals),
        eval_loss=tuple(loss for _, loss in evals),
        final_loss=final,
        first_nonfinite_step=first_nonfinite,
        outcome=outcome_of(final, baselines),
        scales=tuple(scales),
        step_ms=1e3 * median(times) if times else math.nan,
    )
