"""FS-COCO, NABirds and CUB-200-2011 as they are read, from archives with the layout of the originals."""

import re
import shutil

import archives
import pytest

from toolkit.data.importers import cub, fscoco, nabirds
from toolkit.data.importers.dataset import Archive, Box, Record
from toolkit.data.importers.selection import count_groups, split_by_group
from toolkit.data.importers.text_files import read_table
from toolkit.errors import DataError

DATASETS = {module.DATASET.name: module.DATASET for module in (nabirds, cub, fscoco)}


def by_id(archive: Archive) -> dict[str, Record]:
    return {record.source_id: record for record in archive.records}


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_nabirds_are_joined_by_id_and_not_by_line(tmp_path):
    folder = archives.nabirds(tmp_path)
    records = by_id(nabirds.read(tmp_path))
    assert list(records) == list(archives.NABIRDS_IMAGES)
    for key, (class_id, train, photographer) in archives.NABIRDS_IMAGES.items():
        record = records[key]
        assert record.class_id == class_id
        assert record.split == ("train" if train else "test")
        assert record.groups == ({"photographer": photographer} if photographer else {})
        assert record.image == folder / "images" / f"{int(class_id):04}" / f"{key.replace('-', '')}.jpg"
    assert records[archives.NABIRDS_OVERFLOWING].box == Box(-2, 4, 40, 20)


def test_classes_of_nabirds_are_those_with_images_in_the_order_of_their_file(tmp_path):
    archives.nabirds(tmp_path)
    assert list(nabirds.read(tmp_path).classes.items()) == [
        ("817", "Dark-eyed Junco (Red-backed/Gray-headed)"),
        ("679", "Allen's Hummingbird (Female, immature)"),
        ("380", "Allen's Hummingbird (Adult Male)"),
        ("900", "European Starling"),
    ]


def test_captions_of_nabirds_are_made_of_name_and_hierarchy(tmp_path):
    archives.nabirds(tmp_path)
    captions = {record.class_id: record.captions for record in nabirds.read(tmp_path).records}
    assert captions == {
        "380": (
            "a photo of an Allen's Hummingbird, adult male",
            "a photo of a bird of the group Hummingbirds: an Allen's Hummingbird, adult male",
        ),
        "679": (
            "a photo of an Allen's Hummingbird, female, immature",
            "a photo of a bird of the group Hummingbirds: an Allen's Hummingbird, female, immature",
        ),
        "817": (
            "a photo of a Dark-eyed Junco, Red-backed or Gray-headed",
            "a photo of a bird of the group New World Sparrows, Towhees: a Dark-eyed Junco, Red-backed or Gray-headed",
        ),
        "900": (
            "a photo of a European Starling",
            "a photo of a bird of the group Starlings: a European Starling",
        ),
    }


@pytest.mark.parametrize(
    ("class_name", "caption"),
    [
        ("Common Eider (Immature/Eclipse male)", "a Common Eider, immature or eclipse male"),
        ("Bobolink (Female/juvenile/nonbreeding male)", "a Bobolink, female or juvenile or nonbreeding male"),
        ("Yellow-rumped Warbler (Winter/juvenile Myrtle)", "a Yellow-rumped Warbler, winter or juvenile Myrtle"),
        ("Northern Flicker (Yellow-shafted)", "a Northern Flicker, Yellow-shafted"),
        ("Osprey", "an Osprey"),
        ("Eurasian Collared-Dove", "a Eurasian Collared-Dove"),
    ],
)
def test_plumages_are_written_small_and_names_are_not(class_name, caption):
    assert nabirds.read_wording().captions(class_name, "Birds")[0] == f"a photo of {caption}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("templates: [a]\nplumage_words: [b]\n", "does not have the lists"),
        ("templates: a\nplumage_words: [b]\nconsonant_sounds: [c]\n", "`templates` is no list of texts"),
        ("templates: ['{nam}']\nplumage_words: [b]\nconsonant_sounds: [c]\n", "unknown `{nam}`"),
        ("templates: ['{}']\nplumage_words: [b]\nconsonant_sounds: [c]\n", "unknown `{}`"),
        ("templates: ['{name']\nplumage_words: [b]\nconsonant_sounds: [c]\n", "is broken"),
    ],
)
def test_a_broken_template_file_is_refused(tmp_path, content, message):
    path = tmp_path / "words.yaml"
    path.write_text(content)
    with pytest.raises(DataError, match=re.escape(message)):
        nabirds.read_wording(path)


