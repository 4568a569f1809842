"""The intake of the metrics: features become float64 arrays of shape (n, d) that are finite, or an error in words."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from toolkit.errors import DataError

Features = np.ndarray | Tensor
_BLOCK = 2**22
"""Entries of a matrix that are held at once: 32 MiB of float64."""


def as_array(values: Features | Sequence[float]) -> np.ndarray:
    """The values in float64 on the CPU, whatever kind and precision they come in."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)


def as_rows(values: Features, name: str, *, at_least: int = 1) -> np.ndarray:
    """Features as float64 of shape (n, d), never copied when they are that already.

    Args:
        values: One row for each image.
        name: What an error calls them.
        at_least: Rows that the caller's formula needs to be defined.

    Raises:
        DataError: The shape is another, rows are too few, or some hold NaN or infinity.
    """
    rows = as_array(values)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise DataError(f"{name} has shape {rows.shape}", "Give a row for each image: shape (images, features).")
    if len(rows) < at_least:
        raise DataError(f"{name} needs at least {at_least} rows and has {len(rows)}", "Score more images.")
    require_finite(rows, name)
    return rows


def as_pair(
    x: Features, y: Features, names: tuple[str, str] = ("x", "y"), *, at_least: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of rows of one width; see `as_rows`."""
    first, second = as_rows(x, names[0], at_least=at_least), as_rows(y, names[1], at_least=at_least)
    if first.shape[1] != second.shape[1]:
        raise DataError(
            f"{names[0]} has {first.shape[1]} features in a row and {names[1]} has {second.shape[1]}",
            "Take both sets of features from the same network and the same layer.",
        )
    return first, second


def unit_rows(rows: np.ndarray, name: str) -> np.ndarray:
    """The rows scaled to length 1.

    Raises:
        DataError: A row is all zeros and so has no direction.
    """
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    zeros = np.flatnonzero(lengths == 0)
    if len(zeros):
        raise DataError(f"{name}: nothing but zeros in {_numbered(zeros)}", "Their cosine is not defined.")
    return rows / lengths


def require_finite(values: np.ndarray, name: str) -> None:
    """Raise a DataError that names the rows (the first axis) in which there is NaN or infinity."""
    broken = np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))
    if len(broken):
        raise DataError(
            f"{name}: NaN or infinity in {_numbered(broken)}",
            "Look at these images and at the precision of the network: half precision overflows at 65 504.",
        )


def blocks(n: int, width: int) -> Iterator[slice]:
    """Slices that cover 0 .. n - 1, so long that a matrix of one slice's rows and `width` columns fits in 32 MiB."""
    step = max(1, _BLOCK // width)
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _numbered(rows: np.ndarray) -> str:
    first = ", ".join(map(str, rows[:10]))
    rest = f" and {len(rows) - 10} more" if len(rows) > 10 else ""
    return f"row{'s' if len(rows) > 1 else ''} {first}{rest} (counted from 0)"
