"""Kernels on rows of features, and the squared maximum mean discrepancy that they give.

A kernel here is a function of arrays (n, d) and (m, d) that returns the matrix (n, m) of k(x_i, y_j).
"""

from collections.abc import Callable

import numpy as np

from eval.metrics.features import blocks, unit_rows

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def polynomial_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The kernel of KID, (x . y / d + 1)^3 (Binkowski et al. 2018, arXiv 1801.01401)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def cmmd_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The kernel of CMMD, exp(-|x - y|^2 / (2 sigma^2)) of rows scaled to length 1, sigma 10.

    Between unit rows |x - y|^2 = 2 - 2 x . y. (Jayasumana et al. 2024, arXiv 2401.09603.)
    """
    return np.exp((unit_rows(x, "x") @ unit_rows(y, "y").T - 1) / 10**2)


def squared_mmd(x: np.ndarray, y: np.ndarray, kernel: Kernel, *, biased: bool) -> float:
    """Squared maximum mean discrepancy of two sets of rows (Gretton et al. 2012, JMLR 13, equations 3 and 5).

    mean k(x_i, x_j) + mean k(y_i, y_j) - 2 mean k(x_i, y_j). The first two means are over pairs i != j, which makes
    the estimate unbiased and lets it fall below 0, or with `biased` over all pairs, which makes it at least 0.
    """
    cross = sum(float(kernel(x[rows], y).sum()) for rows in blocks(len(x), len(y)))
    return _mean_within(x, kernel, biased) + _mean_within(y, kernel, biased) - 2 * cross / (len(x) * len(y))


def without_each_group(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> np.ndarray:
    """The unbiased squared discrepancy of all rows of x but one group's from y, for each group left out, (groups,).

    Args:
        x: Shape (groups, members, d), at least two rows outside each group.
        y: Shape (m, d), m at least 2.
        kernel: As `squared_mmd` takes it.
    """
    groups, members, width = x.shape
    rows = x.reshape(-1, width)
    within, own, across = np.zeros(groups), np.zeros(groups), np.zeros(groups)
    for number, group in enumerate(x):
        itself = kernel(group, group)
        # Pairs of a row with itself are no part of the statistic.
        within[number] = kernel(group, rows).sum() - np.trace(itself)
        own[number] = itself.sum() - np.trace(itself)
        across[number] = kernel(group, y).sum()
    left = (groups - 1) * members
    inside = (within.sum() - 2 * within + own) / (left * (left - 1))
    found: np.ndarray = inside + _mean_within(y, kernel, False) - 2 * (across.sum() - across) / (left * len(y))
    return found


def _mean_within(x: np.ndarray, kernel: Kernel, biased: bool) -> float:
    n = len(x)
    total = 0.0
    for rows in blocks(n, n):
        matrix = kernel(x[rows], x)
        total += float(matrix.sum())
        if not biased:
            total -= float(np.trace(matrix, offset=rows.start))
    return total / (n * n if biased else n * (n - 1))
