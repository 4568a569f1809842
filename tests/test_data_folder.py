import os
from pathlib import Path

import datasets
import pytest
from image_folders import contents, image_folder, opened, picture, write_rows

from toolkit.errors import ConfigError, DataError

datasets.disable_progress_bars()


@pytest.mark.parametrize("metadata", ["metadata.jsonl", "metadata.csv", "metadata.parquet"])
def test_every_kind_of_metadata_says_the_same_row_by_row(tmp_path: Path, metadata: str) -> None:
    names = ["b.png", "a.png", "deep/er/c.png"]
    source = opened(image_folder(tmp_path, names, metadata))
    assert contents(source) == [
        (name, (f"picture, of {name}\n“two lines”",), picture(seed).tobytes()) for seed, name in enumerate(names)
    ]


@pytest.mark.parametrize("metadata", ["metadata.jsonl", "metadata.csv", "metadata.parquet"])
def test_splits_are_those_of_datasets(tmp_path: Path, metadata: str) -> None:
    image_folder(tmp_path / "train", ["1.png", "x/2.png"], metadata)
    image_folder(tmp_path / "train/more", ["5.png"], metadata)
    image_folder(tmp_path / "val", ["3.png"], metadata)
    image_folder(tmp_path / "test", ["4.png"], metadata)
    oracle = datasets.load_dataset("imagefolder", data_dir=str(tmp_path), cache_dir=str(tmp_path / ".cache"))
    assert set(oracle) == {"train", "validation", "test"}
    for split, rows in oracle.items():
        ours = sorted((captions[0], image) for _, captions, image in contents(opened(tmp_path, split)))
        theirs = sorted((row["text"], row["image"].convert("RGB").tobytes()) for row in rows)
        assert ours == theirs


def test_a_folder_without_splits_is_all_train(tmp_path: Path) -> None:
    names = ["latest/1.png", "trains/test"]
    write_rows(tmp_path / "metadata.jsonl", [{"file_name": name, "text": "a"} for name in names])
    assert len(opened(tmp_path)) == 2
    with pytest.raises(DataError, match=r"`validation`(.|\n)*train \(2 rows\)"):
        opened(tmp_path, "validation")


def test_the_first_folder_named_after_a_split_decides(tmp_path: Path) -> None:
    image_folder(tmp_path, ["photos/Testing/train/1.png", "train/test/2.png", "3.png"])
    assert [opened(tmp_path, "test").row_id(0)] == ["photos/Testing/train/1.png"]
    assert [row for row, *_ in contents(opened(tmp_path, "training"))] == ["train/test/2.png", "3.png"]


def test_the_image_column_names_its_file_column(tmp_path: Path) -> None:
    picture(3).save(tmp_path / "s.png")
    write_rows(tmp_path / "metadata.jsonl", [{"file_name": "gone.png", "sketch_file_name": "s.png", "text": "t"}])
    assert opened(tmp_path, image_column="sketch").image(0).tobytes() == picture(3).tobytes()


def test_captions_stay_as_written_and_empty_ones_are_left_out(tmp_path: Path) -> None:
    captions = [" a  b ", ["one", "", "two", None], "", None, " \n", []]
    write_rows(tmp_path / "metadata.jsonl", [{"file_name": f"{i}.png", "text": c} for i, c in enumerate(captions)])
    with (tmp_path / "metadata.jsonl").open("a") as file:
        file.write('\n{"file_name": "no-text.png"}')
    source = opened(tmp_path)
    assert [source.captions(i) for i in range(len(source))] == [(" a  b ",), ("one", "two"), (), (), (), (), ()]


def test_an_image_is_missed_only_when_it_is_read(tmp_path: Path) -> None:
    image_folder(tmp_path, ["a.png", "b.png"])
    (tmp_path / "b.png").unlink()
    source = opened(tmp_path)
    source.image(0)
    with pytest.raises(DataError, match=r"b\.png: the file is missing"):
        source.image(1)


