"""NormSpec: what a normalization computes, as one frozen value, and the presets of known libraries.

Two implementations that disagree about "RMSNorm" or "LayerNorm" differ in one of these fields, and
the field says where. For a row x of n numbers, with m = 0 (RMSNorm) or the mean of x (LayerNorm):

    v = mean((x - m)^2)
    y = (x - m) * s * (offset + weight) + bias,    s = 1 / sqrt(v + eps)      eps_place = "inside"
                                                   s = 1 / (sqrt(v) + eps)    eps_place = "outside"

The other kinds differ in what a row is and in s; `normlab.norms` has a file for each, which begins with its formula.
"""

from dataclasses import dataclass
from typing import Literal, Self, get_args

from normlab import _check

Kind = Literal[
    "layernorm",
    "rmsnorm",
    "batchnorm",
    "groupnorm",
    "instancenorm",
    "scalenorm",
    "crmsnorm",
    "prmsnorm",
    "dyt",
    "l2norm",
    "none",
]
EpsPlace = Literal["inside", "outside"]
StatsDtype = Literal["float32", "input"]
ScaleDtype = Literal["stats", "input", "weight"]

KINDS: tuple[str, ...] = get_args(Kind)
EPS_PLACES: tuple[str, ...] = get_args(EpsPlace)
WITH_BIAS = ("layernorm", "batchnorm", "groupnorm", "instancenorm", "dyt")
# They divide by max(||x||, eps): inside and outside of a square root are not the question.
WITH_FLOOR = ("scalenorm", "l2norm")


@dataclass(frozen=True, slots=True)
class NormSpec:
    """What a norm computes.

    Attributes:
        kind: which formula: "layernorm", "rmsnorm", "batchnorm", "groupnorm", "instancenorm", "scalenorm",
            "crmsnorm" (compressed), "prmsnorm" (partial), "dyt" (a tanh, no statistics), "l2norm", or "none"
            (the identity).
        eps: added to the variance (or mean square), at least 0; None stands for the machine epsilon of
            the dtype in which the statistics are taken, as in torch.nn.RMSNorm. For "scalenorm" and "l2norm" it
            is the least length that a row is divided by; "dyt" divides by nothing and has no use for it.
        eps_place: "inside" the square root, or "outside" of it.
        offset: the scale is `offset + weight`. Gemma uses 1, so that a weight of 0 means "unchanged".
        stats_dtype: half-precision input is reduced in "float32", or in the "input" dtype itself.
            (float64 input is always reduced in float64.) For "dyt": in which dtype its tanh is taken.
        scale_dtype: in which dtype the weight is multiplied. "stats": in the dtype of the statistics,
            then one cast back to the input's. "input": the normalized value is cast to the input's dtype
            first (Llama). "weight": it is cast to the weight's dtype if that is a half precision, and
            stays in the statistics' dtype otherwise (T5); the result then has that dtype.
        affine: whether there is a weight.
        bias: whether there is a bias (only with `affine`, and only for the kinds that center and for "dyt").
        unbiased_running_var: BatchNorm and InstanceNorm only: the running variance takes the n-1 variance, as in
            PyTorch.
        groups: GroupNorm only: into how many groups the channels are divided; 32 is the paper's.
        fraction: partial RMSNorm only: the share of a row's entries, from its start, whose RMS is taken; more than
            0, at most 1 (RMSNorm). 1/16 is the paper's.
        alpha: DyT only: where its learned slope begins.

    Raises:
        TypeError, ValueError: for a field that is not what is said above.

    FAQ:
        Why is a norm's placement not here? Because it is not a property of the norm: see
        `normlab.models.TransformerConfig.placement`.
    """

    kind: Kind
    eps: float | None = 1e-5
    eps_place: EpsPlace = "inside"
    offset: float = 0.0
    stats_dtype: StatsDtype = "float32"
    scale_dtype: ScaleDtype = "stats"
    affine: bool = True
    bias: bool = True
    unbiased_running_var: bool = True
    groups: int = 32
    fraction: float = 0.0625
    alpha: float = 0.5

    def __post_init__(self) -> None:
        _check.one_of("kind", self.kind, KINDS)
        if self.eps is not None:
            _check.number("eps", self.eps, least=0)
        _check.one_of("eps_place", self.eps_place, EPS_PLACES)
        _check.number("offset", self.offset)
        _check.one_of("stats_dtype", self.stats_dtype, get_args(StatsDtype))
        _check.one_of("scale_dtype", self.scale_dtype, get_args(ScaleDtype))
        for name in ("affine", "bias", "unbiased_running_var"):
            _check.truth(name, getattr(self, name))
        _check.whole("groups", self.groups)
        _check.number("fraction", self.fraction, above=0)
        if self.fraction > 1:
            raise ValueError(f"fraction must be at most 1, got {self.fraction:g}")
        _check.number("alpha", self.alpha)
        if self.kind in WITH_FLOOR and self.eps_place != "inside":
            raise ValueError(f"eps_place must be 'inside' (the default) for {self.kind}, got {self.eps_place!r}")
        if self.bias and (self.kind not in WITH_BIAS or not self.affine):
            # Derived, not asked for: RMSNorm has no bias, and no norm has one without a weight.
            object.__setattr__(self, "bias", False)

    @classmethod
    def preset(cls, name: str, kind: Kind | None = None) -> Self:
        """The spec of a known implementation.

        Args:
            name: "torch", "llama", "gemma", "t5", "minimind" or "tensorweaver".
            kind: which of its norms; may be left out when the library has only one.

        Raises:
            ValueError: for an unknown name, a kind that the library does not have, or a missing kind.
        """
        names = sorted({preset for preset, _ in PRESETS})
        _check.one_of("preset", name, names)
        kinds: list[Kind] = [k for preset, k in PRESETS if preset == name]
        if kind is None:
            if len(kinds) > 1:
                raise ValueError(f"preset {name!r} has several kinds: give kind=, one of {', '.join(kinds)}")
            kind = kinds[0]
        if kind not in kinds:
            listed = " or ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))
            raise ValueError(f"kind must be {listed} for preset {name!r}, got {kind!r}")
        return cls(kind=kind, **PRESETS[name, kind])


