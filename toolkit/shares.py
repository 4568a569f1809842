"""Shares with their intervals."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from toolkit.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class Share:
    """How many of n, and the ends of the confidence interval of their share, in [0, 1]."""

    count: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.count / self.n

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f}, {self.count} of {self.n})"


def proportion(count: int, n: int, *, confidence: float = 0.95) -> Share:
    """A share with Wilson's interval (Wilson 1927), which stays inside [0, 1] and is right for few and for none.

    Raises:
        DataError: n is 0, or the count is not between 0 and n.
    """
    if n < 1 or not 0 <= count <= n:
        raise DataError(f"{count} of {n} is no share", "Count the cases among one or more.")
    return Share(count, n, *wilson(count / n, n, confidence=confidence))


def wilson(share: float, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """The ends of Wilson's interval of a share in [0, 1] of n independent cases.

    Several pictures of one prompt are no independent cases: n then is the number of prompts, and the share that of the
    pictures.
    """
    require_confidence(confidence)
    z = float(ndtri(0.5 + confidence / 2))
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - reach if share > 0 else 0.0, middle + reach if share < 1 else 1.0


def paired_change(changes: np.ndarray, *, confidence: float = 0.95) -> tuple[float, float, float]:
    """The mean of paired changes of a share, and the ends of its interval, in [-1, 1].

    The adjusted Wald interval (Bonett and Price 2012, doi 10.3102/1076998611411915). It adds one case that gained all
    and one that lost all, so that it never closes: that all of 20 gained does not say that all will.

    Args:
        changes: Of independent cases, each in [-1, 1], (n,).
        confidence: Share of such intervals that hold the true change.
    """
    require_confidence(confidence)
    added = np.append(changes, [1.0, -1.0])
    reach = float(ndtri(0.5 + confidence / 2)) * float(added.std()) / math.sqrt(len(added))
    centre = float(added.mean())
    return float(changes.mean()), max(centre - reach, -1.0), min(centre + reach, 1.0)


def require_confidence(confidence: float) -> None:
    """Refuse what is no confidence of an interval.

    Raises:
        ConfigError: It is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence = {confidence}", "It is a share between 0 and 1, such as 0.95.")
