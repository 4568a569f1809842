"""CUB-200-2011, with the captions that Reed et al. (2016) collected for it where they lie beside it."""

import re
from pathlib import Path

from toolkit.data.importers.dataset import Archive, Dataset, Record
from toolkit.data.importers.text_files import (
    archive_folder,
    check_images,
    class_names,
    numbered_lines,
    path_inside,
    read_table,
    read_tables,
)

_FOLDER = "CUB_200_2011"
_TABLES = ("image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt")
_CAPTION_FOLDERS = ("text", "text_c10", "birds/text")
"""As the captions' own archive, and the one for AttnGAN, unpack."""


def read(root: Path) -> Archive:
    """CUB-200-2011 as it is unpacked under `root`."""
    folder = archive_folder(root, _FOLDER, ["images", "images.txt", "classes.txt", *_TABLES])
    images, labels, splits, boxes = read_tables(folder, "images.txt", _TABLES)
    classes = read_table(folder / "classes.txt")
    places = (place / name for place in (folder, root) for name in _CAPTION_FOLDERS)
    caption_folder = next((place for place in places if place.is_dir()), None)
    records = []
    for key in images.lines:
        image = path_inside(folder / "images", images, key)
        records.append(
            Record(
                source_id=key,
                image=image,
                split=splits.train_or_test(key),
                captions=() if caption_folder is None else _captions(caption_folder / image.parent.name, image.stem),
                class_id=labels.text(key),
                box=boxes.box(key),
            )
        )
    check_images(records)
    return Archive(records, class_names(classes, labels, used=classes.lines))


def _captions(folder: Path, stem: str) -> tuple[str, ...]:
    path = folder / f"{stem}.txt"
    if not path.is_file():
        return ()
    # Characters that were lost when the captions were collected came down as pairs of U+FFFD.
    texts = (" ".join(re.sub("\ufffd+", " ", line).split()) for _, line in numbered_lines(path))
    return tuple(text for text in texts if text)


DATASET = Dataset(
    name="cub",
    title="CUB-200-2011",
    source="https://www.vision.caltech.edu/datasets/cub_200_2011/",
    licence="not stated in the archive; the photographs come from Flickr",
    notice=None,
    counts={"images": 11_788, "classes": 200, "train": 5_994, "test": 5_794},
    read=read,
)
