"""What the pictures of a source show, read once and kept for as long as no file of it changes."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm

from toolkit.data.source import Source
from toolkit.errors import DataError
from toolkit.files import write_with

_log = logging.getLogger(__name__)

_VERSION = 1
"""To be raised where the same file is decoded to other pixels."""
_ROWS_PER_TASK = 32


@dataclass(frozen=True, slots=True)
class Seen:
    """What reading one image told."""

    problem: str = ""
    size: tuple[int, int] = (0, 0)
    digest: bytes = b""
    """16 bytes, of size and pixels."""
    alpha: bool = False
    turned: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """Of each row of a source. Whatever a picture is called, it is the same, and an edited one is another."""

    digests: np.ndarray
    """(rows, 16) uint8: of size and pixels."""
    sizes: np.ndarray
    """(rows, 2) uint32: width and height."""


def read_all(source: Source, *, workers: int, progress: bool, what: str) -> list[Seen]:
    """What is seen of each row's picture, in their order.

    Args:
        source: The rows.
        workers: Threads that decode; Pillow works outside Python's lock.
        progress: Show a bar with the time left.
        what: What the bar calls it.
    """
    return list(tqdm(_read_in_parallel(source, workers), what, len(source), disable=not progress, unit="row"))


def contents_of(source: Source, folder: Path, *, workers: int) -> Contents:
    """Contents of all rows; they are read where nothing is kept.

    Args:
        source: The rows.
        folder: Where contents are kept.
        workers: Threads that read.

    Raises:
        DataError: A picture cannot be read; the message names the row.
    """
    kept = _kept(_path(source, folder))
    if kept is not None:
        return kept
    return keep_contents(source, read_all(source, workers=workers, progress=True, what="reading images"), folder)


def keep_contents(source: Source, seen: Sequence[Seen], folder: Path) -> Contents:
    """Keep what was seen of all rows, under the source's cache key. A folder that cannot be written to costs time only.

    Raises:
        DataError: A picture could not be read; the message names the row.
    """
    for each in seen:
        if each.problem:
            raise DataError(each.problem, "It could be read when the data were checked: restore the file.")
    digests = np.frombuffer(b"".join(each.digest for each in seen), np.uint8).reshape(-1, 16)
    sizes = np.array([each.size for each in seen], np.uint32)
    path = _path(source, folder)
    try:
        # Zip files hold a checksum of what is in them.
        write_with(path, lambda scratch: np.savez(scratch, digests=digests, sizes=sizes))
    except OSError as error:
        _log.warning("what the images show is not kept, so the next run reads them again: %s", error)
    return Contents(digests, sizes)


def _path(source: Source, folder: Path) -> Path:
    return folder / f"contents-{_VERSION}-{source.cache_key()}.npz"


def _kept(path: Path) -> Contents | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Contents(arrays["digests"], arrays["sizes"])
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        _log.warning("%s cannot be read and is made again: %s", path, error)
        return None


def _read_in_parallel(source: Source, workers: int) -> Iterator[Seen]:
    def read(start: int) -> list[Seen]:
        return [_read(source, index) for index in range(start, min(start + _ROWS_PER_TASK, len(source)))]

    executor = ThreadPoolExecutor(max(1, workers))
    try:
        for part in executor.map(read, range(0, len(source), _ROWS_PER_TASK)):
            yield from part
    finally:
        # Ctrl-C must not wait for every row that is left.
        executor.shutdown(cancel_futures=True)


def _read(source: Source, index: int) -> Seen:
    try:
        image = source.image(index)
    except DataError as error:
        return Seen(problem=error.problem)
    digest = hashlib.blake2b(repr(image.size).encode() + image.tobytes(), digest_size=16).digest()
    return Seen("", image.size, digest, image.info.get("alpha", False), image.info.get("turned", False))
