"""Datasets and the order in which they are gone through, under torch's names."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from normlab.tensor.core import Array, Tensor
from normlab.tensor.random import generator


def _array(value: Any) -> Array:
    return value._data if isinstance(value, Tensor) else np.asarray(value)


class Dataset(Protocol):
    """Anything with a length and items by number."""

    def __len__(self) -> int:
        """How many items."""
        ...

    def __getitem__(self, index: Any, /) -> Any:
        """An item."""
        ...


class TensorDataset:
    """Arrays whose first axes go together: item i is the tuple of their i-th entries."""

    def __init__(self, *arrays: Any) -> None:
        self.arrays: tuple[Array, ...] = tuple(map(_array, arrays))
        lengths = {len(a) for a in self.arrays}
        if len(lengths) != 1:
            raise ValueError(f"all arrays must have the same length, got {[len(a) for a in self.arrays]}")

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: Any) -> tuple[Array, ...]:
        return tuple(a[index] for a in self.arrays)


class DataLoader:
    """Batches of a dataset, as tuples of tensors.

    Args:
        dataset: a Dataset whose items are arrays, numbers, or tuples of them.
        batch_size: items in a batch.
        shuffle: in a new order each time, drawn from `normlab.tensor.random`.
        drop_last: leave out the last batch where it is smaller.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int = 1, shuffle: bool = False, *, drop_last: bool = False
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, batch_size, shuffle, drop_last

    def __len__(self) -> int:
        n = len(self.dataset)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        order = generator().permutation(len(self.dataset)) if self.shuffle else np.arange(len(self.dataset))
        for i in range(len(self)):
            chosen = order[i * self.batch_size : (i + 1) * self.batch_size]
            if isinstance(self.dataset, TensorDataset):
                columns = self.dataset[chosen]
            else:
                items = [item if isinstance(item, tuple) else (item,) for item in map(self.dataset.__getitem__, chosen)]
                columns = [np.stack([_array(part) for part in column]) for column in zip(*items, strict=True)]
            yield tuple(Tensor(column) for column in columns)
