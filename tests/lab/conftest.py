"""What the tests of the lab share: tiny runs, results compared bit for bit, the training loop written out by hand."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from normlab.lab import Corpus, RunConfig, RunResult, Store, load_corpus
from normlab.models import Transformer, TransformerConfig

Batch = tuple[int, Transformer, Tensor, Tensor]


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return load_corpus()


@pytest.fixture
def tiny(corpus: Corpus) -> Callable[..., RunConfig]:
    """A run of milliseconds. `model` holds changes to its Transformer."""

    def make(model: dict[str, Any] | None = None, **changes: Any) -> RunConfig:
        sizes: dict[str, Any] = {"vocab_size": len(corpus.vocab), "n_layers": 1, "dim": 16, "n_heads": 2, "context": 8}
        fields: dict[str, Any] = {"lr": 1e-2, "seed": 0, "steps": 3, "batch": 2, "eval_windows": 5}
        return RunConfig(model=TransformerConfig(**(sizes | (model or {}))), text=corpus.digest, **(fields | changes))

    return make


@pytest.fixture
def bits() -> Callable[[RunResult], str]:
    """All of a result but the time: equal exactly when the bits are (NaN included)."""
    return lambda result: repr(replace(result, step_ms=0.0))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    kept = Store(tmp_path / "runs.sqlite")
    yield kept
    kept.close()


@pytest.fixture
def run_module() -> ModuleType:
    """normlab.lab.run, whose name in the package is that of the function."""
    return importlib.import_module("normlab.lab.run")


@pytest.fixture
def sweep_module() -> ModuleType:
    """normlab.lab.sweep, whose name in the package is that of the function."""
    return importlib.import_module("normlab.lab.sweep")


@pytest.fixture
def store_module() -> ModuleType:
    return importlib.import_module("normlab.lab.store")


@pytest.fixture
def by_hand() -> Callable[..., Iterator[Batch]]:
    """The training loop, written out: step, model and batch before each step, and once more after the last.

    A slice a sequence, and one random generator for the weights and another for the batches.
    """

    def train(config: RunConfig, corpus: Corpus, fused: bool = False) -> Iterator[Batch]:
        torch.manual_seed(config.seed)
        model = Transformer(config.model)
        adam = torch.optim.Adam(
            model.parameters(), lr=config.lr, betas=(0.9, 0.999), eps=1e-8, foreach=False, fused=fused
        )
        order = torch.Generator().manual_seed(config.seed)
        context = config.model.context
        for step in range(config.steps + 1):
            starts = torch.randint(len(corpus.train) - context, (config.batch,), generator=order).tolist()
            inputs = torch.stack([corpus.train[s : s + context] for s in starts])
            targets = torch.stack([corpus.train[s + 1 : s + 1 + context] for s in starts])
            yield step, model, inputs, targets
            if step == config.steps:
                return
            adam.param_groups[0]["lr"] = config.lr * min(1, (step + 1) / max(1, config.warmup))
            loss = -model(inputs).log_softmax(-1).gather(-1, targets[..., None]).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()

    return train
