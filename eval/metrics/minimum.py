"""How many images a metric needs before its value is worth showing."""

from dataclasses import dataclass

from toolkit.errors import ConfigError, nearest


@dataclass(frozen=True, slots=True)
class Minimum:
    """The images from which on a metric is reported: `rows`, and `per_feature` for each feature or class."""

    rows: int
    per_feature: int
    why: str

    def of(self, d: int) -> int:
        return max(self.rows, self.per_feature * d)


_FEW = "fewer images say nothing of a distribution"
_SATURATED = "with fewer, nearly every image is one of its own, and the value is the number of images"

MINIMUM = {
    # The authors of FID ask for more images than features, 2048, for a covariance of full rank, and advise 10 000. From
    # d to d images of one isotropic normal distribution it is still over a third of the covariance's trace, and
    # falls as 1 / n: it never stands without that between halves of the reference.
    "frechet_distance": Minimum(20, 1, "with fewer than features, the covariance has no full rank"),
    # The logarithm is short by up to (classes - 1) / (2 n), by the bias of an entropy (Miller 1955): a tenth at
    # n = 5 classes, which is 5040 for Inception's 1008; each of the ten splits that are usual has 5000.
    "inception_score": Minimum(20, 5, "with fewer, the class frequencies are not known"),
    # Without bias at any n, and 20 against 20 images can be shuffled in 10^11 ways for a p-value.
    "kernel_distance": Minimum(20, 0, _FEW),
    "cmmd": Minimum(20, 0, _FEW),
    # Shares with a standard error of up to 0.05; and the 5 neighbours must be near: here the nearest twentieth.
    "prdc": Minimum(100, 0, "with fewer, five neighbours are not near, and each share is uncertain by over 0.05"),
    "vendi_score": Minimum(20, 0, _SATURATED),
    # Without bias at any n; it is meant for the few images of one prompt, and averaged over prompts.
    "mean_pairwise_distance": Minimum(2, 0, "diversity is between images"),
}


def reportable(metric: str, n: int, d: int) -> str | None:
    """Why the value of a metric should not be shown, or None where it should.

    Args:
        metric: Name of the function of `eval.metrics.distances`.
        n: Images, of the smaller set where there are two.
        d: Features in a row, or classes.
    """
    if metric not in MINIMUM:
        raise ConfigError(f"`{metric}` is not a metric", nearest(metric, MINIMUM))
    minimum = MINIMUM[metric]
    needed = minimum.of(d)
    return None if n >= needed else f"not reportable: n = {n}, and {needed} are needed ({minimum.why})"
