"""What becomes of one image: which part of it is kept, how large, and where its bounding box is then."""

import hashlib
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from toolkit.data.importers.dataset import Box, Record
from toolkit.errors import DataError
from toolkit.files import write_with
from toolkit.images import decode_image

CROPS = ("none", "center", "bbox")
INTERPOLATION = "lanczos"
BACKGROUND = "white"
"""Under transparent pixels of images that are cropped or resized."""

Frame = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of an image, in pixels."""


@dataclass(frozen=True, slots=True)
class Framing:
    """How images are changed.

    `center` keeps the largest square in the middle. `bbox` keeps the smallest square about the bounding box, moved into
    the image; where the image is too low or too narrow for it, the part nearest to a square that holds the whole box.
    """

    crop: str
    size: int | None
    """Length of the shorter side, in pixels; None leaves it. The ratio of the sides stays."""

    @property
    def changes_images(self) -> bool:
        return self.crop != "none" or self.size is not None


def clamp(box: Box, width: int, height: int) -> Box | None:
    """The part of a box that lies in an image; None where none does."""
    left, top = max(box.x, 0.0), max(box.y, 0.0)
    right, bottom = min(box.x + box.width, width), min(box.y + box.height, height)
    return Box(left, top, right - left, bottom - top) if right > left and bottom > top else None


def frame_of(crop: str, width: int, height: int, box: Box | None) -> Frame:
    """The part of an image that is kept.

    Args:
        crop: One of `CROPS`.
        width: Of the image, in pixels.
        height: Of the image, in pixels.
        box: A box in the image; `bbox` needs one.
    """
    if crop == "none":
        return 0, 0, width, height
    if crop == "center":
        side = min(width, height)
        # Halves go to the even neighbour, as in torchvision's CenterCrop.
        left, top = round((width - side) / 2), round((height - side) / 2)
        return left, top, left + side, top + side
    assert box is not None
    left, right = math.floor(box.x), math.ceil(box.x + box.width)
    top, bottom = math.floor(box.y), math.ceil(box.y + box.height)
    side = max(right - left, bottom - top)
    left, right = _widen(left, right, side, width)
    top, bottom = _widen(top, bottom, side, height)
    return left, top, right, bottom


def _widen(low: int, high: int, length: int, limit: int) -> tuple[int, int]:
    """A stretch of `length`, or of all there is, about low .. high and within 0 .. limit."""
    length = min(length, limit)
    start = min(max((low + high - length) // 2, 0), limit - length)
    return start, start + length


def scaled(width: int, height: int, size: int | None) -> tuple[int, int]:
    """Width and height, the shorter side scaled to `size`; the longer is rounded down, as torchvision's Resize does."""
    short = min(width, height)
    return (width, height) if size is None else (size * width // short, size * height // short)


def make_picture(record: Record, file: str, folder: Path, framing: Framing, *, copy: bool) -> dict[str, Any]:
    """Write a record's image, and the pictures it is paired with.

    An image that is not changed is linked to, or copied byte by byte where that is wanted or links cannot be made.

    Args:
        record: What the archive says of the image.
        file: Name of the file, the same in `images/` and in a folder for each kind of paired picture.
        folder: Where these folders are.

    Returns:
        Of a row of `metadata.jsonl`: `file_name` and `<kind>_file_name`; `bbox`, `width` and `height` of the image as
        it was written; `sha256` of the original file.

    Raises:
        DataError: A file cannot be read, or no part of the box lies in the image.
    """
    row = _write(record.image, record, folder, f"images/{file}", framing, copy=copy)
    for kind, path in record.paired.items():
        # Paired pictures go by one name, whatever format each of them was in.
        name = f"{kind}/{Path(file).stem}{Path(file).suffix if framing.changes_images else path.suffix}"
        row[f"{kind}_file_name"] = _write(path, record, folder, name, framing, copy=copy)["file_name"]
    return row


def _write(path: Path, record: Record, folder: Path, name: str, framing: Framing, *, copy: bool) -> dict[str, Any]:
    content = _read(path)
    image = decode_image(content, background=BACKGROUND, name=str(path))
    # Boxes were measured on the picture as it is stored.
    turned = image.info["turned"]
    box = None if record.box is None or turned else clamp(record.box, *image.size)
    if framing.crop == "bbox" and box is None:
        reason = "EXIF turns the image, but not its bounding box" if turned else "its bounding box lies outside of it"
        raise DataError(f"{path}: {reason}", "Mend its line, or leave it out with --skip-bad-images.")
    frame = frame_of(framing.crop, *image.size, box)
    size = scaled(frame[2] - frame[0], frame[3] - frame[1], framing.size)
    if framing.changes_images:
        part = image.crop(frame).resize(size, Image.Resampling[INTERPOLATION.upper()])
        write_with(folder / name, part.save)
    elif copy or not _link(folder / name, path):
        write_with(folder / name, partial(_save, content))
    shown = _seen_box(box, frame, size) if box is not None else None
    return {
        "file_name": name,
        **({"bbox": shown} if shown else {}),
        "width": size[0],
        "height": size[1],
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", "Unpack the archive again.") from None


def _save(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _link(path: Path, target: Path) -> bool:
    """Whether the file system has links, and lets them be made."""
    path.unlink(missing_ok=True)
    try:
        path.symlink_to(target.absolute())
    except OSError:
        return False
    return True


def _seen_box(box: Box, frame: Frame, size: tuple[int, int]) -> list[float] | None:
    """A box of the original image as x, y, width, height in the part that is kept, scaled as that is."""
    left, top, right, bottom = frame
    x_scale, y_scale = size[0] / (right - left), size[1] / (bottom - top)
    moved = Box((box.x - left) * x_scale, (box.y - top) * y_scale, box.width * x_scale, box.height * y_scale)
    seen = clamp(moved, *size)
    return [round(value, 3) for value in (seen.x, seen.y, seen.width, seen.height)] if seen else None
