"""What generated images teach a classifier: train on real and on generated images, test on held-out real ones.

The accuracy of a classifier that was trained on generated images alone is the classification accuracy score of Ravuri
and Vinyals 2019, arXiv 1905.10887. Its gap to one that was trained on as many real images is what they lack.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.special import ndtri
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional
from tqdm import trange

from toolkit.draws import global_seed, stream
from toolkit.errors import ConfigError, DataError
from toolkit.shares import proportion

SIDES = (16, 64)
"""The smallest and the largest image that the small network is made for, in pixels."""

_WIDTHS = (32, 64, 128, 128)
"""Channels of the small network's layers, each of which halves the picture."""
_BATCH = 64
_LEARNING_RATE = 1e-3

Label = int | str


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSet:
    """Images or their features, and what they show.

    Args:
        name: What errors call the set.
        inputs: Features (n, d), finite; or images from `as_pixels`.
        labels: n classes.

    Raises:
        DataError: There are none, not as many labels, or features that are NaN or infinite.
    """

    name: str
    inputs: np.ndarray
    labels: Sequence[Label]

    def __post_init__(self) -> None:
        n = len(self.inputs)
        if n == 0 or n != len(self.labels):
            raise DataError(
                f"{self.name}: there are {n} images and {len(self.labels)} labels",
                "Give one label for each image, and at least one image.",
            )
        wrong = np.flatnonzero(~np.isfinite(self.inputs.reshape(n, -1)).all(axis=1))
        if len(wrong):
            raise DataError(
                f"{self.name}: the features of image {wrong[0]} (and {len(wrong) - 1} more) are NaN or infinite",
                "Look at the image, and compute the features in float32.",
            )


@dataclass(frozen=True, slots=True)
class Classification:
    """How a trained classifier does on the test images; `dataclasses.asdict` of it is JSON."""

    accuracy: float
    """In [0, 1], with its 95 % interval (Wilson 1927)."""
    low: float
    high: float
    correct: tuple[bool, ...]
    """Of each test image."""
    classes: tuple[Label, ...]
    recall: tuple[float, ...]
    """Of each class, the share of its test images that were recognised."""
    confusion: tuple[tuple[int, ...], ...]
    """Test images by their class, in rows, and by what they were taken for, in columns."""
    n_train: int
    n_test: int
    settings: dict[str, Any]
    """What was trained, and how."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What another training set changes, on the same test images."""

    mean: float
    """Accuracy after minus accuracy before, in [-1, 1], with its 95 % interval (Bonett and Price 2012)."""
    low: float
    high: float
    gained: int
    """Test images that only the second classifier recognises."""
    lost: int
    """Test images that only the first one recognises."""
    p_value: float
    """McNemar's exact test: whether gains and losses are tosses of a coin."""


@dataclass(frozen=True, slots=True)
class TrainingSets:
    """Real and generated images as teachers; `dataclasses.asdict` of it is JSON."""

    n: int
    """Images of either kind; `both` was trained on twice as many."""
    real: Classification
    synthetic: Classification
    both: Classification
    synthetic_against_real: Difference
    both_against_real: Difference


def compare_training_sets(
    real: LabelledSet,
    synthetic: LabelledSet,
    test: LabelledSet,
    *,
    classify: Callable[[LabelledSet, LabelledSet], Classification],
    seed: int = 0,
) -> TrainingSets:
    """Train on real images, on as many generated ones, and on both together, and test on held-out real ones.

    Of each class as many are taken as both sets have, so that neither the number of images nor how often a class
    comes tells the two apart.

    Args:
        real: Training images, or their features.
        synthetic: Generated ones of the same classes.
        test: Held-out real ones of the same classes.
        classify: `linear_probe` for features, `small_network` for images; with `functools.partial` for its settings.
        seed: Of the choice of images where one set has more than the other.

    Raises:
        DataError: A class is missing in a set, or one that is trained on has a single image.
    """
    _require_same_classes(real, synthetic, test)
    _require_two_of_each(real)
    _require_two_of_each(synthetic)
    have, has = Counter(real.labels), Counter(synthetic.labels)
    of_each = {label: min(have[label], has[label]) for label in have}
    first = _choose(real, of_each, stream(seed, "classifier.real", 0))
    second = _choose(synthetic, of_each, stream(seed, "classifier.synthetic", 0))
    both = LabelledSet("both", np.concatenate([first.inputs, second.inputs]), [*first.labels, *second.labels])
    on_real, on_synthetic, on_both = (classify(train, test) for train in (first, second, both))
    return TrainingSets(
        n=len(first.labels),
        real=on_real,
        synthetic=on_synthetic,
        both=on_both,
        synthetic_against_real=paired_difference(on_real, on_synthetic),
        both_against_real=paired_difference(on_real, on_both),
    )


