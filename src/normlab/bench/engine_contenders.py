"""Training steps of the transparent engine, and the same by others, for `normlab bench --engine`.

The example is the classifier of docs/tensor.md: 120 rows of 4 numbers, Linear to 8, LayerNorm, ReLU, Linear to 3,
cross-entropy, Adam, in float64. The Transformer is a character model: 4 layers of width 128, context 64, batches of 16,
float32. Each function gives a call that takes one step, and the loss before it.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from normlab.bench.timing import Call

OURS, TORCH, AUTOGRAD, TENSORWEAVER = "normlab.tensor", "PyTorch", "autograd", "TensorWeaver"
ROWS, FEATURES, HIDDEN, CLASSES, RATE = 120, 4, 8, 3, 0.01
VOCABULARY, LAYERS, WIDTH, HEADS, CONTEXT, BATCH = 103, 4, 128, 4, 64, 16

Numbers = dict[str, np.ndarray]


def example_numbers() -> Numbers:
    """The data, and the parameters that all begin with."""
    draw = np.random.default_rng(0)
    return {
        "x": draw.standard_normal((ROWS, FEATURES)),
        "target": draw.integers(0, CLASSES, ROWS),
        "W1": draw.standard_normal((FEATURES, HIDDEN)) * 0.5,
        "b1": np.zeros(HIDDEN),
        "gamma": np.ones(HIDDEN),
        "beta": np.zeros(HIDDEN),
        "W2": draw.standard_normal((HIDDEN, CLASSES)) * 0.5,
        "b2": np.zeros(CLASSES),
    }


PARAMETERS = ("W1", "b1", "gamma", "beta", "W2", "b2")


def example_ours(n: Numbers) -> Call:
    """By this engine."""
    from normlab.tensor import Tensor
    from normlab.tensor.layers import LayerNorm
    from normlab.tensor.nn.functional import cross_entropy, relu
    from normlab.tensor.optim import Adam

    W1, b1, W2, b2 = (Tensor(n[name], requires_grad=True) for name in ("W1", "b1", "W2", "b2"))
    norm, x, target = LayerNorm(HIDDEN), Tensor(n["x"]), n["target"]
    optimizer = Adam([W1, b1, W2, b2, *norm.parameters()], lr=RATE)

    def step() -> float:
        loss = cross_entropy(relu(norm(x @ W1 + b1)) @ W2 + b2, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def example_torch(n: Numbers) -> Call:
    """By PyTorch, eager, with its fused Adam."""
    import torch
    import torch.nn.functional as F

    W1, b1, W2, b2 = (torch.tensor(n[name], requires_grad=True) for name in ("W1", "b1", "W2", "b2"))
    norm = torch.nn.LayerNorm(HIDDEN, dtype=torch.float64)
    x, target = torch.tensor(n["x"]), torch.tensor(n["target"])
    optimizer = torch.optim.Adam([W1, b1, W2, b2, *norm.parameters()], lr=RATE, fused=True)

    def step() -> float:
        loss = F.cross_entropy(F.relu(norm(x @ W1 + b1)) @ W2 + b2, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _adam(parameters: Numbers) -> Callable[[Numbers], None]:
    """Adam as one writes it in NumPy, a parameter at a time, for a library that has none."""
    m, v = ({name: np.zeros_like(p) for name, p in parameters.items()} for _ in range(2))
    t = 0

    def update(gradients: Numbers) -> None:
        nonlocal t
        t += 1
        for name, g in gradients.items():
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.999 * v[name] + 0.001 * g**2
            change = RATE * (m[name] / (1 - 0.9**t)) / (np.sqrt(v[name] / (1 - 0.999**t)) + 1e-8)
            parameters[name] = parameters[name] - change

    return update


def example_autograd(n: Numbers) -> Call:
    """By the package `autograd`, which has no layers and differentiates NumPy's functions."""
    import autograd.numpy as anp  # pyright: ignore[reportMissingImports]
    from autograd import value_and_grad  # pyright: ignore[reportMissingImports]

    rows, x, target = np.arange(ROWS), n["x"], n["target"]
    parameters = {name: n[name].copy() for name in PARAMETERS}
    update = _adam(parameters)

    def loss(p: Any) -> Any:
        h = anp.dot(x, p["W1"]) + p["b1"]
        c = h - anp.mean(h, axis=1, keepdims=True)
        h = c / anp.sqrt(anp.mean(c * c, axis=1, keepdims=True) + 1e-5) * p["gamma"] + p["beta"]
        z = anp.dot(anp.maximum(h, 0), p["W2"]) + p["b2"]
        z = z - anp.max(z, axis=1, keepdims=True)
        return anp.mean(anp.log(anp.sum(anp.exp(z), axis=1)) - z[rows, target])

    differentiated = value_and_grad(loss)

    def step() -> float:
        value, gradients = differentiated(parameters)
        update(gradients)
        return float(value)

    return step


