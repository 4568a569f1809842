"""Means of paired differences and shares with their intervals, and p-values by permutation.

A value is a difference, tuned minus base, of one image. Images of one prompt are not independent: they are a group,
which counts once, with its mean, and is resampled and permuted as a whole. Values come as (n,), with a label for each
in `groups` or every value on its own, or as (prompts, seeds), where each prompt is a group.
"""

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtrit

from eval.metrics.features import Features, as_array, as_pair, blocks, require_finite
from eval.metrics.kernels import Kernel
from toolkit.errors import ConfigError, DataError
from toolkit.shares import Share, proportion, require_confidence

_RESAMPLED_FROM = 10
"""Groups from which on the interval is a bootstrap's; before, it is Student's."""
_TIE = 1e-12
"""Statistics that differ by less than this share of their scale differ by rounding."""

Values = Features | Sequence[float]
Groups = Sequence[Hashable] | np.ndarray


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the ends of its confidence interval, which are infinite where one group gives none."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def prompt_means(values: Values, *, groups: Groups | None = None) -> np.ndarray:
    """The mean of each group, float64, in the order in which the groups first appear.

    Args:
        values: (n,) or (prompts, seeds).
        groups: For (n,), the group of each value.

    Raises:
        DataError: There are no values, some are NaN or infinite, or the groups do not fit.
    """
    array = as_array(values)
    if array.ndim not in (1, 2) or array.size == 0:
        raise DataError(f"values have shape {array.shape}", "Give at least one value: shape (n,) or (prompts, seeds).")
    require_finite(array, "values")
    if array.ndim == 2:
        if groups is not None:
            raise DataError("values of shape (prompts, seeds) have groups as well", "Leave the groups out.")
        return array.mean(axis=1)
    if groups is None:
        return array
    if len(groups) != len(array):
        raise DataError(f"there are {len(array)} values and {len(groups)} groups", "Give the group of each value.")
    numbers: dict[Hashable, int] = {}
    members = [numbers.setdefault(group, len(numbers)) for group in groups]
    return np.bincount(members, weights=array) / np.bincount(members)


def average_over_prompts(values: Values, *, groups: Groups | None = None) -> float:
    """The mean of the groups' means, so that each prompt counts the same whatever its number of images."""
    return float(prompt_means(values, groups=groups).mean())


