"""from_torch: the engine's module that computes what a PyTorch module computes, with copies of its parameters.

The engine does without PyTorch, and so does this file: it knows PyTorch's classes by their names. What counts is the
class that defines a module's `forward`: a subclass that only has another constructor is the same layer, one that
computes something else is another.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from normlab.tensor import layers
from normlab.tensor.core import FLOATS, Array, Tensor
from normlab.tensor.layers import Module

M = TypeVar("M", bound=Module)
Build = Callable[["_Copy", Any, str], Module]

TORCH_MODULE = "torch.nn.modules.module.Module"
TORCH_LIST = "torch.nn.modules.container.ModuleList"
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
IDENTITY = "torch.nn.modules.linear.Identity"


def from_torch(module: Any, dtype: DTypeLike | None = None) -> Module:
    """The engine's module of the same parts, in the same mode (training or evaluation); nothing is shared.

    Norms call their parameters as papers do: LayerNorm's, BatchNorm's and GroupNorm's weight and bias become gamma and
    beta. All other names stay. Parameters and modules that the original uses in several places are one here too, and a
    parameter that does not require a gradient does not here. An Identity becomes a Sequential of nothing.

    Args:
        module: Linear, Embedding, Dropout, ReLU, GELU, SiLU, Tanh, Sigmoid, Identity, LayerNorm, RMSNorm, BatchNorm1d
            to 3d, GroupNorm (torch's and normlab's), MultiheadAttention (batch_first), Sequential and ModuleList of
            these, and `normlab.models.Transformer` and its parts.
        dtype: float32 or float64, to convert to; None keeps each parameter's own.

    Raises:
        TypeError: for what the engine has no module for, with its path.
        ValueError: for an option that the engine does not have, with the path of the module that uses it.
    """
    if TORCH_MODULE not in _names(module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    if dtype is not None and np.dtype(dtype) not in FLOATS:
        raise ValueError(f"dtype must be float32 or float64, got {np.dtype(dtype)}")
    return _Copy(dtype).module(module, "")


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _names(module: Any) -> list[str]:
    return [_name(cls) for cls in type(module).__mro__]


def _computed_by(module: Any) -> str:
    """The class whose `forward` it is."""
    if "forward" in vars(module):
        return ""
    name = next(_name(cls) for cls in type(module).__mro__ if "forward" in vars(cls))
    # A list has none of its own.
    return TORCH_LIST if name == TORCH_MODULE and TORCH_LIST in _names(module) else name


def _bare(cls: type[M], **attributes: Any) -> M:
    """A module with these attributes. Its constructor would draw random numbers, which others then miss."""
    made = cls.__new__(cls)
    vars(made).update(attributes)
    return made


def _refuse(path: str, problem: str | None) -> None:
    if problem:
        raise ValueError(f"{path or 'module'} {problem}, which the engine does not have")


class _Copy:
    """One conversion: what was copied already, by its id, so that what is shared stays so."""

    def __init__(self, dtype: DTypeLike | None) -> None:
        self.dtype = dtype
        self.made: dict[int, Any] = {}

    def array(self, tensor: Any, path: str) -> Array:
        """A copy of a tensor's numbers."""
        tensor = tensor.detach().cpu()
        name = str(tensor.dtype).rpartition(".")[2]
        if name not in ("float32", "float64"):
            if self.dtype is None:
                raise ValueError(f"{path} is {name}, and the engine has float32 and float64: give dtype= one of them")
            tensor = tensor.double()
        return np.array(tensor.numpy(), self.dtype, order="C")

    def parameter(self, parameter: Any, path: str) -> Tensor | None:
        """A parameter, if there is one."""
        if parameter is None:
            return None
        if id(parameter) not in self.made:
            self.made[id(parameter)] = Tensor(self.array(parameter, path), parameter.requires_grad)
        return self.made[id(parameter)]

    def module(self, module: Any, path: str) -> Module:
        """A module with all below it."""
        if id(module) in self.made:
            return self.made[id(module)]
        build = BUILD.get(_computed_by(module))
        if build is None:
            raise TypeError(f"{path or 'module'} is a {_name(type(module))}, which the engine has no module for")
        # These may change what comes out, and nothing in the engine would do it.
        # But for the hook of normlab's own layers, which does nothing.
        hooked = any(set(getattr(module, name, None) or ()) - {"normlab"} for name in HOOKS)
        _refuse(path, "has hooks" if hooked else None)
        _refuse(path, "has parametrizations" if hasattr(module, "parametrizations") else None)
        made = build(self, module, path)
        made.training = module.training
        self.made[id(module)] = made
        return made

    def children(self, module: Any, path: str, *without: str) -> dict[str, Module]:
        """All modules in a module, by their names."""
        return {
            name: self.module(child, f"{path}.{name}" if path else name)
            for name, child in module._modules.items()
            if child is not None and name not in without
        }

    def parameters(self, module: Any, path: str, *names: str) -> dict[str, Tensor | None]:
        """weight, and perhaps bias, under the names that they have here."""
        given = zip(names, ("weight", "bias"), strict=False)
        prefix = path and path + "."
        return {new: self.parameter(getattr(module, old), prefix + old) for new, old in given}


