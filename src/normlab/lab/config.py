"""RunConfig: everything that a training run depends on, as one frozen value."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from normlab import _check
from normlab.models.config import TransformerConfig

Device = Literal["cpu", "cuda"]
Dtype = Literal["float32", "bfloat16"]

# torch's generators take no larger seed.
SEEDS = 2**64


def _plain(value: Any) -> Any:
    """A value for JSON, in which equal numbers are written alike: 1.0 as 1, -0.0 as 0."""
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """A training run: Adam (0.9, 0.999), a constant rate after an optional linear warm-up, no clipping.

    Attributes:
        model: what is trained.
        text: digest of the corpus (`Corpus.digest`).
        lr: learning rate.
        seed: of the initialization and, apart from it, of the order of the data: runs that share a seed
            see the same batches, whatever their models.
        steps: optimizer steps.
        batch: sequences per step, of `model.context` characters each.
        warmup: steps over which the rate rises linearly to lr.
        eval_every: steps between validations; one more always follows the last step. 0: only that one.
        eval_windows: sequences in a validation; the same for all runs.
        scales_at: steps whose forward and backward pass are measured layer by layer.
        device: "cpu" (one thread) or "cuda".
        dtype: of parameters, activations, gradients and Adam's state alike: "bfloat16" keeps no float32 copy of the
            weights. Weights are drawn in float32 and the loss is taken in float32, whatever the dtype.

    Raises:
        TypeError, ValueError: one sentence on the field that does not fit.
    """

    model: TransformerConfig
    text: str
    lr: float
    seed: int
    steps: int = 200
    batch: int = 8
    warmup: int = 0
    eval_every: int = 0
    eval_windows: int = 64
    scales_at: tuple[int, ...] = (0,)
    device: Device = "cpu"
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        if not isinstance(self.model, TransformerConfig):
            raise TypeError(f"model must be a TransformerConfig, got {type(self.model).__name__}")
        if not isinstance(self.text, str):
            raise TypeError(f"text must be a str (Corpus.digest), got {type(self.text).__name__} {self.text!r}")
        _check.number("lr", self.lr, above=0)
        for name, least in (("seed", 0), ("steps", 1), ("batch", 1), ("warmup", 0)):
            _check.whole(name, getattr(self, name), least=least)
        if self.seed >= SEEDS:
            raise ValueError(f"seed must be below 2**64, got {self.seed}")
        _check.whole("eval_every", self.eval_every, least=0)
        _check.whole("eval_windows", self.eval_windows)
        if not isinstance(self.scales_at, tuple):
            raise TypeError(f"scales_at must be a tuple, got {type(self.scales_at).__name__} {self.scales_at!r}")
        for step in self.scales_at:
            _check.whole("scales_at", step, least=0)
        _check.one_of("device", self.device, get_args(Device))
        _check.one_of("dtype", self.dtype, get_args(Dtype))

    @property
    def cost(self) -> float:
        """Work relative to other runs, for progress bars and for starting long runs first."""
        return self.steps * self.batch * self.model.context * self.model.n_layers * self.model.dim

    def canonical(self) -> str:
        """JSON with sorted keys: equal for equal configs, on every machine."""
        return json.dumps(_plain(asdict(self)), sort_keys=True)

    def __str__(self) -> str:
        m = self.model
        norm = "" if m.placement == "none" else f" {m.norm.kind}"
        warmup = f", warm-up {self.warmup}" if self.warmup else ""
        dtype = "" if self.dtype == "float32" else f", {self.dtype}"
        return f"{m.placement}{norm}, {m.n_layers} layers{dtype}, rate {self.lr:g}{warmup}, seed {self.seed}"
