"""Stanford Cars and Flowers-102, against torchvision's readers of the same archives."""

import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_folders import state
from matlab_archives import (
    CAR_CLASSES,
    FLOWER_LABELS,
    TEST_CARS,
    TRAIN_CARS,
    cells,
    flowers102,
    stanford_cars,
    stanford_cars_in_one,
    structures,
    write_mat,
)
from scipy.io import savemat
from torchvision.datasets import Flowers102, StanfordCars

from toolkit.data.importers.dataset import Box
from toolkit.data.importers.flowers102 import DATASET as FLOWERS
from toolkit.data.importers.matlab import MatlabFile
from toolkit.data.importers.stanford_cars import DATASET as CARS
from toolkit.errors import DataError
from toolkit.images import decode_image


def rows(archive, split):
    """(file, label, picture) of each image of a split."""
    labels = {class_id: label for label, class_id in enumerate(archive.classes)}
    return [
        (record.image, labels[record.class_id], pixels(record.image))
        for record in archive.records
        if record.split == split
    ]


def pixels(path):
    return decode_image(path, background="white", name=path.name).tobytes()


def contents(archive):
    """What is said of each picture, whatever it is called."""
    return {pixels(record.image): (record.split, record.class_id, record.box) for record in archive.records}


@pytest.mark.parametrize("split", ["train", "test"])
def test_cars_are_torchvisions_row_by_row(tmp_path, split):
    stanford_cars(tmp_path)
    archive, oracle = CARS.read(tmp_path), StanfordCars(tmp_path, split)
    theirs = [(Path(path), label) for path, label in oracle._samples]
    assert [(path, label) for path, label, _ in rows(archive, split)] == theirs
    assert [picture for *_, picture in rows(archive, split)] == [image.tobytes() for image, _ in oracle]
    assert list(archive.classes.values()) == oracle.classes == list(CAR_CLASSES)
    assert len(theirs) > 1


@pytest.mark.parametrize(("split", "name"), [("train", "train"), ("val", "validation"), ("test", "test")])
def test_flowers_are_torchvisions_row_by_row(tmp_path, monkeypatch, split, name):
    flowers102(tmp_path)
    # It would compare the files with the originals' checksums.
    monkeypatch.setattr(Flowers102, "_check_integrity", lambda self: True)
    archive, oracle = FLOWERS.read(tmp_path), Flowers102(tmp_path, split)
    theirs = list(zip(oracle._image_files, oracle._labels, strict=True))
    assert [(path, label) for path, label, _ in rows(archive, name)] == theirs
    assert [picture for *_, picture in rows(archive, name)] == [image.tobytes() for image, _ in oracle]
    assert len(theirs) > 1


def test_flowers_have_torchvisions_names_in_its_order(tmp_path):
    flowers102(tmp_path)
    classes = FLOWERS.read(tmp_path).classes
    assert list(classes.values()) == Flowers102.classes
    assert list(classes) == [str(number) for number in range(1, 103)]


def test_every_flower_is_in_one_split_and_ids_are_file_names(tmp_path):
    flowers102(tmp_path)
    records = FLOWERS.read(tmp_path).records
    assert sorted(record.source_id for record in records) == [f"image_{n:05d}.jpg" for n in range(1, 9)]
    assert {r.source_id: r.class_id for r in records}["image_00004.jpg"] == str(FLOWER_LABELS[3])
    assert not any(record.captions or record.box or record.groups for record in records)


def test_boxes_count_pixels_from_0_and_hold_both_corners(tmp_path):
    stanford_cars(tmp_path)
    boxes = {record.source_id: record.box for record in CARS.read(tmp_path).records}
    assert boxes["cars_train/00001.jpg"] == Box(38, 5, 22, 42)
    # All of an image of 300 x 256 pixels, and a single pixel.
    assert boxes["cars_train/00002.jpg"] == Box(0, 0, 300, 256)
    assert boxes["cars_train/00003.jpg"] == Box(1, 2, 1, 1)
    assert boxes["cars_test/00003.jpg"] == Box(0, 1, 255, 47)


def test_both_packagings_say_the_same_of_each_picture_and_number_them_differently(tmp_path):
    split, one = CARS.read(stanford_cars(tmp_path / "a")), CARS.read(stanford_cars_in_one(tmp_path / "b"))
    assert contents(one) == contents(split)
    assert len(contents(split)) == len(one.records) == len(TRAIN_CARS) + len(TEST_CARS)
    assert one.classes == split.classes == {str(n): name for n, name in enumerate(CAR_CLASSES, start=1)}
    assert {record.source_id for record in one.records} == {f"car_ims/{n:06d}.jpg" for n in range(1, 8)}


