"""Whatever pictures come as, they are read as what they are or refused in words."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from image_folders import picture
from PIL import Image

from eval.images import as_images, paired, read_folder
from toolkit.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 6, 5, 3), dtype=np.uint8)
ALL_LEVELS = np.arange(256 * 3, dtype=np.uint8).reshape(16, 16, 3)


def as_arrays(images, **options):
    found = as_images(images, **options)
    assert all(image.mode == "RGB" for image in found)
    return [np.asarray(image) for image in found]


def same(found, expected):
    return len(found) == len(expected) and all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_eight_bits_are_read_in_all_four_shapes(make):
    first = np.ascontiguousarray(np.moveaxis(PIXELS, -1, 1))
    assert same(as_arrays(make(PIXELS)), PIXELS)
    assert same(as_arrays(make(first)), PIXELS)
    assert same(as_arrays(make(PIXELS[0])), PIXELS[:1])
    assert same(as_arrays(make(first[0])), PIXELS[:1])


def test_sequences_may_mix_pictures_of_all_kinds_and_sizes():
    mixed = [picture(1), PIXELS[0], torch.from_numpy(PIXELS), picture(2, 9, 4)]
    assert same(as_arrays(mixed), [np.asarray(picture(1)), PIXELS[0], *PIXELS, np.asarray(picture(2, 9, 4))])
    assert as_images([]) == []


@pytest.mark.parametrize("shape", [(3, 7, 3), (2, 3, 7, 3), (3, 3, 3), (5, 3, 3, 3)])
def test_a_shape_that_can_be_read_in_two_ways_is_refused(shape):
    with pytest.raises(DataError, match="channels first and with channels last"):
        as_images(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("shape", [(7, 7), (7, 7, 1), (4, 7, 7), (1, 2, 7, 7, 3), (0, 7, 3), (2, 7, 0, 3), (3,)])
def test_a_shape_that_is_no_rgb_picture_is_refused(shape):
    with pytest.raises(DataError, match="no RGB picture"):
        as_images(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_level_survives_as_a_float_of_either_range(dtype):
    unit = (ALL_LEVELS / 255).astype(dtype)
    assert same(as_arrays(unit, value_range=(0, 1)), [ALL_LEVELS])
    assert same(as_arrays((unit * 2 - 1).astype(dtype), value_range=(-1, 1)), [ALL_LEVELS])
    tensor = torch.from_numpy(unit).requires_grad_()
    assert same(as_arrays(tensor, value_range=(0, 1)), [ALL_LEVELS])


@given(arrays(np.float64, (4, 2, 3), elements=st.floats(0, 1)))
def test_floats_are_rounded_to_the_nearest_level_and_never_truncated(values):
    (found,) = as_arrays(values, value_range=(0, 1))
    assert np.abs(found - values * 255).max() <= 0.5 + 1e-9
    (found,) = as_arrays(values * 2 - 1, value_range=(-1, 1))
    assert np.abs(found - values * 255).max() <= 0.5 + 1e-9


def test_bfloat16_is_read():
    assert same(as_arrays(torch.ones(3, 4, 5, dtype=torch.bfloat16), value_range=(0, 1)), [np.full((4, 5, 3), 255)])


def test_an_undeclared_range_is_refused_and_both_ways_out_are_named():
    for floats in (PIXELS[0] / 255, torch.zeros(3, 4, 4), [picture(0), PIXELS[0].astype(np.float32)]):
        with pytest.raises(DataError, match="no declared range") as error:
            as_images(floats)
        assert "value_range=(0, 1)" in error.value.remedy
        assert "value_range=(-1, 1)" in error.value.remedy


@pytest.mark.parametrize("wrong", [-1e-6, 1.00001, 255.0, np.nan, np.inf])
def test_a_value_outside_the_declared_range_is_refused_and_its_picture_named(wrong):
    values = np.full((3, 4, 5, 3), 0.5)
    values[2, 1, 1, 1] = wrong
    with pytest.raises(DataError, match=r"images\[2\] has values"):
        as_images(values, value_range=(0, 1))
    with pytest.raises(DataError, match=r"images\[1\]\[2\] has values"):
        as_images([values[:2], torch.from_numpy(values)], value_range=(0, 1))


def test_a_range_is_refused_where_it_says_nothing_or_is_unknown():
    for images in (PIXELS, picture(0)):
        with pytest.raises(DataError, match="not floating point"):
            as_images(images, value_range=(0, 1))
    with pytest.raises(DataError, match="value_range is"):
        as_images(PIXELS / 255, value_range=(0, 255))


@pytest.mark.parametrize("wrong", ["folder", Path("folder"), None, 3, PIXELS.astype(np.int64), PIXELS > 3, [[1]]])
def test_what_is_no_picture_is_refused(wrong):
    with pytest.raises(DataError, match="type"):
        as_images(wrong)


def test_every_mode_of_pil_images_is_read_by_the_rules_of_files():
    grey = Image.fromarray(PIXELS[0, :, :, 0])
    sixteen = np.array([[0, 257 * 7, 65535]], dtype=np.uint16)
    assert same(as_arrays([grey]), [np.repeat(PIXELS[0, :, :, :1], 3, axis=2)])
    for deep in (Image.fromarray(sixteen), Image.fromarray(sixteen.astype(np.int32))):
        assert as_arrays([deep])[0][0, :, 0].tolist() == [0, 7, 255]
    floats = Image.fromarray(np.array([[0, 0.5, 1]], dtype=np.float32))
    assert as_arrays([floats])[0][0, :, 1].tolist() == [0, 128, 255]
    colour = Image.fromarray(PIXELS[0])
    for mode in ("CMYK", "YCbCr", "HSV", "RGBX"):
        assert same(as_arrays([colour.convert(mode)]), [np.asarray(colour.convert(mode).convert("RGB"))])


def test_what_is_transparent_lies_on_white_in_every_mode():
    colours = Image.new("RGBA", (2, 1), (200, 100, 50, 255))
    colours.putpixel((1, 0), (200, 100, 50, 0))
    opaque, clear = (200, 100, 50), (255, 255, 255)
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 100, 50, 1, 2, 3])
    palette.putpixel((1, 0), 1)
    palette.info["transparency"] = 1
    keyed = Image.new("RGB", (2, 1), opaque)
    keyed.putpixel((1, 0), (1, 2, 3))
    keyed.info["transparency"] = (1, 2, 3)
    for image in (colours, colours.convert("RGBa"), palette, keyed):
        assert [tuple(pixel) for pixel in as_arrays([image])[0][0].tolist()] == [opaque, clear]
    for image in (colours.convert("LA"), colours.convert("LA").convert("La")):
        assert as_arrays([image])[0][0, :, 0].tolist() == [124, 255]


def test_a_pending_rotation_is_carried_out_as_for_files():
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(buffer, "PNG", exif=exif)
    (found,) = as_arrays([Image.open(buffer)])
    assert np.array_equal(found, np.rot90(PIXELS[0], -1))


def test_a_broken_or_undefined_pil_image_is_refused_and_named():
    buffer = io.BytesIO()
    picture(0, 64, 64).save(buffer, "PNG")
    broken = Image.open(io.BytesIO(buffer.getvalue()[:2000]))
    with pytest.raises(DataError, match=r"images\[1\]: unreadable"):
        as_images([picture(0), broken])
    with pytest.raises(DataError, match=r"images\[0\]: unreadable: 32-bit grey"):
        as_images([Image.fromarray(np.array([[-1]], dtype=np.int32))])
    with pytest.raises(DataError, match="no picture"):
        as_images(Image.new("RGB", (0, 4)))


def test_pictures_are_not_changed_by_being_read():
    image = picture(0).convert("RGBA")
    before = image.tobytes(), image.mode
    as_images(image)
    assert (image.tobytes(), image.mode) == before


def save(folder, *names):
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(folder / name)
    return folder


def test_a_folder_is_read_by_name_in_natural_order(tmp_path):
    save(tmp_path, "a10.png", "a2.png", "A1.PNG", "b/c/x.y.png", "a02.png", "b/7.png", ".hidden/a.png", ".a.png")
    (tmp_path / "metadata.jsonl").write_text("{}")
    folder = read_folder(tmp_path)
    assert folder.names == ("A1", "a02", "a2", "a10", "b/7", "b/c/x.y")
    assert len(folder) == 6
    assert folder.formats == {"PNG": 6}
    assert folder.warnings == ()
    assert np.array_equal(np.asarray(folder.image("a2")), np.asarray(picture(1)))
    assert same(as_arrays(folder[1:3]), [np.asarray(picture(4)), np.asarray(picture(1))])
    assert np.array_equal(np.asarray(folder[-1]), np.asarray(picture(3)))


def test_jpeg_and_png_in_one_folder_are_counted_and_warned_of(tmp_path):
    folder = read_folder(save(tmp_path, "a.jpg", "b.JPEG", "c.png"))
    assert folder.formats == {"JPEG": 2, "PNG": 1}
    (warning,) = folder.warnings
    assert "2 JPEG and 1 PNG" in warning
    assert folder[2:].warnings == ()


def test_two_pictures_of_one_name_are_refused_and_both_named(tmp_path):
    with pytest.raises(DataError, match=r"b/a\.jpg and b/a\.png"):
        read_folder(save(tmp_path, "b/a.png", "b/a.jpg"))


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read_folder(tmp_path / "missing")
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(DataError, match="no picture in it"):
        read_folder(tmp_path)


def test_files_are_decoded_when_asked_for_and_broken_ones_are_named(tmp_path):
    save(tmp_path, "a.png", "b.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    folder = read_folder(tmp_path)
    assert folder.image("a").size == (6, 5)
    with pytest.raises(DataError, match=r"b\.png: unreadable"):
        folder.image("b")
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png: the file is missing"):
        folder.image("a")


def test_folders_are_paired_by_name_whatever_the_formats(tmp_path):
    first = read_folder(save(tmp_path / "first", "b.png", "a1.png", "a10.png", "a2.png"))
    second = read_folder(save(tmp_path / "second", "a2.jpg", "a10.png", "b.png", "a1.jpg"))
    assert paired(first, second) == ("a1", "a2", "a10", "b")
    assert second.image("b").tobytes() == picture(2).tobytes()


def test_names_without_partners_are_listed_for_both_folders(tmp_path):
    first = read_folder(save(tmp_path / "first", "a.png", "b.png", "c.png"))
    second = read_folder(save(tmp_path / "second", "a.png", *(f"d{i}.png" for i in range(12))))
    with pytest.raises(DataError) as error:
        paired(first, second)
    assert "2 of" in error.value.problem
    assert "b, c" in error.value.problem
    assert "12 of" in error.value.problem
    assert "d0, d1, d2, d3, d4, ..." in error.value.problem