def example_tensorweaver(n: Numbers) -> Call:
    """By TensorWeaver 0.1, timed as it is: its gradients of gamma and beta are wrong, a number for each row of x."""
    from tensorweaver import Parameter, Tensor  # pyright: ignore[reportMissingImports]
    from tensorweaver.nn.functional import cross_entropy, relu  # pyright: ignore[reportMissingImports]
    from tensorweaver.operators.layer_norm import layer_norm  # pyright: ignore[reportMissingImports]
    from tensorweaver.optimizers.adam import Adam  # pyright: ignore[reportMissingImports]

    p = {name: Parameter(n[name].copy()) for name in PARAMETERS}
    x, target = Tensor(n["x"]), Tensor(n["target"])
    optimizer = Adam(list(p.values()), lr=RATE)

    def step() -> float:
        h = relu(layer_norm(x @ p["W1"] + p["b1"], HIDDEN, p["gamma"], p["beta"], 1e-5))
        loss = cross_entropy(h @ p["W2"] + p["b2"], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def transformer_ids() -> np.ndarray:
    """A batch of token ids, and the ones after them."""
    return np.random.default_rng(0).integers(0, VOCABULARY, (BATCH, CONTEXT + 1))


def transformer_ours(ids: np.ndarray) -> Call:
    """By this engine."""
    from normlab.tensor.layers import Transformer
    from normlab.tensor.nn.functional import cross_entropy
    from normlab.tensor.optim import Adam

    model = Transformer(VOCABULARY, LAYERS, WIDTH, HEADS, CONTEXT)
    optimizer = Adam(model.parameters(), lr=1e-3)

    def step() -> float:
        loss = cross_entropy(model(ids[:, :-1]).reshape(-1, VOCABULARY), ids[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def transformer_torch(ids: np.ndarray) -> Call:
    """By PyTorch, eager, with its fused attention and fused Adam, and its own norms."""
    import torch
    import torch.nn.functional as F

    from normlab.kernels import use_kernels
    from normlab.models import Transformer, TransformerConfig

    model = Transformer(
        TransformerConfig(vocab_size=VOCABULARY, n_layers=LAYERS, dim=WIDTH, n_heads=HEADS, context=CONTEXT)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    tokens = torch.tensor(ids)

    def step() -> float:
        with use_kernels("torch"):
            loss = F.cross_entropy(model(tokens[:, :-1]).reshape(-1, VOCABULARY), tokens[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def contenders() -> dict[str, dict[str, Call]]:
    """By case: what takes part, without libraries that are not installed."""
    numbers, ids = example_numbers(), transformer_ids()
    example = {OURS: example_ours, TORCH: example_torch}
    if find_spec("autograd") is not None:
        example[AUTOGRAD] = example_autograd
    if find_spec("tensorweaver") is not None:
        example[TENSORWEAVER] = example_tensorweaver
    return {
        "the example": {name: make(numbers) for name, make in example.items()},
        "the Transformer": {OURS: transformer_ours(ids), TORCH: transformer_torch(ids)},
    }
