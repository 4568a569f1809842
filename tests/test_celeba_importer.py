"""CelebA, against torchvision's reader of the same archive."""

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_folders import state
from matlab_archives import (
    FACE_ATTRIBUTES,
    FACE_IDENTITIES,
    FACE_SPLITS,
    FACES,
    celeba,
    celeba_of_kaggle,
    write_lines,
)
from PIL import Image
from torchvision.datasets import CelebA

from toolkit.data.importers.celeba import DATASET
from toolkit.errors import DataError


def facts(archive):
    """What is said of each image, wherever it lies."""
    return [(r.source_id, r.split, r.groups, r.attributes, Image.open(r.image).tobytes()) for r in archive.records]


def without_people(archive):
    return [(name, split, attributes, picture) for name, split, _, attributes, picture in facts(archive)]


@pytest.mark.parametrize(("split", "name"), [("train", "train"), ("valid", "validation"), ("test", "test")])
def test_faces_are_torchvisions_row_by_row(tmp_path, monkeypatch, split, name):
    folder = celeba(tmp_path)
    # It would compare the files with the originals' checksums.
    monkeypatch.setattr(CelebA, "_check_integrity", lambda self: True)
    ours = [record for record in DATASET.read(tmp_path).records if record.split == name]
    oracle = CelebA(tmp_path, split, ["attr", "identity"])
    assert [record.source_id for record in ours] == oracle.filename
    assert len(ours) > 1
    for record, (image, (attributes, identity)) in zip(ours, oracle, strict=True):
        assert record.image == folder / "img_align_celeba" / record.source_id
        assert Image.open(record.image).tobytes() == image.tobytes()
        assert record.groups == {"identity": str(int(identity))}
        assert [name in record.attributes for name in FACE_ATTRIBUTES] == attributes.bool().tolist()


def test_attributes_are_the_40_names_and_no_empty_one(tmp_path):
    celeba(tmp_path)
    records = DATASET.read(tmp_path).records
    names = [name for record in records for name in record.attributes]
    assert set(names) <= set(FACE_ATTRIBUTES)
    assert 40 < len(names) < len(records) * 40
    assert not any(record.captions or record.box or record.class_id for record in records)


def test_kaggles_lists_say_the_same_but_for_people(tmp_path):
    original = DATASET.read(celeba(tmp_path / "a"))
    mirror = DATASET.read(celeba_of_kaggle(tmp_path / "b"))
    assert without_people(mirror) == without_people(original)
    assert mirror.records[0].image == tmp_path / "b/celeba/img_align_celeba/img_align_celeba/000001.jpg"
    shutil.copy(tmp_path / "a/celeba/identity_CelebA.txt", tmp_path / "b/celeba")
    assert facts(DATASET.read(tmp_path / "b")) == facts(original)


def test_without_the_list_of_people_nobody_is_grouped_and_the_user_is_told(tmp_path, caplog):
    (celeba(tmp_path) / "identity_CelebA.txt").unlink()
    assert not any(record.groups for record in DATASET.read(tmp_path).records)
    assert "there is no identity_CelebA.txt" in caplog.text


def test_the_authors_folders_may_be_kept(tmp_path):
    original = facts(DATASET.read(celeba(tmp_path)))
    folder = tmp_path / "celeba"
    for name in ("Img", "Anno", "Eval"):
        (folder / name).mkdir()
    (folder / "img_align_celeba").rename(folder / "Img/img_align_celeba")
    (folder / "list_eval_partition.txt").rename(folder / "Eval/list_eval_partition.txt")
    for path in folder.glob("*.txt"):
        path.rename(folder / "Anno" / path.name)
    assert facts(DATASET.read(tmp_path)) == original


def test_the_archive_is_found_in_its_parent_and_nothing_is_written(tmp_path):
    folder = celeba(tmp_path)
    before = state(tmp_path)
    assert DATASET.read(tmp_path) == DATASET.read(folder)
    assert state(tmp_path) == before


def test_lists_are_joined_by_name_and_not_by_line(tmp_path):
    original = facts(DATASET.read(celeba(tmp_path)))
    people = tmp_path / "celeba/identity_CelebA.txt"
    people.write_text("".join(reversed(people.read_text().splitlines(keepends=True))))
    attributes = tmp_path / "celeba/list_attr_celeba.txt"
    count, names, *rows = attributes.read_text().splitlines(keepends=True)
    attributes.write_text("".join([count, names, *reversed(rows)]))
    assert facts(DATASET.read(tmp_path)) == original


def test_a_split_of_one_image_is_read(tmp_path):
    celeba(tmp_path, [0, 0, 1, 0, 0, 0, 0])
    assert [r.source_id for r in DATASET.read(tmp_path).records if r.split == "validation"] == ["000003.jpg"]