def _linear(copy: _Copy, module: Any, path: str) -> Module:
    return _bare(layers.Linear, **copy.parameters(module, path, "weight", "bias"))


def _embedding(copy: _Copy, module: Any, path: str) -> Module:
    for option in ("padding_idx", "max_norm"):
        _refuse(path, None if getattr(module, option) is None else f"has {option}={getattr(module, option)}")
    _refuse(path, "has scale_grad_by_freq=True" if module.scale_grad_by_freq else None)
    return _bare(layers.Embedding, **copy.parameters(module, path, "weight"))


def _expressible(module: Any, path: str) -> Any:
    """The spec of one of normlab's own layers; None of torch's."""
    spec = getattr(module, "spec", None)
    if spec is not None:
        _refuse(path, f"has offset={spec.offset:g}" if spec.offset else None)
        _refuse(path, f"has eps_place={spec.eps_place!r}" if spec.eps_place != "inside" else None)
    return spec


def _layer_norm(copy: _Copy, module: Any, path: str) -> Module:
    _expressible(module, path)
    made = layers.LayerNorm(tuple(module.normalized_shape), module.eps, elementwise_affine=False)
    vars(made).update(copy.parameters(module, path, "gamma", "beta"))
    return made


def _rms_norm(copy: _Copy, module: Any, path: str) -> Module:
    _expressible(module, path)
    made = layers.RMSNorm(tuple(module.normalized_shape), module.eps, elementwise_affine=False)
    vars(made).update(copy.parameters(module, path, "weight"))
    return made


def _batch_norm(copy: _Copy, module: Any, path: str) -> Module:
    spec = _expressible(module, path)
    for option in ("momentum", "eps"):
        _refuse(path, f"has {option}=None" if getattr(module, option) is None else None)
    running = module.running_mean is not None
    _refuse(path, "has running statistics that it does not track" if running > module.track_running_stats else None)
    made = layers.BatchNorm(module.num_features, module.eps, module.momentum, affine=False, track_running_stats=running)
    made.unbiased_running_var = spec is None or spec.unbiased_running_var
    vars(made).update(copy.parameters(module, path, "gamma", "beta"))
    if running:
        for name in made.buffers:
            setattr(made, name, copy.array(getattr(module, name), f"{path}.{name}" if path else name))
    return made


def _group_norm(copy: _Copy, module: Any, path: str) -> Module:
    _expressible(module, path)
    made = layers.GroupNorm(module.num_groups, module.num_channels, module.eps, affine=False)
    vars(made).update(copy.parameters(module, path, "gamma", "beta"))
    return made


def _torch_attention(copy: _Copy, module: Any, path: str) -> Module:
    """torch keeps the first three linear layers as one matrix, (3 dim, dim)."""
    _refuse(path, None if module.batch_first else "has batch_first=False")
    _refuse(path, f"has dropout={module.dropout}" if module.dropout else None)
    _refuse(path, None if module._qkv_same_embed_dim else "has kdim or vdim")
    _refuse(path, "has add_zero_attn=True" if module.add_zero_attn else None)
    _refuse(path, None if module.bias_k is None else "has add_bias_kv=True")
    thirds: dict[str, list[Tensor | None]] = {"weight": [None] * 3, "bias": [None] * 3}
    for key in thirds:
        whole = getattr(module, f"in_proj_{key}")
        if whole is not None:
            array = copy.array(whole, f"{path}.in_proj_{key}".lstrip("."))
            thirds[key] = [Tensor(third, whole.requires_grad) for third in np.split(array, 3)]
    parts: dict[str, Module] = {}
    for name, weight, bias in zip(("q_proj", "k_proj", "v_proj"), thirds["weight"], thirds["bias"], strict=True):
        parts[name] = _bare(layers.Linear, weight=weight, bias=bias, training=module.training)
    parts["o_proj"] = copy.module(module.out_proj, f"{path}.out_proj".lstrip("."))
    return _bare(layers.MultiHeadAttention, n_heads=module.num_heads, causal=False, **parts)


