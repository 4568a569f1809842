"""Intervals of kernel distances and of mean losses by the jackknife, for one training or for several.

Resampling with replacement would put rows into a set twice, whose kernel with themselves biases an unbiased distance;
the jackknife leaves rows out instead. Several trainings of one configuration, with other seeds, are clusters: what
varies between them is part of the interval.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from eval.metrics.features import Features, as_array, as_pair, as_rows, blocks
from eval.metrics.kernels import polynomial_kernel
from eval.metrics.statistics import Interval
from toolkit.errors import DataError
from toolkit.shares import require_confidence


@dataclass(frozen=True, slots=True, eq=False)
class Jackknifed:
    """A number that depends on a sample drawn anew by each training and on one that all of them share.

    Differences and means are taken member by member, so that members which two numbers share are left out of both.
    """

    value: float
    without_own: np.ndarray
    """The value without each row of the own sample, such as the pictures of one model; empty where there is none."""
    without_shared: np.ndarray
    """The value without each row of the shared sample, such as the reference."""

    def __sub__(self, other: "Jackknifed") -> "Jackknifed":
        return Jackknifed(
            self.value - other.value,
            self.without_own - other.without_own,
            self.without_shared - other.without_shared,
        )


def mean_of(parts: Sequence[Jackknifed]) -> Jackknifed:
    """The mean of numbers whose samples are the same, or paired row by row."""
    return Jackknifed(
        float(np.mean([part.value for part in parts])),
        np.mean([part.without_own for part in parts], axis=0),
        np.mean([part.without_shared for part in parts], axis=0),
    )


def interval(trainings: Sequence[Jackknifed], *, confidence: float = 0.95) -> Interval:
    """Confidence interval of the mean over trainings.

    It is made of two, that of the shared sample, and that of the trainings or, where there is one only, of its own
    sample. Each is Student's with the variance (n - 1) / n sum (v_i - mean v)^2 over the values without each member
    (Arvesen 1969, Annals of Mathematical Statistics 40, 2076, for statistics of several samples), and their half-widths
    are added in quadrature (Zou and Donner 2008, Statistics in Medicine 27, 1693): the normal interval of the summed
    variances where both samples are large. Welch's degrees of freedom would cover only 88 % with two trainings.

    Args:
        trainings: The number of each training. Of one, the interval says nothing of other seeds.
        confidence: Share of such intervals that hold the true value, between 0 and 1.
    """
    require_confidence(confidence)
    values = np.array([training.value for training in trainings])
    own = (values.sum() - values) / (len(values) - 1) if len(values) > 1 else trainings[0].without_own
    shared = np.mean([training.without_shared for training in trainings], axis=0)
    mean = float(values.mean())
    halves = [_half_width(without, confidence) for without in (own, shared) if len(without) > 1]
    reach = math.hypot(*halves) if halves else math.inf
    return Interval(mean, mean - reach, mean + reach)


def kernel_distance_interval(x: Features, y: Features, *, confidence: float = 0.95) -> Interval:
    """The unbiased KID of two sets with its interval, which holds the sampling of both; see `interval`.

    Args:
        x: Shape (n, d), n at least 3; or (trainings, n, d), of which it is the mean of each training's KID.
        y: The reference, shape (m, d), m at least 3.
        confidence: Share of such intervals that hold the true distance, between 0 and 1.
    """
    return interval([jackknifed_kernel_distance(one, y) for one in _trainings(x)], confidence=confidence)


def kernel_distance_difference(x1: Features, x2: Features, y: Features, *, confidence: float = 0.95) -> Interval:
    """KID of x1 minus KID of x2, from the same reference, with its interval; see `interval`.

    Rows of one place are a pair, such as pictures from the same seed, and are left out together.

    Args:
        x1: Shape (n, d), n at least 3; or (trainings, n, d), where trainings of one place are a pair too.
        x2: The same shape.
        y: The reference, shape (m, d), m at least 3.
        confidence: Share of such intervals that hold the true difference, between 0 and 1.

    Raises:
        DataError: The rows of x1 and x2 are no pairs.
    """
    first, second = as_array(x1), as_array(x2)
    if first.shape != second.shape:
        raise DataError(
            f"x1 has shape {first.shape} and x2 {second.shape}: their rows are no pairs",
            "Give as many pictures of both, from the same seeds in the same order.",
        )
    pairs = zip(_trainings(first), _trainings(second), strict=True)
    differences = [jackknifed_kernel_distance(one, y) - jackknifed_kernel_distance(other, y) for one, other in pairs]
    return interval(differences, confidence=confidence)


def jackknifed_kernel_distance(x: Features, y: Features) -> Jackknifed:
    """The unbiased KID of two sets (Binkowski et al. 2018, arXiv 1801.01401), and that without each of their rows.

    All values come from the sums of the kernel matrices' rows, in O(n^2 + n m + m^2).

    Args:
        x: The own sample, shape (n, d), n at least 3.
        y: The shared sample, shape (m, d), m at least 3.
    """
    x, y = as_pair(x, y, at_least=3)
    n, m = len(x), len(y)
    within_x, within_y = _sums_within(x), _sums_within(y)
    cross_x, cross_y = _sums_across(x, y)
    all_x, all_y, cross = float(within_x.sum()), float(within_y.sum()), float(cross_x.sum())
    mean_y = all_y / (m * (m - 1))
    mean_x = all_x / (n * (n - 1))
    # A row takes part in a sum over pairs i != j twice.
    without_x = (all_x - 2 * within_x) / ((n - 1) * (n - 2)) + mean_y - 2 * (cross - cross_x) / ((n - 1) * m)
    without_y = mean_x + (all_y - 2 * within_y) / ((m - 1) * (m - 2)) - 2 * (cross - cross_y) / (n * (m - 1))
    return Jackknifed(mean_x + mean_y - 2 * cross / (n * m), without_x, without_y)


def jackknifed_mean(values: Features) -> Jackknifed:
    """The mean of one value per row of a shared sample, such as the losses of held-out rows.

    Args:
        values: Shape (rows,), at least 2.

    Raises:
        DataError: They have another shape.
    """
    rows = as_rows(as_array(values)[..., None], "values", at_least=2)[:, 0]
    return Jackknifed(float(rows.mean()), np.empty(0), (rows.sum() - rows) / (len(rows) - 1))


def _trainings(x: Features) -> list[np.ndarray]:
    array = as_array(x)
    return list(array) if array.ndim == 3 else [array]


def _half_width(without: np.ndarray, confidence: float) -> float:
    n = len(without)
    variance = (n - 1) / n * float(((without - without.mean()) ** 2).sum())
    return float(stdtrit(n - 1, 0.5 + confidence / 2)) * math.sqrt(variance)


def _sums_within(x: np.ndarray) -> np.ndarray:
    """Of each row the sum of its kernel with all others, (n,)."""
    sums = np.empty(len(x))
    for rows in blocks(len(x), len(x)):
        matrix = polynomial_kernel(x[rows], x)
        sums[rows] = matrix.sum(axis=1) - np.diagonal(matrix, offset=rows.start)
    return sums


def _sums_across(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row of x its sum over y, (n,), and of each row of y its sum over x, (m,)."""
    of_x, of_y = np.empty(len(x)), np.zeros(len(y))
    for rows in blocks(len(x), len(y)):
        matrix = polynomial_kernel(x[rows], y)
        of_x[rows] = matrix.sum(axis=1)
        of_y += matrix.sum(axis=0)
    return of_x, of_y
