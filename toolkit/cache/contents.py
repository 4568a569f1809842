"""What the pictures of a source show, as digests: whatever a picture is called, and an edited one is another."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file
from tqdm import tqdm

from toolkit.cache.shard import KEY_BYTES, is_whole, mapped
from toolkit.data.check import read_all
from toolkit.data.source import Source
from toolkit.errors import CacheError, DataError
from toolkit.files import write_with

_VERSION = 1
"""To be raised where the same file is decoded to other pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """Of each row of a source."""

    keys: np.ndarray
    """(rows, 16) uint8: digests of size and pixels."""
    sizes: np.ndarray
    """(rows, 2) uint32: width and height."""


def contents_of(source: Source, folder: Path, *, workers: int) -> Contents:
    """Contents of all rows. They are kept under the source's cache key, which changes when any of its files does.

    Args:
        source: The rows; all of them are read where nothing is kept.
        folder: Where contents are kept.
        workers: Threads that read.

    Raises:
        DataError: A picture cannot be read; the message names the row.
        CacheError: The folder cannot be written to.
    """
    path = folder / f"{source.cache_key()}-{_VERSION}.contents"
    if not is_whole(path):
        keys, sizes = np.zeros((len(source), KEY_BYTES), np.uint8), np.zeros((len(source), 2), np.uint32)
        for index, seen in enumerate(tqdm(read_all(source, workers), "reading pictures", len(source), unit="row")):
            if seen.problem:
                raise DataError(seen.problem, "It could be read when the data were checked: restore the file.")
            keys[index], sizes[index] = np.frombuffer(seen.digest, np.uint8), seen.size
        try:
            write_with(path, lambda scratch: save_file({"keys": keys, "sizes": sizes}, scratch))
        except (OSError, SafetensorError) as error:
            raise CacheError(
                f"{path} cannot be written: {error}", "Give another folder as data.cache, or `off`."
            ) from error
    tensors, _ = mapped(path)
    return Contents(tensors["keys"], tensors["sizes"])