def _attention(copy: _Copy, module: Any, path: str) -> Module:
    _refuse(path, "has fewer key and value heads than query heads" if module.grouped else None)
    for name, what in (("q_norm", "norms"), ("k_norm", "norms"), ("rotary", "rotary positions")):
        _refuse(path, f"has {what} of queries and keys" if _computed_by(getattr(module, name)) != IDENTITY else None)
    projections = copy.children(module, path, "q_norm", "k_norm", "rotary")
    n_heads = module.q_proj.weight.shape[0] // module.head_dim
    return _bare(layers.MultiHeadAttention, n_heads=n_heads, causal=True, **projections)


def _feed_forward(copy: _Copy, module: Any, path: str) -> Module:
    _refuse(path, "is a SwiGLU" if module.gate_proj is not None else None)
    return _bare(layers.FeedForward, **copy.children(module, path))


def _block(cls: type[Module]) -> Build:
    def build(copy: _Copy, module: Any, path: str) -> Module:
        alpha = {"alpha": module.alpha} if hasattr(module, "alpha") else {}
        return _bare(cls, **copy.children(module, path), **alpha)

    return build


def _transformer(copy: _Copy, module: Any, path: str) -> Module:
    _refuse(path, "has rotary positions" if module.positions is None else None)
    without = ("final_norm",) if _computed_by(module.final_norm) == IDENTITY else ()
    return _bare(layers.Transformer, context=module.config.context, **copy.children(module, path, *without))


def _container(cls: type[Module]) -> Build:
    return lambda copy, module, path: _bare(cls, **copy.children(module, path))


def _activation(cls: type[Module]) -> Build:
    return lambda copy, module, path: cls()


# The class that defines `forward`, and how it is built here.
BUILD: dict[str, Build] = {
    "torch.nn.modules.linear.Linear": _linear,
    "torch.nn.modules.sparse.Embedding": _embedding,
    "torch.nn.modules.dropout.Dropout": lambda copy, module, path: layers.Dropout(module.p),
    "torch.nn.modules.activation.ReLU": _activation(layers.ReLU),
    "torch.nn.modules.activation.GELU": lambda copy, module, path: layers.GELU(module.approximate),
    "torch.nn.modules.activation.SiLU": _activation(layers.SiLU),
    "torch.nn.modules.activation.Tanh": _activation(layers.Tanh),
    "torch.nn.modules.activation.Sigmoid": _activation(layers.Sigmoid),
    IDENTITY: _activation(layers.Sequential),
    "torch.nn.modules.activation.MultiheadAttention": _torch_attention,
    "torch.nn.modules.container.Sequential": _container(layers.Sequential),
    TORCH_LIST: _container(layers.ModuleList),
    "torch.nn.modules.normalization.LayerNorm": _layer_norm,
    "torch.nn.modules.normalization.RMSNorm": _rms_norm,
    "torch.nn.modules.normalization.GroupNorm": _group_norm,
    "torch.nn.modules.batchnorm._BatchNorm": _batch_norm,
    "normlab.layers.layernorm.LayerNorm": _layer_norm,
    "normlab.layers.rmsnorm.RMSNorm": _rms_norm,
    "normlab.layers.groupnorm.GroupNorm": _group_norm,
    "normlab.layers.batchnorm._BatchNorm": _batch_norm,
    "normlab.models.transformer.Transformer": _transformer,
    "normlab.models.attention.Attention": _attention,
    "normlab.models.feedforward.FeedForward": _feed_forward,
    **{f"normlab.models.blocks.{cls.__name__}": _block(cls) for cls in layers.BLOCKS.values()},
}
