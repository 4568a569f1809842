"""Real and generated pictures as teachers of two classifiers: on features of a network, and from scratch."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from eval.classifier import (
    Classification,
    Difference,
    LabelledSet,
    TrainingSets,
    as_pixels,
    compare_training_sets,
    linear_probe,
    small_network,
)
from eval.embedders import Embedder
from eval.embedders.base import default_device
from eval.labels import Labelled
from eval.pictures import look
from eval.result import Figure

TAUGHT = ("real", "synthetic", "both")
"""The training sets, as `TrainingSets` names them."""


@dataclass(frozen=True, slots=True)
class Viewed:
    """Pictures as both classifiers see them."""

    features: LabelledSet
    """(n, d), float32."""
    pixels: LabelledSet
    """(n, 3, size, size), uint8."""


@dataclass(frozen=True, slots=True)
class Taught:
    """How well both classifiers do; `dataclasses.asdict` of it is JSON."""

    linear_probe: TrainingSets
    small_network: TrainingSets


def view(images: Labelled, embedder: Embedder, *, size: int, batch_size: int = 32) -> Viewed:
    """Look at pictures, shared out over all processes.

    Args:
        images: What is looked at.
        embedder: Whose features the linear probe gets.
        size: Side of the pictures that the small network gets, in pixels.
        batch_size: Pictures looked at at once.
    """
    rows = look(
        images.pictures,
        batch_size,
        lambda batch: list(zip(embedder.images(batch), as_pixels(batch, size), strict=True)),
        f"looking at {images.name}",
    )
    features, pixels = (np.stack(column) for column in zip(*rows, strict=True))
    return Viewed(LabelledSet(images.name, features, images.labels), LabelledSet(images.name, pixels, images.labels))


def teach(real: Viewed, synthetic: Viewed, test: Viewed, *, updates: int = 500, seed: int = 0) -> Taught:
    """Train both classifiers on real, on generated and on both, and test them on held-out real pictures.

    Args:
        real: To train on.
        synthetic: Generated pictures of the same classes.
        test: Held-out real pictures of the same classes.
        updates: Of the small network.
        seed: Of the choice of pictures, of folds, weights and batches.
    """
    scratch = partial(small_network, updates=updates, seed=seed, device=str(default_device()))
    return Taught(
        linear_probe=compare_training_sets(
            real.features,
            synthetic.features,
            test.features,
            classify=partial(linear_probe, seed=seed),
            seed=seed,
        ),
        small_network=compare_training_sets(real.pixels, synthetic.pixels, test.pixels, classify=scratch, seed=seed),
    )


def accuracies(taught: Taught) -> dict[str, list[Figure]]:
    """Accuracy on held-out real pictures: for each training set, that of both classifiers."""
    return {
        which: [
            _accuracy(f"linear_probe_{which}", "linear probe on features", getattr(taught.linear_probe, which), True),
            _accuracy(
                f"small_network_{which}", "small network from scratch", getattr(taught.small_network, which), False
            ),
        ]
        for which in TAUGHT
    }


def differences(taught: Taught) -> list[Figure]:
    """What generated pictures change, instead of real ones and beside them."""
    return [
        _difference(f"{name}_{which}", f"{label}, {words}", getattr(sets, which), sets.real.n_test, record)
        for name, label, sets, record in (
            ("linear_probe", "linear probe", taught.linear_probe, "network"),
            ("small_network", "small network", taught.small_network, ""),
        )
        for which, words in (
            ("synthetic_against_real", "synthetic instead of real"),
            ("both_against_real", "both instead of real alone"),
        )
    ]


def _accuracy(name: str, label: str, of: Classification, on_features: bool) -> Figure:
    note = f"trained on {of.n_train}"
    record = "network" if on_features else ""
    return Figure(name, label, of.accuracy, of.low, of.high, of.n_test, "higher", "share", note, record)


def _difference(name: str, label: str, of: Difference, n: int, record: str) -> Figure:
    note = f"{of.gained} pictures gained, {of.lost} lost; p = {of.p_value:.2g}"
    return Figure(name, label, of.mean, of.low, of.high, n, "higher", "share", note, record)