def test_every_hierarchy_that_does_not_reach_the_root_is_refused(tmp_path):
    folder = archives.nabirds(tmp_path)
    edit(folder / "hierarchy.txt", "30 4\n", "30 380\n")
    with pytest.raises(DataError, match=r"hierarchy.txt, line \d+: class (30|380) is its own ancestor"):
        nabirds.read(tmp_path)
    edit(folder / "hierarchy.txt", "30 380\n", "")
    with pytest.raises(DataError, match="there is no class 30"):
        nabirds.read(tmp_path)


def test_cub_keeps_its_ids_names_and_boxes(tmp_path):
    folder = archives.cub(tmp_path)
    archive = cub.read(tmp_path)
    assert dict(archive.classes) == archives.CUB_CLASSES
    found = {
        record.source_id: (
            record.class_id,
            record.image.relative_to(folder / "images").as_posix(),
            int(record.split == "train"),
        )
        for record in archive.records
    }
    assert found == archives.CUB_IMAGES
    assert {record.split for record in archive.records} == {"train", "test"}
    assert archive.records[0].box == Box(2, 3, 10, 5)


@pytest.mark.parametrize("place", ["text", "text_c10", "birds/text", "CUB_200_2011/text"])
def test_captions_of_cub_are_mended_wherever_they_lie(tmp_path, place):
    archives.cub(tmp_path, captions=place)
    captions = [record.captions for record in cub.read(tmp_path).records]
    assert captions == [
        ("this bird is black.", "it has a 5 inch bill,", "a large bird"),
        ("this bird is black.",),
        ("this bird is black.",),
        (),
    ]


def test_cub_without_captions_has_none(tmp_path):
    archives.cub(tmp_path, captions=None)
    assert all(record.captions == () for record in cub.read(tmp_path).records)


def test_fscoco_pairs_sketch_photo_and_caption_by_the_whole_id(tmp_path):
    folder = archives.fscoco(tmp_path)
    records = by_id(fscoco.read(tmp_path))
    # By the numbers of the drawers, 2 before 10.
    assert list(records) == ["000000123456", "000000000019", "000000000472", "000000000074", "000000574769"]
    for number, (key, drawer) in enumerate(archives.FSCOCO_SKETCHES.items()):
        record = records[key]
        assert record.image == folder / "raster_sketches" / drawer / f"{key}.jpg"
        assert record.paired == {"photo": folder / "images" / drawer / f"{key}.jpg"}
        assert record.captions == (f"A zebra “runs” past number {number}.",)
        assert record.groups == {"drawer": drawer}
        assert record.split == ("validation" if key in archives.FSCOCO_VALIDATION else "train")


def test_both_lists_of_fscoco_are_splits(tmp_path):
    archives.fscoco(tmp_path)
    archive = split_by_group(fscoco.read(tmp_path), "drawer", None)
    held = [record.source_id for record in archive.records if record.split == "validation"]
    assert sorted(held) == sorted(archives.FSCOCO_UNSEEN)
    assert count_groups(archive.records, "drawer") == {"train": 2, "validation": 1, "test": 0, "shared": 0}


def test_an_id_without_its_zeros_is_explained(tmp_path):
    folder = archives.fscoco(tmp_path)
    edit(folder / "val_normal.txt", "000000000472", "472")
    with pytest.raises(DataError, match=r"val_normal.txt, line 1: there is no sketch 472") as caught:
        fscoco.read(tmp_path)
    assert "zeros in front" in caught.value.remedy


def test_one_id_of_two_drawers_is_refused(tmp_path):
    folder = archives.fscoco(tmp_path)
    shutil.copy(folder / "raster_sketches/2/000000000019.jpg", folder / "raster_sketches/10/000000000019.jpg")
    with pytest.raises(DataError, match="two files have one id"):
        fscoco.read(tmp_path)


