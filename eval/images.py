"""The single way in for pictures: whatever they come as, they cannot be misread.

A float picture in [0, 1] that is taken for one in [0, 255] is next to black, and scores like one without any error. So
floats are refused unless their range is declared, and shapes that can be read in two ways are refused altogether.
"""

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias, overload

import numpy as np
from PIL import Image
from torch import Tensor

from toolkit.errors import DataError
from toolkit.images import decode_image

Picture: TypeAlias = Image.Image | np.ndarray | Tensor

VALUE_RANGES = ((0, 1), (-1, 1))
"""The ranges that floats can be declared to have."""

_BACKGROUND = "white"
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
    ".jp2": "JPEG2000",
}
_PNG_MODES = {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}
"""The modes that PNG keeps as they are, with their transparency."""


def as_images(
    images: Picture | Sequence[Picture], *, value_range: tuple[float, float] | None = None
) -> list[Image.Image]:
    """Pictures as RGB, 8 bit, by the rules of `toolkit.images.decode_image`.

    Args:
        images: PIL images of any mode; arrays or tensors of shape (H, W, 3), (N, H, W, 3), (3, H, W) or
            (N, 3, H, W); or a sequence of these. Integers are uint8, 0 to 255.
        value_range: (0, 1) or (-1, 1) for floats, which are rounded to the nearest of the 256 levels; None for others.

    Raises:
        DataError: Names the picture that is no picture, has an ambiguous shape, is floating point without a declared
            range, or has a value outside it.
    """
    if value_range is not None and tuple(value_range) not in VALUE_RANGES:
        raise DataError(f"value_range is {value_range!r}", "It can be (0, 1) or (-1, 1); scale the values to one.")
    if isinstance(images, Sequence) and not isinstance(images, str | bytes):
        named = [(f"images[{i}]", image) for i, image in enumerate(images)]
    else:
        named = [("images", images)]
    return [found for name, image in named for found in _read(image, name, value_range)]


def as_rgb(image: Picture, name: str) -> Image.Image:
    """One picture as `as_images` has it: RGB, 8 bit, upright, on white where it is transparent.

    Args:
        image: A PIL image of any mode, or uint8 of shape (H, W, 3) or (3, H, W); it is left as it is.
        name: What messages call it.

    Raises:
        DataError: It cannot be read, has no defined white, is floating point, or is more than one.
    """
    found = _read(image, name, None)
    if len(found) != 1:
        raise DataError(f"{name} is {len(found)} pictures", "Give them one by one.")
    return found[0]


def _rgb(image: Image.Image, name: str) -> Image.Image:
    try:
        image.load()
    # Decoders meet broken bytes with nearly any exception.
    except Exception as error:
        raise DataError(f"{name}: unreadable: {error}", "Replace the picture.") from error
    if 0 in image.size:
        raise DataError(f"{name}: {image.width} x {image.height} pixels are no picture", "Leave it out.")
    transparent = image.has_transparency_data
    if image.mode == "RGB" and not transparent and "exif" not in image.info:
        return image
    if image.mode not in _PNG_MODES:
        if transparent:
            image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        elif image.mode[0] not in "IF":
            image = image.convert("RGB")
    buffer = io.BytesIO()
    if image.mode in _PNG_MODES:
        image.save(buffer, "PNG", compress_level=0, exif=image.info.get("exif", b""))
    else:
        image.save(buffer, "TIFF")
    return decode_image(buffer.getvalue(), background=_BACKGROUND, name=name)


def _read(image: object, name: str, value_range: tuple[float, float] | None) -> list[Image.Image]:
    if isinstance(image, Image.Image):
        if value_range is not None:
            raise _needless_range(name)
        return [_rgb(image, name)]
    if isinstance(image, Tensor):
        # NumPy has no bfloat16.
        image = (image.detach().double() if image.is_floating_point() else image.detach()).cpu().numpy()
    if not isinstance(image, np.ndarray):
        raise DataError(
            f"{name} is of type {type(image).__name__}, which is no picture",
            "Give PIL images, uint8 arrays or floats with value_range; for a folder use read_folder.",
        )
    image = _channels_last(image, name)
    if image.ndim == 3:
        return [Image.fromarray(_eight_bit(image, name, value_range))]
    return [Image.fromarray(_eight_bit(one, f"{name}[{i}]", value_range)) for i, one in enumerate(image)]


def _channels_last(array: np.ndarray, name: str) -> np.ndarray:
    """(H, W, 3) or (N, H, W, 3)."""
    last = array.ndim in (3, 4) and array.shape[-1] == 3
    first = array.ndim in (3, 4) and array.shape[-3] == 3
    if last and first:
        raise DataError(
            f"{name} has the shape {array.shape}, which can be read with channels first and with channels last",
            "Make it PIL images: Image.fromarray reads (H, W, 3).",
        )
    if not (last or first) or 0 in array.shape[-3:]:
        raise DataError(
            f"{name} has the shape {array.shape}, which is no RGB picture",
            "Shapes are (H, W, 3), (N, H, W, 3), (3, H, W) and (N, 3, H, W); for others make PIL images.",
        )
    return array if last else np.moveaxis(array, -3, -1)


