"""The size of an experiment: quick or full, on which text, how many seeds, on which device."""

from dataclasses import dataclass, replace
from typing import Literal

from normlab import _check
from normlab.lab import Corpus, RunConfig
from normlab.lab.config import Dtype
from normlab.lab.run import trained_below, validation_baselines
from normlab.lab.text import Baselines
from normlab.models import TransformerConfig
from normlab.models.config import Placement
from normlab.spec import NormSpec, StatsDtype

# Sequences of the validation text on which every run is scored.
EVAL_WINDOWS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is run.

    Attributes:
        name: "quick" or "full" (tests use others).
        n_seeds: independent repetitions of every training run.
        cheap_seeds: repetitions of what takes no training: stacks, gradients at initialization.
        half_seeds: repetitions of single norms in half precision, which take milliseconds.
        evals: validations in a run, evenly spaced; the last is after the last step.
        steps, batch, context, dim: of every training run.
        rates: the learning rates, the same for every configuration.
        comparison_layers: depths at which all four configurations are compared.
        depths: depths at which Pre-LN and Post-LN are compared.
        warmup_layers, warmup: depths that are also run with a warm-up, of so many steps.
        init_layers, init_batch: depths at which the gradient at initialization is measured, and on how many sequences.
        half_kinds, half_layers, half_rates: norms, depth and rates at which bfloat16 is compared with float32.
        iris_seeds: splits and initial weights of the small classifiers of Iris.
        speed_rounds: rounds in which everything that is compared is timed.
        speed_large: whether tensors larger than the caches, and MiniMind in its whole size, are timed.
        long_steps, long_rates: a longer run of NoNorm, for the step at which it becomes NaN; 0: none.
    """

    name: str
    n_seeds: int
    steps: int
    context: int
    rates: tuple[float, ...]
    comparison_layers: tuple[int, ...]
    depths: tuple[int, ...]
    warmup_layers: tuple[int, ...]
    warmup: int
    init_layers: tuple[int, ...]
    long_steps: int = 0
    long_rates: tuple[float, ...] = ()
    evals: int = 4
    cheap_seeds: int = 6
    half_seeds: int = 24
    iris_seeds: int = 12
    speed_rounds: int = 10
    speed_large: bool = False
    half_kinds: tuple[Literal["rmsnorm", "layernorm"], ...] = ("rmsnorm",)
    half_layers: int = 4
    half_rates: tuple[float, ...] = (3e-3,)
    init_batch: int = 32
    batch: int = 8
    dim: int = 64


QUICK = Size(
    name="quick",
    n_seeds=3,
    steps=70,
    context=24,
    rates=(1e-3, 3e-3, 1e-2),
    comparison_layers=(4, 8),
    depths=(4, 8),
    warmup_layers=(4,),
    warmup=40,
    init_layers=(4, 8, 16, 32),
    evals=1,
)
FULL = Size(
    name="full",
    n_seeds=5,
    steps=200,
    context=32,
    rates=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    comparison_layers=(4, 8),
    depths=(2, 4, 8, 16),
    warmup_layers=(8,),
    warmup=100,
    init_layers=(4, 8, 16, 32),
    long_steps=750,
    long_rates=(1e-3, 3e-3, 1e-2),
    half_kinds=("rmsnorm", "layernorm"),
    half_rates=(1e-3, 3e-3),
    cheap_seeds=12,
    iris_seeds=30,
    speed_rounds=12,
    speed_large=True,
)


@dataclass(frozen=True, slots=True)
class Setting:
    """A size, a text and a device.

    Attributes:
        size: how much is run.
        corpus: the text.
        data: path of the text, None for the default one.
        device: "cpu" or "cuda".
        flags: the command-line options that give this setting again.
    """

    size: Size
    corpus: Corpus
    data: str | None = None
    device: str = "cpu"
    flags: str = ""

    @property
    def seeds(self) -> range:
        """The seeds of training runs."""
        return range(self.size.n_seeds)

    @property
    def cheap_seeds(self) -> range:
        """The seeds of what takes no training."""
        return range(self.size.cheap_seeds)

    @property
    def half_seeds(self) -> range:
        """The seeds of single norms."""
        return range(self.size.half_seeds)

    @property
    def iris_seeds(self) -> range:
        """The seeds of the classifiers of Iris."""
        return range(self.size.iris_seeds)

    @property
    def baselines(self) -> Baselines:
        """What guessing costs on the characters that runs are scored on."""
        return validation_baselines(self.corpus, self.size.context, EVAL_WINDOWS)

    @property
    def trained_below(self) -> float:
        """The final loss at and below which a run counts as trained."""
        return trained_below(self.baselines)

    @property
    def training(self) -> str:
        """What all training runs share, in words."""
        size = self.size
        return (
            f"character model on {self.corpus.source}, width {size.dim}, context {size.context}, batch {size.batch}, "
            f"{size.steps} steps of Adam, {size.n_seeds} seed{'s' * (size.n_seeds > 1)}"
        )

    def run(
        self,
        placement: Placement,
        kind: str,
        layers: int,
        *,
        lr: float,
        seed: int,
        warmup: int = 0,
        steps: int = 0,
        dtype: Dtype = "float32",
        stats: StatsDtype = "float32",
    ) -> RunConfig:
        """The run of a configuration in this setting; everything not named is the same for all. steps 0: the size's."""
        _check.one_of("kind", kind, ("layernorm", "rmsnorm", "none"))
        steps = steps or self.size.steps
        model = TransformerConfig(
            vocab_size=len(self.corpus.vocab),
            n_layers=layers,
            dim=self.size.dim,
            context=self.size.context,
            placement=placement,
            norm=NormSpec(kind, stats_dtype=stats),  # pyright: ignore[reportArgumentType]
        )
        return RunConfig(
            model=model,
            text=self.corpus.digest,
            lr=lr,
            seed=seed,
            steps=steps,
            batch=self.size.batch,
            warmup=warmup,
            eval_every=steps // self.size.evals if 1 < self.size.evals <= steps else 0,
            eval_windows=EVAL_WINDOWS,
            scales_at=tuple(sorted({0, steps - 1})),
            device=self.device,  # pyright: ignore[reportArgumentType]
            dtype=dtype,
        )

    def initial(self, placement: Placement, kind: str, layers: int, *, seed: int) -> RunConfig:
        """A run of one step, for the gradients that it measures before that step, on a larger batch."""
        config = self.run(placement, kind, layers, lr=self.size.rates[0], seed=seed, steps=1)
        return replace(config, batch=self.size.init_batch, eval_every=0, eval_windows=1)
