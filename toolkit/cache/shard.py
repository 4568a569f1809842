"""One file of a cache: records of one shape, each under its key and with its checksum.

A shard is a safetensors file with the tensors `keys` (n, 16) bytes, `values` (n, ...) and `checksums` (n,), the CRC-32
of each record; 16 bits without a sign are bfloat16. It is written in one step and never changed; it is mapped into
memory, and only the records that are asked for are read.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor

from toolkit.errors import CacheError, DamagedError
from toolkit.files import write_with

KEY_BYTES = 16
FORMAT = "1"
_STORED = {"F16": np.float16, "F32": np.float32, "U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64}
_LONGEST_HEADER = 1 << 20


class Shard:
    """A shard that was written.

    Args:
        path: The file.

    Raises:
        DamagedError: It is not as long as it says, or of another kind.
        CacheError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        tensors, about = mapped(path)
        if about.get("format") != FORMAT or {"keys", "values", "checksums"} - tensors.keys():
            raise DamagedError(f"{path} is no shard of this version's cache", _again(path))
        self.keys: np.ndarray = tensors["keys"]
        """(n, 16) uint8."""
        self._values = tensors["values"]
        self._checksums = tensors["checksums"]

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, row: int, key: bytes) -> Tensor:
        """A record, float32.

        Args:
            row: Where it lies.
            key: Under which it was written.

        Raises:
            CacheError: It is not what was written, or lies elsewhere.
        """
        if row >= len(self) or self.keys[row].tobytes() != key:
            raise CacheError(f"{self.path.parent}: its index does not fit {self.path.name}", "Delete its *.index file.")
        record = np.array(self._values[row])
        if zlib.crc32(record.tobytes()) != int(self._checksums[row]):
            raise CacheError(f"{self.path}: record {row} is not what was written", _again(self.path))
        tensor = torch.from_numpy(record)
        return (tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor).float()


def write_shard(path: Path, keys: np.ndarray, values: Tensor) -> None:
    """Write a shard in one step.

    Args:
        path: The file.
        keys: (n, 16) uint8.
        values: (n, ...) float32, float16 or bfloat16.
    """
    # numpy has no bfloat16: its bits are kept.
    records = (values.view(torch.uint16) if values.dtype == torch.bfloat16 else values).contiguous().numpy()
    checksums = np.array([zlib.crc32(record.tobytes()) for record in records], dtype=np.uint32)
    tensors = {"keys": np.ascontiguousarray(keys), "values": records, "checksums": checksums}
    write_with(path, lambda scratch: save_file(tensors, scratch, {"format": FORMAT}))


def mapped(path: Path) -> tuple[dict[str, np.ndarray], Mapping[str, str]]:
    """(tensors that are mapped into memory, metadata) of a safetensors file.

    Raises:
        DamagedError: The file is not as long as it says, or no safetensors file.
        CacheError: It is not there, or cannot be read.
    """
    try:
        if path.stat().st_size < 8:
            raise DamagedError(f"{path} is cut off", _again(path))
        # One mapping for all tensors: each keeps a file open.
        content = np.asarray(np.memmap(path, np.uint8, "r"))
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error}", "Is it there, and may it be read?") from error
    try:
        length = int.from_bytes(content[:8].tobytes(), "little")
        header: dict[str, Any] = json.loads(content[8 : 8 + min(length, _LONGEST_HEADER)].tobytes())
        about = header.pop("__metadata__", {})
        first = 8 + length
        if len(content) != first + max(each["data_offsets"][1] for each in header.values()):
            raise ValueError("it is not as long as it says")
        tensors: dict[str, np.ndarray] = {}
        for name, each in header.items():
            start, end = each["data_offsets"]
            tensors[name] = content[first + start : first + end].view(_STORED[each["dtype"]]).reshape(each["shape"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path} is damaged: {error}", _again(path)) from error
    return tensors, about


def is_whole(path: Path) -> bool:
    """Whether there is such a file, as long as it says."""
    try:
        mapped(path)
    except CacheError:
        return False
    return True


def _again(path: Path) -> str:
    return f"Delete {path.name}: what was in it is encoded again."
