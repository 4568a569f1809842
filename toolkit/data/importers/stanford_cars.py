"""Stanford Cars (Krause et al. 2013): photos of 196 makes and models of cars, with a box around each car.

It circulates in two packagings. They give the same images other numbers, so the annotations of one are wrong for the
other:

```
stanford_cars/cars_train/00001.jpg              stanford_cars/car_ims/000001.jpg
stanford_cars/cars_test/00001.jpg               stanford_cars/cars_annos.mat
stanford_cars/devkit/cars_meta.mat
stanford_cars/devkit/cars_train_annos.mat
stanford_cars/cars_test_annos_withlabels.mat
```

The devkit has a list of the test images too, but without their classes; those were published later, outside it.
Boxes are corners that belong to the box, in pixels counted from 1: over all 16,185 boxes the smallest coordinate is 1.
"""

from collections.abc import Mapping
from pathlib import Path

from toolkit.data.importers.dataset import Archive, Box, Dataset, Record
from toolkit.data.importers.image_files import find_images, require_one_to_one
from toolkit.data.importers.matlab import MatlabFile, Row
from toolkit.data.importers.text_files import archive_folder
from toolkit.errors import DataError

_FOLDER = "stanford_cars"
_IMAGE_FOLDERS = ("cars_train", "cars_test")
_ONE_IMAGE_FOLDER = "car_ims"
_ANNOTATED = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class")
_DEVKIT = (
    "It is part of car_devkit.tgz, which is unpacked beside cars_train and cars_test. "
    "cars_annos.mat cannot replace it: it goes with the folder car_ims, whose images have other numbers."
)
_TEST_LABELS = (
    "Without it no test image has a class, for the devkit tells none. It is a download of its own: "
    "lay it beside the folder devkit, not into it."
)
_ANNOTATIONS = (
    "It goes with the folder car_ims. The lists in devkit cannot replace it: the images of car_ims have other numbers."
)


def read(root: Path) -> Archive:
    """All images with their classes and boxes, of whichever packaging lies there. Ids are paths: `cars_test/00001.jpg`.

    Raises:
        DataError: Something is missing, unreadable or does not fit; or images of both packagings lie there.
    """
    if not any((place / _ONE_IMAGE_FOLDER).is_dir() for place in (root, root / _FOLDER)):
        return _read_split_archives(archive_folder(root, _FOLDER, _IMAGE_FOLDERS))
    folder = archive_folder(root, _FOLDER, [_ONE_IMAGE_FOLDER])
    if any((folder / name).is_dir() for name in _IMAGE_FOLDERS):
        raise DataError(
            f"{folder}: {_ONE_IMAGE_FOLDER} lies beside {' or '.join(_IMAGE_FOLDERS)}, which hold the same images",
            f"Keep one: {_ONE_IMAGE_FOLDER} and cars_annos.mat, or {', '.join(_IMAGE_FOLDERS)} and devkit.",
        )
    return _read_one_archive(folder)


def _read_split_archives(folder: Path) -> Archive:
    devkit = folder / "devkit"
    classes = _classes(MatlabFile(devkit / "cars_meta.mat", _DEVKIT))
    annotations = {
        "train": MatlabFile(devkit / "cars_train_annos.mat", _DEVKIT),
        "test": MatlabFile(folder / "cars_test_annos_withlabels.mat", _TEST_LABELS),
    }
    records = []
    for split, file in annotations.items():
        place = folder / f"cars_{split}"
        images = _images(place)
        rows = file.rows("annotations", (*_ANNOTATED, "fname"))
        names = [f"{place.name}/{row.string('fname')}" for row in rows]
        require_one_to_one(names, file.path, images, place)
        records += [_record(row, name, images[name], split, classes) for row, name in zip(rows, names, strict=True)]
    return Archive(records, classes)


def _read_one_archive(folder: Path) -> Archive:
    file = MatlabFile(folder / "cars_annos.mat", _ANNOTATIONS)
    classes = _classes(file)
    images = _images(folder / _ONE_IMAGE_FOLDER)
    rows = file.rows("annotations", (*_ANNOTATED, "relative_im_path", "test"))
    names = [row.string("relative_im_path") for row in rows]
    require_one_to_one(names, file.path, images, folder / _ONE_IMAGE_FOLDER)
    records = []
    for row, name in zip(rows, names, strict=True):
        split = {0: "train", 1: "test"}.get(row.integer("test"))
        if split is None:
            raise DataError(f"{row.where}: `test` is neither 0 nor 1", "Take the file from the archive again.")
        records.append(_record(row, name, images[name], split, classes))
    return Archive(records, classes)


def _classes(file: MatlabFile) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(file.strings("class_names"), start=1)}


def _images(folder: Path) -> dict[str, Path]:
    # Names alone are not unique: there is a 00001.jpg in cars_train and another one in cars_test.
    return {f"{folder.name}/{name}": path for name, path in find_images(folder).items()}


def _record(row: Row, name: str, image: Path, split: str, classes: Mapping[str, str]) -> Record:
    class_id = str(row.integer("class"))
    if class_id not in classes:
        raise DataError(
            f"{row.where}: class {class_id} is not one of 1 to {len(classes)}", "Take the file from the archive again."
        )
    left, top, right, bottom = (row.integer(f"bbox_{corner}") for corner in ("x1", "y1", "x2", "y2"))
    if not (1 <= left <= right and 1 <= top <= bottom):
        raise DataError(
            f"{row.where}: no box has the corners ({left}, {top}) and ({right}, {bottom})",
            "Take the file from the archive again.",
        )
    box = Box(left - 1, top - 1, right - left + 1, bottom - top + 1)
    return Record(name, image, split, class_id=class_id, box=box)


DATASET = Dataset(
    name="stanford-cars",
    title="Stanford Cars",
    source="https://ai.stanford.edu/~jkrause/cars/car_dataset.html (no longer online)",
    licence="Not stated by its authors, who offered it for research.",
    notice=None,
    counts={"images": 16185, "classes": 196, "train": 8144, "test": 8041},
    read=read,
)
