"""What an importer knows of a published data set, and what it reads from its archive."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the original image: left, top, width and height. It may overflow the image."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a data set, as its own files describe it."""

    source_id: str
    """What the data set calls the image, unchanged: zeros in front and dashes are kept."""
    image: Path
    """The image's file, in the archive."""
    split: str
    """`train`, `validation` or `test`, as the authors published it."""
    captions: tuple[str, ...] = ()
    class_id: str | None = None
    """What the data set calls the image's class, unchanged. Labels 0, 1, 2, ... are made of the classes' order."""
    box: Box | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    """Who or what the image belongs to, by kind: `drawer`, `identity`, `photographer`. Splits can be kept apart by it.
    """
    group_splits: Mapping[str, str] = field(default_factory=dict)
    """The image's split in further splits that the authors publish, by the kind of group that each keeps apart."""
    paired: Mapping[str, Path] = field(default_factory=dict)
    """Files of other pictures of the same scene in the same frame, by what they are: the `photo` of a sketch."""
    attributes: tuple[str, ...] = ()
    """What is true of the image, of all that the data set tells of each: `Smiling`, `Young`. The rest is not true."""


@dataclass(frozen=True, slots=True)
class Archive:
    """All that was read from an archive."""

    records: Sequence[Record]
    classes: Mapping[str, str] = field(default_factory=dict)
    """Name of each class by its id, in the order of the labels; empty where a data set has none."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A published data set that can be imported."""

    name: str
    """What the command line calls it."""
    title: str
    source: str
    """Where its authors publish it."""
    licence: str
    """What is known of its terms of use, and where it is not stated that it is not."""
    notice: str | None
    """The sentence that its authors oblige everybody to print who shows images of it."""
    counts: Mapping[str, int]
    """Published numbers that `--strict` checks: `images`, `classes`, and images of each split by the split's name."""
    read: Callable[[Path], Archive]
    """Reads the archive below a folder, without decoding an image. Raises DataError: which file is missing or wrong,
    and what was expected there."""
