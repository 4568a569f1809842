"""The one way in for pictures: from a file or its bytes to RGB, and from RGB to what a network reads."""

import contextlib
import io
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageColor, UnidentifiedImageError
from torch import Tensor

from toolkit.errors import ConfigError, DataError

MAX_PIXELS = 178_956_970
"""The largest picture that is decoded, in pixels. A small file can claim any size and would fill the memory."""

MAX_ASPECT = 100
"""The largest ratio of the sides: scaled by its short side, a longer strip would fill the memory."""

# Formats left out are drawings that other programs would be run on (EPS, WMF). Not every Pillow is built with all.
Image.init()
_FORMATS = [
    name
    for name in [
        "JPEG",
        "PNG",
        "WEBP",
        "AVIF",
        "TIFF",
        "BMP",
        "DIB",
        "GIF",
        "PPM",
        "JPEG2000",
        "TGA",
        "ICO",
        "PCX",
        "SGI",
    ]
    if name in Image.OPEN
]

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def parse_colour(background: str) -> tuple[int, int, int]:
    """Red, green and blue, each 0 to 255, of a colour's name or `#rrggbb`.

    Raises:
        ConfigError: There is no such colour, or it is not opaque.
    """
    colour: tuple[int, ...] = ()
    with contextlib.suppress(ValueError):
        colour = ImageColor.getrgb(background)
    if len(colour) != 3:
        raise ConfigError(
            f"data.background: {background!r} is not an opaque colour",
            "Give a colour's HTML name, such as `white`, or `#rrggbb`.",
        )
    return colour[0], colour[1], colour[2]


def decode_image(content: bytes | Path, *, background: str, name: str) -> Image.Image:
    """A picture as its owner sees it: RGB, 8 bit, upright, nothing transparent.

    16-bit greys map 0 .. 65535 to 0 .. 255, floats 0 .. 1. Of an animation the first frame is taken.
    The result's `info` says whether the file had transparency (`alpha`) and was turned upright (`turned`).

    Args:
        content: The file, or what is in it.
        background: Colour under transparent pixels, by name or `#rrggbb`.
        name: What messages call the picture.

    Raises:
        DataError: The file is missing, broken, no picture, or too large; the message says which.
        ConfigError: `background` is no colour.
    """
    colour = parse_colour(background)
    if isinstance(content, Path) and not content.is_file():
        raise DataError(f"{name}: the file is missing", "Restore the file or delete its row.")
    image = _load(content, name)
    turn = _UPRIGHT.get(_orientation(image))
    alpha = image.has_transparency_data
    try:
        image = _composite(_eight_bit(image), colour)
    except ValueError as error:
        raise _unreadable(name, error) from error
    if turn is not None:
        image = image.transpose(turn)
    # A copy sheds the colour profile and other metadata that would travel along.
    image.info = {"alpha": alpha, "turned": turn is not None}
    return image


def _unreadable(name: str, reason: object) -> DataError:
    return DataError(f"{name}: unreadable: {reason}", "Replace the file or delete its row.")


def _load(content: bytes | Path, name: str) -> Image.Image:
    if not isinstance(content, Path) and not content:
        raise _unreadable(name, "it is empty")
    source = content if isinstance(content, Path) else io.BytesIO(content)
    try:
        with Image.open(source, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise _unreadable(name, f"{width} x {height} pixels are more than {MAX_PIXELS:,}")
            if max(width, height) > MAX_ASPECT * min(width, height):
                raise _unreadable(name, f"of {width} x {height} pixels one side is over {MAX_ASPECT} times the other")
            image.load()
    except DataError:
        raise
    except UnidentifiedImageError:
        raise _unreadable(name, "not a picture in a known format") from None
    # Decoders meet broken bytes with nearly any exception: OSError, SyntaxError, struct.error, zlib.error, ...
    except Exception as error:
        raise _unreadable(name, error or type(error).__name__) from error
    return image


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8. A broken EXIF block says nothing about the picture, so it counts as upright."""
    try:
        # The ids of EXIF's tags are fixed; 0x0112 is the orientation.
        return int(image.getexif().get(0x0112, 1))
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return 1


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow has 16-bit greys in modes I;16* and, of some formats, I.
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("32-bit grey values outside 0 .. 65535 have no defined white")
        levels = Image.fromarray(((values + 128) // 257).astype(np.uint8))
        if "transparency" in image.info:
            opaque = np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)
            return Image.merge("LA", (levels, Image.fromarray(opaque)))
        return levels
    if image.mode == "F":
        values = np.asarray(image)
        # Written so that a NaN fails as well.
        if not (values.min() >= 0 and values.max() <= 1):
            raise ValueError("floating-point grey values outside 0 .. 1 have no defined white")
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    return image


def _composite(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    if not image.has_transparency_data:
        return image.copy() if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    ground = Image.new("RGBA", image.size, (*colour, 255))
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")


def resize_and_crop(
    image: Image.Image, *, resolution: int, interpolation: str, left: float | None, top: float | None, flip: bool
) -> Tensor:
    """A square of a picture, its short side scaled to the square's side first.

    Args:
        image: RGB, 8 bit.
        resolution: Side of the square, in pixels.
        interpolation: Name of one of Pillow's filters, such as `lanczos`.
        left: Where between leftmost and rightmost the square lies, in [0, 1); None is the centre.
        top: The same from the top.
        flip: Mirror it left to right.

    Returns:
        (3, resolution, resolution), float32, in [-1, 1].
    """
    size, (x, y) = window(image.size, resolution, left, top)
    if size != image.size:
        image = image.resize(size, Image.Resampling[interpolation.upper()])
    image = image.crop((x, y, x + resolution, y + resolution))
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
    return pixels.float() / 127.5 - 1


def window(
    size: tuple[int, int], resolution: int, left: float | None, top: float | None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(size that a picture is scaled to, left upper corner of the square in it), both in pixels.

    Args:
        size: Of the picture, width and height.
        resolution: Side of the square.
        left: See `resize_and_crop`.
        top: See `resize_and_crop`.
    """
    width, height = size
    short = min(width, height)
    # The long side is rounded down, as torchvision's Resize does.
    scaled = (resolution * width // short, resolution * height // short)
    return scaled, (_offset(left, scaled[0] - resolution), _offset(top, scaled[1] - resolution))


def _offset(place: float | None, room: int) -> int:
    if place is None:
        # Halves go to the even neighbour, as in torchvision's CenterCrop.
        return round(room / 2)
    assert 0 <= place < 1, place
    return int(place * (room + 1))
