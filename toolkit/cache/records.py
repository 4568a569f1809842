"""Records of one shape by key, in a folder of shards that any number of processes may read and write at once."""

import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import save_file
from torch import Tensor

from toolkit.cache.index import Index
from toolkit.cache.shard import KEY_BYTES, Shard, is_whole, mapped, write_shard
from toolkit.errors import CacheError, DamagedError
from toolkit.files import remove_unfinished, write_with, writing_in

_ROOM = 1.05
"""Of the disk that is needed: directories and indexes take some too."""
_OPEN = 256
"""Shards that are open at once, at most: each keeps a file open."""
_NOT_WRITTEN = (OSError, SafetensorError)


class Records:
    """A folder of shards.

    All keys lie in one sorted index beside the shards, mapped into memory as they are, so that opening millions of
    records takes no longer than opening a few. It is made anew when shards have come or gone. What a killed process was
    writing is removed at the next opening at which no other process writes.

    Args:
        folder: Of the shards; it is made when something is written.
        shape: Of a record.
        dtype: In which records are kept: float32, float16 or bfloat16.

    Raises:
        CacheError: The folder cannot be read, or a damaged shard lies in one that cannot be written to.
    """

    def __init__(self, folder: Path, shape: Sequence[int], dtype: torch.dtype) -> None:
        self.folder = folder
        self.shape = tuple(shape)
        self.dtype = dtype
        remove_unfinished(folder)
        self.refresh()

    def __getstate__(self) -> tuple[Path, tuple[int, ...], torch.dtype]:
        """A worker process opens the files itself: what is mapped would be sent as a copy."""
        return self.folder, self.shape, self.dtype

    def __setstate__(self, state: tuple[Path, tuple[int, ...], torch.dtype]) -> None:
        self.folder, self.shape, self.dtype = state
        self.refresh()

    def refresh(self) -> None:
        """See what other processes have written. A shard that is not whole is removed, and said to be."""
        listed = self._listed()
        if not is_whole(self._index_of(listed)):
            # Only now are all shards opened: an index is of these files in these lengths.
            listed = {name: size for name, size in listed.items() if self._is_whole(self.folder / name)}
        self._paths = [self.folder / name for name in listed]
        self._shards: dict[int, Shard] = {}
        self._parts = [self._index(self._index_of(listed))] if listed else []

    def extend(self) -> None:
        """See what was written since, as `refresh` does, and open nothing else; no index is written."""
        known = {path.name for path in self._paths}
        new = [path for name in self._listed() if name not in known and self._is_whole(path := self.folder / name)]
        if not new:
            return
        self._parts.append(Index.of(map(Shard, new), len(self._paths)))
        self._paths += new
        # Each is more than twice as long as the next, so that they stay few, and no key is sorted often.
        while len(self._parts) > 1 and len(self._parts[-2]) <= 2 * len(self._parts[-1]):
            self._parts[-2:] = [Index.merged(self._parts[-2:])]

    def _listed(self) -> dict[str, int]:
        """Length of each shard, by name, in the order of the names."""
        lengths = {}
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if entry.name.endswith(".shard") and not entry.name.startswith("."):
                        # Another process may have removed it since.
                        with contextlib.suppress(FileNotFoundError):
                            lengths[entry.name] = entry.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            # It is made, or refused, when something is written.
            return {}
        except OSError as error:
            raise CacheError(
                f"{self.folder} cannot be read: {error}", "Make it readable, or give another folder as data.cache."
            ) from error
        return dict(sorted(lengths.items()))

    def _index_of(self, listed: Mapping[str, int]) -> Path:
        digest = hashlib.blake2b(repr(sorted(listed.items())).encode(), digest_size=8).hexdigest()
        return self.folder / f"{digest}.index"

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def has(self, keys: np.ndarray) -> np.ndarray:
        """Whether there is a record for each key: (n, 16) uint8 to (n,) bool."""
        return self._found(keys) >= 0

    def read(self, keys: np.ndarray) -> Tensor:
        """Records of (n, 16) uint8 keys: (n, ...) float32.

        Raises:
            CacheError: There is none for a key, or it is not what was written.
        """
        places = self._found(keys)
        if (places < 0).any():
            raise CacheError(
                f"{self.folder} has lost a record since this run began", "Start again: it is encoded anew."
            )
        found = zip(map(int, places), keys, strict=True)
        return torch.stack([self._shard(place >> 32).read(place & 0xFFFFFFFF, key.tobytes()) for place, key in found])

    def write(self, keys: np.ndarray, values: Tensor) -> None:
        """Keep records, in one new shard; `extend` and `refresh` find them.

        Args:
            keys: (n, 16) uint8.
            values: (n, ...) of the records' shape.

        Raises:
            CacheError: The disk is full, or the folder cannot be written to.
        """
        assert values.shape[1:] == self.shape
        # Named by what is in it, so that processes that have encoded the same write the same file.
        path = self.folder / f"{hashlib.blake2b(keys.tobytes(), digest_size=8).hexdigest()}.shard"
        try:
            with writing_in(self.folder):
                write_shard(path, keys, values.detach().cpu().to(self.dtype))
        except _NOT_WRITTEN as error:
            raise CacheError(
                f"{path} cannot be written: {error}", "Free some space, or give another folder as data.cache."
            ) from error

    def bytes_of(self, count: int) -> int:
        """What so many records take on the disk."""
        values = int(np.prod(self.shape)) * torch.empty(0, dtype=self.dtype).element_size()
        return int(count * (values + KEY_BYTES + 4) * _ROOM)

    def require_room(self, count: int, beside: int = 0) -> None:
        """Refuse to begin what the disk has no room for.

        Args:
            count: Records that will be written.
            beside: Bytes that will be written to the same disk as well.

        Raises:
            CacheError: So many records do not fit; says how much is needed and how much is free.
        """
        needed = self.bytes_of(count) + beside
        existing = next(parent for parent in (self.folder, *self.folder.parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        if needed > free:
            raise CacheError(
                f"{self.folder}: {count:,} encodings need {gib(needed)}"
                + (f", with those beside them, and {gib(free)} are free" if beside else f", and {gib(free)} are free"),
                "Give a folder on another disk as data.cache, or `off`.",
            )

    def _found(self, keys: np.ndarray) -> np.ndarray:
        """Place of each key, -1 where there is none."""
        places = np.full(len(keys), -1)
        for part in self._parts:
            places = np.where(places < 0, part.found(keys), places)
        return places

    def _shard(self, number: int) -> Shard:
        if number >= len(self._paths):
            raise CacheError(f"{self.folder}: its index is damaged", "Delete its *.index file.")
        if number not in self._shards:
            if len(self._shards) == _OPEN:
                self._shards.pop(next(iter(self._shards)))
            self._shards[number] = Shard(self._paths[number])
        return self._shards[number]

    def _index(self, path: Path) -> Index:
        """The index of all shards, written where it is not there."""
        # Another process may remove it between two calls.
        with contextlib.suppress(CacheError):
            return Index(**mapped(path)[0])
        index = Index.of(map(Shard, self._paths))
        try:
            with writing_in(self.folder):
                write_with(path, lambda scratch: save_file(index.arrays(), scratch))
            for outdated in self.folder.glob("[!.]*.index"):
                if outdated != path:
                    outdated.unlink(missing_ok=True)
        except _NOT_WRITTEN:
            # Of a folder that is only read; it is kept in memory.
            return index
        with contextlib.suppress(CacheError):
            return Index(**mapped(path)[0])
        return index

    def _is_whole(self, path: Path) -> bool:
        try:
            Shard(path)
        except DamagedError as error:
            try:
                path.unlink(missing_ok=True)
            except OSError:
                raise error from None
            print(f"warning: {error.problem}; it is removed, and encoded again", file=sys.stderr)
            return False
        return True


def gib(size: float) -> str:
    """A number of bytes, for people."""
    return f"{size / 2**30:.2g} GiB"