def _eight_bit(values: np.ndarray, name: str, value_range: tuple[float, float] | None) -> np.ndarray:
    if values.dtype == np.uint8:
        if value_range is not None:
            raise _needless_range(name)
        return np.ascontiguousarray(values)
    if not np.issubdtype(values.dtype, np.floating):
        raise DataError(f"{name} has values of type {values.dtype}", "Give uint8, or floats with value_range.")
    if value_range is None:
        raise DataError(
            f"{name} has values of type {values.dtype} and no declared range, so that nobody knows what is white",
            "Give as_images(..., value_range=(0, 1)), or value_range=(-1, 1) where it is that, or uint8.",
        )
    low, high = value_range
    # Written so that a NaN fails as well.
    if not (values.min() >= low and values.max() <= high):
        raise DataError(
            f"{name} has values from {values.min():.6g} to {values.max():.6g}, outside the declared {low} to {high}",
            "Declare the range that it has, or clip what should not be there.",
        )
    return np.rint((values.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)


def _needless_range(name: str) -> DataError:
    return DataError(
        f"{name} is not floating point, but value_range was declared", "Leave value_range out: 8 bits are 0 to 255."
    )


@dataclass(frozen=True)
class ImageFolder(Sequence[Image.Image]):
    """The pictures of a folder in natural order of their names (2 before 10), decoded when they are asked for."""

    folder: Path
    paths: Mapping[str, Path]
    """By name: the path below the folder, with forward slashes and without its extension."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self.paths)

    @cached_property
    def formats(self) -> dict[str, int]:
        """How many files there are of each format, by their extensions."""
        return dict(Counter(FORMATS[path.suffix.lower()] for path in self.paths.values()))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes distances to other folders questionable."""
        if len(self.formats) < 2:
            return ()
        counts = " and ".join(f"{count} {name}" for name, count in sorted(self.formats.items()))
        return (
            f"{self.folder} holds {counts} files: the losses of one format alone move every distance between sets of"
            " pictures. Save all of them, and those they are compared with, in one format.",
        )

    def image(self, name: str) -> Image.Image:
        """The picture of this name, RGB, 8 bit.

        Raises:
            DataError: The file is missing or broken; the message names it.
        """
        path = self.paths[name]
        return decode_image(path, background=_BACKGROUND, name=str(path))

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> "ImageFolder": ...
    def __getitem__(self, index: int | slice) -> "Image.Image | ImageFolder":
        if isinstance(index, slice):
            return ImageFolder(self.folder, {name: self.paths[name] for name in self.names[index]})
        return self.image(self.names[index])


def read_folder(path: Path) -> ImageFolder:
    """The pictures in a folder and below it. Hidden files and folders are not looked at.

    Raises:
        DataError: There is no such folder, no picture in it, or two pictures of one name.
    """
    if not path.is_dir():
        raise DataError(f"{path}: there is no such folder", "Give a folder of pictures.")
    found: dict[str, Path] = {}
    for file in sorted(path.rglob("*")):
        relative = file.relative_to(path)
        if any(part.startswith(".") for part in relative.parts) or not file.is_file():
            continue
        if file.suffix.lower() not in FORMATS:
            continue
        name = relative.with_suffix("").as_posix()
        if name in found:
            raise DataError(
                f"{path}: {found[name].relative_to(path)} and {relative} have one name, `{name}`",
                "Pictures are paired by their names without extensions: delete or rename one.",
            )
        found[name] = file
    if not found:
        raise DataError(f"{path}: there is no picture in it", f"Pictures end in {', '.join(FORMATS)}.")
    return ImageFolder(path, {name: found[name] for name in sorted(found, key=_natural)})


def _natural(name: str) -> tuple[list[str | int], str]:
    parts = re.split(r"(\d+)", name)
    # The name itself decides between 1 and 01.
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def paired(first: ImageFolder, second: ImageFolder) -> tuple[str, ...]:
    """The names of two folders that show the same things: `first.image(name)` belongs to `second.image(name)`.

    Raises:
        DataError: Lists the names in either folder that have no partner in the other.
    """
    require_partners(first.paths.keys(), str(first.folder), second.paths.keys(), str(second.folder))
    return first.names


def require_partners(first: Set[str], first_name: str, second: Set[str], second_name: str) -> None:
    lacking = [
        f"{len(names)} of {one} have no partner in {other}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
        for one, names, other in (
            (first_name, sorted(first - second, key=_natural), second_name),
            (second_name, sorted(second - first, key=_natural), first_name),
        )
        if names
    ]
    if lacking:
        raise DataError("; ".join(lacking), "Pairs are made by name: add or rename what is missing, or take it out.")
