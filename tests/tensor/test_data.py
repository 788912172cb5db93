"""Datasets and batches: their order, their sizes, and what they are made of."""

from typing import Any

import numpy as np
import pytest

from normlab.tensor import Tensor, manual_seed
from normlab.tensor.data import DataLoader, TensorDataset


class Squares:
    """Tuples of a tensor, an array and a number."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: Any) -> Any:
        return Tensor([index, -index], dtype=np.float32), np.full((2, 2), float(index)), index**2


def order(loader: Any) -> list[int]:
    return [i for (batch,) in loader for i in batch.data.tolist()]


def test_batches_go_through_all_in_order() -> None:
    x, y = np.arange(14.0, dtype=np.float32).reshape(7, 2), np.arange(7)
    loader = DataLoader(TensorDataset(x, Tensor(y)), batch_size=3)
    assert len(loader) == 3
    batches = list(loader)
    assert [b[0].shape for b in batches] == [(3, 2), (3, 2), (1, 2)]
    assert all(isinstance(t, Tensor) and not t.requires_grad for b in batches for t in b)
    assert [t.dtype for t in batches[0]] == [np.float32, np.int64]
    np.testing.assert_array_equal(np.concatenate([b[0].data for b in batches]), x)
    np.testing.assert_array_equal(np.concatenate([b[1].data for b in batches]), y)


@pytest.mark.parametrize(("n", "size", "batches"), [(7, 3, [3, 3]), (6, 3, [3, 3]), (2, 3, []), (0, 3, [])])
def test_the_last_batch_may_be_left_out(n: int, size: int, batches: list[int]) -> None:
    loader = DataLoader(TensorDataset(np.arange(n)), size, drop_last=True)
    assert [len(b) for (b,) in loader] == batches
    assert len(loader) == len(batches)
    assert len(DataLoader(TensorDataset(np.arange(n)), size)) == -(-n // size)


def test_shuffling_is_seeded_and_other_each_time() -> None:
    loader = DataLoader(TensorDataset(np.arange(50)), 8, shuffle=True)
    manual_seed(1)
    first, second = order(loader), order(loader)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert first != list(range(50))
    manual_seed(1)
    assert [order(loader), order(loader)] == [first, second]


def test_shuffling_keeps_items_together() -> None:
    x = np.arange(20)
    for a, b in DataLoader(TensorDataset(x, x * 10), 6, shuffle=True):
        np.testing.assert_array_equal(b.data, a.data * 10)


def test_a_dataset_of_tuples() -> None:
    loader = DataLoader(Squares(), 2)
    a, b, c = next(iter(loader))
    np.testing.assert_array_equal(a.data, [[0, 0], [1, -1]])
    assert a.dtype == np.float32
    assert b.shape == (2, 2, 2)
    np.testing.assert_array_equal(c.data, [0, 1])
    assert c.dtype == np.int64
    assert [len(c) for _, _, c in loader] == [2, 2, 1]


def test_a_list_is_a_dataset() -> None:
    batches = list(DataLoader([1.5, 2.5, 3.5], 2))
    assert all(len(batch) == 1 for batch in batches)
    np.testing.assert_array_equal(batches[0][0].data, [1.5, 2.5])


def test_a_batch_is_a_copy() -> None:
    x = np.zeros((4, 2))
    for size, shuffle in ((4, False), (4, True), (2, False)):
        (batch,) = next(iter(DataLoader(TensorDataset(x), size, shuffle)))
        batch.data += 1
        np.testing.assert_array_equal(x, 0)


def test_a_slice_of_a_dataset() -> None:
    data = TensorDataset(np.arange(5), np.arange(5.0))
    assert len(data) == 5
    np.testing.assert_array_equal(data[1:3][0], [1, 2])
    assert data[2] == (2, 2.0)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^all arrays must have the same length, got \[3, 4\]$"):
        TensorDataset(np.zeros(3), np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"^batch_size must be at least 1, got 0$"):
        DataLoader(TensorDataset(np.zeros(3)), 0)
    for items in (["a", "b"], [{"x": 1}], [None]):
        with pytest.raises(TypeError, match=r"^data must be float32, float64, integers or booleans, got "):
            next(iter(DataLoader(items)))
