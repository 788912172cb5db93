"""The runs of experiment 6: a small classifier of Iris on `normlab.tensor`, with each norm and without.

What differs between two runs is the norm, the rate or the seed, and nothing else: the seed decides which flowers are
held out and what the weights start from, the same for every norm and rate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from normlab.experiments.base import Needs
from normlab.experiments.evidence import Evidence
from normlab.tensor import Tensor, no_grad
from normlab.tensor.core import Array
from normlab.tensor.layers import BatchNorm, LayerNorm, Module, RMSNorm, Sequential
from normlab.tensor.nn.functional import cross_entropy, relu
from normlab.tensor.optim import Adam

Kind = Literal["none", "layernorm", "rmsnorm", "batchnorm"]

FEATURES, WIDTH, CLASSES = 4, 8, 3
HELD_OUT = 30
STEPS = 200
# The rate of the example in docs/tensor.md, in the middle: the one whose results are told first, whatever they are.
RATE = 1e-2
RATES = (1e-3, RATE, 1e-1)
KINDS: dict[Kind, str] = {"none": "no norm", "layernorm": "LayerNorm", "rmsnorm": "RMSNorm", "batchnorm": "BatchNorm"}
NORMS: dict[Kind, Callable[[], Module]] = {
    "none": Sequential,  # of nothing: it returns what it is given
    "layernorm": lambda: LayerNorm(WIDTH),
    "rmsnorm": lambda: RMSNorm(WIDTH, eps=1e-6),
    "batchnorm": lambda: BatchNorm(WIDTH, eps=1e-5, momentum=0.1),
}
SCIKIT_LEARN = Needs(module="sklearn", package="scikit-learn", extra="learn")


@dataclass(frozen=True, slots=True)
class Flowers:
    """A split of Iris. The features are standardized by mean and std of the training part.

    Attributes:
        x, held_x: features, shapes (120, 4) and (30, 4), float64.
        y, held_y: species 0, 1 or 2, shapes (120,) and (30,), with as many of each.
    """

    x: Array
    y: Array
    held_x: Array
    held_y: Array


@dataclass(frozen=True, slots=True)
class Training:
    """A run.

    Attributes:
        losses: mean cross-entropy of the training flowers (nats) after 0, 1, ... STEPS steps.
        accuracy: share of the held-out flowers that are named right, in percent.
        held_out_loss: their mean cross-entropy, nats.
    """

    kind: Kind
    lr: float
    seed: int
    losses: tuple[float, ...]
    accuracy: float
    held_out_loss: float

    def steps_to(self, loss: float) -> float:
        """Steps after which the training loss is for the first time at most `loss`; infinite when it never is."""
        return next((step for step, reached in enumerate(self.losses) if reached <= loss), float("inf"))


@dataclass(frozen=True, slots=True)
class IrisResults:
    """All runs, and the accuracy of a logistic regression on the same splits, in percent, a seed each."""

    runs: tuple[Training, ...]
    logistic: tuple[float, ...]

    def select(self, kind: Kind, lr: float) -> list[Training]:
        """The runs with a norm at a rate, by seed."""
        return [r for r in self.runs if (r.kind, r.lr) == (kind, lr)]


class Classifier(Module):
    """x @ W1 + b1, the norm, ReLU, @ W2 + b2: the example of docs/tensor.md as a Module."""

    def __init__(self, kind: Kind, seed: int) -> None:
        draw = np.random.default_rng(seed).standard_normal
        self.W1 = Tensor(draw((FEATURES, WIDTH)) * 0.5, requires_grad=True)
        self.b1 = Tensor(np.zeros(WIDTH), requires_grad=True)
        self.norm = NORMS[kind]()
        self.W2 = Tensor(draw((WIDTH, CLASSES)) * 0.5, requires_grad=True)
        self.b2 = Tensor(np.zeros(CLASSES), requires_grad=True)

    def forward(self, x: Tensor) -> Tensor:
        """x: (flowers, 4); logits, (flowers, 3)."""
        return relu(self.norm(x @ self.W1 + self.b1)) @ self.W2 + self.b2


def split(seed: int) -> Flowers:
    """Iris, 120 flowers to train on and 30 held out.

    Raises:
        ModuleNotFoundError: without scikit-learn, which brings the flowers.
    """
    try:
        from sklearn.datasets import load_iris
        from sklearn.model_selection import train_test_split
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"Iris is part of scikit-learn: {SCIKIT_LEARN}") from error
    features, species = load_iris(return_X_y=True)
    x, held_x, y, held_y = map(
        np.asarray, train_test_split(features, species, test_size=HELD_OUT, stratify=species, random_state=seed)
    )
    mean, std = x.mean(0), x.std(0)
    return Flowers((x - mean) / std, y, (held_x - mean) / std, held_y)


def train(kind: Kind, lr: float, seed: int, flowers: Flowers) -> Training:
    """Adam on all training flowers at every step, then the held-out ones."""
    net = Classifier(kind, seed)
    optimizer = Adam(net.parameters(), lr=lr)
    x, losses = Tensor(flowers.x), []
    for _ in range(STEPS):
        loss = cross_entropy(net(x), flowers.y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with no_grad():
        losses.append(cross_entropy(net(x), flowers.y).item())
        logits = net.eval()(Tensor(flowers.held_x))
        held_out_loss = cross_entropy(logits, flowers.held_y).item()
    accuracy = 100 * float(np.mean(logits.data.argmax(1) == flowers.held_y))
    return Training(kind, lr, seed, tuple(losses), accuracy, held_out_loss)


def _logistic(flowers: Flowers) -> float:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=1000).fit(flowers.x, flowers.y)
    return 100 * float(model.score(flowers.held_x, flowers.held_y))


def measure_iris(seeds: Sequence[int]) -> IrisResults:
    """Every norm at every rate, over the same seeds."""
    splits = {seed: split(seed) for seed in seeds}
    runs = tuple(train(kind, lr, seed, splits[seed]) for kind in KINDS for lr in RATES for seed in seeds)
    return IrisResults(runs, tuple(map(_logistic, splits.values())))


def iris_of(ev: Evidence) -> IrisResults:
    """The experiment's measurements."""
    return ev.of(IrisResults)
