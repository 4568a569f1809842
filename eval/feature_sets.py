"""What networks see in a set of pictures: features of all of them, or of very many the moments and a sample."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from eval.metrics.distances import frechet_distance, frechet_from_moments
from eval.metrics.moments import Moments
from eval.networks import Network
from eval.picture_sets import PictureSet
from eval.pictures import look
from toolkit.errors import DataError

KEPT = 10_000
"""Of more pictures than so many, features are kept of a random sample of this size, and of all only the moments."""
_SLAB = 8192
"""Pictures after which features are summed up, so that memory does not grow with the set."""
_DIGEST = 16


@dataclass(frozen=True, slots=True, eq=False)
class Normal:
    """Mean (d,) and covariance (d, d) of n rows, float64."""

    n: int
    mu: np.ndarray
    sigma: np.ndarray


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """What one network saw in n pictures."""

    n: int
    rows: np.ndarray
    """(n, d) float32; of more than `KEPT` pictures a random sample of so many, in the order of the pictures."""
    logits: np.ndarray | None = None
    """Inception's, of the same pictures, (n, 1008) float32."""
    normals: tuple[Normal, Normal, Normal] | None = None
    """Of more than `KEPT` pictures: all of them, one random half and the other."""

    @property
    def width(self) -> int:
        """Features in a row, d."""
        return int(self.rows.shape[1])

    @cached_property
    def normal(self) -> Normal:
        """Of all n pictures."""
        if self.normals is not None:
            return self.normals[0]
        moments = Moments(self.width)
        moments.update(self.rows)
        return Normal(self.n, moments.mu, moments.sigma)


def frechet(x: FeatureSet, y: FeatureSet) -> float:
    """Fréchet distance of two sets, from the features where all are kept and from the moments otherwise."""
    if x.normals is None and y.normals is None:
        return frechet_distance(x.rows, y.rows)
    return frechet_from_moments(x.normal.mu, x.normal.sigma, y.normal.mu, y.normal.sigma)


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What was seen in a set of pictures."""

    features: dict[str, FeatureSet]
    """By the network's name."""
    pixels: np.ndarray
    """A digest of each picture's pixels, (n, 16) uint8."""

    @property
    def digests(self) -> list[bytes]:
        """The digests of the pixels, one per picture."""
        return [row.tobytes() for row in self.pixels]


def observe(pictures: PictureSet, networks: Sequence[Network], what: str, *, batch_size: int) -> Observation:
    """Look at all pictures once, shared out over all processes, with the same result as by one.

    Args:
        pictures: The same on every process.
        networks: Each looks at each picture.
        what: What the pictures are, for progress bars and messages.
        batch_size: Pictures that are opened and looked at at once.

    Raises:
        DataError: A picture cannot be read, or a network makes NaN or infinity of it; names the picture.
    """
    n = len(pictures)
    order = np.random.default_rng(0).permutation(n)
    kept, first_half = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    kept[order[:KEPT]] = first_half[order[: n // 2]] = True
    gathered = [_Gathered(network, n) for network in networks]
    digests: list[bytes] = []

    def work(batch: Sequence[Image.Image]) -> list[tuple[bytes, ...]]:
        return list(zip(map(_digest, batch), *(network.look(batch) for network in networks), strict=True))

    for start in range(0, n, _SLAB):
        stop = min(start + _SLAB, n)
        label = f"looking at {what}" if n <= _SLAB else f"looking at {what} {start} to {stop} of {n}"
        found, *rows = zip(*look(_Part(pictures, start, stop), batch_size, work, label), strict=True)
        digests += found
        for one, values in zip(gathered, map(np.stack, rows), strict=True):
            _require_finite(values, one.network, pictures, start)
            one.add(values, kept[start:stop], first_half[start:stop])
    pixels = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(n, _DIGEST)
    return Observation({one.network.name: one.summed_up() for one in gathered}, pixels)


class _Gathered:
    """The rows of one network, as they come."""

    def __init__(self, network: Network, n: int) -> None:
        self.network = network
        self._n = n
        self._width = network.embedder.record.width
        self._rows: list[np.ndarray] = []
        self._halves = (Moments(self._width), Moments(self._width)) if n > KEPT else None

    def add(self, values: np.ndarray, kept: np.ndarray, first_half: np.ndarray) -> None:
        self._rows.append(values[kept])
        if self._halves is not None:
            for half, chosen in zip(self._halves, (first_half, ~first_half), strict=True):
                half.update(values[chosen, : self._width])

    def summed_up(self) -> FeatureSet:
        rows = np.concatenate(self._rows)
        logits = rows[:, self._width :] if rows.shape[1] > self._width else None
        normals = None
        if self._halves is not None:
            everything = Moments(self._width)
            for half in self._halves:
                everything.merge(half)
            one, other = self._halves
            normals = (_normal(everything), _normal(one), _normal(other))
        return FeatureSet(self._n, rows[:, : self._width], logits, normals)


def _normal(moments: Moments) -> Normal:
    assert moments.n is not None
    return Normal(moments.n, moments.mu, moments.sigma)


class _Part:
    """Some pictures of a set."""

    def __init__(self, pictures: PictureSet, start: int, stop: int) -> None:
        self._pictures, self._range = pictures, range(start, stop)

    def __len__(self) -> int:
        return len(self._range)

    def __getitem__(self, index: int, /) -> Image.Image:
        return self._pictures.pictures[self._range[index]]


def _digest(image: Image.Image) -> bytes:
    return hashlib.blake2b(repr(image.size).encode() + image.tobytes(), digest_size=_DIGEST).digest()


def _require_finite(values: np.ndarray, network: Network, pictures: PictureSet, start: int) -> None:
    broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(broken):
        raise DataError(
            f"{network.title} makes NaN or infinity of {len(broken)} pictures, such as"
            f" {pictures.label(start + int(broken[0]))}",
            "Look at this picture and at the network's weights: half precision overflows at 65 504.",
        )


def halves(rows: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Random ways to halve rows, always the same ones; an odd row is left out."""
    random = np.random.default_rng(0)
    size = len(rows) // 2
    for _ in range(count):
        order = random.permutation(len(rows))
        yield rows[order[:size]], rows[order[size : 2 * size]]