def test_boxes_are_not_read_because_they_belong_to_other_images(tmp_path):
    (celeba(tmp_path) / "list_bbox_celeba.txt").write_text("broken")
    assert all(record.box is None for record in DATASET.read(tmp_path).records)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return celeba(tmp_path_factory.mktemp("faces"))


@settings(max_examples=20)
@given(st.lists(st.sampled_from([" ", "  ", "\t", "     "]), min_size=14, max_size=14), st.sampled_from(["\n", "\r\n"]))
def test_runs_of_spaces_and_ends_of_lines_do_not_matter(faces, spaces, end):
    pairs = zip(FACES, FACE_IDENTITIES, spaces[:7], spaces[7:], strict=True)
    text = "".join(f"{name}{before}{identity}{after}{end}" for name, identity, before, after in pairs)
    (faces / "identity_CelebA.txt").write_bytes(text.encode())
    records = DATASET.read(faces).records
    assert [record.groups["identity"] for record in records] == [str(identity) for identity in FACE_IDENTITIES]


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("img_align_celeba", r"neither in it nor in celeba/ in it is there img_align_celeba"),
        ("list_eval_partition.txt", r"list_eval_partition\.txt: the file is missing, and there is no list_eval_part"),
        ("list_attr_celeba.txt", r"list_attr_celeba\.txt: the file is missing"),
        ("img_align_celeba/000003.jpg", r"partition\.txt: 1 image in it is not in \S*/img_align_celeba: 000003\.jpg"),
    ],
)
def test_half_an_archive_is_refused_by_what_is_missing(tmp_path, gone, message):
    path = celeba(tmp_path) / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=message):
        DATASET.read(tmp_path)


def test_images_that_no_list_knows_are_named(tmp_path):
    folder = celeba(tmp_path) / "img_align_celeba"
    shutil.copy(folder / "000001.jpg", folder / "000009.jpg")
    with pytest.raises(DataError, match=r"img_align_celeba: 1 image in it is not in \S*partition\.txt: 000009\.jpg"):
        DATASET.read(tmp_path)


@pytest.mark.parametrize(
    ("file", "line", "text", "message"),
    [
        ("list_attr_celeba.txt", 1, "8", r"its first line announces 8 images, and 7 follow"),
        ("list_attr_celeba.txt", 1, "x", r"list_attr_celeba\.txt, line 1: 0 values instead of 1"),
        ("list_attr_celeba.txt", 4, "000002.jpg" + " 1" * 39, r"line 4: 39 values instead of 40"),
        ("list_attr_celeba.txt", 4, "000002.jpg" + " 1" * 39 + " 0", r"line 4: 0 is not one of -1, 1"),
        ("list_attr_celeba.txt", 4, "000009.jpg" + " 1" * 40, r"list_attr_celeba\.txt: 1 image.*not in.*: 000009\.jpg"),
        ("list_eval_partition.txt", 2, "000002.jpg 3", r"list_eval_partition\.txt, line 2: 3 is not one of 0, 1, 2"),
        ("list_eval_partition.txt", 2, "000002.jpg", r"line 2: 0 values instead of 1"),
        ("list_eval_partition.txt", 2, "000001.jpg 0", r"line 2: 000001\.jpg stands in an earlier line too"),
        ("list_eval_partition.txt", 2, "../000002.jpg 0", r"1 image in it is not in \S*: \.\./000002\.jpg"),
        ("identity_CelebA.txt", 7, "000007.jpg 1o", r"identity_CelebA\.txt, line 7: .*'1o'"),
        ("identity_CelebA.txt", 7, "", r"img_align_celeba: 1 image in it is not in \S*identity_CelebA\.txt: 000007"),
    ],
)
def test_each_wrong_line_is_named(tmp_path, file, line, text, message):
    path = celeba(tmp_path) / file
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    write_lines(path, lines)
    with pytest.raises(DataError, match=message):
        DATASET.read(tmp_path)


def test_a_list_with_a_column_too_many_is_refused(tmp_path):
    path = celeba_of_kaggle(tmp_path) / "list_eval_partition.csv"
    rows = [f"{name},{split},0" for name, split in zip(FACES, FACE_SPLITS, strict=True)]
    write_lines(path, ["image_id,partition,fold", *rows])
    with pytest.raises(DataError, match=r"list_eval_partition\.csv: 2 values instead of 1 follow each image's name"):
        DATASET.read(tmp_path)


def test_a_list_that_is_not_text_is_refused(tmp_path):
    (celeba(tmp_path) / "identity_CelebA.txt").write_bytes(b"000001.jpg \xff\n")
    with pytest.raises(DataError, match=r"identity_CelebA\.txt, line 1: not UTF-8"):
        DATASET.read(tmp_path)


def test_the_published_counts_add_up():
    assert DATASET.counts["images"] == sum(DATASET.counts[split] for split in ("train", "validation", "test"))
