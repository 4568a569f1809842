"""Prompts belong to the pictures they name, and to no others."""

import json

import pytest
from image_folders import picture, write_rows

from eval.images import read_folder
from eval.prompts import prompts_of, read_prompts
from toolkit.errors import DataError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for seed, name in enumerate(["1.png", "2.png", "10.jpg"]):
        picture(seed).save(tmp_path / "images" / name)
    return read_folder(tmp_path / "images")


ROWS = [
    {"file_name": "10.jpg", "text": "ten"},
    {"file_name": "./1.png", "text": "one, “two”\u2028"},
    {"file_name": "2", "text": "two\nlines"},
]
PROMPTS = {"1": "one, “two”", "2": "two\nlines", "10": "ten"}


def test_a_text_file_has_a_prompt_per_line_and_comments(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffa red bird \r\n\r\n# not this\r\n  a #1 house, blue\u2028sky\r\n".encode())
    assert read_prompts(file) == ["a red bird", "a #1 house, blue\u2028sky"]


@pytest.mark.parametrize("name", ["prompts.jsonl", "prompts.csv", "metadata.jsonl", "metadata.csv"])
def test_a_folders_own_prompts_are_paired_by_name(folder, name):
    write_rows(folder.folder / name, ROWS)
    assert list(prompts_of(folder).items()) == list(PROMPTS.items())


def test_a_file_elsewhere_pairs_too_and_its_texts_can_be_read_alone(folder, tmp_path):
    write_rows(tmp_path / "mine.csv", ROWS)
    assert prompts_of(folder, tmp_path / "mine.csv") == PROMPTS
    assert read_prompts(tmp_path / "mine.csv") == ["ten", "one, “two”", "two\nlines"]


def test_prompts_and_pictures_without_partners_are_listed(folder, tmp_path):
    write_rows(tmp_path / "mine.jsonl", [*ROWS[1:], {"file_name": "3.png", "text": "three"}])
    with pytest.raises(DataError) as error:
        prompts_of(folder, tmp_path / "mine.jsonl")
    assert "1 of pictures in" in error.value.problem
    assert ": 10;" in error.value.problem
    assert error.value.problem.endswith(": 3")


def test_prompts_without_names_are_not_paired_by_order(folder, tmp_path):
    for name, content in (("mine.txt", "one\ntwo\nten\n"), ("mine.jsonl", '{"text": "one"}\n')):
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=r"names no picture.* 3 pictures"):
            prompts_of(folder, tmp_path / name)


def test_a_second_prompt_for_a_picture_is_refused(folder, tmp_path):
    write_rows(tmp_path / "mine.jsonl", [*ROWS, {"file_name": "1.png", "text": "one again"}])
    with pytest.raises(DataError, match="line 4: `1` had a prompt before"):
        prompts_of(folder, tmp_path / "mine.jsonl")


def test_no_file_or_two_files_of_prompts_are_refused(folder):
    with pytest.raises(DataError, match="no file of prompts"):
        prompts_of(folder)
    for name in ("prompts.csv", "metadata.jsonl"):
        write_rows(folder.folder / name, ROWS)
    with pytest.raises(DataError, match=r"both prompts\.csv and metadata\.jsonl"):
        prompts_of(folder)


@pytest.mark.parametrize(
    ("name", "content"), [("a.txt", ""), ("a.txt", "\n# only this\n"), ("a.jsonl", "\n"), ("a.csv", "file_name,text\n")]
)
def test_a_file_without_prompts_is_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match="no prompt in it"):
        read_prompts(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", '{"text": "fine"}\n{"text": }\n', "line 2: not JSON"),
        ("a.jsonl", '{"text": "fine"}\n["text"]\n', "line 2: a JSON list"),
        ("a.jsonl", json.dumps({"prompt": "a bird"}), "line 1: `text` is None"),
        ("a.jsonl", json.dumps({"text": ["a", "b"]}), "line 1: `text` is"),
        ("a.jsonl", json.dumps({"text": "  "}), "line 1: `text` is"),
        ("a.csv", "prompt\na bird\n", "line 2: `text` is None"),
        ("a.csv", "file_name,text\n1.png,a bird, red\n", "line 2: not as many fields"),
        ("a.csv", "file_name,text\n1.png\n", "line 2: not as many fields"),
        ("a.csv", 'file_name,text\n1.png,"a bird" red\n', "unreadable"),
        ("a.csv", 'text\n"a bird', "unreadable"),
        ("a.yaml", "a bird", "ends in"),
    ],
)
def test_a_line_that_is_no_prompt_is_refused_and_named(tmp_path, name, content, problem):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as error:
        read_prompts(tmp_path / name)
    assert problem in error.value.problem
    assert name in error.value.problem


def test_a_file_name_that_is_none_is_refused(folder, tmp_path):
    (tmp_path / "mine.jsonl").write_text(json.dumps({"text": "a", "file_name": 3}))
    with pytest.raises(DataError, match="line 1: `file_name` is 3"):
        prompts_of(folder, tmp_path / "mine.jsonl")


def test_a_missing_file_and_one_that_is_no_text_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"none\.txt: unreadable"):
        read_prompts(tmp_path / "none.txt")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00bird")
    with pytest.raises(DataError, match=r"a\.txt: unreadable"):
        read_prompts(tmp_path / "a.txt")