def test_images_of_a_mirror_lie_one_folder_deeper(tmp_path):
    flat = CARS.read(stanford_cars(tmp_path / "a"))
    nested = CARS.read(stanford_cars(tmp_path / "b", nested=True))
    assert contents(nested) == contents(flat)
    assert [record.source_id for record in nested.records] == [record.source_id for record in flat.records]
    assert nested.records[0].image == tmp_path / "b/stanford_cars/cars_train/cars_train/00001.jpg"


def test_images_of_both_splits_have_ids_of_their_own(tmp_path):
    records = CARS.read(stanford_cars(tmp_path)).records
    assert len({record.source_id for record in records}) == len(records) == 7


@pytest.mark.parametrize(
    ("dataset", "write"), [(CARS, stanford_cars), (CARS, stanford_cars_in_one), (FLOWERS, flowers102)]
)
def test_the_archive_is_found_in_its_parent_and_nothing_is_written(tmp_path, dataset, write):
    folder = write(tmp_path)
    before = state(tmp_path)
    assert dataset.read(tmp_path) == dataset.read(folder)
    assert state(tmp_path) == before


def test_splits_of_one_image_are_read(tmp_path):
    stanford_cars(tmp_path, TRAIN_CARS[:1], TEST_CARS[:1])
    assert [(r.split, r.class_id) for r in CARS.read(tmp_path).records] == [("train", "3"), ("test", "4")]
    flowers102(tmp_path, (9, 8, 7), {"trnid": [3], "valid": [1], "tstid": [2]})
    records = FLOWERS.read(tmp_path).records
    assert [(r.split, r.class_id) for r in records] == [("train", "7"), ("validation", "9"), ("test", "8")]


def test_files_that_systems_leave_behind_are_no_images(tmp_path):
    folder = stanford_cars(tmp_path)
    (folder / "cars_train/._00001.jpg").write_bytes(b"\0\5\26\7")
    (folder / "cars_train/Thumbs.db").write_bytes(b"")
    assert len(CARS.read(tmp_path).records) == 7


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("cars_test_annos_withlabels.mat", r"withlabels\.mat: the file is missing\nWithout it.* beside the folder dev"),
        ("devkit/cars_meta.mat", r"cars_meta\.mat: the file is missing\nIt is part of car_devkit"),
        ("devkit", r"devkit/cars_meta\.mat: the file is missing\n.*cars_annos\.mat cannot replace it"),
        ("devkit/cars_train_annos.mat", r"cars_train_annos\.mat: the file is missing"),
        ("cars_test", r"not complete: there is no cars_test"),
        ("cars_train/00002.jpg", r"annos\.mat: 1 image in it is not in \S*/cars_train: cars_train/00002\.jpg"),
        ("cars_test/00002.jpg", r"withlabels\.mat: 1 image in it is not in \S*/cars_test: cars_test/00002\.jpg"),
        ("", r"neither in it nor in stanford_cars/ in it is there cars_train, cars_test"),
    ],
)
def test_half_of_the_cars_is_refused_by_what_is_missing(tmp_path, gone, message):
    remove(stanford_cars(tmp_path) / gone)
    with pytest.raises(DataError, match=message):
        CARS.read(tmp_path)


def remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def test_the_labels_of_the_test_images_have_no_place_in_the_devkit(tmp_path):
    folder = stanford_cars(tmp_path)
    labels = folder / "cars_test_annos_withlabels.mat"
    labels.rename(folder / "devkit" / labels.name)
    with pytest.raises(DataError, match=r"_cars/cars_test_annos_withlabels\.mat: the file is missing(.|\n)*not into"):
        CARS.read(tmp_path)
    shutil.copy(folder / "devkit/cars_test_annos.mat", labels)
    with pytest.raises(DataError, match=r"withlabels\.mat: `annotations` has no field `class`; its fields are bbox_x1"):
        CARS.read(tmp_path)


