"""`python -m toolkit import`: from archives with the layout of the originals to image folders."""

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import archives
import pytest
from archives import imported as run
from image_folders import opened, state
from PIL import Image

from toolkit.data.importers import pictures, writing
from toolkit.data.importers.command import DATASETS, import_command
from toolkit.data.importers.journal import Journal
from toolkit.errors import ConfigError, DataError


@pytest.fixture
def root(tmp_path):
    return archives.build_all(tmp_path / "archives")


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that were decoded."""
    seen: list[str] = []
    decode = pictures.decode_image

    def decode_and_note(content, **arguments):
        seen.append(Path(arguments["name"]).name)
        return decode(content, **arguments)

    monkeypatch.setattr(pictures, "decode_image", decode_and_note)
    return seen


@pytest.mark.parametrize("name", archives.BUILD)
def test_an_imported_folder_is_one_that_a_run_reads(root, tmp_path, name):
    out = tmp_path / "out"
    before = state(root)
    rows, description = run(name, root, out)
    assert state(root) == before
    archive = DATASETS[name].read(root)
    assert [row["source_id"] for row in rows] == [record.source_id for record in archive.records]
    for row, record in zip(rows, archive.records, strict=True):
        path = out / row["file_name"]
        assert path.is_symlink()
        assert path.resolve() == record.image.resolve()
        assert row["sha256"] == hashlib.sha256(record.image.read_bytes()).hexdigest()
        assert (row["width"], row["height"]) == Image.open(record.image).size
        assert row["split"] == record.split
    for split in ("train", "validation", "test"):
        text = (out / "splits" / f"{split}.txt").read_text(encoding="utf-8")
        assert text.splitlines() == [row["source_id"] for row in rows if row["split"] == split]
        assert description["counts"][split] == len(text.splitlines())
        assert description["split_hashes"][split] == hashlib.sha256(text.encode()).hexdigest()
    source = opened(out)
    wanted = [record for record in archive.records if record.split == "train"]
    assert [source.captions(index) for index in range(len(source))] == [record.captions for record in wanted]
    assert all(source.image(index).mode == "RGB" for index in range(len(source)))


def test_labels_are_contiguous_and_go_by_the_names_of_the_classes(root, tmp_path):
    rows, description = run("nabirds", root, tmp_path / "out")
    names = [archives.NABIRDS_CLASSES[key] for key in ("817", "679", "380", "900")]
    assert description["label_names"] == names
    assert {row["label"] for row in rows} == {0, 1, 2, 3}
    assert all(names[row["label"]] == row["label_name"] for row in rows)
    assert {row.get("photographer") for row in rows} == {"Jean-Luc O'Neil, Jr.", "Ana Peña", None}


def test_text_is_a_string_a_list_or_absent(root, tmp_path):
    rows, description = run("cub", root, tmp_path / "out")
    captions = ["this bird is black.", "it has a 5 inch bill,", "a large bird"]
    assert [row.get("text") for row in rows] == [captions, captions[0], captions[0], None]
    assert "text" not in rows[-1]
    assert description["counts"]["without_caption"] == 1


def test_attributes_are_a_list_in_the_row(root, tmp_path, monkeypatch):
    cub = DATASETS["cub"]

    def read(folder):
        archive = cub.read(folder)
        first, *others = archive.records
        return replace(archive, records=[replace(first, attributes=("Smiling", "Young")), *others])

    monkeypatch.setitem(DATASETS, "cub", replace(cub, read=read))
    rows, _ = run("cub", root, tmp_path / "out")
    assert [row.get("attributes") for row in rows] == [["Smiling", "Young"], None, None, None]


def test_a_subset_of_classes_has_labels_of_its_own(root, tmp_path):
    names = ["Allen's Hummingbird (Female, immature)", "Allen's Hummingbird (Adult Male)"]
    rows, description = run("nabirds", root, tmp_path / "out", "--classes", *names)
    assert [(row["label"], row["label_name"]) for row in rows] == [(1, names[1]), (0, names[0]), (1, names[1])]
    assert description["classes"] == sorted(names)
    assert description["counts"] == {
        "images": 3,
        "classes": 2,
        "train": 2,
        "validation": 0,
        "test": 1,
        "without_caption": 0,
        "without_box": 0,
    }


def test_boxes_are_refused_where_there_are_none(root, tmp_path):
    with pytest.raises(ConfigError, match="--crop bbox: 5 of 5 images of fscoco have no bounding box"):
        run("fscoco", root, tmp_path / "out", "--crop", "bbox")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archives"]


def test_an_import_that_was_killed_goes_on(root, tmp_path, decoded, monkeypatch):
    whole, out, work = tmp_path / "whole", tmp_path / "out", tmp_path / ".out.import"
    run("nabirds", root, whole, "--size", 6)
    order = list(decoded)
    del decoded[:]
    make = writing.make_picture

    def make_three(*arguments, **options):
        if len(decoded) == 3:
            raise KeyboardInterrupt
        return make(*arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(writing, "make_picture", make_three)
        run("nabirds", root, out, "--size", 6)
    assert decoded == order[:3]
    assert not out.exists()
    # Of the third row only a part reached the disk.
    journal = work / "journal.jsonl"
    journal.write_text(journal.read_text()[:-20])
    kept = {path.name: path.stat().st_mtime_ns for path in work.rglob("*.png")}
    assert len(kept) == 3
    (work / "folder/images/.9fe1d9a1.123.png").write_bytes(b"half of a picture")
    # And somebody deleted the first picture.
    next(work.rglob("0000139e*")).unlink()
    with pytest.raises(ConfigError, match="size was 6 and is now 7"):
        run("nabirds", root, out, "--size", 7)

    run("nabirds", root, out, "--size", 6)
    assert decoded == order[:3] + order[:1] + order[2:]
    assert not work.exists()
    again = {name for name, time in kept.items() if (out / "images" / name).stat().st_mtime_ns != time}
    assert len(again) == 2
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert all((whole / file).read_bytes() == (out / file).read_bytes() for file in files)


def test_a_row_that_was_cut_short_harms_no_later_one(tmp_path):
    path, row = tmp_path / "journal.jsonl", {"file_name": "1.jpg"}
    (tmp_path / "1.jpg").touch()
    with Journal(path, tmp_path) as journal:
        journal.add("1", row)
        journal.add("2", row)
    path.write_text(path.read_text()[:-5])
    with Journal(path, tmp_path) as journal:
        assert journal.rows == {"1": row}
        journal.add("3", row)
    with Journal(path, tmp_path) as journal:
        assert journal.rows == {"1": row, "3": row}


def test_a_finished_folder_is_recognised_without_the_archive(root, tmp_path, decoded, capsys):
    run("nabirds", root, tmp_path / "out", "--copy")
    before = state(tmp_path / "out")
    del decoded[:]
    shutil.rmtree(root)
    run("nabirds", root, tmp_path / "out", "--copy")
    assert "was imported before" in capsys.readouterr().out
    assert decoded == []
    assert state(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("nabirds", [], "copy was true and is now false"),
        ("nabirds", ["--size", "4"], "size was null and is now 4"),
        ("nabirds", ["--copy", "--classes", "European Starling"], "classes was null and is now"),
        ("cub", ["--copy"], 'name was "nabirds" and is now "cub"'),
    ],
)
def test_another_import_into_a_finished_folder_is_refused(root, tmp_path, name, flags, message):
    run("nabirds", root, tmp_path / "out", "--copy")
    before = state(tmp_path / "out")
    with pytest.raises(ConfigError) as caught:
        run(name, root, tmp_path / "out", *flags)
    assert message in caught.value.problem
    assert state(tmp_path / "out") == before


def test_an_archive_that_changed_under_an_unfinished_import_is_refused(root, tmp_path):
    bad = root / "CUB_200_2011/images" / archives.CUB_IMAGES["3"][1]
    bad.write_bytes(bad.read_bytes()[:100])
    with pytest.raises(DataError):
        run("cub", root, tmp_path / "out")
    shutil.rmtree(root / "text")
    with pytest.raises(ConfigError, match="the archive has changed since"):
        run("cub", root, tmp_path / "out")


def test_bad_images_are_named_and_left_out_only_on_request(root, tmp_path, decoded, monkeypatch, capsys):
    monkeypatch.setattr(writing, "_SHOWN", 1)
    bad = [root / "CUB_200_2011/images" / archives.CUB_IMAGES[key][1] for key in ("1", "3")]
    for path in bad:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError) as caught:
        run("cub", root, tmp_path / "out")
    assert caught.value.problem.startswith(f"2 of 4 images cannot be imported:\n  {bad[0]}: unreadable")
    assert caught.value.problem.endswith("... and 1 more")
    assert not (tmp_path / "out").exists()
    del decoded[:]
    rows, description = run("cub", root, tmp_path / "out", "--skip-bad-images")
    assert [row["source_id"] for row in rows] == ["2", "10"]
    assert sorted(decoded) == sorted(path.name for path in bad)
    assert description["skipped"] == ["1", "3"]
    assert description["counts"]["images"] == 2
    assert "could not be read and were left out: 2." in capsys.readouterr().out
    assert (tmp_path / "out/splits/train.txt").read_text() == "2\n10\n"


def test_links_of_an_import_whose_rows_were_lost_are_made_again(root, tmp_path):
    bad = root / "CUB_200_2011/images" / archives.CUB_IMAGES["3"][1]
    content = bad.read_bytes()
    bad.write_bytes(content[:100])
    with pytest.raises(DataError):
        run("cub", root, tmp_path / "out")
    (tmp_path / ".out.import/journal.jsonl").unlink()
    bad.write_bytes(content)
    _, description = run("cub", root, tmp_path / "out")
    assert description["links"] == 4


def test_splits_by_group_are_counted_and_told(root, tmp_path, capsys):
    flags = ["--split-by", "drawer"]
    rows, description = run("fscoco", root, tmp_path / "out", *flags)
    assert {row["drawer"] for row in rows if row["split"] == "validation"} == {"10"}
    assert description["groups"] == {"train": 2, "validation": 1, "test": 0, "shared": 0}
    assert (
        "Kept together by drawer (groups / images): train 2 / 3, validation 1 / 2, test 0 / 0"
        in capsys.readouterr().out
    )
    run("nabirds", root, tmp_path / "birds", "--split-by", "class", "--validation-fraction", 0.5)
    assert "Kept together by class" in capsys.readouterr().out


def test_what_the_authors_oblige_users_to_print_comes_last(root, tmp_path, capsys):
    run("nabirds", root, tmp_path / "out")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith("National Science Foundation under Grant No. 1010818.")
    assert lines[1] == "Images: 5 (3 train, 0 validation, 2 test), classes: 4"
    assert lines[2].startswith("Links into the archive: 5.")
    run("cub", root, tmp_path / "cub")
    assert "Images without a caption: 1" in capsys.readouterr().out


def test_strict_refuses_other_counts_before_anything_is_written(root, tmp_path):
    with pytest.raises(DataError, match="images: 5 instead of 48,562"):
        run("nabirds", root, tmp_path / "out", "--strict")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archives"]
    run("nabirds", root, tmp_path / "out")
    with pytest.raises(DataError, match="images: 5 instead of 48,562"):
        run("nabirds", root, tmp_path / "out", "--strict")


def test_nothing_is_written_into_the_archive_or_over_other_files(root, tmp_path):
    before = state(root)
    (tmp_path / "link").symlink_to(root)
    for out in (root, root / "out", root / "nabirds/images/out", tmp_path / "link/out"):
        with pytest.raises(ConfigError, match="nothing is written into an archive"):
            run("nabirds", root, out)
    assert state(root) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("three years")
    with pytest.raises(ConfigError, match="is there already and is no imported data set"):
        run("nabirds", root, tmp_path / "mine")
    assert (tmp_path / "mine/thesis.txt").read_text() == "three years"
    (tmp_path / "empty").mkdir()
    run("nabirds", root, tmp_path / "empty")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nabird", "--root", "r", "--out", "o"], "no data set `nabird`"),
        (["nabirds", "--out", "o"], "the following arguments are required: --root"),
        (["nabirds", "--root", "r", "--out", "o", "--crop", "box"], "argument --crop: invalid choice"),
        (["nabirds", "--root", "r", "--out", "o", "--size", "0"], "--size is 0"),
        (["nabirds", "--root", "r", "--out", "o", "--copy", "--size", "64"], "--copy says nothing beside --size"),
        (["nabirds", "--root", "r", "--out", "o", "--validation-fraction", "0.1"], "needs --split-by"),
        (
            ["nabirds", "--root", "r", "--out", "o", "--split-by", "class", "--validation-fraction", "1"],
            "--validation-fraction is 1",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_words(arguments, message):
    with pytest.raises(ConfigError) as caught:
        import_command(arguments)
    assert message in caught.value.problem


def test_ids_become_file_names_that_differ(tmp_path):
    def names(*ids, suffix=".jpg"):
        records = [writing.Record(key, Path(f"x{suffix}"), "train") for key in ids]
        return writing._file_names(records, pictures.Framing("none", None))

    assert names("000001.jpg", "cars_train/00001.jpg", "a b'c") == ["000001.jpg", "cars_train_00001.jpg", "a_b_c.jpg"]
    assert names("../../etc/passwd", ".hidden") == ["_.._etc_passwd.jpg", "hidden.jpg"]
    with pytest.raises(DataError, match="two images go by one id: A and a"):
        names("A", "a")


def test_images_are_made_by_every_core(root, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_IMAGES_PER_TASK", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    rows, _ = run("nabirds", root, tmp_path / "out", "--size", 4)
    assert [row["source_id"] for row in rows] == list(archives.NABIRDS_IMAGES)
