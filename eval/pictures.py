"""Pictures by number, opened when they are looked at: files, or rows of a data set as the training saw them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from PIL import Image

from eval.processes import shared
from toolkit.data.examples import Framing, HeldOutExamples
from toolkit.data.source import Source
from toolkit.images import decode_image

Result = TypeVar("Result")


class Pictures(Protocol):
    """Pictures by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Image.Image:
        """The picture, RGB, 8 bit."""


class Files:
    """Picture files."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int, /) -> Image.Image:
        path = self.paths[index]
        return decode_image(path, background="white", name=str(path))


class Rows:
    """Rows of a data set, cut to the training's resolution at the centre, and not mirrored."""

    def __init__(self, source: Source, framing: Framing) -> None:
        self.source = source
        self._framing = framing
        self._examples = HeldOutExamples(source, framing=framing)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int, /) -> Image.Image:
        levels = ((self._examples[index].image + 1) * 127.5).round().byte()
        return Image.fromarray(levels.permute(1, 2, 0).numpy())

    def fingerprint(self) -> str:
        """Changes with the rows, and with how they are cut."""
        return f"{self.source.fingerprint()}, {self._framing}"

    def cache_key(self) -> str:
        """What the result of looking at every picture may be kept under; see `Source.cache_key`."""
        return f"{self.source.cache_key()}, {self._framing}"


def look(
    pictures: Pictures, size: int, work: Callable[[Sequence[Image.Image]], Sequence[Result]], what: str
) -> list[Result]:
    """What `work` makes of each picture, shared out over all processes.

    Args:
        pictures: The same on every process.
        size: Pictures that are opened and looked at at once.
        work: One result per picture of a batch.
        what: What is done, for the progress bar.
    """
    return shared(range(len(pictures)), size, lambda batch: work([pictures[i] for i in batch]), what)
