"""Where records lie, by key: sorted arrays, which are mapped into memory where they come from a file."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from toolkit.cache.shard import Shard


@dataclass(frozen=True, slots=True)
class Index:
    """Keys of some shards, in their order.

    Args:
        high: (n,) uint64, sorted: the first half of each key.
        low: (n,) uint64: the second half.
        place: (n,) uint64: the number of the shard, times 2**32, and the row in it.
    """

    high: np.ndarray
    low: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, shards: Iterable[Shard], first: int = 0) -> Self:
        """Of shards that are numbered from `first` on; at least one."""
        keys, places = [], []
        for number, shard in enumerate(shards, first):
            keys.append(np.array(shard.keys))
            places.append((np.uint64(number) << np.uint64(32)) + np.arange(len(shard), dtype=np.uint64))
        high, low = np.concatenate(keys).view("<u8").T
        return cls._sorted(high, low, np.concatenate(places))

    @classmethod
    def merged(cls, parts: Sequence[Self]) -> Self:
        """One of all."""
        high, low, place = (
            np.concatenate(each) for each in zip(*(part.arrays().values() for part in parts), strict=True)
        )
        return cls._sorted(high, low, place)

    @classmethod
    def _sorted(cls, high: np.ndarray, low: np.ndarray, place: np.ndarray) -> Self:
        order = np.lexsort((low, high))
        # Several shards may hold a key; any of them will do.
        return cls(high[order], low[order], place[order])

    def __len__(self) -> int:
        return len(self.high)

    def arrays(self) -> dict[str, np.ndarray]:
        """All three, by name, as they are kept in a file."""
        return {"high": self.high, "low": self.low, "place": self.place}

    def found(self, keys: np.ndarray) -> np.ndarray:
        """Place of each of (n, 16) uint8 keys, (n,) int64; -1 where there is none."""
        high, low = (keys[:, part].copy().view("<u8")[:, 0] for part in (slice(0, 8), slice(8, 16)))
        nearest = np.minimum(np.searchsorted(self.high, high), len(self) - 1)
        same = (self.high[nearest] == high) & (self.low[nearest] == low)
        return np.where(same, self.place[nearest].astype(np.int64), -1)
