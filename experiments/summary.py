"""What is said of an arm: the numbers of all its trainings together."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from eval.distribution import Frechet
from eval.metrics.distances import Prdc
from eval.metrics.intervals import interval
from eval.metrics.statistics import Interval
from experiments.judging import Judged


@dataclass(frozen=True, slots=True)
class Summary:
    """An arm in numbers; those without an interval are means over its trainings."""

    arm: str
    seeds: tuple[int, ...]
    """Of the finished trainings."""
    kid: Interval
    """Over trainings and reference; of one training, over its pictures and the reference."""
    kid_by_seed: tuple[float, ...]
    frechet: Frechet | None
    neighbours: Prdc | None
    held_out: tuple[float, ...]
    """Loss by band of timesteps, from little noise to most; empty where it was not measured."""
    images: int
    """Seen in training, and in that of the autoencoder where it needs one; so are the seconds."""
    seconds: float
    """Spent in updates."""
    images_per_second: float
    """In training."""
    pictures_per_second: float
    """When drawing."""
    network_evaluations: float
    """Per picture."""
    parameters: int
    """Of all networks that drawing needs."""
    device: str
    """That has drawn."""


def summary(trainings: Sequence[Judged]) -> Summary:
    """The numbers of an arm, by its finished trainings, of which there is one at least."""
    first = trainings[0]
    losses = [training.held_out.mean(0) for training in trainings if training.held_out is not None]
    return Summary(
        arm=first.arm,
        seeds=tuple(training.seed for training in trainings),
        kid=interval([training.distance for training in trainings]),
        kid_by_seed=tuple(training.distance.value for training in trainings),
        frechet=_mean_frechet([training.frechet for training in trainings if training.frechet is not None]),
        neighbours=_mean_neighbours([each.neighbours for each in trainings if each.neighbours is not None]),
        held_out=tuple(np.mean(losses, axis=0).tolist()) if losses else (),
        images=round(fmean(training.images for training in trainings)),
        seconds=fmean(training.seconds for training in trainings),
        images_per_second=fmean(training.images_per_second for training in trainings),
        pictures_per_second=fmean(training.drawn.pictures_per_second for training in trainings),
        network_evaluations=fmean(training.drawn.network_evaluations for training in trainings),
        parameters=first.drawn.parameters,
        device=first.drawn.device,
    )


def _mean_frechet(found: Sequence[Frechet]) -> Frechet | None:
    # Floor and n are the reference's, and so the same for all.
    return Frechet(fmean(each.distance for each in found), found[0].floor, found[0].n) if found else None


def _mean_neighbours(found: Sequence[Prdc]) -> Prdc | None:
    if not found:
        return None
    return Prdc(
        precision=fmean(each.precision for each in found),
        recall=fmean(each.recall for each in found),
        density=fmean(each.density for each in found),
        coverage=fmean(each.coverage for each in found),
    )