@pytest.mark.parametrize("name", archives.BUILD)
def test_the_folder_is_found_and_a_wrong_one_is_refused_with_the_right_one(tmp_path, name):
    folder = archives.BUILD[name](tmp_path)
    read = DATASETS[name].read
    assert [record.image for record in read(folder).records] == [record.image for record in read(tmp_path).records]
    with pytest.raises(DataError, match="the archive is not here") as caught:
        read(folder / "images")
    assert caught.value.remedy == f"Give --root {folder}."
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="the archive is not here") as caught:
        read(tmp_path / "other")
    assert folder.name in caught.value.remedy
    with pytest.raises(DataError, match="there is no such folder"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        *(
            (name, entry)
            for name in ("nabirds", "cub")
            for entry in (
                "images.txt",
                "image_class_labels.txt",
                "classes.txt",
                "train_test_split.txt",
                "bounding_boxes.txt",
                "images",
            )
        ),
        ("nabirds", "hierarchy.txt"),
        ("nabirds", "photographers.txt"),
        *(
            ("fscoco", entry)
            for entry in ("images", "raster_sketches", "text", "val_normal.txt", "val_unseen_user.txt")
        ),
    ],
)
def test_half_an_archive_is_refused_and_what_is_missing_is_named(tmp_path, name, entry):
    path = archives.BUILD[name](tmp_path) / entry
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=f"not complete: there is no {re.escape(entry)}"):
        DATASETS[name].read(tmp_path)


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("nabirds", "images/0380/0000139e21dc4d0cbfe14cae3c85c829.jpg", "1 of 5 image files are missing"),
        ("cub", "images/002.Laysan_Albatross/Laysan_Albatross_0002_1027.jpg", "1 of 4 image files are missing"),
        ("fscoco", "images/2/000000000019.jpg", "1 of 5 sketches have no file here"),
        ("fscoco", "text/2/000000000019.txt", "1 of 5 sketches have no file here"),
        ("fscoco", "raster_sketches/10/000000574769.jpg", "1 of 5 photos have no file here"),
        ("fscoco", "raster_sketches/2/000000000019.jpg", "1 of 5 photos have no file here"),
    ],
)
def test_a_missing_file_of_an_image_is_named(tmp_path, name, path, message):
    folder = archives.BUILD[name](tmp_path)
    (folder / path).unlink()
    with pytest.raises(DataError) as caught:
        DATASETS[name].read(tmp_path)
    assert message in caught.value.problem
    assert path.split("/")[-1].split(".")[0] in caught.value.problem


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (("text",), "raster_sketches: 1 of 5 captions have no file here"),
        ((), "val_normal.txt, line 1: there is no sketch 000000000472"),
    ],
)
def test_a_sketch_that_is_lost_with_its_photo_is_missed_by_its_caption_or_by_the_lists(tmp_path, kept, message):
    folder = archives.fscoco(tmp_path)
    for kind, suffix in (("images", "jpg"), ("raster_sketches", "jpg"), ("text", "txt")):
        if kind not in kept:
            (folder / kind / "2" / f"000000000472.{suffix}").unlink()
    with pytest.raises(DataError, match=re.escape(message)):
        fscoco.read(tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("bounding_boxes.txt", "2 2.0 3.0 10.0 5.0", "2 2.0 3.0 10.0", "line 2: '2.0 3.0 10.0' is no bounding box"),
        ("bounding_boxes.txt", "3 2.0 3.0 10.0 5.0", "3 2.0 3.0 ten 5.0", "line 3: '2.0 3.0 ten 5.0' is no"),
        ("bounding_boxes.txt", "3 2.0 3.0 10.0 5.0", "3 2.0 nan 10.0 5.0", "line 3: '2.0 nan 10.0 5.0' is no"),
        ("train_test_split.txt", "10 1", "10 2", "line 1: '2' is no split"),
        ("images.txt", "1 001", "1\n", "line 1: '1' is not `id rest`"),
        ("images.txt", "2 001", "1 001", "lines 1 and 2: both are about 1"),
        ("images.txt", "1 001.Black", "1 ../001.Black", "leads out of"),
        ("images.txt", "1 001.Black", "1 /001.Black", "leads out of"),
        ("image_class_labels.txt", "10 3", "10 4", "line 1: there is no class 4"),
        ("image_class_labels.txt", "10 3\n", "", "images.txt, line 4: image_class_labels.txt has no line about 10"),
        ("bounding_boxes.txt", "10 ", "11 ", "images.txt, line 4: bounding_boxes.txt has no line about 10"),
        ("train_test_split.txt", "10 1", "10 1\n11 1", "train_test_split.txt, line 2: images.txt has no line about 11"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path, file, old, new, message):
    folder = archives.cub(tmp_path)
    edit(folder / file, old, new)
    with pytest.raises(DataError) as caught:
        cub.read(tmp_path)
    assert message in caught.value.problem
    assert str(folder / file) in caught.value.problem or str(folder / "images.txt") in caught.value.problem


def test_a_line_in_another_encoding_is_named(tmp_path):
    path = archives.nabirds(tmp_path) / "photographers.txt"
    path.write_bytes(b"one two\n\nthree Pe\xf1a\n")
    with pytest.raises(DataError, match=re.escape(f"{path}, line 3: not UTF-8")):
        nabirds.read(tmp_path)


def test_line_ends_of_windows_and_a_byte_order_mark_are_no_part_of_a_name(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_bytes("\ufeff1 Ram C/V,  Cargo\u2028Van \r\n\r\n02 b\r\n".encode())
    table = read_table(path)
    assert dict(table.lines) == {"1": (1, "Ram C/V,  Cargo\u2028Van"), "02": (3, "b")}
