"""Files of states: round trips, damaged files, and writes that fail."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

from normlab.tensor import Tensor, layers, storage

draw = np.random.default_rng(0).standard_normal


def test_a_module_comes_back(tmp_path: Path) -> None:
    one, other = (layers.Transformer(7, 2, 8, 2, 5) for _ in range(2))
    storage.save(one, tmp_path / "model.safetensors")
    other.load_state_dict(storage.load(tmp_path / "model.safetensors"))
    for name, array in one.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], array)
    assert list(load_file(tmp_path / "model.safetensors")) != []


def test_running_statistics_come_back(tmp_path: Path) -> None:
    one, other = layers.BatchNorm(3), layers.BatchNorm(3)
    one(Tensor(draw((5, 3))))
    storage.save(one, str(tmp_path / "bn"))
    other.load_state_dict(storage.load(str(tmp_path / "bn")))
    np.testing.assert_array_equal(other.running_mean, one.running_mean)  # pyright: ignore
    np.testing.assert_array_equal(other.running_var, one.running_var)  # pyright: ignore


@pytest.mark.parametrize(
    "array",
    [
        np.array(1.5),
        np.zeros((0, 3)),
        np.arange(6.0).reshape(2, 3).T,
        np.arange(12)[::-2],
        np.broadcast_to(np.float32(2), (2, 3)),
        np.array([True, False]),
        np.array([np.nan, np.inf, -0.0]),
        np.arange(3, dtype=">f8"),
        np.arange(3, dtype=np.uint8),
    ],
    ids=lambda a: f"{a.dtype.str}{a.shape}",
)
def test_arrays_come_back_bit_for_bit(array: Any, tmp_path: Path) -> None:
    storage.save({"a": array, "t": Tensor([1.0])}, tmp_path / "a")
    loaded = storage.load(tmp_path / "a")
    assert set(loaded) == {"a", "t"}
    assert loaded["a"].shape == array.shape
    assert loaded["a"].dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(loaded["a"], array)
    np.testing.assert_array_equal(np.signbit(loaded["a"]), np.signbit(array)) if array.dtype.kind == "f" else None


def test_files_of_torchs(tmp_path: Path) -> None:
    module = torch.nn.Linear(3, 2)
    save_file(module.state_dict(), tmp_path / "linear")
    linear = layers.Linear(3, 2)
    linear.load_state_dict(storage.load(tmp_path / "linear"))
    np.testing.assert_array_equal(linear.weight.data, module.weight.detach().numpy())
    save_file({"a": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "half")
    with pytest.raises(ValueError, match=r"has numbers of type BF16, which NumPy does not have$"):
        storage.load(tmp_path / "half")


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "a"
    storage.save({"a": draw(10)}, path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:4], whole[:-1], whole + b"x", b"\xff" * 8 + whole[8:], b"\x80\x04K\x01."):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a is not a whole safetensors file: "):
            storage.load(path)
    with pytest.raises(FileNotFoundError):
        storage.load(tmp_path / "none")


@pytest.mark.parametrize("failing", ["replace", "write"])
def test_a_failing_write_leaves_the_old_file(failing: str, tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "a"
    storage.save({"a": np.ones(3)}, path)
    old = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    class Full:
        def __init__(self, path: Path, mode: str) -> None:
            self.file = open(path, mode)  # noqa: SIM115

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: Any) -> None:
            self.file.close()

        def write(self, content: bytes) -> None:
            self.file.write(content[:5])
            full()

    if failing == "replace":
        monkeypatch.setattr(os, "replace", full)
    else:
        monkeypatch.setattr(Path, "open", lambda path, mode: Full(path, mode))
    with pytest.raises(OSError, match="No space left on device"):
        storage.save({"a": np.zeros(100)}, path)
    monkeypatch.undo()
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    path = tmp_path / "a"
    storage.save({"a": np.ones(3)}, path)
    for value in (None, "text", np.array([1j]), [object()]):
        with pytest.raises(TypeError, match=r"^a must be an array of numbers, got "):
            storage.save({"a": value}, path)
    with pytest.raises(FileNotFoundError):
        storage.save({"a": np.ones(3)}, tmp_path / "none" / "a")
    np.testing.assert_array_equal(storage.load(path)["a"], 1)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_what_is_loaded_may_be_written_to(tmp_path: Path) -> None:
    storage.save({"a": np.ones(3)}, tmp_path / "a")
    array = storage.load(tmp_path / "a")["a"]
    array += 1
    np.testing.assert_array_equal(array, 2)
