"""From what was read of an archive to an image folder: complete, or not there.

```
birds/images/0000139e-21dc-4d0c-bfe1-4cae3c85c829.jpg    a link to the archive's file, or a copy of it
birds/images/0000139e-21dc-4d0c-bfe1-4cae3c85c829.png    where images are cropped or resized
birds/metadata.jsonl                                     one row per image
birds/splits/train.txt                                   ids, one per line; also validation.txt, test.txt
birds/DATASET.json                                       where it is from, and how it was made
```

Images are linked because an image folder's rows cannot name files outside of it. A row's `width`, `height` and `bbox`
(x, y, width, height) are those of the image as it was written, its `sha256` is that of the original file.

All of it is made in `.birds.import` beside the folder, and takes its place when it is finished. What is there when an
import is killed, the next one goes on from.
"""

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from toolkit.data.importers.dataset import Archive, Dataset, Record
from toolkit.data.importers.journal import Journal
from toolkit.data.importers.pictures import INTERPOLATION, Framing, make_picture
from toolkit.data.importers.selection import SPLITS, count_groups
from toolkit.errors import ConfigError, DataError
from toolkit.files import publish_directory, write_json, write_text

IMPORTER_VERSION = 1
"""Raise it when the same archive and options give another folder."""

DESCRIPTION = "DATASET.json"

_SHOWN = 10
"""So many bad images are named at most."""
_IMAGES_PER_TASK = 16


@dataclass(frozen=True, slots=True)
class Options:
    """What is wanted of a data set; all that two imports of one archive can differ in."""

    crop: str
    size: int | None
    copy: bool
    classes: tuple[str, ...] | None
    """Exact names, sorted."""
    split_by: str | None
    validation_fraction: float | None


def finished(dataset: Dataset, options: Options, out: Path) -> dict[str, Any] | None:
    """The description of a folder that was imported with these options; None where there is nothing yet.

    Raises:
        ConfigError: Something else is there; says what.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / DESCRIPTION).is_file():
        raise ConfigError(f"--out: {out} is there already and is no imported data set", "Give a folder that is new.")
    description = _read_json(out / DESCRIPTION)
    _check_same(_identity(dataset, options), description, out)
    shutil.rmtree(_workplace(out), ignore_errors=True)
    return description


def write_folder(
    dataset: Dataset, archive: Archive, options: Options, out: Path, *, skip_bad_images: bool
) -> dict[str, Any]:
    """Make the folder, or what is missing of it.

    Args:
        dataset: Where the archive is from.
        archive: The images that are wanted, each in the split that is wanted.
        options: How they were chosen and what is to become of them.
        out: The folder; there is none, or an empty one.
        skip_bad_images: Leave out images that cannot be read.

    Returns:
        The description, as `DATASET.json` has it.

    Raises:
        ConfigError: A box is wanted that is not known, or an import with other options was begun.
        DataError: Images cannot be read; names the first few. Or two have one id.
    """
    records = archive.records
    _check_boxes(dataset, records, options)
    framing = Framing(options.crop, options.size)
    files = _file_names(records, framing)
    work = _workplace(out)
    folder = work / "folder"
    _begin(work, _identity(dataset, options) | {"archive": _digest(archive)})
    for kind in {"images"} | {kind for record in records for kind in record.paired}:
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for half_written in folder.rglob(".*"):
        half_written.unlink()
    with Journal(work / "journal.jsonl", folder) as journal:
        todo = [pair for pair in zip(records, files, strict=True) if pair[0].source_id not in journal.rows]
        done = len(records) - len(todo)
        made = _make_all(todo, journal, folder, framing, copy=options.copy)
        problems = list(tqdm(made, "importing images", len(records), initial=done, unit="image"))
    bad = [problem for problem in problems if problem]
    if bad and (not skip_bad_images or len(bad) == len(records)):
        raise _cannot_import(bad, len(records))
    rows = list(_rows(archive, journal.rows))
    hashes = _write_splits(folder, rows)
    write_text(folder / "metadata.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    description = _describe(dataset, archive, options, journal.rows, hashes)
    description["links"] = sum((folder / row["file_name"]).is_symlink() for row in rows)
    write_json(folder / DESCRIPTION, description)
    publish_directory(folder, out)
    shutil.rmtree(work)
    return description


def _cannot_import(bad: Sequence[str], images: int) -> DataError:
    shown = [f"  {problem}" for problem in bad[:_SHOWN]]
    if len(bad) > _SHOWN:
        shown.append(f"  ... and {len(bad) - _SHOWN:,} more")
    return DataError(
        "\n".join([f"{len(bad):,} of {images:,} images cannot be imported:", *shown]),
        "Mend them and import again, which goes on from here, or leave them out with --skip-bad-images.",
    )


def _workplace(out: Path) -> Path:
    return out.with_name(f".{out.name}.import")


def _identity(dataset: Dataset, options: Options) -> dict[str, Any]:
    """What makes one import another one, in JSON's types."""
    identity = {"name": dataset.name, "importer_version": IMPORTER_VERSION} | asdict(options)
    identity["classes"] = list(options.classes) if options.classes is not None else None
    return identity


