"""Quantities that are functions of the update's number, so that none of them needs saving.

`update` counts from 0: it is the number of updates done before this one. The learning-rate schedules are those of
`diffusers.optimization.get_scheduler`, under its names and with its values, and `step`, which is torch's `StepLR`.
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from toolkit.errors import ConfigError

POLYNOMIAL_END = 1e-7
"""Learning rate at which `polynomial` ends, as in diffusers."""


@dataclass(frozen=True, slots=True)
class LearningRate:
    """The learning rate as a function of the update.

    Args:
        scheduler: Name of the schedule.
        peak: Learning rate at factor 1.
        warmup: Updates over which it rises from 0.
        total: Updates of the whole run.
        num_cycles: Restarts of `cosine_with_restarts`.
        power: Exponent of `polynomial`.
        step_rules: Rule of `piecewise_constant`, such as `1:1000,0.1:2000,0.01`.
        step_period: Updates after which `step` multiplies the learning rate by `step_factor`, again and again, counted
            from the end of the warm-up.
        step_factor: Factor of `step`, above 0.

    Raises:
        ConfigError: `step_rules` cannot be read, or `step` has no period.
    """

    scheduler: str
    peak: float
    warmup: int = 0
    total: int = 1
    num_cycles: float = 1.0
    power: float = 1.0
    step_rules: str | None = None
    step_period: int | None = None
    step_factor: float = 0.1

    def __post_init__(self) -> None:
        if self.scheduler == "piecewise_constant":
            _read_rules(self.step_rules or "")
        if self.scheduler == "step" and (self.step_period is None or self.step_period < 1):
            raise ConfigError(
                f"optimizer.lr_step_period = {self.step_period}, and lr_scheduler step decays after each period",
                "Give a number of updates, 1 or more.",
            )

    @property
    def depends_on_length(self) -> bool:
        """Whether a run of another length has other learning rates from its first updates on."""
        return self.scheduler in ("linear", "cosine", "cosine_with_restarts", "polynomial")

    def __call__(self, update: int) -> float:
        if self.scheduler == "constant":
            return self.peak
        if self.scheduler == "piecewise_constant":
            limits, factors = _read_rules(self.step_rules or "")
            return self.peak * factors[bisect_right(limits, update)]
        if update < self.warmup:
            return self.peak * update / self.warmup
        if self.scheduler == "constant_with_warmup":
            return self.peak
        if self.scheduler == "step":
            assert self.step_period is not None
            return self.peak * self.step_factor ** ((update - self.warmup) // self.step_period)
        progress = (update - self.warmup) / max(1, self.total - self.warmup)
        return _DECAYS[self.scheduler](self, min(progress, 1.0))


def _linear(rate: LearningRate, progress: float) -> float:
    return rate.peak * (1.0 - progress)


def _cosine(rate: LearningRate, progress: float) -> float:
    return rate.peak * 0.5 * (1.0 + math.cos(math.pi * progress))


def _cosine_with_restarts(rate: LearningRate, progress: float) -> float:
    if progress >= 1.0:
        return 0.0
    return rate.peak * 0.5 * (1.0 + math.cos(math.pi * ((rate.num_cycles * progress) % 1.0)))


def _polynomial(rate: LearningRate, progress: float) -> float:
    return (rate.peak - POLYNOMIAL_END) * (1.0 - progress) ** rate.power + POLYNOMIAL_END


_DECAYS: dict[str, Callable[[LearningRate, float], float]] = {
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_restarts": _cosine_with_restarts,
    "polynomial": _polynomial,
}


def _read_rules(rules: str) -> tuple[list[int], list[float]]:
    try:
        *bounded, last = rules.split(",")
        pairs = sorted((int(limit), float(factor)) for factor, limit in (rule.split(":") for rule in bounded))
        return [limit for limit, _ in pairs], [*(factor for _, factor in pairs), float(last)]
    except ValueError:
        raise ConfigError(
            f"optimizer.lr_step_rules = {rules!r} cannot be read",
            "Write FACTOR:UPDATE pairs and a last factor, as in 1:1000,0.1:2000,0.01.",
        ) from None


@dataclass(frozen=True, slots=True)
class EmaDecay:
    """Decay of the average at an update, which keeps that share of the old average.

    Args:
        limit: Largest decay. Below it runs the ramp of diffusers' `EMAModel`: 0 at update 0 and then
            (1 + update) / (10 + update), which averages over about the last ninth of the run so far.
        half_life: Instead, images after which a weight counts half (Karras et al. 2024, arXiv 2312.02696, appendix).
        batch_size: Images per update over all processes, for `half_life`.
    """

    limit: float
    half_life: float | None = None
    batch_size: int = 1

    def __call__(self, update: int) -> float:
        if self.half_life is not None:
            return 0.5 ** (self.batch_size / self.half_life)
        return min(self.limit, (1 + update) / (10 + update)) if update else 0.0
