"""What an import makes of an image and of its bounding box."""

from pathlib import Path

import archives
import pytest
from archives import imported as run
from hypothesis import given
from hypothesis import strategies as st
from image_folders import opened
from PIL import Image
from torchvision.transforms import functional

from toolkit.data.importers.command import DATASETS
from toolkit.data.importers.dataset import Box
from toolkit.data.importers.pictures import clamp, frame_of, scaled
from toolkit.errors import DataError

SIDES = st.integers(1, 60)
QUARTERS = st.integers(-80, 280).map(lambda quarters: quarters / 4)
BOXES = st.builds(Box, QUARTERS, QUARTERS, QUARTERS.map(abs), QUARTERS.map(abs))
"""Of quarters of pixels, so that sums are exact."""


@pytest.fixture
def root(tmp_path):
    return archives.build_all(tmp_path / "archives")


def test_copies_are_the_original_bytes(root, tmp_path):
    rows, description = run("cub", root, tmp_path / "out", "--copy")
    for row, record in zip(rows, DATASETS["cub"].read(root).records, strict=True):
        path = tmp_path / "out" / row["file_name"]
        assert not path.is_symlink()
        assert path.read_bytes() == record.image.read_bytes()
    assert description["links"] == 0


def test_where_links_cannot_be_made_images_are_copied(root, tmp_path, monkeypatch):
    def refuse(self, target):
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    rows, description = run("cub", root, tmp_path / "out")
    assert description["links"] == 0
    assert all((tmp_path / "out" / row["file_name"]).is_file() for row in rows)


def test_sketches_keep_their_photos_at_the_same_size(root, tmp_path):
    rows, _ = run("fscoco", root, tmp_path / "out", "--size", 8, "--crop", "center")
    for row in rows:
        for column in ("file_name", "photo_file_name"):
            assert Image.open(tmp_path / "out" / row[column]).size == (8, 8)
        assert row["photo_file_name"] == row["file_name"].replace("images/", "photo/")
    assert len(opened(tmp_path / "out", image_column="photo")) == 3


@pytest.mark.parametrize("crop", ["none", "center", "bbox"])
@pytest.mark.parametrize("size", [None, 6])
def test_a_row_describes_the_image_that_was_written(root, tmp_path, crop, size):
    flags = ["--crop", crop, *(["--size", size] if size else [])]
    rows, description = run("nabirds", root, tmp_path / "out", *flags)
    for row in rows:
        image = Image.open(tmp_path / "out" / row["file_name"])
        assert image.size == (row["width"], row["height"])
        x, y, width, height = row["bbox"]
        assert min(x, y) >= 0
        assert min(width, height) > 0
        assert x + width <= row["width"] + 1e-3
        assert y + height <= row["height"] + 1e-3
        if size:
            assert min(image.size) == size
        if size or crop != "none":
            assert (image.format, image.mode) == ("PNG", "RGB")
    assert (description["crop"], description["size"]) == (crop, size)


def test_a_box_moves_with_its_picture(root, tmp_path):
    rows, _ = run("cub", root, tmp_path / "plain")
    assert [row["bbox"] for row in rows] == [[2, 3, 10, 5]] * 4
    # The middle square of 20 x 15 pixels begins at column 2.
    rows, _ = run("cub", root, tmp_path / "middle", "--crop", "center", "--size", 30)
    assert [row["bbox"] for row in rows] == [[0, 6, 20, 10]] * 4
    # The square about the box: columns 2 to 12, rows 0 to 10.
    rows, _ = run("cub", root, tmp_path / "box", "--crop", "bbox", "--size", 5)
    assert [row["bbox"] for row in rows] == [[0, 1.5, 5, 2.5]] * 4
    assert {(row["width"], row["height"]) for row in rows} == {(5, 5)}
    written = Image.open(tmp_path / "box" / rows[0]["file_name"])
    original = Image.open(DATASETS["cub"].read(root).records[0].image).convert("RGB")
    assert written.tobytes() == original.crop((2, 0, 12, 10)).resize((5, 5), Image.Resampling.LANCZOS).tobytes()


def test_a_grey_photo_with_an_overflowing_box_is_imported(root, tmp_path):
    rows, _ = run("nabirds", root, tmp_path / "out")
    boxes = {row["source_id"]: row["bbox"] for row in rows}
    assert boxes[archives.NABIRDS_OVERFLOWING] == [0, 4, 24, 14]
    rows, _ = run("nabirds", root, tmp_path / "small", "--size", 9)
    grey = next(row for row in rows if row["source_id"] == archives.NABIRDS_GREY)
    assert Image.open(tmp_path / "small" / grey["file_name"]).mode == "RGB"


@given(width=SIDES, height=SIDES, box=BOXES)
def test_the_kept_part_holds_the_box_and_is_square_where_it_fits(width, height, box):
    inside = clamp(box, width, height)
    if inside is None:
        return
    assert 0 <= inside.x < inside.x + inside.width <= width + 1e-9
    left, top, right, bottom = frame_of("bbox", width, height, inside)
    assert 0 <= left <= inside.x
    assert inside.x + inside.width <= right <= width
    assert 0 <= top <= inside.y
    assert inside.y + inside.height <= bottom <= height
    sides = sorted([right - left, bottom - top])
    assert sides[0] == sides[1] or sides[0] == min(width, height)


@given(box=BOXES, width=SIDES, height=SIDES)
def test_a_box_is_dropped_only_where_nothing_of_it_is_in_the_image(box, width, height):
    corners = (box.x < width and box.x + box.width > 0) and (box.y < height and box.y + box.height > 0)
    assert (clamp(box, width, height) is not None) == (corners and box.width > 0 and box.height > 0)


@given(width=SIDES, height=SIDES, size=st.integers(1, 40))
def test_center_is_the_crop_of_torchvision_and_sizes_are_its_resize(width, height, size):
    image = Image.effect_noise((width, height), 90)
    theirs = functional.center_crop(image, min(width, height))
    assert image.crop(frame_of("center", width, height, None)).tobytes() == theirs.tobytes()
    assert scaled(width, height, size) == functional.resize(image, size).size


def test_a_turned_image_cannot_be_cropped_to_its_box(root, tmp_path):
    path = DATASETS["cub"].read(root).records[0].image
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).save(path, exif=exif)
    rows, _ = run("cub", root, tmp_path / "out")
    assert "bbox" not in rows[0]
    assert (rows[0]["width"], rows[0]["height"]) == (15, 20)
    with pytest.raises(DataError, match="EXIF turns the image"):
        run("cub", root, tmp_path / "box", "--crop", "bbox")
