"""The training loop against one written out by hand, with torch's plain Adam."""

import math

import numpy as np
import pytest
import torch

from normlab.lab import run
from normlab.lab.run import validate, validation_baselines
from normlab.models import Transformer
from normlab.spec import NormSpec


def window_loss(model: Transformer, ids: np.ndarray, starts: list[int], context: int) -> float:
    """Mean of -log p(next character) over these windows, one at a time, in float64."""
    model = model.double()
    losses = []
    for s in starts:
        window = torch.from_numpy(ids[s : s + context + 1].copy())
        p = torch.softmax(model(window[None, :-1])[0], -1).detach().numpy()
        losses += [-np.log(p[i, c]) for i, c in enumerate(window[1:].tolist())]
    return float(np.mean(losses))


@pytest.fixture
def spaced(corpus):
    """Evenly spaced starts, the first and the last possible among them."""

    def starts(n: int, context: int) -> list[int]:
        last = len(corpus.validation) - context - 1
        return [int(i * last / (n - 1)) for i in range(n)]

    return starts


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"warmup": 4, "lr": 0.1},
        {"model": {"placement": "post"}, "seed": 5},
        {"model": {"placement": "none", "n_layers": 2}, "batch": 3},
    ],
)
def test_losses(tiny, corpus, by_hand, spaced, changes):
    config = tiny(**({"steps": 6, "eval_every": 4} | changes))
    result = run(config, corpus)
    *expected, _ = (
        -m(x).log_softmax(-1).gather(-1, y[..., None]).mean().item() for _, m, x, y in by_hand(config, corpus)
    )
    # Six steps of float32, in which the two Adams round differently: 1e-4 is a thousand roundings.
    assert result.train_loss == pytest.approx(expected, rel=1e-4)
    assert result.eval_steps == (0, 4, 6)
    *_, (_, trained, _, _) = by_hand(config, corpus)
    final = window_loss(trained, corpus.validation.numpy(), spaced(5, 8), 8)
    assert result.final_loss == pytest.approx(final, rel=1e-4)
    assert result.eval_loss[-1] == result.final_loss


@pytest.mark.parametrize(
    ("steps", "every", "at"),
    [(3, 0, (3,)), (3, 1, (0, 1, 2, 3)), (4, 2, (0, 2, 4)), (5, 2, (0, 2, 4, 5)), (2, 9, (0, 2))],
)
def test_validations_are_before_these_steps(tiny, corpus, steps, every, at):
    result = run(tiny(steps=steps, eval_every=every), corpus)
    assert result.eval_steps == at
    assert len(result.eval_loss) == len(at)
    assert len(result.train_loss) == steps
    assert result.step_ms > 0


def test_validation_before_the_first_step_is_of_the_untrained_model(tiny, corpus, by_hand, spaced):
    config = tiny(eval_every=1)
    _, model, _, _ = next(by_hand(config, corpus))
    expected = window_loss(model, corpus.validation.numpy(), spaced(5, 8), 8)
    assert run(config, corpus).eval_loss[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n", [1, 2, 16, 17, 40])
def test_validation_is_a_mean_over_windows(tiny, corpus, spaced, n):
    """17 and 40 windows do not fill the parts of 16 in which they are computed."""
    config = tiny(eval_windows=n)
    model = Transformer(config.model)
    got = validate(model, corpus, config)
    starts = spaced(n, 8) if n > 1 else [0]
    assert got == pytest.approx(window_loss(model, corpus.validation.numpy(), starts, 8), rel=1e-6)


def test_validation_of_a_text_longer_than_float32_can_count(tiny, corpus, run_module, monkeypatch):
    """The last start is 2^24 + 3, which float32 rounds up: past the end."""

    class Long:
        validation = torch.zeros(2**24 + 12, dtype=torch.int8)

    seen = []
    windows = run_module.windows
    monkeypatch.setattr(
        run_module,
        "windows",
        lambda ids, starts, n: seen.extend(starts.tolist()) or windows(corpus.train, starts % 9, n),
    )
    validate(Transformer(tiny().model), Long(), tiny())  # pyright: ignore[reportArgumentType]
    assert seen == [0, 2**22, 2**23 + 1, 3 * 2**22 + 2, 2**24 + 3]


@pytest.mark.parametrize(
    ("warmup", "shares"),
    [(0, [1, 1, 1, 1, 1]), (1, [1, 1, 1, 1, 1]), (4, [0.25, 0.5, 0.75, 1, 1]), (10, [0.1, 0.2, 0.3, 0.4, 0.5])],
)
def test_learning_rates(tiny, corpus, monkeypatch, warmup, shares):
    used = []

    class Spy(torch.optim.Adam):
        def step(self, closure=None):
            used.extend(group["lr"] for group in self.param_groups)
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "Adam", Spy)
    run(tiny(lr=0.02, steps=5, warmup=warmup), corpus)
    assert used == pytest.approx([0.02 * share for share in shares])


def test_a_model_learns(tiny, corpus):
    """80 steps are enough to know more than nothing, and to be recognized as such."""
    config = tiny(model={"n_layers": 1, "dim": 32}, steps=80, batch=16, lr=1e-2, eval_every=40, eval_windows=64)
    result = run(config, corpus)
    before, _, after = result.eval_loss
    assert after < validation_baselines(corpus, config.model.context, 64).unigram - 0.1
    assert before > math.log(len(corpus.vocab)) - 0.1
    assert result.outcome == "trains"


@pytest.mark.parametrize("stats", ["float32", "input"])
def test_bfloat16_is_the_same_loop_on_a_model_of_bfloat16(tiny, corpus, stats):
    """Drawn in float32, then cast; every parameter, Adam's state with it; the loss in float32."""
    config = tiny(model={"norm": NormSpec("rmsnorm", stats_dtype=stats)}, dtype="bfloat16", steps=4)
    torch.manual_seed(0)
    model = Transformer(config.model).bfloat16()
    adam = torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
    order = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(4):
        starts = torch.randint(len(corpus.train) - 8, (2,), generator=order).tolist()
        batch = torch.stack([corpus.train[s : s + 9] for s in starts])
        p = model(batch[:, :-1]).float().log_softmax(-1)
        loss = -p.gather(-1, batch[:, 1:, None]).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    # The same roundings to bfloat16; the loss itself is rounded as float32.
    assert run(config, corpus).train_loss == pytest.approx(losses, rel=1e-3)


def test_bfloat16_starts_where_float32_does_and_then_differs(tiny, corpus):
    half, single = run(tiny(dtype="bfloat16", steps=5), corpus), run(tiny(steps=5), corpus)
    assert half.train_loss[0] == pytest.approx(single.train_loss[0], rel=2e-2)
    assert half.train_loss != single.train_loss
    assert run(tiny(dtype="bfloat16", steps=5), corpus).train_loss == half.train_loss
