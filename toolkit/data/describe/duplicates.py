"""Pictures that are nearly the same, found among many without comparing every two.

A difference hash (N. Krawetz, "Kind of Like That", 2013) tells in 64 bits where a picture gets darker from left to
right. Pictures whose hashes differ in few bits are compared by their pixels, and only those that agree there too count.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

SIDE = 16
"""Of thumbnails, in pixels."""
MOST_BITS = 6
"""Bits of 64 that the hashes of near-duplicates may differ in."""
MOST_DISTANCE = 8.0
"""Root mean squared difference of their thumbnails' channels, of 255, that near-duplicates may have."""

_DARKER = 2
"""Grey levels of 255 that count as a difference: what is flat stays flat when JPEG has written it."""
_COMPARED_AT_ONCE = 8192
_CLOSEST_AMONG = 64


def difference_hash(image: Image.Image) -> int:
    """64 bits: of 8 rows of 9 cells, whether a cell is darker than its left neighbour.

    Args:
        image: RGB, 8 bit, of any size.
    """
    cells = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    bits = cells[:, :-1] - cells[:, 1:] > _DARKER
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def thumbnail(image: Image.Image) -> np.ndarray:
    """The picture scaled to 16 x 16 whatever its shape, by the mean of areas: (16, 16, 3), uint8."""
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Root mean squared difference of thumbnails, 0 to 255.

    Args:
        first: (n, 16, 16, 3), uint8.
        second: The same shape.

    Returns:
        (n,), float64.
    """
    differences = (first.astype(np.float32) - second).reshape(len(first), -1)
    return np.sqrt(np.mean(differences**2, axis=1, dtype=np.float64))


def hash_pairs(hashes: np.ndarray, band: int, bands: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every two whose hashes differ in fewer than `bands` bits, and do not differ in the band.

    The bits are dealt out to the bands. Hashes that differ in fewer bits than there are bands agree in a whole band, so
    that all bands together find every such pair (multi-index hashing, Norouzi et al. 2014, arXiv 1307.2982).

    Args:
        hashes: (n,), uint64.
        band: One of 0 .. bands - 1.
        bands: How many bands the bits are dealt out to.

    Yields:
        Two arrays of indices, pair by pair; never more than n pairs at once.
    """
    # Neighbouring bits go to different bands: an empty corner of the pictures must not make a band say nothing.
    mask = np.uint64(sum(1 << bit for bit in range(band, 64, bands)))
    order = np.argsort(hashes & mask, kind="stable")
    ordered = hashes[order]
    keys = ordered & mask
    start, step = np.arange(len(hashes)), 1
    while True:
        # In order of the keys, those that agree follow each other: none does farther off that does not nearer by.
        start = start[start < len(hashes) - step]
        start = start[keys[start] == keys[start + step]]
        if not len(start):
            return
        near = start[np.bitwise_count(ordered[start] ^ ordered[start + step]) < bands]
        yield order[near], order[near + step]
        step += 1


def near_duplicates(
    hashes: np.ndarray,
    thumbnails: np.ndarray,
    *,
    most_bits: int = MOST_BITS,
    most_distance: float = MOST_DISTANCE,
    progress: bool = False,
) -> list[np.ndarray]:
    """Groups of pictures that are nearly the same.

    Two are where at most `most_bits` of their hashes' bits differ, and their thumbnails by at most `most_distance`. A
    group is what such pairs connect, so that its ends may differ by more.

    Args:
        hashes: (n,), uint64, of `difference_hash`.
        thumbnails: (n, 16, 16, 3), uint8, of `thumbnail`.
        most_bits: 0 to 63.
        most_distance: 0 to 255.
        progress: Show a bar.

    Returns:
        The indices of each group's members, two or more, ascending; groups by their first member.
    """
    group = np.arange(len(hashes))
    bands = most_bits + 1
    for band in tqdm(range(bands), "comparing hashes", disable=not progress, unit="band"):
        for first, second in hash_pairs(hashes, band, bands):
            # Copies of one picture are soon in one group, and not compared two by two.
            apart = group[first] != group[second]
            first, second = first[apart], second[apart]
            near = _near(thumbnails, first, second, most_distance)
            if near.any():
                group = _joined(group, first[near], second[near])
    members = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[members])) + 1
    return sorted((part for part in np.split(members, starts) if len(part) > 1), key=lambda part: int(part[0]))


def _near(thumbnails: np.ndarray, first: np.ndarray, second: np.ndarray, most: float) -> np.ndarray:
    parts = [slice(start, start + _COMPARED_AT_ONCE) for start in range(0, len(first), _COMPARED_AT_ONCE)]
    near = [distances(thumbnails[first[part]], thumbnails[second[part]]) <= most for part in parts]
    return np.concatenate(near) if near else np.empty(0, np.bool_)


def _joined(group: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The groups after these pairs have been brought together."""
    edges = coo_array((np.ones(len(first), np.bool_), (group[first], group[second])), shape=(len(group), len(group)))
    return connected_components(edges, directed=False)[1][group]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures of a group."""

    first: int
    second: int
    distance: float
    """Of their thumbnails, 0 to 255."""


def closest_pair(first: Sequence[int], second: Sequence[int], thumbnails: np.ndarray) -> Pair:
    """The nearest two of different sides; of a large group, among the first 64 of each.

    Args:
        first: Indices of one side.
        second: Indices of the other; the sides may be the same, and no picture is paired with itself.
        thumbnails: (n, 16, 16, 3), uint8.
    """
    pairs = [(a, b) for a in first[:_CLOSEST_AMONG] for b in second[:_CLOSEST_AMONG] if a != b]
    left, right = np.array(pairs).T
    apart = distances(thumbnails[left], thumbnails[right])
    best = int(np.argmin(apart))
    return Pair(int(left[best]), int(right[best]), float(apart[best]))
