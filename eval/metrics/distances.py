"""Distances between two sets of images and the diversity of one, as functions of their features.

Features are numpy arrays or torch tensors of shape (n, d), a row for each image, in any precision. All arithmetic is in
float64. A set with too few rows, with NaN or infinity, or of another width than the other raises a DataError.
Whether a value means something at this number of images is said by `eval.metrics.minimum`.
"""

import math
from dataclasses import dataclass
from typing import overload

import numpy as np
from scipy.spatial.distance import cdist

from eval.metrics.features import Features, as_pair, as_rows, blocks, unit_rows
from eval.metrics.kernels import cmmd_kernel, polynomial_kernel, squared_mmd
from eval.metrics.moments import as_moments, square_root
from toolkit.errors import ConfigError, DataError

CMMD_SCALE = 1000
"""CMMD is published as a thousand times the squared discrepancy."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Mean and population standard deviation over parts of the data."""

    mean: float
    std: float

    def __float__(self) -> float:
        return self.mean


@dataclass(frozen=True, slots=True)
class Prdc:
    """See `prdc`."""

    precision: float
    recall: float
    density: float
    coverage: float


def frechet_distance(x: Features, y: Features) -> float:
    """Fréchet distance of the normal distributions fitted to two sets; FID on Inception features.

    |mu_x - mu_y|^2 + Tr S_x + Tr S_y - 2 Tr (S_x S_y)^(1/2), covariances divided by n - 1; at least 0. With square
    roots S_x = A^T A and S_y = B^T B the last trace is the sum of the singular values of A B^T. The centred rows are
    such a root, as is the triangle of their QR decomposition where they are more than d, so no covariance is formed.
    It falls with n even between sets of one distribution: compare at equal n. (Heusel et al. 2017, arXiv 1706.08500.)

    Args:
        x: Shape (n, d), n at least 2.
        y: Shape (m, d), m at least 2.
    """
    x, y = as_pair(x, y, at_least=2)
    return _frechet(x.mean(axis=0), _root_of_covariance(x), y.mean(axis=0), _root_of_covariance(y))


def frechet_from_moments(mu1: np.ndarray, s1: np.ndarray, mu2: np.ndarray, s2: np.ndarray) -> float:
    """The same from means (d,) and covariances (d, d), such as `Moments` gathers; see `frechet_distance`.

    Raises:
        DataError: Shapes do not fit, or a matrix is no covariance.
    """
    mu1, s1 = as_moments(mu1, s1, "first moments")
    mu2, s2 = as_moments(mu2, s2, "second moments")
    if len(mu1) != len(mu2):
        raise DataError(
            f"the first moments are of {len(mu1)} features and the second of {len(mu2)}",
            "Take both from the same network and the same layer.",
        )
    return _frechet(mu1, square_root(s1, "first moments"), mu2, square_root(s2, "second moments"))


def _root_of_covariance(x: np.ndarray) -> np.ndarray:
    n, d = x.shape
    centred = (x - x.mean(axis=0)) / math.sqrt(n - 1)
    return centred if n <= d else np.asarray(np.linalg.qr(centred, mode="r"))


def _frechet(mu1: np.ndarray, root1: np.ndarray, mu2: np.ndarray, root2: np.ndarray) -> float:
    shift = float(((mu1 - mu2) ** 2).sum())
    traces = float((root1**2).sum() + (root2**2).sum())
    overlap = float(np.linalg.svd(root1 @ root2.T, compute_uv=False).sum())
    return max(0.0, shift + traces - 2 * overlap)


