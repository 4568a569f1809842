import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from toolkit.errors import ConfigError, DataError
from toolkit.images import MAX_PIXELS, decode_image, resize_and_crop


def encoded(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def decoded(content: bytes | Path, background: str = "white") -> Image.Image:
    return decode_image(content, background=background, name="birds/7.jpg")


def pixels(content: bytes | Path, background: str = "white") -> list[tuple[int, ...]]:
    image = decoded(content, background)
    assert image.mode == "RGB"
    return [tuple(p) for p in np.asarray(image).reshape(-1, 3).tolist()]


def png(width: int, height: int, bit_depth: int, colour_type: int, data: bytes, transparency: bytes = b"") -> bytes:
    """A PNG of kinds that Pillow does not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    if transparency:
        chunks.insert(1, chunk(b"tRNS", transparency))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def photo(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def test_an_opaque_picture_is_unchanged() -> None:
    image = photo(5, 3)
    assert decoded(encoded(image)).tobytes() == image.tobytes()


def test_a_file_and_its_bytes_are_the_same(tmp_path: Path) -> None:
    content = encoded(photo(5, 3))
    (tmp_path / "a.png").write_bytes(content)
    assert decoded(tmp_path / "a.png").tobytes() == decoded(content).tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_turned_upright(orientation: int, file_format: str) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8], upright[:8, 24:], upright[8:, :8] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    # EXIF 2.32, table 6: where the file's row 0 and column 0 lie in the upright picture.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    faithful: dict[str, dict[str, object]] = {
        "JPEG": {"quality": 95},
        "WEBP": {"lossless": True},
        "TIFF": {"compression": "tiff_lzw"},
    }
    options = faithful.get(file_format, {})
    image = decoded(encoded(Image.fromarray(np.ascontiguousarray(stored)), file_format, exif=exif, **options))
    assert image.size == (32, 16)
    assert np.abs(np.asarray(image)[::4, ::4].astype(int) - upright[::4, ::4]).max() < 100
    if file_format != "TIFF":  # Pillow itself turns these.
        assert image.info["turned"] == (orientation != 1)


def test_a_broken_exif_block_does_not_make_a_picture_unreadable() -> None:
    assert decoded(encoded(photo(8, 8), "JPEG", exif=b"Exif\0\0 no TIFF header")).size == (8, 8)


def test_transparent_pixels_show_the_background() -> None:
    half = Image.new("RGBA", (1, 1), (255, 0, 0, 128))
    assert pixels(encoded(half)) == [(255, 127, 127)]
    assert pixels(encoded(half), "black") == [(128, 0, 0)]
    assert pixels(encoded(Image.new("RGBA", (1, 1), (255, 0, 0, 0))), "#0102ff") == [(1, 2, 255)]


def test_every_way_to_store_transparency_is_composited() -> None:
    grey = Image.new("LA", (2, 1), (10, 255))
    grey.putpixel((1, 0), (10, 0))
    assert pixels(encoded(grey), "lime") == [(10, 10, 10), (0, 255, 0)]

    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 8, 7, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    assert pixels(encoded(palette, transparency=1), "lime") == [(9, 8, 7), (0, 255, 0)]
    assert pixels(encoded(palette, transparency=bytes([255, 0])), "lime") == [(9, 8, 7), (0, 255, 0)]
    assert pixels(encoded(palette, "GIF", transparency=1), "lime") == [(9, 8, 7), (0, 255, 0)]

    keyed = Image.new("RGB", (2, 1), (1, 2, 3))
    keyed.putpixel((1, 0), (4, 5, 6))
    assert pixels(encoded(keyed, transparency=(4, 5, 6)), "lime") == [(1, 2, 3), (0, 255, 0)]

    deep = png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 257, 514), struct.pack(">H", 514))
    assert pixels(deep, "lime") == [(1, 1, 1), (0, 255, 0)]


def test_transparency_is_recorded() -> None:
    assert decoded(encoded(Image.new("RGBA", (1, 1)))).info == {"alpha": True, "turned": False}
    assert decoded(encoded(Image.new("RGB", (1, 1)))).info == {"alpha": False, "turned": False}


SIXTEEN_BITS = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
def test_16_bit_greys_are_scaled_not_clipped(file_format: str) -> None:
    content = encoded(Image.fromarray(SIXTEEN_BITS), file_format)
    assert [p[0] for p in pixels(content)] == [0, 0, 1, 1, 128, 255]


def test_16_bit_greys_of_either_byte_order() -> None:
    for mark, order in ((b"II*\0", "<"), (b"MM\0*", ">")):
        data = SIXTEEN_BITS.astype(f"{order}u2").tobytes()
        fields = {256: 6, 257: 1, 258: 16, 259: 1, 262: 1, 273: 8 + 2 + 12 * 8 + 4, 278: 1, 279: len(data)}
        entries = b"".join(
            struct.pack(f"{order}HHIHH", tag, 3, 1, *((value, 0) if tag else ())) for tag, value in fields.items()
        )
        directory = struct.pack(f"{order}H", len(fields)) + entries + b"\0\0\0\0"
        content = mark + struct.pack(f"{order}I", 8) + directory + data
        assert [p[0] for p in pixels(content)] == [0, 0, 1, 1, 128, 255]


def test_16_bit_colours() -> None:
    content = png(2, 1, 16, 2, b"\0" + struct.pack(">6H", 0, 32768, 65535, 65535, 0, 257))
    assert pixels(content) == [(0, 128, 255), (255, 0, 1)]


def test_floats_are_scaled_and_refused_where_white_is_undefined() -> None:
    good = Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32))
    assert [p[0] for p in pixels(encoded(good, "TIFF"))] == [0, 128, 255]
    for wrong in (255.0, -0.1, float("nan")):
        with pytest.raises(DataError, match=r"outside 0 \.\. 1"):
            decoded(encoded(Image.fromarray(np.array([[wrong]], np.float32)), "TIFF"))


def test_32_bit_greys_without_a_defined_white_are_refused() -> None:
    with pytest.raises(DataError, match=r"birds/7\.jpg.*32-bit"):
        decoded(encoded(Image.fromarray(np.array([[70000]], np.int32)), "TIFF"))


def test_grey_black_and_white_palette_and_cmyk_become_rgb() -> None:
    assert pixels(encoded(Image.new("L", (1, 1), 77))) == [(77, 77, 77)]
    assert pixels(encoded(Image.new("1", (1, 1), 1))) == [(255, 255, 255)]
    palette = Image.new("P", (1, 1))
    palette.putpalette([9, 8, 7])
    assert pixels(encoded(palette)) == [(9, 8, 7)]
    (cmyk,) = set(pixels(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)))
    assert np.abs(np.array(cmyk) - (255, 0, 0)).max() < 8


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_truncated_file_is_named(file_format: str) -> None:
    content = encoded(photo(64, 64), file_format)
    with pytest.raises(DataError, match=r"birds/7\.jpg: unreadable"):
        decoded(content[: len(content) // 2])


def test_what_is_no_picture_is_named() -> None:
    with pytest.raises(DataError, match=r"birds/7\.jpg.*not a picture"):
        decoded(b"<html>404</html>")
    with pytest.raises(DataError, match=r"birds/7\.jpg.*empty"):
        decoded(b"")
    # PostScript would be run by another program.
    with pytest.raises(DataError, match=r"birds/7\.jpg.*not a picture"):
        decoded(encoded(photo(4, 4), "EPS"))


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.jpg", tmp_path):
        with pytest.raises(DataError, match=r"birds/7\.jpg: the file is missing"):
            decoded(path)


@pytest.mark.parametrize("side", [13_400, 2**31 - 1])
def test_a_small_file_that_claims_a_huge_picture_is_refused_unread(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert side**2 > MAX_PIXELS
    # Some libraries switch Pillow's own limit off.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(DataError, match=r"birds/7\.jpg.*pixels"):
        decoded(png(side, side, 8, 2, b"\0" * 100))


def test_a_strip_is_refused() -> None:
    assert decoded(encoded(Image.new("L", (100, 1)))).size == (100, 1)
    with pytest.raises(DataError, match="101 x 1"):
        decoded(encoded(Image.new("L", (101, 1))))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]), st.randoms(use_true_random=False))
def test_corrupted_files_decode_or_raise_a_data_error(file_format: str, chance: random.Random) -> None:
    content = bytearray(encoded(photo(9, 7), file_format))
    for _ in range(chance.randint(1, 8)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    try:
        assert decoded(bytes(content)).mode == "RGB"
    except DataError as error:
        assert error.problem.startswith("birds/7.jpg")


@pytest.mark.parametrize("background", ["wite", "#ff", "", "#ffffff80"])
def test_a_wrong_background_names_its_key(background: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.background"):
        decoded(encoded(photo(2, 2)), background)


@pytest.mark.parametrize("size", [(64, 64), (100, 63), (63, 100), (47, 31), (31, 33), (32, 32), (640, 33), (35, 32)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_the_centre_crop_is_torchvisions(size: tuple[int, int], interpolation: str) -> None:
    image = photo(*size)
    oracle = v2.Compose(
        [
            v2.Resize(32, interpolation=v2.InterpolationMode(interpolation)),
            v2.CenterCrop(32),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5], [0.5]),
        ]
    )
    ours = resize_and_crop(image, resolution=32, interpolation=interpolation, left=None, top=None, flip=False)
    assert ours.shape == (3, 32, 32) and ours.dtype == torch.float32
    torch.testing.assert_close(ours, torch.as_tensor(oracle(image)), rtol=0, atol=1e-6)


def test_the_range_is_exact() -> None:
    for level, value in ((0, -1.0), (255, 1.0)):
        image = Image.new("RGB", (4, 4), (level,) * 3)
        tensor = resize_and_crop(image, resolution=4, interpolation="lanczos", left=None, top=None, flip=False)
        assert (tensor == value).all()


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 9))
def test_the_square_reaches_both_ends_and_never_leaves(place: float, room: int) -> None:
    columns = np.zeros((3, 3 + room, 3), np.uint8) + np.arange(3 + room, dtype=np.uint8)[None, :, None]
    for image, left, top in ((columns, place, 0.0), (columns.transpose(1, 0, 2), 0.0, place)):
        square = resize_and_crop(
            Image.fromarray(np.ascontiguousarray(image)),
            resolution=3,
            interpolation="box",
            left=left,
            top=top,
            flip=False,
        )
        assert round((square.min().item() + 1) * 127.5) == int(place * (room + 1)) <= room


def test_flip_mirrors_the_crop_it_was_given() -> None:
    def square(flip: bool) -> torch.Tensor:
        return resize_and_crop(photo(90, 40), resolution=32, interpolation="bicubic", left=0.3, top=0.0, flip=flip)

    assert torch.equal(square(True), square(False).flip(2))
    assert not torch.equal(square(True), square(False))
