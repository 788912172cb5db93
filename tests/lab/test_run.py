"""A run is a pure function of its config: the same bits wherever it runs, the same batches whatever the model."""

import math
from dataclasses import replace

import pytest
import torch

from normlab.lab import run, sweep
from normlab.lab.run import outcome_of, windows
from normlab.lab.text import Baselines
from normlab.models.config import PLACEMENTS


@pytest.fixture
def long_run(tiny):
    """A run in which everything that a result holds has several entries."""
    return tiny(model={"n_layers": 2}, steps=4, eval_every=2, scales_at=(0, 2), warmup=2)


@pytest.fixture
def batches_of(run_module, corpus, monkeypatch):
    """The training batches of a run, as they reach its loss."""

    def record(config, text=corpus):
        seen = []
        loss_of = run_module.loss_of

        def spy(model, inputs, targets):
            if torch.is_grad_enabled():
                seen.append((inputs, targets))
            return loss_of(model, inputs, targets)

        with monkeypatch.context() as patch:
            patch.setattr(run_module, "loss_of", spy)
            run(config, text)
        return seen

    return record


def test_same_bits_in_the_same_process(long_run, corpus, bits):
    first = run(long_run, corpus)
    assert len(first.eval_loss) == 3
    assert len(first.scales) == 2
    assert bits(run(long_run, corpus)) == bits(first)


@pytest.mark.heavy
def test_same_bits_in_a_worker(long_run, corpus, store, bits):
    configs = [long_run, replace(long_run, seed=1)]
    assert [bits(r) for r in sweep(configs, store, jobs=2)] == [bits(run(c, corpus)) for c in configs]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("grad", [True, False])
def test_same_bits_whatever_the_process_has_set(long_run, corpus, bits, threads, dtype, grad):
    expected = bits(run(long_run, corpus))
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
    try:
        with torch.set_grad_enabled(grad):
            assert bits(run(long_run, corpus)) == expected
        assert torch.get_num_threads() == threads
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)


def test_another_seed_gives_another_run(tiny, corpus):
    assert run(tiny(seed=1), corpus).train_loss != run(tiny(), corpus).train_loss


@pytest.mark.parametrize("model", [{"placement": "post"}, {"n_layers": 3}, {"dim": 32}, {"init": "torch"}])
def test_runs_that_share_a_seed_see_the_same_batches(tiny, batches_of, model):
    here, there = batches_of(tiny()), batches_of(tiny(model))
    assert len(here) == len(there) == 3
    for (a, b), (c, d) in zip(here, there, strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, d)


def test_batches_do_not_depend_on_what_is_measured(tiny, batches_of):
    here, there = batches_of(tiny()), batches_of(tiny(eval_every=1, scales_at=(), warmup=2, lr=0.1))
    assert all(torch.equal(a, c) for (a, _), (c, _) in zip(here, there, strict=True))


def test_batches_differ_between_seeds_and_steps(tiny, batches_of):
    (first, _), (second, _), _ = batches_of(tiny())
    assert not torch.equal(first, second)
    assert not torch.equal(first, batches_of(tiny(seed=1))[0][0])


def test_windows():
    inputs, targets = windows(torch.arange(100), torch.tensor([3, 95]), 4)
    assert inputs.tolist() == [[3, 4, 5, 6], [95, 96, 97, 98]]
    assert targets.tolist() == [[4, 5, 6, 7], [96, 97, 98, 99]]


