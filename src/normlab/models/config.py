"""TransformerConfig: everything that defines a Transformer, as one frozen value."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from normlab import _check
from normlab.spec import NormSpec

Placement = Literal["none", "post", "pre", "sandwich", "respost", "deepnorm"]
Positions = Literal["learned", "rope"]
Activation = Literal["gelu", "swiglu"]
Init = Literal["xavier", "gpt2", "torch", "normal"]

PLACEMENTS: tuple[Placement, ...] = get_args(Placement)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerConfig:
    """A causal Transformer.

    Attributes:
        vocab_size: number of token ids.
        n_layers: number of blocks; each holds attention and a feed-forward.
        dim: width of the residual stream.
        n_heads: query heads; dim must be a multiple of it.
        n_kv_heads: key and value heads (grouped-query attention); None: as many as n_heads.
        hidden: width inside the feed-forward; None: 4 * dim.
        context: longest sequence.
        norm: what every norm of the model computes.
        placement: where the norm sits around a residual branch f. With N the norm:
            "none" x + f(x); "post" N(x + f(x)); "pre" x + f(N(x)); "sandwich" x + N(f(N(x)));
            "respost" x + N(f(x)); "deepnorm" N(a * x + f(x)) with a = (2 * n_layers)^(1/4).
        qk_norm: a norm over each head's queries and keys, before RoPE.
        final_norm: a norm before the output layer; None: where the residual stream arrives unnormalized
            although the placement has norms ("pre", "sandwich", "respost").
        positions: "learned" embeddings, or "rope" (rotary, rotate-half form).
        rope_theta: base of RoPE's wavelengths.
        activation: "gelu" (the tanh form, as in GPT-2) or "swiglu".
        bias: whether the linear layers have biases (the output layer never has).
        tied: whether the output layer shares the token embedding's weight.
        init: "xavier", "gpt2", "torch" (torch.nn's defaults) or "normal" (see `normlab.models.init`).
        init_std: standard deviation for "gpt2" and "normal".

    Raises:
        TypeError, ValueError: one sentence on the field that does not fit.
    """

    vocab_size: int
    n_layers: int = 4
    dim: int = 64
    n_heads: int = 4
    n_kv_heads: int | None = None
    hidden: int | None = None
    context: int = 64
    norm: NormSpec = field(default_factory=lambda: NormSpec("layernorm"))
    placement: Placement = "pre"
    qk_norm: bool = False
    final_norm: bool | None = None
    positions: Positions = "learned"
    rope_theta: float = 10_000.0
    activation: Activation = "gelu"
    bias: bool = True
    tied: bool = False
    init: Init = "xavier"
    init_std: float = 0.02

    def __post_init__(self) -> None:
        for name in ("vocab_size", "n_layers", "dim", "n_heads", "context", "kv_heads", "hidden_dim"):
            _check.whole({"kv_heads": "n_kv_heads", "hidden_dim": "hidden"}.get(name, name), getattr(self, name))
        if self.dim % self.n_heads:
            raise ValueError(f"dim must be a multiple of n_heads, got dim={self.dim}, n_heads={self.n_heads}")
        if self.n_heads % self.kv_heads:
            raise ValueError(
                f"n_heads must be a multiple of n_kv_heads, got n_heads={self.n_heads}, n_kv_heads={self.kv_heads}"
            )
        if not isinstance(self.norm, NormSpec):
            raise TypeError(f"norm must be a NormSpec, got {type(self.norm).__name__}")
        # BatchNorm would mix the positions of a sequence and so look into the future.
        _check.one_of("norm.kind", self.norm.kind, ("layernorm", "rmsnorm", "none"))
        _check.one_of("placement", self.placement, PLACEMENTS)
        _check.one_of("positions", self.positions, get_args(Positions))
        _check.one_of("activation", self.activation, get_args(Activation))
        _check.one_of("init", self.init, get_args(Init))
        _check.number("rope_theta", self.rope_theta, above=0)
        _check.number("init_std", self.init_std, above=0)
        if self.positions == "rope" and self.head_dim % 2:
            raise ValueError(f"dim / n_heads must be even for positions='rope', got {self.head_dim}")
        for name in ("qk_norm", "bias", "tied", "has_final_norm"):
            _check.truth({"has_final_norm": "final_norm"}.get(name, name), getattr(self, name))

    @property
    def kv_heads(self) -> int:
        """Key and value heads."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.dim // self.n_heads

    @property
    def hidden_dim(self) -> int:
        """Width inside the feed-forward."""
        return 4 * self.dim if self.hidden is None else self.hidden

    @property
    def has_final_norm(self) -> bool:
        """Whether a norm stands before the output layer."""
        return self.placement in ("pre", "sandwich", "respost") if self.final_norm is None else self.final_norm