def test_packagings_are_never_mixed(tmp_path):
    folder = stanford_cars_in_one(tmp_path)
    (folder / "cars_annos.mat").rename(tmp_path / "kept.mat")
    with pytest.raises(DataError, match=r"cars_annos\.mat: the file is missing\n.*lists in devkit cannot replace it"):
        CARS.read(tmp_path)
    (tmp_path / "kept.mat").rename(folder / "cars_annos.mat")
    stanford_cars(tmp_path)
    with pytest.raises(DataError, match=r"car_ims lies beside cars_train or cars_test(.|\n)*Keep one"):
        CARS.read(tmp_path)


def test_images_without_annotation_are_counted_and_named(tmp_path):
    folder = stanford_cars(tmp_path)
    for number in (5, 6, 7, 8):
        shutil.copy(folder / "cars_test/00001.jpg", folder / f"cars_test/0000{number}.jpg")
    expected = r"cars_test: 4 images in it are not in \S*labels\.mat: \S*05\.jpg, \S*06\.jpg, \S*07\.jpg, \.\.\.\n"
    with pytest.raises(DataError, match=expected):
        CARS.read(tmp_path)
    folder = stanford_cars_in_one(tmp_path / "in one")
    (folder / "car_ims/000002.jpg").rename(folder / "car_ims/00002.jpg")
    with pytest.raises(DataError, match=r"cars_annos\.mat: 1 image in it is not in .*: car_ims/000002\.jpg"):
        CARS.read(tmp_path / "in one")


ROW = {"bbox_x1": 1, "bbox_y1": 1, "bbox_x2": 2, "bbox_y2": 2, "class": 1, "fname": "00001.jpg"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class": 5}, r"element 2 of `annotations`: class 5 is not one of 1 to 4"),
        ({"class": 0}, r"class 0 is not one of 1 to 4"),
        ({"class": "3"}, r"element 2 of `annotations`, `class`: array\(\['3'\].* is not a whole number"),
        ({"bbox_x1": 3}, r"element 2 .*: no box has the corners \(3, 1\) and \(2, 2\)"),
        ({"bbox_y1": 0}, r"no box has the corners \(1, 0\)"),
        ({"bbox_y2": 0}, r"no box has the corners \(1, 1\) and \(2, 0\)"),
        ({"fname": "../00002.jpg"}, r"1 image in it is not in \S*: cars_train/\.\./00002\.jpg"),
        ({"fname": "00001.jpg"}, r"train: 1 image in it is not in \S*: cars_train/00002"),
        ({"fname": 2}, r"`fname`: array.* is not a line of text"),
    ],
)
def test_each_wrong_annotation_is_named(tmp_path, changes, message):
    folder = stanford_cars(tmp_path, TRAIN_CARS[:2])
    annotations = structures([ROW, ROW | {"fname": "00002.jpg"} | changes])
    write_mat(folder / "devkit/cars_train_annos.mat", annotations=annotations)
    with pytest.raises(DataError, match=message):
        CARS.read(tmp_path)


def test_an_image_annotated_twice_is_named(tmp_path):
    folder = stanford_cars(tmp_path, TRAIN_CARS[:1])
    write_mat(folder / "devkit/cars_train_annos.mat", annotations=structures([ROW, ROW]))
    with pytest.raises(DataError, match=r"1 image in it is listed more than once: cars_train/00001\.jpg"):
        CARS.read(tmp_path)


