"""Mean and covariance of features, gathered from a stream, shared out over processes, and kept in files."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from eval.metrics.features import Features, as_rows, require_finite
from toolkit.errors import DataError
from toolkit.files import write_with

_ROUNDING = 1e-4
"""Asymmetry and negative eigenvalues up to this share of the greatest are rounding: files may hold single precision."""


class Moments:
    """Mean and covariance of rows of features in constant memory: d + d^2 numbers, whatever the number of rows.

    Chunks are joined by the pairwise update of Chan, Golub and LeVeque (1979), so the chunking changes nothing but the
    rounding, and the moments of several processes can be merged in any order.

    Args:
        width: Features in a row, d.

    Attributes:
        n: Rows so far; None when read from a file that does not say.
        mu: Mean, (d,), float64.
    """

    def __init__(self, width: int) -> None:
        self.n: int | None = 0
        self.mu = np.zeros(width)
        self._sigma = np.zeros((width, width))

    @property
    def sigma(self) -> np.ndarray:
        """Covariance, (d, d), divided by n - 1.

        Raises:
            DataError: There are fewer than two rows.
        """
        if self.n is not None and self.n < 2:
            raise DataError(f"a covariance needs at least 2 rows, and there are {self.n}", "Score more images.")
        return self._sigma

    def update(self, rows: Features) -> None:
        """Add rows, shape (any number, d)."""
        values = as_rows(rows, "rows", at_least=0)
        if not len(values):
            return
        chunk = Moments(values.shape[1])
        chunk.n, chunk.mu = len(values), values.mean(axis=0)
        centred = values - chunk.mu
        chunk._sigma = centred.T @ centred / max(1, chunk.n - 1)
        self.merge(chunk)

    def merge(self, other: "Moments") -> None:
        """Add the rows that another `Moments` has seen.

        Raises:
            DataError: The widths differ, or a number of rows is not known.
        """
        if len(self.mu) != len(other.mu):
            raise DataError(
                f"rows of {len(other.mu)} features cannot be added to moments of {len(self.mu)}",
                "Take all features from the same network and the same layer.",
            )
        if self.n is None or other.n is None:
            raise DataError(
                "moments of an unknown number of rows cannot be merged with others",
                "The file has no key `n`, as those of other programs: compute its moments anew, with this program.",
            )
        n = self.n + other.n
        if n == 0:
            return
        step = other.mu - self.mu
        scatter = self._sigma * max(0, self.n - 1) + other._sigma * max(0, other.n - 1)
        scatter += np.outer(step, step) * (self.n * other.n / n)
        self._sigma = scatter / max(1, n - 1)
        self.mu = self.mu + step * (other.n / n)
        self.n = n

    def save(self, path: Path) -> None:
        """Write an npz with `mu` and `sigma`, which pytorch-fid, clean-fid and edm2 read, and with `n` where known."""
        arrays = {"mu": self.mu, "sigma": self.sigma} | ({} if self.n is None else {"n": np.array(self.n)})

        def write(scratch: Path) -> None:
            with scratch.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)

        write_with(path, write)

    @classmethod
    def load(cls, path: Path) -> "Moments":
        """Read an npz with `mu` (d,) and `sigma` (d, d), by whichever program it was written.

        Raises:
            DataError: There is no such file, it is no npz of numbers, or it holds no mean and covariance.
        """
        try:
            with path.open("rb") as file:
                archive = np.load(file, allow_pickle=False)
                arrays = dict(archive) if isinstance(archive, np.lib.npyio.NpzFile) else {}
        except FileNotFoundError:
            raise DataError(
                f"{path}: no such file", "pytorch-fid and clean-fid write such files, and `save` does."
            ) from None
        except (EOFError, OSError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{path} cannot be read as an npz of numbers: {error}", "Write the file anew.") from error
        missing = {"mu", "sigma"} - arrays.keys()
        if missing:
            raise DataError(
                f"{path} has no {' and no '.join(sorted(missing))}, but {', '.join(sorted(arrays)) or 'nothing'}",
                "An npz of Fréchet statistics has the keys mu and sigma.",
            )
        mu, sigma = as_moments(arrays["mu"], arrays["sigma"], str(path))
        moments = cls(len(mu))
        moments.n = int(arrays["n"]) if "n" in arrays else None
        moments.mu, moments._sigma = mu, sigma
        return moments


def as_moments(mu: np.ndarray, sigma: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A mean (d,) and a covariance (d, d) in float64.

    Raises:
        DataError: They do not fit each other, are not finite, or the covariance is not symmetric.
    """
    mu, sigma = np.asarray(mu, dtype=np.float64), np.asarray(sigma, dtype=np.float64)
    if mu.ndim != 1 or len(mu) == 0 or sigma.shape != (len(mu), len(mu)):
        raise DataError(
            f"{name}: a mean of shape {mu.shape} does not go with a covariance of shape {sigma.shape}",
            "Shapes (d,) and (d, d) are needed.",
        )
    require_finite(mu, f"{name}: mean")
    require_finite(sigma, f"{name}: covariance")
    if np.abs(sigma - sigma.T).max() > _ROUNDING * np.abs(sigma).max():
        raise DataError(f"{name}: the covariance is not symmetric", "Compute it anew.")
    return mu, sigma


def square_root(sigma: np.ndarray, name: str) -> np.ndarray:
    """A matrix A (rank, d) with A^T A = sigma.

    Eigenvalues below the rounding error of the decomposition are left out: their square roots would be noise of 1e-8.

    Raises:
        DataError: The matrix has an eigenvalue that is negative by more than rounding.
    """
    eigenvalues, vectors = np.linalg.eigh(sigma)
    if eigenvalues[0] < -_ROUNDING * eigenvalues[-1]:
        raise DataError(
            f"{name}: the covariance has the negative eigenvalue {eigenvalues[0]:.3g}", "No set of rows has it."
        )
    kept = eigenvalues > len(sigma) * np.finfo(np.float64).eps * eigenvalues[-1]
    return np.sqrt(eigenvalues[kept, None]) * vectors.T[kept]
