"""What a description says in numbers, as it is written to description.json."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median_low
from typing import Any, Self

import numpy as np

from toolkit.data.describe.duplicates import MOST_BITS, MOST_DISTANCE, closest_pair, near_duplicates
from toolkit.data.describe.measure import Pictures, aspect_ratios, colours
from toolkit.data.describe.rows import Annotation, Row, Rows, annotation_problems
from toolkit.data.report import BadRow

SHORT_SIDES = (64, 256, 512)
"""Pixels; how many pictures have a shorter side than these is told."""


@dataclass(frozen=True, slots=True)
class Range:
    """Least, median and most of some whole numbers; of an even number of them the lower of the two in the middle."""

    least: int
    median: int
    most: int

    @classmethod
    def of(cls, values: Iterable[int]) -> Self | None:
        """None where there are no numbers."""
        numbers = [int(value) for value in values]
        return cls(min(numbers), median_low(numbers), max(numbers)) if numbers else None


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """Rows of a split."""

    rows: int
    read: int
    """Pictures that were read, or would have been if they could be."""
    unreadable: int
    without_caption: int
    classes: int
    """Classes that have a row."""


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """The pictures that could be read, of all splits together."""

    pictures: int
    width: Range
    height: Range
    aspect_ratios: dict[str, int]
    short_side_below: dict[int, int]
    """How many pictures have a short side of fewer pixels."""
    mean: tuple[float, ...]
    """Of red, green and blue, 0 to 1, where every picture counts alike."""
    std: tuple[float, ...]
    greyscale: int
    """Pictures whose channels are equal in every pixel."""


@dataclass(frozen=True, slots=True)
class ClassCount:
    """Rows of a class."""

    label: int
    name: str
    rows: dict[str, int]
    """By split."""

    @property
    def total(self) -> int:
        return sum(self.rows.values())


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """The classes of all rows, whether their pictures were read or not."""

    counts: tuple[ClassCount, ...]
    """The largest class first."""
    per_class: Range
    """Rows of a class."""
    empty: tuple[str, ...]
    """Classes without a row."""
    not_trained_on: tuple[str, ...]
    """Classes that have rows, and none of them in `train`, which there is."""


@dataclass(frozen=True, slots=True)
class CaptionFacts:
    """The captions of all rows."""

    captions: int
    words: Range
    """Words of a caption, parted by white space."""
    lengths: dict[int, int]
    """Captions by number of words."""
    per_row: dict[int, int]
    """Rows by number of captions."""


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Rows whose pictures are nearly the same."""

    rows: tuple[Row, ...]
    closest: tuple[Row, Row]
    """The two that are nearest to each other; of two splits where there are several."""
    distance: float
    """Root mean squared difference of their thumbnails, 0 to 255."""

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.split for row in self.rows))

    @property
    def leaks(self) -> bool:
        """Whether what is trained on is also measured on."""
        return "train" in self.splits and len(self.splits) > 1


@dataclass(frozen=True)
class Description:
    """All that is said of a data set."""

    name: str
    seed: int
    max_images: int | None
    about: dict[str, Any]
    """What is in its DATASET.json; empty where there is none."""
    splits: dict[str, SplitFacts]
    rows_of_other_splits: int
    """Rows of the folder that belong to none of these."""
    pictures: PictureFacts | None
    """None where no picture could be read; the same holds of what follows."""
    classes: ClassFacts | None
    captions: CaptionFacts | None
    bad_rows: dict[str, tuple[BadRow, ...]]
    """By split: rows whose picture cannot be read, or whose size or box is wrong."""
    duplicates: tuple[DuplicateGroup, ...]
    """Those that leak first, then others across splits, then those within one."""

    def leaked(self) -> dict[str, int]:
        """By split that is not trained on, its rows that are in one group with a row of `train`."""
        rows = Counter(row.split for group in self.duplicates if group.leaks for row in group.rows)
        return {split: rows[split] for split in self.splits if split != "train" and "train" in self.splits}

    def to_json(self) -> str:
        values = asdict(self) | {"leaked": self.leaked(), "most_bits": MOST_BITS, "most_distance": MOST_DISTANCE}
        return json.dumps(values, indent=1, ensure_ascii=True) + "\n"


