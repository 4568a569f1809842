"""Copies of training images among generated ones, judged by what real images that were not trained on resemble.

A generated image always has a nearest training image. How near is near is read off a control: the held-out images of
the same data set, which copy nothing, have nearest training images too. What is nearer than theirs is flagged, once by
the cosine of features and once by the pixels of thumbnails.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image
from scipy.stats import betabinom

from eval.images import Picture, as_rgb
from toolkit.errors import DataError
from toolkit.shares import proportion

SIDE = 32
"""Of thumbnails, in pixels."""
CONTROL_PERCENT = 1
"""Of held-out images, so many in a hundred are nearer to a training image than the threshold."""

_ROUNDING = 1e-6
"""Cosines that differ by less differ by rounding, such as that of float32 in batches of another size."""
_SAME = 2.0
"""Root mean squared difference of pixels, of 255, below which two images are one that was saved twice."""
_BLOCK = 512
"""Images that are compared with as many others at once."""

_NO_CONTROL = (
    "No held-out images of the same data set say how near is too near: images are ranked, and none is flagged."
)
_Measure = Literal["features", "pixels"]


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """What is compared of n images.

    Args:
        name: What errors call the set.
        features: (n, d), finite; their lengths do not matter.
        pixels: (n, 32, 32, 3), uint8, from `thumbnails`.

    Raises:
        DataError: The arrays have other shapes, or features are NaN, infinite or all 0.
    """

    name: str
    features: np.ndarray
    pixels: np.ndarray

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if self.features.ndim != 2 or shape != (len(self.features), SIDE, SIDE, 3) or dtype != np.uint8:
            raise DataError(
                f"{self.name}: features are {self.features.shape}, and thumbnails {shape}, {dtype}",
                "Give one row of features and one of `thumbnails` for each image.",
            )
        if not len(self.features):
            raise DataError(f"{self.name}: there are no images", "Give at least one.")
        lengths = np.linalg.norm(self.features.astype(np.float64), axis=1)
        wrong = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
        if len(wrong):
            raise DataError(
                f"{self.name}: the features of image {wrong[0]} (and {len(wrong) - 1} more) are NaN, infinite or all 0",
                "Look at the image, and compute the features in float32.",
            )

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and the one that it is nearest to."""

    image: int
    nearest: int
    similarity: float
    """Cosine of their features, in [-1, 1]."""
    pixel_distance: float
    """Root mean squared difference of their thumbnails, in [0, 255]; the less of the image and its mirror image."""
    beyond: float | None
    """By how much they are nearer than the threshold, in cosine or in pixel distance; None without a control."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """How near to a training image held-out images are, and only 1 % of them are nearer."""

    value: float
    """A cosine or a pixel distance."""
    pair: Pair
    """The held-out image that sets it, and its training image; look at them, for splits may overlap."""


@dataclass(frozen=True, slots=True)
class Control:
    """What held-out images have as their nearest training images."""

    features: Threshold
    pixels: Threshold
    held_out: int
    """How many there are."""
    nearer: int
    """How many of them are nearer than the thresholds."""

    @property
    def expected(self) -> float:
        """How likely it is that one more image that copies nothing is nearer than the threshold."""
        return (self.nearer + 1) / (self.held_out + 1)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The nearest image of each image by one measure; `dataclasses.asdict` of it is JSON."""

    measure: _Measure
    """What `nearest` means: the highest cosine of features, or the least distance of pixels."""
    pairs: tuple[Pair, ...]
    """Of all images that have one to be compared with, the nearest first."""
    flagged: tuple[Pair, ...]
    """Those nearer than the threshold, each pair once, the nearest first."""
    count: int
    """Images that are flagged."""
    share: float | None
    """Of the images, with its 95 % interval (Wilson 1927); None without a control."""
    low: float | None
    high: float | None
    expected: float | None
    """The share to be expected of images that copy nothing, at most."""
    p_value: float | None
    """How likely so many or more would be flagged if none were a copy."""
    threshold: Threshold | None
    note: str
    """What is to be known about the threshold."""


@dataclass(frozen=True, slots=True)
class Copies:
    """The same question asked by both measures."""

    features: Comparison
    pixels: Comparison


def thumbnails(images: Iterable[Picture]) -> np.ndarray:
    """The images in RGB, scaled to 32 x 32 whatever their shape by the mean of areas: (n, 32, 32, 3), uint8."""
    pictures = (as_rgb(image, f"images[{number}]") for number, image in enumerate(images))
    small = [np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX)) for picture in pictures]
    return np.stack(small) if small else np.empty((0, SIDE, SIDE, 3), np.uint8)