@overload
def kernel_distance(
    x: Features,
    y: Features,
    *,
    subsets: None = None,
    subset_size: int | None = None,
    seed: int = 0,
    biased: bool = False,
) -> float: ...
@overload
def kernel_distance(
    x: Features, y: Features, *, subsets: int, subset_size: int | None = None, seed: int = 0, biased: bool = False
) -> Estimate: ...
def kernel_distance(
    x: Features,
    y: Features,
    *,
    subsets: int | None = None,
    subset_size: int | None = None,
    seed: int = 0,
    biased: bool = False,
) -> float | Estimate:
    """Squared maximum mean discrepancy with the kernel (x . y / d + 1)^3; KID on Inception features, not scaled.

    By default from all pairs, without bias at any n, so that it may fall below 0. With `subsets`, as it is published,
    the mean and standard deviation over random subsets of both sets, drawn without replacement.
    (Binkowski et al. 2018, arXiv 1801.01401.)

    Args:
        x: Shape (n, d), n at least 2.
        y: Shape (m, d), m at least 2.
        subsets: How many subsets; None for all pairs.
        subset_size: Rows of a subset; 1000 by default, or as many as there are.
        seed: Of the subsets.
        biased: Count the pairs of a row with itself.

    Raises:
        ConfigError: The number or the size of the subsets is not possible.
    """
    x, y = as_pair(x, y, at_least=2)
    if subsets is None:
        if subset_size is not None:
            raise ConfigError("subset_size is set, but subsets is not", "Set both, or neither for all pairs.")
        return squared_mmd(x, y, polynomial_kernel, biased=biased)
    smaller = min(len(x), len(y))
    size = min(1000, smaller) if subset_size is None else subset_size
    if subsets < 1 or not 2 <= size <= smaller:
        raise ConfigError(
            f"{subsets} subsets of {size} rows cannot be drawn from {smaller} rows",
            f"Draw at least 1 subset, of 2 to {smaller} rows.",
        )
    random = np.random.default_rng(seed)
    values = [
        squared_mmd(_drawn(x, size, random), _drawn(y, size, random), polynomial_kernel, biased=biased)
        for _ in range(subsets)
    ]
    return Estimate(float(np.mean(values)), float(np.std(values)))


