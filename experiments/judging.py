"""What is measured of a finished training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.distribution import Distribution, Frechet
from eval.embedders.base import default_device
from eval.metrics.distances import Prdc, prdc
from eval.metrics.intervals import Jackknifed, jackknifed_kernel_distance
from eval.metrics.minimum import MINIMUM
from eval.pictures import Files
from experiments.drawing import Drawn, Wish, draw
from experiments.jobs import Job
from toolkit import metrics

NEIGHBOURS = 5
"""Of precision, recall, density and coverage."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A finished training, and what was found."""

    arm: str
    seed: int
    job: Job
    drawn: Drawn
    distance: Jackknifed
    """KID from the held-out pictures."""
    frechet: Frechet | None
    """None where the held-out pictures are too few."""
    neighbours: Prdc | None
    """Precision, recall, density and coverage; None where the pictures are too few."""
    images: int
    """Seen in training, and in that of the autoencoder where it needs one; so are the seconds."""
    seconds: float
    """Spent in updates."""
    images_per_second: float
    """In its own training."""
    held_out: np.ndarray | None
    """Losses of the finished model, (rows, bands of timesteps); None where they were not measured."""


def judge(job: Job, arm: str, seed: int, wish: Wish, distribution: Distribution) -> Judged:
    """Draw the pictures of a finished training, or find them, and look at them.

    Args:
        job: The training; its pictures lie beside its folder.
        arm: Which it is of.
        seed: Of the training.
        wish: What is drawn.
        distribution: Who looks, and at what else.
    """
    folder = pictures_folder(job)
    drawn = draw(job.folder, folder, wish, default_device(), what=job.name)
    vectors = distribution.vectors(Files(drawn.files))
    reference = distribution.reference
    enough = min(len(vectors), len(reference)) >= MINIMUM["prdc"].rows
    own = metrics.read(job.folder)
    before = [] if job.needs is None else metrics.read(job.needs)
    own_seconds = metrics.training_seconds(own)
    return Judged(
        arm,
        seed,
        job,
        drawn,
        jackknifed_kernel_distance(vectors, reference),
        distribution.frechet(vectors),
        prdc(reference, vectors, k=NEIGHBOURS) if enough else None,
        images=images_seen(own) + images_seen(before),
        seconds=own_seconds + metrics.training_seconds(before),
        images_per_second=images_seen(own) / own_seconds if own_seconds else 0.0,
        held_out=_held_out(job),
    )


def images_seen(record: Sequence[Mapping[str, Any]]) -> int:
    """Images that a training has seen, by its record."""
    return max((row["images"] for row in record if "images" in row), default=0)


def pictures_folder(job: Job) -> Path:
    """Where the pictures of a training are kept."""
    return job.folder.with_name(f"{job.folder.name}-pictures")


def _held_out(job: Job) -> np.ndarray | None:
    path = job.folder / "held_out" / f"step-{job.steps:06d}.npy"
    if not path.exists():
        return None
    losses = np.load(path, allow_pickle=False)
    return losses.reshape(len(losses), -1)