def measure_control(held_out: ImageSet, training: ImageSet) -> Control:
    """How near to the training images the held-out images of the same data set are.

    The threshold is the nearness that 1 % of h held-out images exceed, rounded down: r = floor(h / 100) of them. With
    fewer than 100 it is that of the nearest of them. One more image like them exceeds it with probability
    (r + 1) / (h + 1), whatever the distribution: with 20 held-out images 1 in 21 real images would be flagged, with
    1000 about 1 in 91.

    Raises:
        DataError: The features of the sets have different widths.
    """
    nearer = len(held_out) * CONTROL_PERCENT // 100
    thresholds: dict[_Measure, Threshold] = {}
    for measure in _MEASURES:
        pair = _pairs(measure, held_out, training)[nearer]
        thresholds[measure] = Threshold(_value(measure, pair), pair)
    return Control(thresholds["features"], thresholds["pixels"], len(held_out), nearer)


def find_copies(generated: ImageSet, training: ImageSet, control: Control | None = None) -> Copies:
    """The nearest training image of each generated image, and those that are nearer than held-out images are.

    The p-value is that of the exceedance test: of n generated images that are like h held-out ones, the number that
    exceeds the (r + 1)-th nearest of these is beta-binomial with parameters n, r + 1, h - r. It is exact for any
    distribution and takes account of the control being a sample, which a binomial test against 1 % does not. A rank
    test over all images would ask another question: whether the usual image is nearer, as those of a model with
    little variety are without a single copy. Images of one prompt are taken as independent, which they are not quite.

    Args:
        generated: What may be copied.
        training: What it may be copied from.
        control: From `measure_control` with the same training images; without it images are ranked and none is flagged.
    """
    return _compared(generated, training, control)


def near_duplicates(training: ImageSet, control: Control | None = None) -> Copies:
    """The nearest other training image of each, and those nearer than held-out images are to training images.

    Of two that are alike both count, so that they are no independent cases and there is no p-value.
    """
    return _compared(training, training, control, np.zeros(len(training), np.int64))


def across_seeds(generated: ImageSet, prompts: Sequence[Hashable], control: Control | None = None) -> Copies:
    """The nearest image of the same prompt of each generated image: a model without variety repeats itself.

    The control says whether two are as near as hardly any two real images are. Images of one prompt resemble each
    other for a good reason too, so that the expected share does not hold for them, and there is no p-value.

    Args:
        generated: What may repeat itself.
        prompts: The prompt of each image.
        control: From `measure_control`.
    """
    if len(prompts) != len(generated):
        raise DataError(
            f"{generated.name}: there are {len(generated)} images and {len(prompts)} prompts",
            "Give the prompt of each image.",
        )
    numbers: dict[Hashable, int] = {}
    groups = np.array([numbers.setdefault(prompt, len(numbers)) for prompt in prompts])
    return _compared(generated, generated, control, groups, alike=False)


_Nearness = Callable[[ImageSet, slice, ImageSet, slice], np.ndarray]
"""Of some rows of a set and some of another: how near each is to each, a greater number being nearer."""


def _compared(
    queries: ImageSet,
    targets: ImageSet,
    control: Control | None,
    groups: np.ndarray | None = None,
    *,
    alike: bool = True,
) -> Copies:
    features, pixels = (
        _comparison(measure, _pairs(measure, queries, targets, groups), control, within=groups is not None, alike=alike)
        for measure in _MEASURES
    )
    return Copies(features, pixels)


def _comparison(
    measure: _Measure, pairs: list[Pair], control: Control | None, *, within: bool, alike: bool
) -> Comparison:
    """Hold the pairs against the control.

    Args:
        within: They are pairs of one set, where either of two may be the other's nearest.
        alike: Without copies, the images would be like those of the control.
    """
    if control is None or not pairs:
        note = _NO_CONTROL if pairs else "There is nothing to compare an image with."
        return Comparison(measure, tuple(pairs), (), 0, None, None, None, None, None, None, note)
    threshold = control.features if measure == "features" else control.pixels
    pairs = [replace(pair, beyond=_beyond(measure, pair, threshold)) for pair in pairs]
    nearer = [pair for pair in pairs if pair.beyond is not None and pair.beyond > _ROUNDING]
    share = proportion(len(nearer), len(pairs))
    exceedances = betabinom(share.n, control.nearer + 1, control.held_out - control.nearer)
    return Comparison(
        measure=measure,
        pairs=tuple(pairs),
        flagged=tuple({frozenset((pair.image, pair.nearest)): pair for pair in nearer}.values() if within else nearer),
        count=share.count,
        share=share.value,
        low=share.low,
        high=share.high,
        expected=control.expected if alike else None,
        p_value=None if within else float(exceedances.sf(share.count - 1)),
        threshold=threshold,
        note=_note(control, threshold.pair),
    )