def test_files_written_by_windows_programs_are_read(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_bytes("\ufefffile_name,text\r\na.png,é\r\n\r\n".encode())
    assert opened(tmp_path).captions(0) == ("é",)
    (tmp_path / "metadata.csv").unlink()
    (tmp_path / "metadata.jsonl").write_bytes('\ufeff{"file_name": "a.png", "text": "é"}\r\n\r\n'.encode())
    assert opened(tmp_path).captions(0) == ("é",)


def test_a_folder_behind_a_link_is_read_and_a_circle_ends(tmp_path: Path) -> None:
    image_folder(tmp_path / "elsewhere", ["a.png"])
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/again").symlink_to(tmp_path / "data")
    assert [row for row, *_ in contents(opened(tmp_path / "data"))] == ["train/a.png"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.jsonl", '{"file_name": "a", "text": "b"}\n{"file_name": ', r"metadata\.jsonl, line 2: not JSON"),
        ("metadata.jsonl", '\n["a", "b"]', r"metadata\.jsonl, line 2: a JSON list"),
        (
            "metadata.jsonl",
            '{"filename": "a", "text": "b"}',
            r"no column `file_name`.*filename, text\nDid you mean `fi",
        ),
        ("metadata.jsonl", '{"file_name": "a", "texts": "b"}', r"no column `text`.*\nDid you mean `texts`"),
        ("metadata.csv", "file_name;text\na;b", r"no column `file_name`; its columns are file_name;text"),
        ("metadata.jsonl", '{"file_name": "a", "text": 3}', r"line 1: the caption is 3, not text"),
        ("metadata.jsonl", '{"file_name": "a", "text": ["x", 3]}', r"line 1: the caption is 3, not text"),
        ("metadata.jsonl", '{"file_name": null, "text": "b"}', r"line 1: `file_name` is None"),
        ("metadata.jsonl", '{"file_name": "/etc/a", "text": "b"}', r"line 1: `file_name` is '/etc/a', which leaves"),
        ("metadata.jsonl", '{"file_name": "x/../../a", "text": "b"}', r"line 1.*which leaves the folder"),
        ("metadata.csv", "file_name,text\na,b\nc,d,e", r"metadata\.csv, line 3: 3 fields under a header of 2"),
        ("metadata.csv", b"file_name,text\na,\xe9", r"metadata\.csv: unreadable.*utf-8"),
        ("metadata.csv", 'file_name,text\na,"b', r"metadata\.csv: unreadable"),
        ("metadata.csv", "", r"the split `train` has no rows\nIts metadata files are empty"),
        ("metadata.parquet", "PAR", r"metadata\.parquet: unreadable"),
        ("metadata.json1", "{}", r"no metadata\.jsonl.*there is metadata\.json1"),
        ("Metadata.csv", "a", r"no metadata\.jsonl.*there is Metadata\.csv"),
        ("captions.csv", "a", r"no metadata\.jsonl.*there is captions\.csv"),
        ("readme.txt", "a", r"no metadata\.jsonl.*below it\n"),
    ],
)
def test_each_mistake_in_metadata_names_file_and_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=message):
        opened(tmp_path)


def test_two_metadata_files_in_one_folder_are_refused(tmp_path: Path) -> None:
    image_folder(tmp_path, ["a.png"])
    image_folder(tmp_path, ["a.png"], "metadata.csv")
    with pytest.raises(DataError, match=r"metadata\.csv and metadata\.jsonl"):
        opened(tmp_path)


def test_a_wrong_background_is_found_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.background"):
        opened(image_folder(tmp_path, ["a.png"]), background="whit")


def test_the_fingerprint_sees_rows_captions_and_sizes_and_not_the_place(tmp_path: Path) -> None:
    first = image_folder(tmp_path / "x", ["a.png", "b.png"])
    same = image_folder(tmp_path / "y/z", ["a.png", "b.png"])
    assert opened(first).fingerprint() == opened(same).fingerprint()
    seen = {opened(first).fingerprint()}
    (first / "b.png").write_bytes((first / "b.png").read_bytes() + b"\0")
    seen.add(opened(first).fingerprint())
    (first / "b.png").unlink()
    seen.add(opened(first).fingerprint())
    text = (first / "metadata.jsonl").read_text()
    (first / "metadata.jsonl").write_text(text.replace("picture", "drawing", 1))
    seen.add(opened(first).fingerprint())
    (first / "metadata.jsonl").write_text(text.splitlines()[0])
    seen.add(opened(first).fingerprint())
    assert len(seen) == 5


def test_an_edit_of_the_same_size_changes_the_cache_key_alone(tmp_path: Path) -> None:
    source = opened(image_folder(tmp_path, ["a.png"]))
    fingerprint, key = source.fingerprint(), source.cache_key()
    os.utime(tmp_path / "a.png", ns=(1, 1))
    assert source.fingerprint() == fingerprint
    assert source.cache_key() != key
