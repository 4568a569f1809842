"""What every origin of captioned images looks like to the rest of the toolkit."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable

from PIL.Image import Image


class Source(ABC):
    """Rows of captioned images, by index. Reading a row twice gives the same, and nothing is ever written.

    Sources are sent to worker processes, so they must pickle cheaply: hold paths and tables, not open files.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def row_id(self, index: int) -> str:
        """What its owner calls the row: a file name, or its number in the split. It stays when rows are added."""

    @abstractmethod
    def captions(self, index: int) -> tuple[str, ...]:
        """The row's captions as they were written; empty where it has none."""

    def label(self, index: int) -> int | None:
        """The row's class, 0 to the number of `label_names` - 1; None where rows have none."""
        return None

    @property
    def label_names(self) -> tuple[str, ...]:
        """What the classes are called, in the order of their labels; empty where rows have none."""
        return ()

    @abstractmethod
    def image(self, index: int) -> Image:
        """The picture, RGB, 8 bit, upright, on the declared background, at its own size.

        Raises:
            DataError: The file is missing or cannot be decoded; the message names the row.
        """

    def forget_images(self) -> None:  # noqa: B027
        """Let go of pictures that are kept in memory: none of them will be asked for soon."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A digest that changes when rows, captions or (as far as sizes tell) images change, and not with paths."""

    def cache_key(self) -> str:
        """What the result of reading every image may be kept under.

        Unlike the fingerprint it also changes when a file is edited at the same size, see `file_version`.
        """
        return self.fingerprint()


def without_empty(captions: Iterable[str | None]) -> tuple[str, ...]:
    """The captions that say something, as they were written."""
    return tuple(caption for caption in captions if caption and not caption.isspace())


def file_version(status: os.stat_result) -> tuple[int, ...]:
    """What tells a file from what it was, also where its size is the same and its time was set back by a copy.

    Args:
        status: Of the file; the kernel alone sets its st_ctime.
    """
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
