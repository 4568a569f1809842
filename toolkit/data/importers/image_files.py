"""Folders of images, and the lists in an archive that must agree with them image by image."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from toolkit.errors import DataError


def find_images(folder: Path) -> dict[str, Path]:
    """The JPEG files of a folder by their names; or of a folder of the same name in it, as some mirrors have it.

    Raises:
        DataError: There is no such folder.
    """
    nested = folder / folder.name
    place = nested if nested.is_dir() else folder
    if not place.is_dir():
        raise DataError(f"{folder}: the folder is missing", "Unpack the archive's images into it.")
    with os.scandir(place) as entries:
        # Archives made on a Mac have a hidden file `._1.jpg`, which is no image, for each 1.jpg.
        return {e.name: Path(e.path) for e in entries if e.name.endswith(".jpg") and not e.name.startswith(".")}


def require_one_to_one(listed: Sequence[str], source: Path, there: Collection[str], place: Path) -> None:
    """Checks that a file lists each image of a folder once, and no other.

    Args:
        listed: The images that the file lists.
        source: The file.
        there: The images of the folder.
        place: The folder.

    Raises:
        DataError: An image is in one of the two only, or listed twice; the message counts and names such images.
    """
    repeated = [name for name, count in Counter(listed).items() if count > 1]
    for holder, names, problem in (
        (source, set(listed) - set(there), f"not in {place}"),
        (place, set(there) - set(listed), f"not in {source}"),
        (source, repeated, "listed more than once"),
    ):
        if names:
            count = "1 image in it is" if len(names) == 1 else f"{len(names):,} images in it are"
            more = ", ..." if len(names) > 3 else ""
            raise DataError(
                f"{holder}: {count} {problem}: {', '.join(sorted(names)[:3])}{more}",
                "Both belong to one archive: see that it was downloaded and unpacked whole, and nothing added to it.",
            )