def _note(control: Control, pair: Pair) -> str:
    note = f"{control.nearer} of {control.held_out} held-out images are nearer than the threshold"
    if control.nearer == 0:
        note += f", so 1 in {control.held_out + 1} images that copy nothing is flagged"
    if pair.pixel_distance < _SAME:
        note += f"; held-out image {pair.image} is training image {pair.nearest}: the control is made of copies itself"
    return note + "."


def _beyond(measure: _Measure, pair: Pair, threshold: Threshold) -> float:
    gap = _value(measure, pair) - threshold.value
    return gap if measure == "features" else -gap


def _value(measure: _Measure, pair: Pair) -> float:
    return pair.similarity if measure == "features" else pair.pixel_distance


def _pairs(measure: _Measure, queries: ImageSet, targets: ImageSet, groups: np.ndarray | None = None) -> list[Pair]:
    """Each image with its nearest by a measure, the nearest first; those without any are left out."""
    if queries.features.shape[1] != targets.features.shape[1]:
        raise DataError(
            f"{queries.name} has {queries.features.shape[1]} features and {targets.name} {targets.features.shape[1]}",
            "Compute both by the same network.",
        )
    nearest = _nearest(_MEASURES[measure], queries, targets, groups)
    pairs = []
    for image in np.flatnonzero(nearest >= 0):
        here, there = slice(image, image + 1), slice(nearest[image], nearest[image] + 1)
        cosine = _cosines(queries, here, targets, there).item()
        distance = -_pixel_nearness(queries, here, targets, there).item()
        pairs.append(Pair(int(image), int(nearest[image]), min(cosine, 1.0), distance, None))
    sign = -1 if measure == "features" else 1
    return sorted(pairs, key=lambda pair: (sign * _value(measure, pair), pair.image))


def _nearest(nearness: _Nearness, queries: ImageSet, targets: ImageSet, groups: np.ndarray | None) -> np.ndarray:
    """The number of each image's nearest, or -1; with groups, only another image of the same group will do."""
    found, best = np.full(len(queries), -1), np.full(len(queries), -np.inf)
    for rows in _blocks(len(queries)):
        for columns in _blocks(len(targets)):
            near = nearness(queries, rows, targets, columns)
            if groups is not None:
                numbers = np.arange(len(groups))
                other = numbers[rows, None] != numbers[None, columns]
                near = np.where(other & (groups[rows, None] == groups[None, columns]), near, -np.inf)
            values = near.max(axis=1)
            better = values > best[rows]
            found[rows] = np.where(better, near.argmax(axis=1) + columns.start, found[rows])
            best[rows] = np.maximum(values, best[rows])
    return found


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, n, _BLOCK))


def _cosines(queries: ImageSet, rows: slice, targets: ImageSet, columns: slice) -> np.ndarray:
    cosines: np.ndarray = _unit(queries.features[rows]) @ _unit(targets.features[columns]).T
    return cosines


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _pixel_nearness(queries: ImageSet, rows: slice, targets: ImageSet, columns: slice) -> np.ndarray:
    """The negative distance, from |a - b|^2 = |a|^2 + |b|^2 - 2ab, which is exact: whole numbers below 2^53."""
    there = targets.pixels[columns].reshape(-1, SIDE * SIDE * 3).astype(np.float64)
    here = queries.pixels[rows].astype(np.float64)
    lengths = (here**2).sum(axis=(1, 2, 3))[:, None] + (there**2).sum(axis=1)[None]
    products = [view.reshape(len(here), -1) @ there.T for view in (here, here[:, :, ::-1])]
    return -np.sqrt((lengths - 2 * np.maximum(*products)) / there.shape[1])


_MEASURES: dict[_Measure, _Nearness] = {"features": _cosines, "pixels": _pixel_nearness}
