"""Saving and loading of states, in safetensors files, which hold numbers and nothing that could be executed."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from normlab.tensor.core import Array, Tensor
from normlab.tensor.layers.module import Module


def save(state: Module | Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a module's state, or arrays by name, to a safetensors file: whole or not at all.

    Raises:
        OSError: when the folder cannot be written to.
        TypeError: for what is no array of numbers.
    """
    from safetensors.numpy import save as to_bytes

    arrays = state.state_dict() if isinstance(state, Module) else state
    content = to_bytes({name: _array(name, value) for name, value in arrays.items()})
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The arrays of a safetensors file by name: what `Module.load_state_dict` takes.

    Raises:
        FileNotFoundError: when it is not there.
        ValueError: when it is no whole safetensors file, or has numbers of a type that NumPy does not have.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    content = Path(path).read_bytes()
    try:
        return from_bytes(content)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    except KeyError as error:
        raise ValueError(f"{path} has numbers of type {error.args[0]}, which NumPy does not have") from error


def _array(name: str, value: Any) -> Array:
    # Not ascontiguousarray, which makes (1,) of the shape ().
    array = np.asarray(value.data if isinstance(value, Tensor) else value, order="C")
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of numbers, got {array.dtype}")
    return array