def _digest(archive: Archive) -> str:
    return hashlib.sha256(repr(archive).encode("utf-8", "surrogatepass")).hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}", "Delete the folder it is in and import again.") from None
    return values if isinstance(values, dict) else {}


def _check_same(wanted: Mapping[str, Any], found: Mapping[str, Any], place: Path) -> None:
    differing = [name for name in wanted if wanted[name] != found.get(name)]
    if differing:
        words = [
            "the archive has changed since"
            if name == "archive"
            else f"{name} was {json.dumps(found.get(name))} and is now {json.dumps(wanted[name])}"
            for name in differing
        ]
        raise ConfigError(
            f"{place} is from another import: {'; '.join(words)}",
            f"Give the same options, or another --out, or delete {place}.",
        )


def _begin(work: Path, identity: Mapping[str, Any]) -> None:
    path = work / "options.json"
    if path.is_file():
        _check_same(identity, _read_json(path), work)
        return
    work.mkdir(parents=True, exist_ok=True)
    write_json(path, dict(identity))


def _check_boxes(dataset: Dataset, records: Sequence[Record], options: Options) -> None:
    without = [record.source_id for record in records if record.box is None]
    if options.crop == "bbox" and without:
        raise ConfigError(
            f"--crop bbox: {len(without):,} of {len(records):,} images of {dataset.name} have no bounding box"
            f", the first is {without[0]}",
            "Use --crop center or --crop none.",
        )


def _file_names(records: Sequence[Record], framing: Framing) -> list[str]:
    """A file name per record: its id, which may hold anything, as far as file names may."""
    names = []
    first: dict[str, str] = {}
    for record in records:
        suffix = record.image.suffix
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", record.source_id.removesuffix(suffix)).lstrip(".") or "_"
        # Some file systems take `A` and `a` for one name.
        if (key := stem.lower()) in first:
            raise DataError(
                f"two images go by one id: {first[key]} and {record.source_id}", "Unpack the whole archive again."
            )
        first[key] = record.source_id
        names.append(stem + (".png" if framing.changes_images else suffix))
    return names


def _make_all(
    todo: Sequence[tuple[Record, str]], journal: Journal, folder: Path, framing: Framing, *, copy: bool
) -> Iterator[str]:
    """What is wrong with each image; an empty text where nothing is."""

    def make(start: int) -> list[str]:
        problems = []
        for record, file in todo[start : start + _IMAGES_PER_TASK]:
            try:
                journal.add(record.source_id, make_picture(record, file, folder, framing, copy=copy))
                problems.append("")
            except DataError as error:
                problems.append(error.problem)
        return problems

    # Threads are enough: Pillow works outside Python's lock.
    executor = ThreadPoolExecutor(os.cpu_count() or 1)
    try:
        for part in executor.map(make, range(0, len(todo), _IMAGES_PER_TASK)):
            yield from part
    finally:
        # Ctrl-C must not wait for every image that is left.
        executor.shutdown(cancel_futures=True)


def _rows(archive: Archive, made: Mapping[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows of `metadata.jsonl`, in the archive's order."""
    labels = {class_id: label for label, class_id in enumerate(archive.classes)}
    for record in archive.records:
        if record.source_id not in made:
            continue
        picture = dict(made[record.source_id])
        row: dict[str, Any] = {"file_name": picture.pop("file_name")}
        if record.captions:
            row["text"] = record.captions[0] if len(record.captions) == 1 else list(record.captions)
        if record.class_id is not None:
            row |= {"label": labels[record.class_id], "label_name": archive.classes[record.class_id]}
        row |= {"split": record.split, "source_id": record.source_id} | picture | dict(record.groups)
        if record.attributes:
            row["attributes"] = list(record.attributes)
        yield row


def _write_splits(folder: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The ids of each split, and the hashes of these files."""
    hashes = {}
    for split in SPLITS:
        text = "".join(f"{row['source_id']}\n" for row in rows if row["split"] == split)
        write_text(folder / "splits" / f"{split}.txt", text)
        hashes[split] = hashlib.sha256(text.encode("utf-8")).hexdigest()
    return hashes


def _describe(
    dataset: Dataset, archive: Archive, options: Options, made: Mapping[str, Any], hashes: Mapping[str, str]
) -> dict[str, Any]:
    records = [record for record in archive.records if record.source_id in made]
    splits = Counter(record.split for record in records)
    return {
        "name": dataset.name,
        "title": dataset.title,
        "source": dataset.source,
        "licence": dataset.licence,
        "notice": dataset.notice,
        "importer_version": IMPORTER_VERSION,
        **asdict(options),
        "interpolation": INTERPOLATION if Framing(options.crop, options.size).changes_images else None,
        "counts": {
            "images": len(records),
            "classes": len(archive.classes),
            **{split: splits[split] for split in SPLITS},
            "without_caption": sum(not record.captions for record in records),
            "without_box": sum("bbox" not in made[record.source_id] for record in records),
        },
        "groups": count_groups(records, options.split_by) if options.split_by else None,
        "label_names": list(archive.classes.values()),
        "skipped": [record.source_id for record in archive.records if record.source_id not in made],
        "split_hashes": dict(hashes),
    }
