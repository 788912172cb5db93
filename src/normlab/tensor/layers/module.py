"""Module: something with parameters, that is called; it finds its parts by their being its attributes."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np

from normlab.tensor.core import Array, Tensor


def _no_forward(self: "Module", *_: Any, **__: Any) -> Any:
    raise NotImplementedError(f"{type(self).__name__} has no forward()")


class Module:
    """A layer or a model. Subclasses set tensors and other modules as attributes and define `forward`.

    Attributes:
        forward: what a call computes.
        training: whether it is in training; `train` and `eval` set it in all parts too.
        buffers: names of attributes that are arrays and belong to the state: BatchNorm's running statistics.
    """

    buffers: ClassVar[tuple[str, ...]] = ()
    training: bool = True

    forward: Callable[..., Any] = _no_forward

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Compute."""
        return self.forward(*inputs, **options)

    def named_children(self) -> "Iterator[tuple[str, Module]]":
        """The modules that are attributes, by name."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def children(self) -> "list[Module]":
        """The modules that are attributes."""
        return [child for _, child in self.named_children()]

    def named_modules(self, prefix: str = "") -> "Iterator[tuple[str, Module]]":
        """This module and all below it, by their path."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> "list[Module]":
        """This module and all below it."""
        return [module for _, module in self.named_modules()]

    def _named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        for path, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Tensor):
                    yield f"{path}.{name}" if path else name, value

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors that require a gradient, each once, by the first path that leads to it."""
        seen: set[int] = set()
        for name, value in self._named_tensors():
            if value.requires_grad and value.node is None and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def parameters(self) -> list[Tensor]:
        """The tensors that require a gradient."""
        return [p for _, p in self.named_parameters()]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters():
            p.grad = None

    def train(self, mode: bool = True) -> Self:
        """To training, or with False to evaluation: this module and all below it."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """To evaluation."""
        return self.train(False)

    def _state(self) -> Iterator[tuple[str, "Module", str, Array]]:
        """(path, module, attribute, array) of all that is saved."""
        for path, module in self.named_modules():
            for name, value in vars(module).items():
                # A result that a module keeps, to be looked at, is no part of its state.
                if (isinstance(value, Tensor) and value.node is None) or name in module.buffers:
                    array = value._data if isinstance(value, Tensor) else value
                    if array is not None:
                        yield f"{path}.{name}" if path else name, module, name, array

    def state_dict(self) -> dict[str, Array]:
        """A copy of all parameters and buffers, by path."""
        return {path: np.array(array) for path, _, _, array in self._state()}

    def load_state_dict(self, state: Mapping[str, Array], strict: bool = True) -> None:
        """Take over parameters and buffers; all of them or, when something does not fit, none.

        Args:
            state: as from `state_dict`.
            strict: whether names that are missing here or there are an error.

        Raises:
            KeyError: for missing or unexpected names.
            TypeError: for something else than numbers.
            ValueError: for another shape.
        """
        own = {path: (module, name, array) for path, module, name, array in self._state()}
        missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if strict and (missing or unexpected):
            raise KeyError(f"state lacks {missing or 'nothing'}, and has {unexpected or 'nothing'} that is not here")
        fitting: dict[str, Array] = {}
        for path, (_, _, array) in own.items():
            if path in state:
                given = state[path]
                new = given._data if isinstance(given, Tensor) else np.asarray(given)
                if new.dtype.kind not in "fiub":
                    raise TypeError(f"{path} must hold numbers, got {new.dtype}")
                if new.shape != array.shape:
                    raise ValueError(f"{path} must have shape {array.shape}, got {new.shape}")
                fitting[path] = np.array(new, array.dtype)
        for path, new in fitting.items():
            module, name, _ = own[path]
            value = getattr(module, name)
            if isinstance(value, Tensor):
                value.data = new
            else:
                setattr(module, name, new)

    def extra_repr(self) -> str:
        """What stands in the brackets of repr()."""
        return ""

    def __repr__(self) -> str:
        parts = [f"({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.named_children()]
        if not parts:
            return f"{type(self).__name__}({self.extra_repr()})"
        return f"{type(self).__name__}(\n  " + "\n  ".join(parts) + "\n)"


def _checked(module: Any) -> Module:
    if not isinstance(module, Module):
        what = f"the class {module.__name__}" if isinstance(module, type) else f"{type(module).__name__} {module!r}"
        raise TypeError(f"a module was expected, such as ReLU(), got {what}")
    return module


class Sequential(Module):
    """Modules, one after the other."""

    def __init__(self, *modules: Module) -> None:
        for i, module in enumerate(modules):
            setattr(self, str(i), _checked(module))

    def forward(self, x: Any) -> Any:
        """Each gets the result of the one before."""
        for module in self.children():
            x = module(x)
        return x

    def __len__(self) -> int:
        return len(self.children())

    def __getitem__(self, i: int) -> Module:
        return self.children()[i]


class ModuleList(Module):
    """A list of modules, whose parameters are found."""

    def __init__(self, modules: "Iterator[Module] | list[Module] | tuple[Module, ...]" = ()) -> None:
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> Self:
        """Add one at the end."""
        setattr(self, str(len(self)), _checked(module))
        return self

    def __len__(self) -> int:
        return len(self.children())

    def __getitem__(self, i: int) -> Module:
        return self.children()[i]

    def __iter__(self) -> Iterator[Module]:
        return iter(self.children())
