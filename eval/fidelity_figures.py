"""The numbers of two sets of features, each with its n, or with why it is not reportable."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from eval.feature_sets import FeatureSet, frechet, halves
from eval.metrics.distances import (
    Prdc,
    cmmd,
    frechet_distance,
    frechet_from_moments,
    inception_score,
    kernel_distance,
    mean_pairwise_distance,
    prdc,
    vendi_score,
)
from eval.metrics.kernels import Kernel, cmmd_kernel, polynomial_kernel
from eval.metrics.minimum import MINIMUM, reportable
from eval.metrics.statistics import two_sample_permutation
from eval.networks import Network
from eval.result import Better, Figure

_HALVINGS = 10
"""Ways to halve the reference, over which its distance to itself is averaged."""
_PERMUTED = 1000
"""Pictures of each set that a p-value is computed from, at most: all pairs of them are held in memory."""
_NEIGHBOURS = 5
_DRAWS_OF_FEW = 5
"""Draws of equally many pictures, over which a Fréchet distance is averaged where they are few."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """What one network saw in both sets."""

    network: Network
    generated: FeatureSet
    reference: FeatureSet

    @property
    def kept(self) -> int:
        """Pictures whose features are kept, of the smaller set."""
        return min(len(self.generated.rows), len(self.reference.rows))

    @property
    def counts(self) -> str:
        return f"{len(self.generated.rows)} generated, {len(self.reference.rows)} reference"

    def figure(
        self,
        metric: str,
        name: str,
        label: str,
        n: int,
        measure: Callable[[], tuple[float, str]],
        *,
        better: Better = "",
        scale: str = "",
        width: int | None = None,
    ) -> Figure:
        """A number and its note, measured only where n is enough for its metric."""
        record = self.network.name
        why = reportable(metric, n, width or self.generated.width)
        if why is not None:
            return Figure(name, label, None, n=n, better=better, scale=scale, note=why, record=record)
        value, note = measure()
        return Figure(name, label, value, n=n, better=better, scale=scale, note=note, record=record)


def figures_of(network: Network, generated: FeatureSet, reference: FeatureSet) -> Iterator[Figure]:
    """Whatever is computed from a network's features, in the order of its metrics.

    Raises:
        DataError: The sets are not of one network, or features are all zeros.
    """
    pair = _Pair(network, generated, reference)
    for metric in network.metrics:
        yield from _METRICS[metric](pair)


def _frechet(pair: _Pair) -> Iterator[Figure]:
    title = pair.network.title
    published = {"inception": ("fid", "FID"), "dinov2": ("fd_dinov2", "FD-DINOv2")}
    name, label = published.get(pair.network.kind, ("frechet_distance", f"Fréchet distance of {title} features"))
    if pair.network.kind == "dinov2" and not pair.network.is_published:
        label += f" by {title}"
    n, half = min(pair.generated.n, pair.reference.n), pair.reference.n // 2

    def distance() -> tuple[float, str]:
        counts = f"{pair.generated.n} generated, {pair.reference.n} reference; it falls with n"
        return frechet(pair.generated, pair.reference), counts

    def floor() -> tuple[float, str]:
        note = f"noise floor, {half} against {half}; compare at equal n"
        return _frechet_floor(pair.reference), note

    figure = pair.figure("frechet_distance", name, label, n, distance, better="lower", scale="squared distance")
    yield figure
    if figure.value is not None:
        of_halves = f"{label}, halves of the reference"
        figure = pair.figure("frechet_distance", f"{name}_floor", of_halves, half, floor, scale="squared distance")
        yield figure
    if figure.value is None or half < n:
        yield from _frechet_of_few(pair, name, label)


def _frechet_of_few(pair: _Pair, name: str, label: str) -> Iterator[Figure]:
    """The distance of n from n pictures, and that of n from n of the reference: biased alike, they can be compared."""
    x, y = pair.generated.rows, pair.reference.rows
    n = min(len(x), len(y) // 2)
    if n < MINIMUM["frechet_distance"].rows:
        return
    random = np.random.default_rng(0)
    parts = [(x[random.permutation(len(x))[:n]], one[:n], other[:n]) for one, other in halves(y, _DRAWS_OF_FEW)]
    apart = [frechet_distance(some, one) for some, one, _ in parts]
    floor = [frechet_distance(one, other) for _, one, other in parts]
    for suffix, title, values, note in (
        ("", "only against its floor", apart, f"mean of {_DRAWS_OF_FEW} draws; without the next line it says nothing"),
        ("_floor", "the floor", floor, f"the reference against itself, from {min(floor):.3g} to {max(floor):.3g}"),
    ):
        better: Better = "" if suffix else "lower"
        title = f"{label}, {n} against {n}, {title}"
        record, scale = pair.network.name, "squared distance"
        value = float(np.mean(values))
        yield Figure(f"{name}_of_few{suffix}", title, value, n=n, better=better, scale=scale, note=note, record=record)


def _frechet_floor(reference: FeatureSet) -> float:
    if reference.normals is not None:
        _, one, other = reference.normals
        return frechet_from_moments(one.mu, one.sigma, other.mu, other.sigma)
    return float(np.mean([frechet_distance(one, other) for one, other in halves(reference.rows, _HALVINGS)]))


def _kernel(pair: _Pair) -> Iterator[Figure]:
    if pair.network.kind == "inception":
        name, label = "kid", "KID"
    else:
        name, label = "kernel_distance", f"kernel distance of {pair.network.title} features"
    yield from _discrepancy(pair, "kernel_distance", name, label, kernel_distance, polynomial_kernel)


def _cmmd(pair: _Pair) -> Iterator[Figure]:
    title = pair.network.title
    if pair.network.kind == "clip":
        name, label = "cmmd", "CMMD" if pair.network.is_published else f"CMMD of {title} features"
    else:
        name, label = "gaussian_distance", f"1000 times the Gaussian kernel distance of {title} features"
    yield from _discrepancy(pair, "cmmd", name, label, cmmd, cmmd_kernel)


def _discrepancy(
    pair: _Pair,
    metric: str,
    name: str,
    label: str,
    measure: Callable[[np.ndarray, np.ndarray], float],
    kernel: Kernel,
) -> Iterator[Figure]:
    """A distance without bias, its p-value and its noise floor."""
    x, y = pair.generated.rows, pair.reference.rows
    half = len(y) // 2

    def distance() -> tuple[float, str]:
        p = two_sample_permutation(_some(x), _some(y), kernel)
        of = f" of {_PERMUTED} of each" if max(len(x), len(y)) > _PERMUTED else ""
        return measure(x, y), f"{pair.counts}; p = {p:.2g}{of}"

    def floor() -> tuple[float, str]:
        values = [measure(one, other) for one, other in halves(y, _HALVINGS)]
        return float(np.mean(values)), f"noise floor, from {min(values):.2g} to {max(values):.2g}"

    figure = pair.figure(metric, name, label, pair.kept, distance, better="lower", scale="squared discrepancy")
    yield figure
    if figure.value is not None:
        label = f"{label}, halves of the reference"
        yield pair.figure(metric, f"{name}_floor", label, half, floor, scale="squared discrepancy")


def _some(rows: np.ndarray) -> np.ndarray:
    """At most so many rows as fit into a test by permutation, always the same ones."""
    return rows if len(rows) <= _PERMUTED else rows[np.random.default_rng(0).permutation(len(rows))[:_PERMUTED]]


def _inception_score(pair: _Pair) -> Iterator[Figure]:
    for each, name, label in (
        (pair.generated, "inception_score", "Inception Score"),
        (pair.reference, "inception_score_reference", "the reference's Inception Score"),
    ):
        assert each.logits is not None
        score = partial(_score, each.logits)
        n, classes = each.logits.shape
        better: Better = "higher" if each is pair.generated else ""
        yield pair.figure("inception_score", name, label, n, score, better=better, scale="classes", width=classes)


def _score(logits: np.ndarray) -> tuple[float, str]:
    return inception_score(logits).mean, "all in one part"


def _prdc(pair: _Pair) -> Iterator[Figure]:
    @cache
    def measured() -> Prdc:
        return prdc(pair.reference.rows, pair.generated.rows, k=_NEIGHBOURS)

    def value(name: str) -> tuple[float, str]:
        return getattr(measured(), name), f"{pair.counts}; {_NEIGHBOURS} neighbours"

    for name in ("precision", "recall", "density", "coverage"):
        yield pair.figure("prdc", name, name, pair.kept, partial(value, name), better="higher", scale="share")


def _vendi(pair: _Pair) -> Iterator[Figure]:
    x, y = pair.generated.rows, pair.reference.rows
    n = len(x)
    own = partial(_effective, x, "effective number of different pictures; it grows with n")
    yield pair.figure("vendi_score", "vendi", "Vendi score", n, own, better="higher", scale="pictures")
    if len(y) >= n:
        # At equal n; the first pictures may all be of one kind.
        as_many = y[np.random.default_rng(0).permutation(len(y))[:n]]
        real = partial(_effective, as_many, f"of {n} of the reference's {len(y)}")
        label = "the reference's Vendi score"
        yield pair.figure("vendi_score", "vendi_reference", label, n, real, scale="pictures")


def _effective(rows: np.ndarray, note: str) -> tuple[float, str]:
    return vendi_score(rows), note


def _diversity(pair: _Pair) -> Iterator[Figure]:
    metric = "mean_pairwise_distance"
    x, y = pair.generated.rows, pair.reference.rows
    yield pair.figure(
        metric, "diversity", "diversity", len(x), partial(_spread, x), better="higher", scale="cosine distance"
    )
    label = "the reference's diversity"
    yield pair.figure(metric, "diversity_reference", label, len(y), partial(_spread, y), scale="cosine distance")


def _spread(rows: np.ndarray) -> tuple[float, str]:
    return mean_pairwise_distance(rows), "mean of 1 - cosine over all pairs"


_METRICS: dict[str, Callable[[_Pair], Iterator[Figure]]] = {
    "frechet_distance": _frechet,
    "kernel_distance": _kernel,
    "cmmd": _cmmd,
    "inception_score": _inception_score,
    "prdc": _prdc,
    "vendi_score": _vendi,
    "mean_pairwise_distance": _diversity,
}