PRESETS: dict[tuple[str, Kind], dict] = {
    # torch.nn 2.13. RMSNorm's default eps is None there.
    ("torch", "layernorm"): {},
    ("torch", "rmsnorm"): {"eps": None},
    ("torch", "batchnorm"): {},
    ("torch", "groupnorm"): {},
    # The only one of torch.nn's without parameters, unless they are asked for.
    ("torch", "instancenorm"): {"affine": False},
    # transformers' LlamaRMSNorm (also Mistral, Qwen): cast back, then multiply.
    ("llama", "rmsnorm"): {"eps": 1e-6, "scale_dtype": "input"},
    # transformers' GemmaRMSNorm: multiply by 1 + weight in float32, then cast back.
    ("gemma", "rmsnorm"): {"eps": 1e-6, "offset": 1.0},
    # transformers' T5LayerNorm, an RMSNorm in spite of its name.
    ("t5", "rmsnorm"): {"eps": 1e-6, "scale_dtype": "weight"},
    # MiniMind's model_minimind.py: (weight * norm(x.float())).type_as(x).
    ("minimind", "rmsnorm"): {"eps": 1e-6},
    # TensorWeaver, chapter 14: everything in the input's own dtype, biased running variance.
    ("tensorweaver", "layernorm"): {"stats_dtype": "input", "scale_dtype": "input"},
    ("tensorweaver", "rmsnorm"): {"eps": 1e-6, "stats_dtype": "input", "scale_dtype": "input"},
    ("tensorweaver", "batchnorm"): {"stats_dtype": "input", "scale_dtype": "input", "unbiased_running_var": False},
}