def _drawn(rows: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    return rows[random.choice(len(rows), size, replace=False)]


def cmmd(x: Features, y: Features, *, biased: bool = False) -> float:
    """Squared maximum mean discrepancy of rows scaled to length 1, Gaussian kernel of sigma 10, times 1000.

    CMMD on CLIP embeddings. Without bias by default, so that it may fall below 0; the published code is `biased`, which
    adds about 0.1 at 50 images. (Jayasumana et al. 2024, arXiv 2401.09603.)

    Args:
        x: Shape (n, d), n at least 2, no row of zeros.
        y: Shape (m, d), m at least 2, no row of zeros.
        biased: Count the pairs of a row with itself.
    """
    x, y = as_pair(x, y, at_least=2)
    return CMMD_SCALE * squared_mmd(unit_rows(x, "x"), unit_rows(y, "y"), cmmd_kernel, biased=biased)


def inception_score(logits: Features, *, splits: int = 1) -> Estimate:
    """exp(mean over images of KL(p(class | image) || p(class))), from 1 to the number of classes.

    Mean and standard deviation over `splits` consecutive parts, whose rows are taken in the order given: shuffle rows
    that are sorted. (Salimans et al. 2016, arXiv 1606.03498, section 4.)

    Args:
        logits: Before the softmax, (n, classes), n at least `splits`.
        splits: Parts, each scored against its own mean distribution.
    """
    if splits < 1:
        raise ConfigError(f"splits = {splits}", "Cut the images into 1 part or more.")
    rows = as_rows(logits, "logits", at_least=splits)
    n = len(rows)
    log_p = rows - np.logaddexp.reduce(rows, axis=1, keepdims=True)
    scores = [_exp_mean_divergence(log_p[i * n // splits : (i + 1) * n // splits]) for i in range(splits)]
    return Estimate(float(np.mean(scores)), float(np.std(scores)))


def _exp_mean_divergence(log_p: np.ndarray) -> float:
    # The mean is taken of logarithms too: of a class that no image has, 0 times the logarithm of 0 would be NaN.
    log_mean = np.logaddexp.reduce(log_p, axis=0) - math.log(len(log_p))
    return math.exp(float((np.exp(log_p) * (log_p - log_mean)).sum(axis=1).mean()))


def prdc(real: Features, fake: Features, *, k: int = 5) -> Prdc:
    """Precision, recall, density and coverage, by balls that reach from each row to its k-th neighbour in its set.

    - precision: share of fake rows inside the ball of any real row;
    - recall: share of real rows inside the ball of any fake row (Kynkäänniemi et al. 2019, arXiv 1904.06991);
    - density: balls of real rows that a fake row is inside, on average, over k; may exceed 1;
    - coverage: share of real rows with a fake row inside their ball (Naeem et al. 2020, arXiv 2002.09797).

    Inside is strictly inside, as in Naeem et al. Distances are Euclidean, by differences: exactly 0 between copies.

    Args:
        real: Shape (n, d), n greater than k.
        fake: Shape (m, d), m greater than k.
        k: Neighbours.
    """
    if k < 1:
        raise ConfigError(f"k = {k}", "A ball reaches to the first neighbour or further.")
    real, fake = as_pair(real, fake, ("real", "fake"), at_least=k + 1)
    real_radii, fake_radii = _radii(real, k), _radii(fake, k)
    balls = np.zeros(len(fake), dtype=np.int64)
    recalled = covered = 0
    for rows in blocks(len(real), len(fake)):
        distances = cdist(real[rows], fake)
        balls += (distances < real_radii[rows, None]).sum(axis=0)
        recalled += int((distances < fake_radii).any(axis=1).sum())
        covered += int((distances.min(axis=1) < real_radii[rows]).sum())
    return Prdc(float((balls > 0).mean()), recalled / len(real), float(balls.mean()) / k, covered / len(real))


def _radii(rows: np.ndarray, k: int) -> np.ndarray:
    radii = np.empty(len(rows))
    for part in blocks(len(rows), len(rows)):
        radii[part] = np.partition(cdist(rows[part], rows), k, axis=1)[:, k]
    return radii


def vendi_score(x: Features, *, q: float = 1) -> float:
    """Effective number of different images, from 1 to n (and at most d): exp of the Rényi entropy of order q.

    exp(-sum l log l) for q = 1, (sum l^q)^(1 / (1 - q)) for other orders, 1 / max l for infinity, over the eigenvalues
    l > 0 of K / n, where K is the matrix of cosines. It grows with n: compare at equal n. (Friedman and Dieng 2023,
    arXiv 2210.02410; orders: Pasarkar and Dieng 2024, arXiv 2310.12952.)

    Args:
        x: Shape (n, d), no row of zeros.
        q: Order, 0 to infinity. Small orders count rare images more.
    """
    if not q >= 0:
        raise ConfigError(f"q = {q}", "Orders are from 0 to infinity.")
    rows = as_rows(x, "x")
    singular = np.linalg.svd(unit_rows(rows, "x"), compute_uv=False)
    weights = singular[singular > max(rows.shape) * np.finfo(np.float64).eps * singular[0]] ** 2 / len(rows)
    if q == 1:
        return math.exp(-float((weights * np.log(weights)).sum()))
    greatest = float(weights[0])
    if q == math.inf:
        return 1 / greatest
    # Relative to the greatest, because a high power of every weight may be too small for a float.
    return math.exp((q * math.log(greatest) + math.log(((weights / greatest) ** q).sum())) / (1 - q))


def mean_pairwise_distance(x: Features) -> float:
    """Diversity: the mean of 1 - cosine over pairs of distinct rows, 0 to n / (n - 1), without bias at any n.

    It is the trace of the covariance of the rows scaled to length 1.

    Args:
        x: Shape (n, d), n at least 2, no row of zeros.
    """
    rows = unit_rows(as_rows(x, "x", at_least=2), "x")
    return float(((rows - rows.mean(axis=0)) ** 2).sum()) / (len(rows) - 1)
