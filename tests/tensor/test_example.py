"""The example of the documents, letter by letter, learns Iris; and so it does with another norm in its place."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from normlab.tensor import Tensor, no_grad
from normlab.tensor.nn.functional import cross_entropy

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = """\
import numpy as np
from normlab.tensor import Tensor
from normlab.tensor.nn.functional import relu
from normlab.tensor.layers import LayerNorm
from normlab.tensor.optim import Adam

W1 = Tensor(np.random.randn(4, 8) * 0.5, requires_grad=True)
b1 = Tensor(np.zeros(8), requires_grad=True)
ln = LayerNorm(8)
W2 = Tensor(np.random.randn(8, 3) * 0.5, requires_grad=True)
b2 = Tensor(np.zeros(3), requires_grad=True)

def forward(x):
    return relu(ln(x @ W1 + b1)) @ W2 + b2

optimizer = Adam([W1, b1, W2, b2] + ln.parameters(), lr=0.01)
"""


def trained(code: str, seed: int) -> float:
    """The share of held-out flowers that the example names right after 200 steps."""
    from normlab.experiments.iris_train import split

    flowers = split(seed)
    names: dict[str, Any] = {}
    np.random.seed(seed)  # noqa: NPY002  # the example draws from NumPy's old generator
    exec(compile(code, "example", "exec"), names)
    for _ in range(200):
        loss = cross_entropy(names["forward"](Tensor(flowers.x)), flowers.y)
        names["optimizer"].zero_grad()
        loss.backward()
        names["optimizer"].step()
    names["ln"].eval()
    with no_grad():
        scores = names["forward"](Tensor(flowers.held_x))
    return float(np.mean(scores.data.argmax(1) == flowers.held_y))


@pytest.mark.parametrize(
    "norm",
    ["LayerNorm(8)", "RMSNorm(8, eps=1e-6)", "BatchNorm(8, eps=1e-5, momentum=0.1)"],
    ids=lambda n: n.partition("(")[0],
)
def test_the_example_learns_iris(norm: str) -> None:
    """At least 95% of the held-out flowers, over ten splits: a single one has only 30."""
    code = EXAMPLE.replace("import LayerNorm", "import BatchNorm, LayerNorm, RMSNorm").replace("LayerNorm(8)", norm)
    assert np.mean([trained(code, seed) for seed in range(10)]) >= 0.95


def test_the_example_as_it_stands_learns_a_split() -> None:
    assert trained(EXAMPLE, 0) >= 0.95


@pytest.mark.parametrize("document", ["README.md", "docs/tensor.md"])
def test_the_documents_show_it(document: str) -> None:
    """But for blank lines, of which the formatter adds some."""
    text = (ROOT / document).read_text()
    assert f"```python\n{EXAMPLE}```".replace("\n\n", "\n") in re.sub(r"\n\n+", "\n", text)
