"""What two levels of a factor differ in, with intervals, and the sentences that say it."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from eval.metrics.intervals import Jackknifed, interval, jackknifed_mean, mean_of
from eval.metrics.statistics import Interval
from experiments.arms import Contrast
from experiments.judging import Judged
from toolkit.config.base import Section
from toolkit.config.keys import identity

_OF_THE_LOSS = (
    "noise.",
    "objective.",
    "data.",
    "task.kind",
    "task.vae",
    "task.scale_latents",
    "task.latent_channels",
    "task.kl_weight",
)
"""Keys that say what is predicted, of what, and what an error costs."""
_SAME_QUESTION = ("objective.self_conditioning",)
"""Such keys that leave the question the same."""

Judgements = Mapping[tuple[str, int], Judged]
"""By arm and seed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one contrast."""

    factor: str
    first: str
    second: str
    given: str
    """The levels of the other factors, where the contrast is at one combination of several."""
    seeds: tuple[int, ...]
    """The trainings that all arms of the contrast have finished."""
    kid: Interval
    """KID of the first less that of the second; below 0 the first is better."""
    sentence: str
    held_out: Interval | None
    """Held-out loss of the first less that of the second; None where they cannot be compared."""
    held_out_by_band: tuple[Interval, ...]
    """The same in each band of timesteps, from little noise to most; empty where they cannot be compared."""
    held_out_sentence: str


def compare(contrasts: Iterable[Contrast], judgements: Judgements) -> list[Verdict]:
    """The verdict on every contrast, all of whose arms have finished a training of some seed."""
    verdicts = []
    for contrast in contrasts:
        arms = {arm for pair in contrast.pairs for arm in pair}
        seeds = sorted({seed for _, seed in judgements if all((arm, seed) in judgements for arm in arms)})
        if seeds:
            verdicts.append(_verdict(contrast, tuple(seeds), judgements))
    return verdicts


def _verdict(contrast: Contrast, seeds: tuple[int, ...], judgements: Judgements) -> Verdict:
    def difference(of: Callable[[Judged, Judged], Jackknifed]) -> Interval:
        """Over trainings, the mean over the contrast's pairs."""
        return interval(
            [
                mean_of([of(judgements[first, seed], judgements[second, seed]) for first, second in contrast.pairs])
                for seed in seeds
            ]
        )

    kid = difference(lambda one, other: one.distance - other.distance)
    why_not = _incomparable(contrast, seeds, judgements)
    held_out, by_band = None, []
    if not why_not:
        held_out = difference(lambda one, other: jackknifed_mean(_losses(one).mean(1) - _losses(other).mean(1)))
        by_band = [
            difference(lambda one, other, b=band: jackknifed_mean(_losses(one)[:, b] - _losses(other)[:, b]))  # type: ignore[misc]
            for band in range(_losses(judgements[contrast.pairs[0][0], seeds[0]]).shape[1])
        ]
    return Verdict(
        contrast.factor,
        contrast.first,
        contrast.second,
        contrast.given,
        seeds,
        kid,
        kid_sentence(contrast, kid, len(seeds)),
        held_out,
        tuple(by_band),
        why_not if held_out is None else held_out_sentence(contrast, held_out, len(seeds)),
    )


def kid_sentence(contrast: Contrast, kid: Interval, seeds: int) -> str:
    """Which level draws better pictures, or that nobody can tell."""
    if not kid.excludes_zero:
        return _sentence(
            contrast, "{0} and {1} are not distinguishable in KID at this budget", kid, seeds, by_sign=False
        )
    return _sentence(contrast, "{0} is better than {1} in KID", kid, seeds)


def held_out_sentence(contrast: Contrast, loss: Interval, seeds: int) -> str:
    """Which level predicts better on rows that were not trained on, or that nobody can tell."""
    if not loss.excludes_zero:
        return _sentence(
            contrast, "{0} and {1} are not distinguishable in held-out loss at this budget", loss, seeds, by_sign=False
        )
    return _sentence(contrast, "{0} has a lower held-out loss than {1}", loss, seeds)


def _sentence(contrast: Contrast, words: str, found: Interval, seeds: int, *, by_sign: bool = True) -> str:
    """With `by_sign` the level with the lower number is named first."""
    first, second = contrast.first, contrast.second
    if by_sign and found.mean > 0:
        first, second, found = second, first, Interval(-found.mean, -found.high, -found.low)
    given = f"With {contrast.given}: " if contrast.given else ""
    trainings = f"{seeds} seeds" if seeds > 1 else "one training each: another seed may say otherwise"
    return f"{given}{words.format(first, second)}: {told(found)}, {trainings}"


def told(found: Interval, *, sign: str = "+") -> str:
    """A number with its interval, in as many digits as the interval gives a meaning to."""
    if not math.isfinite(found.low):
        return f"{found.mean:{sign}.3g} (no interval)"
    places = decimals((found.high - found.low) / 2)
    mean, low, high = (f"{value:{sign}.{places}f}" for value in (found.mean, found.low, found.high))
    return f"{mean} (95 % {low} to {high})"


def decimals(error: float) -> int:
    """Decimal places that show two digits of an error."""
    return min(9, max(0, 1 - math.floor(math.log10(error)))) if error > 0 else 4


def _incomparable(contrast: Contrast, seeds: tuple[int, ...], judgements: Judgements) -> str:
    """Why held-out losses cannot be compared; nothing where they can."""
    keys: set[str] = set()
    for pair in contrast.pairs:
        one, other = (judgements[arm, seeds[0]] for arm in pair)
        keys |= differing_loss_keys(one.job.config, other.job.config)
    if keys:
        named = ", ".join(sorted(keys))
        return (
            f"Held-out losses of {contrast.first} and {contrast.second} are of different scales: they differ in {named}"
        )
    every = [judgements[arm, seed].held_out for pair in contrast.pairs for arm in pair for seed in seeds]
    if any(losses is None or len(losses) < 2 for losses in every):
        return "Held-out losses were not measured"
    if len({losses.shape for losses in every if losses is not None}) > 1:
        return "Held-out losses were measured on other rows"
    return ""


def differing_loss_keys(one: Section, other: Section) -> set[str]:
    """The keys because of which the losses of two trainings are not of one scale."""
    first, second = identity(one), identity(other)
    return {
        key
        for key in {*first, *second}
        if key.startswith(_OF_THE_LOSS) and key not in _SAME_QUESTION and first.get(key) != second.get(key)
    }


def _losses(judged: Judged) -> np.ndarray:
    assert judged.held_out is not None
    return judged.held_out
