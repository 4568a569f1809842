"""What the built-in data sets have in common: rows that are drawn when they are read, from a seed and a number."""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from toolkit.data.scene_styles import STYLES
from toolkit.data.source import Source
from toolkit.errors import ConfigError, DataError, nearest


class DrawnSource(Source):
    """Rows of a built-in data set.

    Args:
        style: `painted` or `sketch`; both show the same rows under the same captions.
        split: One of `splits`.
        size: Side of the pictures in pixels, `smallest` or more.
        count: How many rows; None is what `splits` says. More rows leave the first as they are.
        seed: Another seed gives other rows.

    Raises:
        ConfigError: The style is unknown or the size is too small.
        DataError: The split is unknown, or a file that rows are made from is broken.
    """

    name: ClassVar[str]
    splits: ClassVar[Mapping[str, int]]
    """How many rows a split has where nobody says."""
    smallest: ClassVar[int]
    """Pixels."""

    def __init__(
        self, style: str = "painted", split: str = "train", size: int = 64, count: int | None = None, seed: int = 0
    ) -> None:
        if style not in STYLES:
            raise ConfigError(
                f"data.dataset_config_name: `{style}` is not a style of {self.name}", nearest(style, STYLES)
            )
        if split not in self.splits:
            raise DataError(f"{self.name} has no split `{split}`", f"Its splits: {', '.join(self.splits)}.")
        if size < self.smallest:
            raise ConfigError(
                f"data.resolution: {self.name} cannot be drawn at {size} pixels",
                f"Ask for {self.smallest} pixels or more.",
            )
        self.style = style
        self._split = split
        self._size = size
        self._count = self.splits[split] if count is None else count
        self._seed = seed
        self._made_from = (*self._version(), style, split, size, self._count, seed)

    @abstractmethod
    def _version(self) -> tuple[int | str, ...]:
        """What changes whenever the rows do, though their seed and number stay."""

    def __len__(self) -> int:
        return self._count

    def row_id(self, index: int) -> str:
        return f"{self._split}-{index:06d}"

    def fingerprint(self) -> str:
        return hashlib.blake2b(repr(self._made_from).encode(), digest_size=16).hexdigest()

    def _number(self, index: int) -> int:
        """The number that a row is made from; splits share none."""
        place = list(self.splits).index(self._split)
        return (2 ** (31 + place) if place else 0) + index
