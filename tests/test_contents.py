"""What pictures show: read by the check of the data and by nobody else, until a file changes."""

import pytest
from image_folders import opened, picture, write_rows

from toolkit.data import contents
from toolkit.data.check import checked
from toolkit.data.contents import contents_of
from toolkit.errors import DataError


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for row in range(3):
        picture(row, 40 + row, 30).save(folder / f"{row}.png")
    write_rows(folder / "metadata.jsonl", [{"file_name": f"{row}.png", "text": "a"} for row in range(3)])
    return folder


@pytest.fixture
def kept(tmp_path, data):
    """`kept()` is the contents of the data as they are now."""
    return lambda: contents_of(opened(data), tmp_path / "cache", workers=1)


def check(data, cache_dir):
    arguments = {"tokenizer": None, "caption_template": "{caption}", "workers": 1, "progress": False}
    return checked(opened(data), on_bad_row="skip", cache_dir=cache_dir, **arguments)[0]


def test_what_the_check_of_the_data_has_read_is_not_read_again(data, tmp_path, kept, monkeypatch):
    (data / "1.png").write_text("not a picture")
    rows = check(data, tmp_path / "cache")
    monkeypatch.setattr(contents, "read_all", None)
    found = contents_of(rows, tmp_path / "cache", workers=1)
    assert found.sizes.tolist() == [[40, 30], [42, 30]]
    monkeypatch.undo()
    assert found.digests.tolist() == contents_of(rows, tmp_path / "other", workers=1).digests.tolist()


def test_an_edited_picture_is_another_and_the_same_one_elsewhere_is_not(data, kept):
    before = kept().digests
    assert len({row.tobytes() for row in before}) == 3
    (data / "0.png").write_bytes((data / "2.png").read_bytes())
    after = kept().digests
    assert (before != after).any(1).tolist() == [True, False, False]
    assert after[0].tobytes() == after[2].tobytes()


@pytest.mark.parametrize("damage", ["cut off", "bit"])
def test_damaged_contents_are_read_again(tmp_path, kept, damage, caplog):
    expected = kept().sizes
    (path,) = (tmp_path / "cache").iterdir()
    content = bytearray(path.read_bytes())
    place = bytes(content).index(expected.tobytes())
    content[place] ^= 1
    path.write_bytes(content[:-9] if damage == "cut off" else content)
    assert kept().sizes.tolist() == expected.tolist()
    assert "is made again" in caplog.text


def test_a_folder_that_cannot_be_written_to_costs_time_only(data, tmp_path, kept, caplog):
    (tmp_path / "file").write_text("")
    found = contents_of(opened(data), tmp_path / "file" / "cache", workers=1)
    assert found.sizes.tolist() == kept().sizes.tolist()
    assert "not kept" in caplog.text


def test_a_picture_that_was_lost_since_the_check_is_named(data, tmp_path, kept):
    check(data, tmp_path / "cache")
    (data / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png: the file is missing"):
        kept()