def paired_bootstrap(
    values: Values,
    *,
    groups: Groups | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Confidence interval of the mean difference, groups counting the same.

    The expanded percentile bootstrap (Hesterberg 2015, arXiv 1411.5279): quantiles of the means of
    resampled groups, at levels widened so that they meet Student's interval where the values are normal. The plain
    percentile and BCa intervals are too narrow for few prompts: they cover 83 % at five and 90 % at ten instead of
    95 %. The studentized bootstrap covers more of a skewed distribution, but fails where many values are equal.
    Of fewer than ten groups there are too few different resamples, and Student's interval is given; of one group,
    which says nothing about others, the interval is infinite.

    Args:
        values: Differences, (n,) or (prompts, seeds).
        groups: For (n,), the group of each value.
        resamples: How often the groups are drawn anew, with replacement.
        confidence: Share of such intervals that hold the true mean, between 0 and 1.
        seed: Of the resampling.
    """
    _require_positive("resamples", resamples)
    require_confidence(confidence)
    means = prompt_means(values, groups=groups)
    n, mean = len(means), float(means.mean())
    if n == 1:
        return Interval(mean, -math.inf, math.inf)
    reach = float(stdtrit(n - 1, 0.5 + confidence / 2))
    if n < _RESAMPLED_FROM:
        error = reach * float(means.std(ddof=1)) / math.sqrt(n)
        return Interval(mean, mean - error, mean + error)
    random = np.random.default_rng(seed)
    resampled = [means[random.integers(n, size=(r.stop - r.start, n))].mean(axis=1) for r in blocks(resamples, n)]
    # Resampled means spread as if divided by n, and not n - 1: the level makes up for that too.
    level = float(ndtr(-math.sqrt(n / (n - 1)) * reach))
    low, high = np.quantile(np.concatenate(resampled), [level, 1 - level])
    return Interval(mean, float(low), float(high))


def jackknife(value: float, left_out: Values, *, confidence: float = 0.95) -> Interval:
    """Confidence interval of a number that is no mean, such as a distance, from its values without each group.

    Student's, with the standard error sqrt((n - 1) / n sum (v_i - mean v)^2) of the values v_i (Tukey 1958). Resampled
    groups would hold rows twice, whose distance of 0 from themselves makes unbiased distances biased.

    Args:
        value: Of all groups.
        left_out: Of all groups but one, (groups,); of one group, which says nothing about others, the interval is
            infinite.
        confidence: Share of such intervals that hold the true value, between 0 and 1.
    """
    require_confidence(confidence)
    values = prompt_means(left_out)
    n = len(values)
    if n == 1:
        return Interval(value, -math.inf, math.inf)
    error = math.sqrt((n - 1) / n * float(((values - values.mean()) ** 2).sum()))
    reach = float(stdtrit(n - 1, 0.5 + confidence / 2)) * error
    return Interval(value, value - reach, value + reach)


def permutation_test(
    values: Values, *, groups: Groups | None = None, permutations: int = 10_000, seed: int = 0
) -> float:
    """The two-sided p-value of a mean difference of 0, when the sign of each group's mean is a coin's.

    The share of all sign patterns whose mean is as far from 0 as the observed one: exact, by enumeration, where there
    are no more patterns than `permutations` (up to 14 groups), and otherwise of that many random ones and the observed
    one (Phipson and Smyth 2010). With g groups it cannot fall below 2^(1 - g): five prompts give 0.0625 at best.

    Args:
        values: Differences, (n,) or (prompts, seeds).
        groups: For (n,), the group of each value.
        permutations: Random sign patterns.
        seed: Of the patterns.
    """
    _require_positive("permutations", permutations)
    means = prompt_means(values, groups=groups)
    reached = abs(means.sum()) - _TIE * np.abs(means).sum()
    # Turning every sign round changes nothing, so that one sign may stay.
    exact = 2 ** (len(means) - 1) <= permutations
    patterns = _all_signs(len(means)) if exact else _random_signs(len(means), permutations, seed)
    count = sum(int((np.abs(signs @ means) >= reached).sum()) for signs in patterns)
    return count / 2 ** (len(means) - 1) if exact else (count + 1) / (permutations + 1)


def _all_signs(n: int) -> Iterator[np.ndarray]:
    for part in blocks(2 ** (n - 1), n):
        yield 1.0 - 2.0 * (np.arange(part.start, part.stop)[:, None] >> np.arange(n) & 1)


def _random_signs(n: int, permutations: int, seed: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(seed)
    for part in blocks(permutations, n):
        yield 1.0 - 2.0 * random.integers(2, size=(part.stop - part.start, n))


def two_sample_permutation(
    x: Features, y: Features, kernel: Kernel, *, permutations: int = 10_000, seed: int = 0
) -> float:
    """The p-value of the distance between two sets that a kernel gives; see `kernel_permutation_test`.

    Args:
        x: Shape (n, d), n at least 2.
        y: Shape (m, d), m at least 2.
        kernel: `polynomial_kernel` for KID, `cmmd_kernel` for CMMD, of `eval.metrics.kernels`.
        permutations: Random divisions.
        seed: Of the divisions.
    """
    x, y = as_pair(x, y, at_least=2)
    pooled = np.concatenate([x, y])
    return kernel_permutation_test(kernel(pooled, pooled), len(x), permutations=permutations, seed=seed)


def kernel_permutation_test(kernel: np.ndarray, n: int, *, permutations: int = 10_000, seed: int = 0) -> float:
    """The p-value of the distance of the first n images from the others, if all are of one distribution.

    The unbiased squared discrepancy is computed again for random divisions of the images into n and the others, from
    the one matrix: p = (1 + as great) / (1 + permutations) (Gretton et al. 2012, JMLR 13). Images are
    taken as exchangeable: neither pairs of one prompt and seed, nor several images of one prompt against another set,
    are that, and their p is not to be relied on.

    Args:
        kernel: k(z_i, z_j) of all images, the first set before the second: symmetric, shape (n + m, n + m).
        n: Images in the first set; at least 2, as m.
        permutations: Random divisions.
        seed: Of the divisions.
    """
    _require_positive("permutations", permutations)
    matrix = as_array(kernel)
    size = len(matrix)
    if matrix.shape != (size, size) or not 2 <= n <= size - 2:
        raise DataError(
            f"a kernel of shape {matrix.shape} does not divide into a set of {n} images and another",
            "Give the square matrix of both sets, each of 2 images or more.",
        )
    require_finite(matrix, "kernel")
    # Pairs of an image with itself are no part of the statistic.
    matrix = matrix - np.diag(np.diag(matrix))
    observed = _unbiased_discrepancy(matrix, (np.arange(size) < n)[None].astype(np.float64))[0]
    reached = observed - _TIE * np.abs(matrix).max()
    random = np.random.default_rng(seed)
    count = 0
    for part in blocks(permutations, size):
        order = random.permuted(np.tile(np.arange(size), (part.stop - part.start, 1)), axis=1)
        count += int((_unbiased_discrepancy(matrix, (order < n).astype(np.float64)) >= reached).sum())
    return (count + 1) / (permutations + 1)


def _unbiased_discrepancy(matrix: np.ndarray, is_first: np.ndarray) -> np.ndarray:
    """For each division, (divisions, images) of 0 and 1, the statistic from a kernel whose diagonal is 0."""
    n = is_first[0].sum()
    m = len(matrix) - n
    with_first = is_first @ matrix
    first = (with_first * is_first).sum(axis=1)
    cross = with_first.sum(axis=1) - first
    second = matrix.sum() - first - 2 * cross
    return first / (n * (n - 1)) + second / (m * (m - 1)) - 2 * cross / (n * m)


def win_rate(values: Values, *, groups: Groups | None = None, confidence: float = 0.95) -> Share:
    """The share of groups whose mean is above 0. A tie is no win: `win_rate` of the negated values has the losses."""
    means = prompt_means(values, groups=groups)
    return proportion(int((means > 0).sum()), len(means), confidence=confidence)


def _require_positive(name: str, value: int) -> None:
    if value < 1:
        raise ConfigError(f"{name} = {value}", "Take 1 or more; 10 000 is usual.")