def test_a_split_that_is_neither_train_nor_test_is_named(tmp_path):
    folder = stanford_cars_in_one(tmp_path)
    cars = [{"relative_im_path": f"car_ims/{n:06d}.jpg"} | ROW | {"test": n // 7 * 2} for n in range(1, 8)]
    write_mat(folder / "cars_annos.mat", annotations=structures(cars), class_names=cells(CAR_CLASSES))
    with pytest.raises(DataError, match=r"element 7 of `annotations`: `test` is neither 0 nor 1"):
        CARS.read(tmp_path)


@pytest.mark.parametrize(
    ("labels", "splits", "message"),
    [
        ((5, 103), {}, r"imagelabels\.mat: the label of image_00002\.jpg is 103, not one of 1 to 102"),
        ((5, 0), {}, r"the label of image_00002\.jpg is 0"),
        ((5, 2, 3), {}, r"imagelabels\.mat: 1 image in it is not in \S*/jpg: image_00003\.jpg"),
        ((5,), {}, r"jpg: 1 image in it is not in \S*imagelabels\.mat: image_00002\.jpg"),
        ((5, 2), {"tstid": [3, 2]}, r"setid\.mat: 1 image in it is not in \S*/jpg: image_00003\.jpg"),
        ((5, 2), {"tstid": [0, 2]}, r"setid\.mat: 1 image in it is not in \S*/jpg: image_00000\.jpg"),
        ((5, 2), {"tstid": []}, r"jpg: 1 image in it is not in \S*setid\.mat: image_00002\.jpg"),
        ((5, 2), {"valid": [1]}, r"setid\.mat: 1 image in it is listed more than once: image_00001\.jpg"),
    ],
)
def test_labels_splits_and_images_of_flowers_must_agree(tmp_path, labels, splits, message):
    folder = flowers102(tmp_path, (5, 2), {"trnid": [1], "valid": [], "tstid": [2]} | splits)
    write_mat(folder / "imagelabels.mat", labels=np.array([labels], np.uint8))
    with pytest.raises(DataError, match=message):
        FLOWERS.read(tmp_path)


@pytest.mark.parametrize("gone", ["jpg", "imagelabels.mat", "setid.mat"])
def test_half_of_the_flowers_is_refused_by_what_is_missing(tmp_path, gone):
    remove(flowers102(tmp_path) / gone)
    with pytest.raises(DataError, match=rf"flowers-102: the archive is not complete: there is no {re.escape(gone)}"):
        FLOWERS.read(tmp_path)


def test_the_published_counts_add_up():
    for dataset in (CARS, FLOWERS):
        assert dataset.counts["images"] == sum(dataset.counts.get(s, 0) for s in ("train", "validation", "test"))


def old_format(path):
    savemat(path, {"labels": np.array([1, 2])}, format="4")


def newer_format(path):
    # MATLAB 7.3 writes HDF5 behind a header that tells its version.
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(384) + b"\x89HDF\r\n\x1a\n")


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-20])


def of_a_link(path):
    path.write_text("../.git/annex/objects/ab/imagelabels.mat")


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [old_format, newer_format, cut_short, of_a_link, empty])
def test_files_that_are_not_matlab_5_are_refused(tmp_path, spoil):
    spoil(flowers102(tmp_path) / "imagelabels.mat")
    with pytest.raises(DataError, match=r"imagelabels\.mat: not a readable MATLAB 5 file: \S"):
        FLOWERS.read(tmp_path)


def test_messages_name_what_a_file_has_instead(tmp_path):
    write_mat(tmp_path / "a.mat", labels=np.array([1.5, 2]), gaps=np.array([np.nan]), words=cells(["x", "y z"]))
    file = MatlabFile(tmp_path / "a.mat", "")
    assert file.strings("words") == ["x", "y z"]
    with pytest.raises(DataError, match=r"no array `label` in it; its variables are labels, gaps, words"):
        file.integers("label")
    with pytest.raises(DataError, match=r"element 1 of `labels`: .*1\.5.* is not a whole number"):
        file.integers("labels")
    with pytest.raises(DataError, match=r"element 1 of `gaps`: .*nan.* is not a whole number"):
        file.integers("gaps")
    with pytest.raises(DataError, match=r"element 1 of `words`: .* is not a whole number"):
        file.integers("words")
    with pytest.raises(DataError, match=r"element 1 of `labels`: .* is not a line of text"):
        file.strings("labels")
    with pytest.raises(DataError, match=r"`words` has no field `class`; its fields are none"):
        file.rows("words", ["class"])


TYPES = [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int64, np.float64, np.bool_]


@settings(max_examples=40)
@given(st.sampled_from(TYPES), st.lists(st.integers(0, 127), min_size=1, max_size=4), st.booleans())
def test_numbers_are_the_same_whatever_type_and_shape_holds_them(dtype, numbers, upright):
    numbers = [number % 2 for number in numbers] if dtype is np.bool_ else numbers
    vector = np.array([numbers], dtype)
    rows = np.empty((1, len(numbers)), [("n", object), ("t", object)])
    rows[0] = [(np.array([[number]], dtype), f"{number} a") for number in numbers]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mat"
        write_mat(path, vector=vector.T if upright else vector, rows=rows.T if upright else rows)
        file = MatlabFile(path, "")
        structs = file.rows("rows", ["n", "t"])
        read = [file.integers("vector"), [row.integer("n") for row in structs]]
        texts = [row.string("t") for row in structs]
    assert read == [numbers, numbers]
    assert {type(number) for part in read for number in part} == {int}
    assert texts == [f"{number} a" for number in numbers]