def paired_difference(before: Classification, after: Classification) -> Difference:
    """How much better the second of two classifiers does on the test images of both.

    With g images gained, l lost, of n: the adjusted Wald interval for paired shares (Bonett and Price 2012,
    doi 10.3102/1076998611411915), which adds one gain and one loss, so that it never closes: with
    d = (g - l) / (n + 2), it is d +- 1.96 sqrt(((g + l + 2) / (n + 2) - d^2) / (n + 2)).
    It speaks of these two classifiers on other test images; trained on other images, they would differ by more.
    """
    assert len(before.correct) == len(after.correct), "two classifiers of the same test images"
    pairs = list(zip(before.correct, after.correct, strict=True))
    n, gained, lost = len(pairs), pairs.count((False, True)), pairs.count((True, False))
    centre = (gained - lost) / (n + 2)
    reach = -float(ndtri(0.025)) * math.sqrt(((gained + lost + 2) / (n + 2) - centre**2) / (n + 2))
    p_value = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return Difference((gained - lost) / n, max(centre - reach, -1.0), min(centre + reach, 1.0), gained, lost, p_value)


def linear_probe(train: LabelledSet, test: LabelledSet, *, seed: int = 0) -> Classification:
    """Logistic regression on frozen features, each standardised by its mean and deviation in the training set.

    Of the inverse L2 regularisations C = 0.0001, 0.001, ..., 100 it takes the one with the least log loss in
    stratified cross-validation inside the training set, of five folds, or as many as the rarest class has images.

    Args:
        train: Features (n, d), two images of each class or more.
        test: Features (m, d) of the same network, and the same classes.
        seed: Of the folds.

    Raises:
        DataError: Classes differ or have a single image, or the features have other shapes.
    """
    _require_trainable(train, test)
    if train.inputs.ndim != 2:
        raise DataError(f"{train.name}: features have shape {train.inputs.shape}", "Give a row for each image.")
    folds = min(5, *Counter(train.labels).values())
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        {"logisticregression__C": np.logspace(-4, 2, 7).tolist()},
        scoring="neg_log_loss",
        cv=StratifiedKFold(folds, shuffle=True, random_state=seed),
    )
    search.fit(train.inputs.astype(np.float64), _numbered(train.labels)[1])
    taken_for = search.predict(test.inputs.astype(np.float64))
    strength = search.best_params_["logisticregression__C"]
    settings = {"classifier": "linear probe", "C": strength, "folds": folds, "seed": seed}
    return _judged(train, test, taken_for, settings)


def small_network(
    train: LabelledSet, test: LabelledSet, *, updates: int = 500, seed: int = 0, device: str = "cpu"
) -> Classification:
    """A convolutional network of 240 000 weights, trained from scratch; on the CPU a seed always gives the same.

    Four layers of 3 x 3 convolution, group norm, ReLU and 2 x 2 maximum, the mean over places, and a linear layer.
    AdamW on cross-entropy, 64 images an update, drawn with replacement, half of them mirrored; the learning rate falls
    from 0.001 to 0 as a cosine. The number of updates does not depend on how many images there are.

    Args:
        train: Images from `as_pixels`, two of each class or more.
        test: Images of the same size, and the same classes.
        updates: How often the weights are changed.
        seed: Of the weights, the batches and the mirroring.
        device: Where it is trained.

    Raises:
        DataError: Classes differ or have a single image, or the images are not those of `as_pixels`.
    """
    _require_trainable(train, test)
    if train.inputs.ndim != 4 or train.inputs.dtype != np.uint8:
        raise DataError(
            f"{train.name}: images have shape {train.inputs.shape} and type {train.inputs.dtype}",
            "Make them by `as_pixels`.",
        )
    classes, numbers = _numbered(train.labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(global_seed(seed))
        network = _network(len(classes)).to(device)
    _train(network, torch.from_numpy(train.inputs), torch.from_numpy(numbers), updates, seed)
    with torch.no_grad():
        logits = torch.cat([_logits(network, part) for part in torch.from_numpy(test.inputs).split(_BATCH)])
    settings = {"classifier": "small network", "size": train.inputs.shape[3], "updates": updates, "seed": seed}
    return _judged(train, test, logits.argmax(1).cpu().numpy(), settings)


def as_pixels(images: Iterable[Image.Image], size: int = 64) -> np.ndarray:
    """Images for the small network, in RGB and squeezed to a square: (n, 3, size, size), uint8.

    Raises:
        ConfigError: The size is not between 16 and 64 pixels, for which the network is made.
    """
    if not SIDES[0] <= size <= SIDES[1]:
        raise ConfigError(f"the small network cannot see {size} pixels", f"Take {SIDES[0]} to {SIDES[1]}.")
    rows = [np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)) for image in images]
    return np.array(rows, np.uint8).reshape(-1, size, size, 3).transpose(0, 3, 1, 2).copy()


