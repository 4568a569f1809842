"""Pictures by number, opened when they are looked at: files, or rows of a data set as the training saw them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from PIL import Image

from eval.processes import shared
from toolkit.data.examples import Framing
from toolkit.data.source import Source
from toolkit.images import decode_image, resize_and_crop

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


class Squares:
    """Pictures scaled by their short side and cut to a square at the centre."""

    def __init__(self, open_picture: Callable[[int], Image.Image], count: int, framing: Framing) -> None:
        self._open, self._count, self._framing = open_picture, count, framing

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int, /) -> Image.Image:
        side, interpolation = self._framing.resolution, self._framing.interpolation
        values = resize_and_crop(
            self._open(index), resolution=side, interpolation=interpolation, left=None, top=None, flip=False
        )
        return Image.fromarray(((values + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())


class Rows(Squares):
    """Rows of a data set, cut to the training's resolution at the centre, and not mirrored.

    Args:
        source: The rows; their captions are not read.
        framing: How they are cut.
        background: Colour that `source` puts under transparent pixels.
    """

    def __init__(self, source: Source, framing: Framing, background: str = "white") -> None:
        super().__init__(source.image, len(source), framing)
        self.source = source
        self._looks = f"{framing}, on {background}"

    def fingerprint(self) -> str:
        """Changes with the rows, and with how they look."""
        return f"{self.source.fingerprint()}, {self._looks}"

    def cache_key(self) -> str:
        """What the result of looking at every picture may be kept under; see `Source.cache_key`."""
        return f"{self.source.cache_key()}, {self._looks}"


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
