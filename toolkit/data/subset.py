"""Parts of a source. Whether a row belongs to one depends on the row's id alone, never on its neighbours."""

import hashlib
from collections.abc import Sequence

import numpy as np
from PIL.Image import Image

from toolkit.data.source import Source
from toolkit.errors import DataError


class Subset(Source):
    """Some rows of another source, in the given order."""

    def __init__(self, source: Source, indices: Sequence[int] | np.ndarray) -> None:
        self._source = source
        self._indices = np.asarray(indices, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._indices)

    def row_id(self, index: int) -> str:
        return self._source.row_id(int(self._indices[index]))

    def captions(self, index: int) -> tuple[str, ...]:
        return self._source.captions(int(self._indices[index]))

    def label(self, index: int) -> int | None:
        return self._source.label(int(self._indices[index]))

    @property
    def label_names(self) -> tuple[str, ...]:
        return self._source.label_names

    def image(self, index: int) -> Image:
        return self._source.image(int(self._indices[index]))

    def forget_images(self) -> None:
        self._source.forget_images()

    def fingerprint(self) -> str:
        return self._with_indices(self._source.fingerprint())

    def cache_key(self) -> str:
        return self._with_indices(self._source.cache_key())

    def _with_indices(self, digest: str) -> str:
        return hashlib.blake2b(digest.encode() + self._indices.tobytes(), digest_size=16).hexdigest()


def place_of(text: str) -> float:
    """A number in [0, 1), uniform over texts."""
    word = int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
    return (word >> 11) / 2**53


def hold_out(source: Source, fraction: float) -> tuple[Source, Source]:
    """Split off the rows that are measured on and never trained on: (training rows, held-out rows).

    Args:
        fraction: Expected share of held-out rows, in (0, 1). Every row is decided by a hash of its id alone, so rows
            that are added or removed move nobody else.

    Raises:
        DataError: One of the parts is empty.
    """
    held = np.array([place_of(source.row_id(index)) < fraction for index in range(len(source))], dtype=bool)
    if not held.any() or held.all():
        raise DataError(
            f"holding out {fraction:g} of {len(source)} rows leaves one part without rows",
            "Change validation_fraction, or name a validation_split.",
        )
    return Subset(source, np.flatnonzero(~held)), Subset(source, np.flatnonzero(held))


def sample_rows(source: Source, count: int, seed: int) -> Source:
    """At most `count` rows, in the source's order: those whose ids hash lowest under the seed.

    A larger count keeps the rows of a smaller one, and an added row displaces at most one.
    """
    if count >= len(source):
        return source
    places = np.array([place_of(f"{seed}/{source.row_id(index)}") for index in range(len(source))])
    return Subset(source, np.sort(np.argsort(places, kind="stable")[:count]))