def _train(network: nn.Module, images: Tensor, wanted: Tensor, updates: int, seed: int) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for update in trange(updates, desc="small network", leave=False, disable=None):
        random = stream(seed, "classifier.batch", update)
        rows = torch.from_numpy(random.integers(len(images), size=_BATCH))
        mirrored = torch.from_numpy(random.random(_BATCH) < 0.5)[:, None, None, None]
        batch = torch.where(mirrored, images[rows].flip(3), images[rows])
        logits = _logits(network, batch)
        loss = functional.cross_entropy(logits, wanted[rows].to(logits.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _network(classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels, width in zip((3, *_WIDTHS), _WIDTHS, strict=False):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(8, width), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(_WIDTHS[-1], classes))


def _logits(network: nn.Module, pixels: Tensor) -> Tensor:
    return network(pixels.to(next(network.parameters()).device).float() / 127.5 - 1)


def _numbered(labels: Sequence[Label]) -> tuple[tuple[Label, ...], np.ndarray]:
    """The classes in order, and the number of each label's class."""
    classes, numbers = np.unique(np.asarray(labels), return_inverse=True)
    return tuple(classes.tolist()), numbers


def _choose(images: LabelledSet, of_each: dict[Label, int], random: np.random.Generator) -> LabelledSet:
    """So many images of each class, in the order in which they stand."""
    order = random.permutation(len(images.labels))
    labels = np.asarray(images.labels)[order]
    rows = np.sort(np.concatenate([order[labels == label][:count] for label, count in of_each.items()]))
    return LabelledSet(images.name, images.inputs[rows], [images.labels[row] for row in rows])


def _require_same_classes(*sets: LabelledSet) -> None:
    every = {label for each in sets for label in each.labels}
    for each in sets:
        missing = sorted(map(str, every - set(each.labels)))
        if missing:
            raise DataError(
                f"{each.name} has no image of {', '.join(missing)}, which others have",
                "Compare sets of the same classes: add images of it, or leave it out everywhere.",
            )


def _require_trainable(train: LabelledSet, test: LabelledSet) -> None:
    _require_same_classes(train, test)
    if train.inputs.shape[1:] != test.inputs.shape[1:]:
        raise DataError(
            f"{train.name} has inputs of shape {train.inputs.shape[1:]} and {test.name} {test.inputs.shape[1:]}",
            "Make both in the same way: features by one network, or images of one size.",
        )
    if len(set(train.labels)) < 2:
        raise DataError(f"{train.name}: all images are of one class", "Give images of two classes or more.")
    _require_two_of_each(train)


def _require_two_of_each(images: LabelledSet) -> None:
    label, count = min(Counter(images.labels).items(), key=lambda item: item[1])
    if count < 2:
        raise DataError(f"{images.name}: class {label} has one image", "Give two or more, or leave the class out.")


def _judged(train: LabelledSet, test: LabelledSet, taken_for: np.ndarray, settings: dict[str, Any]) -> Classification:
    classes, truth = _numbered(test.labels)
    table = confusion_matrix(truth, taken_for, labels=range(len(classes)))
    accuracy = proportion(int(np.trace(table)), len(truth))
    return Classification(
        accuracy=accuracy.value,
        low=accuracy.low,
        high=accuracy.high,
        correct=tuple((truth == taken_for).tolist()),
        classes=classes,
        recall=tuple((np.diag(table) / table.sum(axis=1)).tolist()),
        confusion=tuple(map(tuple, table.tolist())),
        n_train=len(train.labels),
        n_test=len(truth),
        settings=settings,
    )
