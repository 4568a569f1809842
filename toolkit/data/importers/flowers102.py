"""Oxford Flowers-102 (Nilsback and Zisserman 2008): photos of 102 kinds of flowers.

```
flowers-102/jpg/image_00001.jpg
flowers-102/imagelabels.mat      labels: the class of each image, 1 to 102
flowers-102/setid.mat            trnid, valid, tstid: the numbers of the images of each split
```

The test split is six times as large as the one to train on. Reports that split anew, or swap the two, cannot be
compared with others by FID.
"""

from pathlib import Path

from toolkit.data.importers.dataset import Archive, Dataset, Record
from toolkit.data.importers.image_files import find_images, require_one_to_one
from toolkit.data.importers.matlab import MatlabFile
from toolkit.data.importers.text_files import archive_folder
from toolkit.errors import DataError

NAMES_FILE = Path(__file__).with_name("flowers102_names.txt")
"""A class's name per line, in the order of the labels. The archive has none; this is the list of its web page."""

_SPLITS = {"trnid": "train", "valid": "validation", "tstid": "test"}
_ORIGIN = "It is a download of its own: lay it beside the folder jpg."


def read(root: Path) -> Archive:
    """All images with their classes, split by split in the order of `setid.mat`.

    Raises:
        DataError: Something is missing or unreadable, or the labels, splits and images are not about the same images.
    """
    folder = archive_folder(root, "flowers-102", ("jpg", "imagelabels.mat", "setid.mat"))
    label_file = MatlabFile(folder / "imagelabels.mat", _ORIGIN)
    split_file = MatlabFile(folder / "setid.mat", _ORIGIN)
    images = find_images(folder / "jpg")
    names = NAMES_FILE.read_text(encoding="utf-8").splitlines()
    classes = {str(number): name for number, name in enumerate(names, start=1)}

    labels = {_file_name(number): str(label) for number, label in enumerate(label_file.integers("labels"), start=1)}
    require_one_to_one(list(labels), label_file.path, images, folder / "jpg")
    for image, label in labels.items():
        if label not in classes:
            raise DataError(
                f"{label_file.path}: the label of {image} is {label}, not one of 1 to {len(classes)}",
                "Take the file from the archive again.",
            )
    splits = [(_file_name(number), split) for key, split in _SPLITS.items() for number in split_file.integers(key)]
    require_one_to_one([image for image, _ in splits], split_file.path, images, folder / "jpg")
    return Archive([Record(image, images[image], split, class_id=labels[image]) for image, split in splits], classes)


def _file_name(number: int) -> str:
    return f"image_{number:05d}.jpg"


DATASET = Dataset(
    name="flowers102",
    title="Oxford Flowers-102",
    source="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
    licence="Not stated by its authors.",
    notice=None,
    counts={"images": 8189, "classes": 102, "train": 1020, "validation": 1020, "test": 6149},
    read=read,
)