def test_windows_reach_both_ends_of_the_text(tiny, corpus, batches_of):
    """In a text of 10 characters there are two windows of 8 and their next, and one of 9."""
    text = replace(corpus, vocab=tuple("0123456789"), train=torch.arange(10), validation=torch.arange(10))
    ((inputs, _),) = batches_of(tiny(model={"vocab_size": 10}, steps=1, batch=64), text)
    assert set(inputs[:, 0].tolist()) == {0, 1}
    ((inputs, targets),) = batches_of(tiny(model={"vocab_size": 10, "context": 9}, steps=1), text)
    assert inputs.tolist() == [list(range(9))] * 2
    assert targets.tolist() == [list(range(1, 10))] * 2
    with pytest.raises(ValueError, match=r"^model.context must be at most 9 for this text, got 10$"):
        run(tiny(model={"vocab_size": 10, "context": 10}), text)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_first_loss_of_small_weights_is_that_of_guessing(tiny, corpus, placement):
    """With weights near 0 all characters are alike: ln V."""
    config = tiny(model={"placement": placement, "init": "normal", "init_std": 1e-4, "final_norm": False}, steps=1)
    assert run(config, corpus).train_loss[0] == pytest.approx(math.log(len(corpus.vocab)), abs=1e-2)


def test_first_loss_of_xavier_is_above_that_of_guessing(tiny, corpus):
    """Logits of variance s^2, independent of the targets: ln V + s^2 / 2, here s^2 = 2 dim / (dim + V)."""
    expected = math.log(len(corpus.vocab)) + 16 / (16 + len(corpus.vocab))
    losses = [run(tiny(batch=64, steps=1, seed=s), corpus).train_loss[0] for s in range(8)]
    assert sum(losses) / 8 == pytest.approx(expected, abs=0.1)
    assert sum(losses) / 8 > math.log(len(corpus.vocab))


@pytest.mark.parametrize(
    ("loss", "outcome"),
    [
        (lambda c: 0.0, "trains"),
        (lambda c: c.unigram - 0.1, "trains"),
        (lambda c: math.nextafter(c.unigram - 0.1, math.inf), "stuck"),
        (lambda c: c.unigram, "stuck"),
        (lambda c: c.uniform, "stuck"),
        (lambda c: math.nextafter(c.uniform, math.inf), "diverged"),
        (lambda c: math.inf, "nan"),
        (lambda c: math.nan, "nan"),
    ],
)
def test_outcome_at_its_thresholds(loss, outcome):
    baselines = Baselines(uniform=4.6, unigram=3.2, bigram=2.4)
    assert outcome_of(loss(baselines), baselines) == outcome


@pytest.mark.parametrize(
    ("outcome", "diverged"), [("trains", False), ("stuck", False), ("diverged", True), ("nan", True)]
)
def test_diverged(tiny, corpus, outcome, diverged):
    assert replace(run(tiny(steps=1), corpus), outcome=outcome).diverged is diverged


def test_a_run_that_becomes_nan_ends_there(tiny, corpus):
    """16 layers without norms at rate 1."""
    config = tiny(model={"placement": "none", "n_layers": 16}, lr=1.0, steps=12, eval_every=2, scales_at=(0, 1, 5))
    result = run(config, corpus)
    assert result.outcome == "nan"
    assert result.first_nonfinite_step == 2
    assert [math.isfinite(loss) for loss in result.train_loss] == [True, True, False]
    assert math.isnan(result.final_loss)
    assert result.eval_steps == (0, 2, 3)
    assert result.eval_loss[-1] is result.final_loss
    assert [s.step for s in result.scales] == [0, 1]
    assert result.step_ms > 0


def test_a_run_whose_first_loss_is_not_finite(tiny, corpus):
    result = run(tiny(model={"init": "normal", "init_std": 1e30, "placement": "none"}), corpus)
    assert result.first_nonfinite_step == 0
    assert result.outcome == "nan"
    assert len(result.train_loss) == 1
    assert [s.step for s in result.scales] == [0]
    assert math.isnan(result.step_ms)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"text": "0" * 16}, "corpus must be the config's text 0000000000000000, got .* .pydoc_data.topics."),
        ({"model": {"vocab_size": 9}}, "model.vocab_size must be the text's 103, got 9"),
        ({"model": {"context": 46_080}}, "model.context must be at most 46079 for this text, got 46080"),
    ],
)
def test_a_text_that_does_not_fit(tiny, corpus, changes, sentence):
    text = changes.pop("text", corpus.digest)
    short = replace(corpus, vocab=corpus.vocab[:103], validation=corpus.validation[:46_080])
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        run(replace(tiny(**changes), text=text), short)
