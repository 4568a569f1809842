"""CelebA (Liu et al. 2015): photos of faces, aligned, 178 x 218 pixels, with 40 attributes and the person's number.

```
celeba/img_align_celeba/000001.jpg
celeba/list_attr_celeba.txt         the number of images; the attributes' names; 000001.jpg and 1 or -1 for each
celeba/list_eval_partition.txt      000001.jpg 0: train, 1: validation, 2: test
celeba/identity_CelebA.txt          000001.jpg 2880
```

The authors' folders `Img`, `Anno` and `Eval` may be kept, and the lists may be Kaggle's, `.csv` with a line of names.
The faces' boxes (`list_bbox_celeba.txt`) are not read: they belong to the photos from before these were aligned.

FIDs can be compared under one crop only, and there are many: Song et al. 2021 (DDIM) take the 128 x 128 pixels around
column 89 and row 121, which lies 12 rows below the centre; others take the central square of 108, 140, 148 or 178.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.data.importers.dataset import Archive, Dataset, Record
from toolkit.data.importers.image_files import find_images, require_one_to_one
from toolkit.data.importers.text_files import archive_folder, numbered_lines
from toolkit.errors import DataError

_log = logging.getLogger(__name__)

_FOLDER = "celeba"
_IMAGES = "img_align_celeba"
_AUTHORS_FOLDERS = ("Img", "Anno", "Eval")
_SPLITS = ("train", "validation", "test")
_AGAIN = "Take the file from the archive again."


@dataclass(frozen=True, slots=True)
class _List:
    path: Path
    columns: Sequence[str]
    rows: dict[str, tuple[int, ...]]
    """The values of each image, in the order of the file."""


def read(root: Path) -> Archive:
    """All images with their attributes, and with the person as the group `identity` where the list of people is there.

    Raises:
        DataError: Something is missing or unreadable, or the lists and the folder are not about the same images.
    """
    has_folders = any((place / "Img").is_dir() for place in (root, root / _FOLDER))
    folder = archive_folder(root, _FOLDER, _AUTHORS_FOLDERS if has_folders else [_IMAGES])
    splits = _read_list(_require(folder, "list_eval_partition"), (0, 1, 2), single=True)
    attributes = _read_list(_require(folder, "list_attr_celeba"), (-1, 1), single=False)
    identity_file = _find(folder, "identity_CelebA")
    identities = _read_list(identity_file, None, single=True) if identity_file else None
    if identities is None:
        _log.warning("%s: there is no identity_CelebA.txt, so no split can keep a person's images together", folder)
    place = folder / ("Img" if has_folders else "") / _IMAGES
    images = find_images(place)
    for listed in filter(None, (splits, attributes, identities)):
        require_one_to_one(list(listed.rows), listed.path, images, place)
    records = [
        Record(
            source_id=image,
            image=images[image],
            split=_SPLITS[split],
            groups={"identity": str(identities.rows[image][0])} if identities else {},
            attributes=_present(attributes, image),
        )
        for image, (split,) in splits.rows.items()
    ]
    return Archive(records)


def _present(attributes: _List, image: str) -> tuple[str, ...]:
    return tuple(name for name, value in zip(attributes.columns, attributes.rows[image], strict=True) if value == 1)


def _find(folder: Path, name: str) -> Path | None:
    paths = (folder / place / f"{name}{suffix}" for place in ("", *_AUTHORS_FOLDERS) for suffix in (".txt", ".csv"))
    return next((path for path in paths if path.is_file()), None)


def _require(folder: Path, name: str) -> Path:
    path = _find(folder, name)
    if path is None:
        raise DataError(
            f"{folder / name}.txt: the file is missing, and there is no {name}.csv",
            f"It is a download of its own: lay it beside the folder {_IMAGES}.",
        )
    return path


def _read_list(path: Path, allowed: Collection[int] | None, *, single: bool) -> _List:
    """Reads one of the lists.

    Args:
        path: The list.
        allowed: Values that there may be; None allows any.
        single: Whether there is one value per image, and not as many as the line of names says.

    Raises:
        DataError: A line cannot be read, or has another number of values, or one that is not allowed, or repeats an
            image; or the file announces another number of images than it has.
    """
    rows: dict[str, tuple[int, ...]] = {}
    count: int | None = None
    columns = ["value"]
    for number, line in numbered_lines(path):
        fields = line.split("," if path.suffix == ".csv" else None)
        if number == 1 and path.suffix == ".csv":
            columns = fields[1:]
        elif number == 1 and len(fields) == 1 and fields[0].isdecimal():
            count = int(fields[0])
        elif number == 2 and count is not None:
            columns = fields
        else:
            image, *values = fields
            if image in rows:
                raise DataError(f"{path}, line {number}: {image} stands in an earlier line too", _AGAIN)
            rows[image] = _integers(values, len(columns), allowed, f"{path}, line {number}")
    if single and len(columns) != 1:
        raise DataError(f"{path}: {len(columns)} values instead of 1 follow each image's name", _AGAIN)
    if count is not None and count != len(rows):
        raise DataError(f"{path}: its first line announces {count:,} images, and {len(rows):,} follow", _AGAIN)
    return _List(path, columns, rows)


def _integers(words: Sequence[str], count: int, allowed: Collection[int] | None, where: str) -> tuple[int, ...]:
    if len(words) != count:
        raise DataError(f"{where}: {len(words)} values instead of {count} follow the image's name", _AGAIN)
    try:
        values = tuple(map(int, words))
    except ValueError as error:
        raise DataError(f"{where}: {error}", _AGAIN) from None
    for value in values:
        if allowed is not None and value not in allowed:
            raise DataError(f"{where}: {value} is not one of {', '.join(map(str, allowed))}", _AGAIN)
    return values


DATASET = Dataset(
    name="celeba",
    title="CelebA, aligned and cropped",
    source="http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    licence="The CelebA agreement: for non-commercial research only, no further distribution of the images, "
    "no commercial use of them or of anything derived from them.",
    notice="CelebA may be used for non-commercial research only, and its images must not be distributed further.",
    counts={"images": 202599, "train": 162770, "validation": 19867, "test": 19962},
    read=read,
)
