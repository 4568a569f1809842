"""Which images of an archive are wanted, and in which split each is."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from toolkit.data.importers.dataset import Archive, Dataset, Record
from toolkit.data.subset import place_of
from toolkit.errors import ConfigError, DataError, nearest

SPLITS = ("train", "validation", "test")


def check_counts(dataset: Dataset, archive: Archive) -> None:
    """Compares an archive with what its authors published.

    Raises:
        DataError: Numbers of images, classes or images of a split differ; names each.
    """
    splits = Counter(record.split for record in archive.records)
    found = {"images": len(archive.records), "classes": len(archive.classes)} | {name: splits[name] for name in SPLITS}
    wrong = [
        f"{name}: {found[name]:,} instead of {count:,}"
        for name, count in dataset.counts.items()
        if found[name] != count
    ]
    if wrong:
        raise DataError(
            f"the archive differs from {dataset.title} as it was published: {'; '.join(wrong)}",
            "Unpack the whole archive again, or leave out --strict to import what is there.",
        )


def select_classes(archive: Archive, wanted: Sequence[str]) -> Archive:
    """The images of some classes, given by their exact names. The order of the classes stays.

    Raises:
        ConfigError: There is no such class; names the nearest one.
    """
    if not archive.classes:
        raise ConfigError("--classes: the images of this data set have no classes", "Leave it out.")
    for name in wanted:
        if name not in archive.classes.values():
            raise ConfigError(f"--classes: there is no class `{name}`", nearest(name, archive.classes.values()))
    classes = {class_id: name for class_id, name in archive.classes.items() if name in wanted}
    return Archive([record for record in archive.records if record.class_id in classes], classes)


def split_by_group(archive: Archive, kind: str, fraction: float | None) -> Archive:
    """Splits that keep groups together: all images of a group are in validation, or none is.

    Validation is made of whole groups, wherever their images were. Of the others, those of the published validation
    go to train, and train and test stay as they are.

    Args:
        kind: `class`, or a kind of group that the data set knows. An image without one is a group of its own.
        fraction: Expected share of the groups that validation gets, in (0, 1); which ones, a hash of their names
            decides, so groups that are added or removed move no others. None takes the split that the authors publish.

    Raises:
        ConfigError: The data set knows no such groups, or no such split; or one of the splits is empty.
    """
    groups = [_group(record, kind) for record in archive.records]
    if not any(groups):
        known = sorted({name for record in archive.records for name in _kinds(record)})
        raise ConfigError(
            f"--split-by: the images of this data set have no {kind}",
            f"Known: {', '.join(known)}." if known else "Leave it out.",
        )
    if fraction is None:
        held = [record.group_splits.get(kind) == "validation" for record in archive.records]
        if not any(held):
            raise ConfigError(
                f"--split-by {kind}: the authors of this data set publish no such split", "Add --validation-fraction."
            )
    else:
        names = [group or record.source_id for group, record in zip(groups, archive.records, strict=True)]
        held = [place_of(f"{kind}/{name}") < fraction for name in names]
    records = [
        replace(record, split="validation" if is_held else "test" if record.split == "test" else "train")
        for record, is_held in zip(archive.records, held, strict=True)
    ]
    for split in ("train", "validation"):
        if not any(record.split == split for record in records):
            raise ConfigError(
                f"--split-by {kind}: its {len(set(groups) - {None}):,} groups leave {split} without an image",
                "Give another --validation-fraction.",
            )
    return Archive(records, archive.classes)


def count_groups(records: Sequence[Record], kind: str) -> dict[str, int]:
    """Groups in each split, and how many of them have images in more than one (`shared`)."""
    members: Mapping[str, set[str]] = {split: set() for split in SPLITS}
    for record in records:
        members[record.split].add(_group(record, kind) or record.source_id)
    splits_of = Counter(name for names in members.values() for name in names)
    shared = sum(count > 1 for count in splits_of.values())
    return {split: len(names) for split, names in members.items()} | {"shared": shared}


def _kinds(record: Record) -> list[str]:
    return [*record.groups, *(["class"] if record.class_id is not None else [])]


def _group(record: Record, kind: str) -> str | None:
    return record.class_id if kind == "class" else record.groups.get(kind)