def split_facts(rows: Rows, pictures: Pictures) -> dict[str, SplitFacts]:
    """Of each split: how many rows it has, and how many of them could be read."""
    unreadable = Counter(rows[row].split for row in pictures.problems)
    readable = Counter(rows[row].split for row in pictures.seen["row"].tolist())
    return {
        split: SplitFacts(
            rows=len(source),
            read=readable[split] + unreadable[split],
            unreadable=unreadable[split],
            without_caption=sum(not source.captions(index) for index in range(len(source))),
            classes=len({source.label(index) for index in range(len(source))} - {None}),
        )
        for split, source in rows.sources.items()
    }


def bad_rows(rows: Rows, pictures: Pictures, annotations: Mapping[str, Annotation]) -> dict[str, tuple[BadRow, ...]]:
    """By split, the rows whose picture could not be read, or whose size or box is wrong; only splits that have some.

    Args:
        rows: All rows; boxes are looked at of those too that were not read.
        pictures: Of some of them.
        annotations: By the row's id.
    """
    sizes = {int(one["row"]): (int(one["width"]), int(one["height"])) for one in pictures.seen}
    found: dict[str, list[BadRow]] = {}
    for number in range(len(rows)):
        row = rows[number]
        reasons = [pictures.problems[number]] if number in pictures.problems else []
        if row.row_id in annotations:
            wrong = annotation_problems(annotations[row.row_id], sizes.get(number))
            reasons += [f"{row.row_id}: {each}" for each in wrong]
        if reasons:
            found.setdefault(row.split, []).append(BadRow(row.index, row.row_id, "; ".join(reasons)))
    return {split: tuple(bad) for split, bad in found.items()}


def picture_facts(seen: np.ndarray) -> PictureFacts | None:
    """Sizes and colours of the pictures that were read; None if none was."""
    if not len(seen):
        return None
    width, height = Range.of(seen["width"]), Range.of(seen["height"])
    assert width is not None and height is not None
    mean, std = colours(seen)
    short = np.minimum(seen["width"], seen["height"])
    return PictureFacts(
        pictures=len(seen),
        width=width,
        height=height,
        aspect_ratios=aspect_ratios(seen["width"], seen["height"]),
        short_side_below={side: int((short < side).sum()) for side in SHORT_SIDES},
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        greyscale=int(seen["grey"].sum()),
    )


def class_facts(rows: Rows) -> ClassFacts | None:
    """How many rows each class has in each split; None where no row has a label."""
    by_split = {
        split: Counter(source.label(index) for index in range(len(source))) for split, source in rows.sources.items()
    }
    used = {label for counts in by_split.values() for label in counts if label is not None}
    labels = sorted(used | set(range(len(rows.label_names)))) if used else []
    counts = [
        ClassCount(label, rows.label_name(label), {split: counts[label] for split, counts in by_split.items()})
        for label in labels
    ]
    per_class = Range.of(each.total for each in counts)
    if per_class is None:
        return None
    return ClassFacts(
        counts=tuple(sorted(counts, key=lambda each: -each.total)),
        per_class=per_class,
        empty=tuple(each.name for each in counts if not each.total),
        not_trained_on=tuple(each.name for each in counts if each.total and each.rows.get("train") == 0),
    )


def caption_facts(rows: Rows) -> CaptionFacts | None:
    lengths, per_row = Counter[int](), Counter[int]()
    for source in rows.sources.values():
        for captions in map(source.captions, range(len(source))):
            per_row[len(captions)] += 1
            lengths.update(len(caption.split()) for caption in captions)
    words = Range.of(lengths.elements())
    if words is None:
        return None
    return CaptionFacts(lengths.total(), words, dict(sorted(lengths.items())), dict(sorted(per_row.items())))


def duplicate_groups(rows: Rows, seen: np.ndarray, progress: bool) -> tuple[DuplicateGroup, ...]:
    """The near-duplicates among pictures: those that leak first, then others across splits, then those within one."""
    groups = []
    for members in near_duplicates(seen["hash"], seen["thumbnail"], progress=progress):
        named = {member: rows[int(seen["row"][member])] for member in members.tolist()}
        by_split: dict[str, list[int]] = {}
        for member, row in named.items():
            by_split.setdefault(row.split, []).append(member)
        first = by_split.get("train") or next(iter(by_split.values()))
        others = [member for part in by_split.values() if part is not first for member in part]
        pair = closest_pair(first, others or first, seen["thumbnail"])
        groups.append(DuplicateGroup(tuple(named.values()), (named[pair.first], named[pair.second]), pair.distance))
    return tuple(sorted(groups, key=lambda group: (not group.leaks, len(group.splits) == 1)))
