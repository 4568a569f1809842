"""`python -m toolkit describe`: what it writes, and what it refuses."""

import json

import numpy as np
import pytest
from image_folders import picture, state, write_rows
from PIL import Image, ImageEnhance

from toolkit.data.birds import BirdsSource
from toolkit.data.describe.command import describe_command
from toolkit.data.describe.facts import CaptionFacts, ClassCount, ClassFacts, Range
from toolkit.data.describe.figures import captions_figure, classes_figure, sizes_figure
from toolkit.data.describe.rows import Rows
from toolkit.data.describe.sheets import SAMPLES, sample_sheet
from toolkit.errors import ConfigError, DataError


def smooth(seed, width=64, height=48):
    """A picture of soft patches of colour, unlike that of any other seed."""
    return picture(seed, 5, 4).resize((width, height), Image.Resampling.BICUBIC)


def folder(path, rows, pictures=None):
    """Rows of a metadata.jsonl, each with a picture of its own unless `pictures` says another; None leaves it out."""
    write_rows(path / "metadata.jsonl", rows)
    for seed, row in enumerate(rows):
        image = (pictures or {}).get(row["file_name"], smooth(seed))
        if image is not None:
            (path / row["file_name"]).parent.mkdir(parents=True, exist_ok=True)
            image.save(path / row["file_name"])
    return path


def described(path, *flags):
    """(description.json, description.md) of a folder."""
    output = path.with_name(f"{path.name}_description")
    describe_command([str(path), *flags])
    return json.loads((output / "description.json").read_text()), (output / "description.md").read_text()


def test_a_folder_is_described_in_numbers(tmp_path):
    names = ["Ruff", "Smew, male", "3"]
    rows = [
        {"file_name": f"{split}/{i}.png", "split": split, "text": ["a b c", "a"][: i % 3], "label": i % 2 * 2}
        | {"label_name": names[i % 2], "bbox": [0, 0, 64, 48], "source_id": str(i)}
        for split, count in (("train", 6), ("validation", 3))
        for i in range(count)
    ]
    rows[0]["bbox"], rows[4]["bbox"] = [5, 40, 15, 50], [0, 0, 65, 48]
    pictures = {"train/0.png": smooth(99, 20, 90).convert("L"), "validation/2.png": None}
    pictures["validation/1.png"] = ImageEnhance.Brightness(smooth(3)).enhance(0.98)
    path = folder(tmp_path / "birds", rows, pictures)
    (path / "train/5.png").write_bytes((path / "train/5.png").read_bytes()[:300])
    before = state(path)
    found, text = described(path)
    assert state(path) == before
    assert found["splits"]["train"] == {"rows": 6, "read": 6, "unreadable": 1, "without_caption": 2, "classes": 2}
    assert found["splits"]["validation"]["unreadable"] == 1
    pictures = found["pictures"]
    assert pictures["pictures"] == 7 and pictures["greyscale"] == 1
    assert pictures["width"] == {"least": 20, "median": 64, "most": 64}
    assert pictures["height"] == {"least": 48, "median": 48, "most": 90}
    assert pictures["short_side_below"] == {"64": 7, "256": 7, "512": 7}
    assert pictures["aspect_ratios"]["narrower than 1:2"] == 1 and pictures["aspect_ratios"]["square to 4:3"] == 6
    counts = [(each["name"], each["rows"]) for each in found["classes"]["counts"]]
    assert counts == [
        ("Ruff", {"train": 3, "validation": 2}),
        ("Smew, male", {"train": 3, "validation": 1}),
        ("1", {"train": 0, "validation": 0}),
    ]
    assert found["classes"]["per_class"] == {"least": 0, "median": 4, "most": 5}
    assert found["captions"]["per_row"] == {"0": 3, "1": 3, "2": 3}
    assert found["captions"]["lengths"] == {"1": 3, "3": 6}
    bad = {split: [row["reason"] for row in each] for split, each in found["bad_rows"].items()}
    assert "reaches 65, 48" in bad["train"][0] and "unreadable" in bad["train"][1]
    assert bad["validation"] == ["validation/2.png: the file is missing"]
    (group,) = found["duplicates"]
    assert [row["row_id"] for row in group["closest"]] == ["train/3.png", "validation/1.png"]
    for words in (
        "validation with a near-duplicate in train: 1 of 3",
        "without a row: 1 (1)",
        "without a caption: 3 of 9",
    ):
        assert words in text
    written = {path.name for path in (tmp_path / "birds_description").iterdir()}
    assert written == {"description.md", "description.json"} | {
        f"{name}.png" for name in ("sizes", "classes", "captions", "samples", "duplicates")
    }


def test_leaks_come_first_and_then_what_is_near_across_other_splits(tmp_path):
    splits = ["train", "train", "validation", "test", "test", "train", "test"]
    rows = [{"file_name": f"{i}.png", "split": split} for i, split in enumerate(splits)]
    same = {"0.png": 50, "1.png": 50, "2.png": 60, "3.png": 60, "4.png": 70, "5.png": 80, "6.png": 80}
    path = folder(tmp_path / "data", rows, {name: smooth(seed) for name, seed in same.items()})
    found, text = described(path)
    groups = [[row["row_id"] for row in group["rows"]] for group in found["duplicates"]]
    assert groups == [["5.png", "6.png"], ["2.png", "3.png"], ["0.png", "1.png"]]
    assert found["leaked"] == {"validation": 0, "test": 1}
    assert text.index("**leak** train: 5.png, test: 6.png") < text.index("0.png, train: 1.png")
    assert "pictures of test with a near-duplicate in train: 1 of 3" in text
    assert "pictures of validation" not in text


def test_data_without_captions_and_classes_are_described_without_them(tmp_path):
    found, text = described(folder(tmp_path / "data", [{"file_name": "a.png"}]))
    assert found["captions"] is None and found["classes"] is None
    assert "aption" not in text and "Classes" not in text
    assert "Nothing was found" in text


def test_a_folder_without_a_readable_picture_is_described_by_what_is_wrong(tmp_path):
    found, text = described(folder(tmp_path / "data", [{"file_name": "a.png"}], {"a.png": None}))
    assert found["pictures"] is None
    assert "the file is missing" in text and "](" not in text


def test_the_licence_is_passed_on_and_names_cannot_break_the_page(tmp_path):
    path = folder(tmp_path / "a|b", [{"file_name": "a.png", "label": 0, "label_name": "x"}])
    about = {"notice": "Data by *A* | B.", "licence": "none", "counts": {}, "label_names": ["x", "y", "z|"]}
    (path / "DATASET.json").write_text(json.dumps(about))
    found, text = described(path)
    assert "classes without a row: 2 (y, z\\|)" in text
    assert text.startswith("# a\\|b\n\n> Data by \\*A\\* \\| B.\n")
    assert "| licence | none |" in text and "| counts" not in text
    assert found["about"]["counts"] == {}


def test_fewer_pictures_are_a_part_of_more_and_rows_and_classes_are_told_of_all(tmp_path):
    path = folder(tmp_path / "data", [{"file_name": f"{i}.png", "label": i % 2} for i in range(9)])
    for i in range(9):
        (path / f"{i}.png").unlink()
    missing = {}
    for count in (2, 5):
        found, text = described(path, "--max-images", str(count))
        missing[count] = {row["row_id"] for row in found["bad_rows"]["train"]}
        assert len(missing[count]) == found["splits"]["train"]["read"] == count
        assert found["splits"]["train"]["rows"] == 9 and found["classes"]["per_class"]["most"] == 5
        assert f"At most {count} pictures" in text
    assert missing[2] < missing[5]


def test_rows_of_other_splits_are_not_passed_over_in_silence(tmp_path):
    rows = [{"file_name": f"{i}.png", "split": split} for i, split in enumerate(["train", "unseen", "unseen"])]
    path = folder(tmp_path / "data", rows)
    assert "splits that were not looked at: 2" in described(path)[1]
    found, text = described(path, "--split", "train", "unseen")
    assert found["splits"]["unseen"]["rows"] == 2 and "not looked at" not in text


def test_built_in_data_are_described_too(tmp_path, capsys):
    flags = ["--dataset_name", "builtin:birds", "--dataset_config_name", "painted", "--resolution", "32"]
    describe_command([*flags, "--max-images", "10", "--out", str(tmp_path / "out")])
    found = json.loads((tmp_path / "out/description.json").read_text())
    assert found["name"] == "builtin:birds painted"
    assert [split["read"] for split in found["splits"].values()] == [10, 10]
    assert found["splits"]["train"]["classes"] == 10
    assert str(tmp_path / "out/description.md") in capsys.readouterr().out


def test_a_new_description_replaces_an_old_one_whole(tmp_path):
    rows = [{"file_name": f"{i}.png"} for i in range(2)]
    path = folder(tmp_path / "data", rows, {f"{i}.png": smooth(0) for i in range(2)})
    described(path)
    assert (tmp_path / "data_description/duplicates.png").exists()
    smooth(1).save(path / "1.png")
    described(path)
    assert not (tmp_path / "data_description/duplicates.png").exists()


def test_the_sheet_of_samples_is_a_function_of_the_seed():
    rows = Rows({"train": BirdsSource(size=32, count=SAMPLES + 8)})
    sheets = [sample_sheet(rows, range(len(rows)), seed=seed, notice="") for seed in (0, 0, 1)]
    assert sheets[0] == sheets[1] != sheets[2]
    with_notice = sample_sheet(rows, range(len(rows)), seed=0, notice="Data by A.")
    assert with_notice.height > sheets[0].height
    assert sample_sheet(rows, [5], seed=0, notice="").width < sheets[0].width / 7


def classes(count):
    counts = tuple(ClassCount(i, f"class {i}", {"train": count - i, "test": 1}) for i in range(count))
    return ClassFacts(counts, Range(2, count // 2, count + 1), (), ())


def test_few_classes_are_named_at_their_bars_and_of_many_the_ends_only():
    axes = classes_figure(classes(12), ["train", "test"]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"class {i}" for i in range(12)]
    assert {bar.get_label() for bar in axes.containers} == {"train", "test"}
    axes, names = classes_figure(classes(555), ["train", "test"]).axes
    assert len(axes.get_xticklabels()) < 20
    (words,) = [text.get_text() for text in names.texts]
    assert "class 0\n" in words and words.endswith("class 554") and "class 200" not in words
    heights = [sum(bar[place].get_height() for bar in axes.containers) for place in (0, 554)]
    assert heights == [556, 2]


def test_captions_of_any_length_are_all_in_the_histogram():
    for lengths in ({3: 5}, {1: 2, 7: 1, 400: 3}, dict.fromkeys(range(90), 1)):
        facts = CaptionFacts(sum(lengths.values()), Range(0, 0, 0), lengths, {1: 4, 10: 2})
        left, right = captions_figure(facts).axes
        assert sum(bar.get_height() for bar in left.patches) == facts.captions
        assert len(left.patches) <= 60
        assert sum(bar.get_height() for bar in right.patches) == 6
    assert len(captions_figure(CaptionFacts(3, Range(1, 1, 1), {1: 3}, {1: 3})).axes) == 1


def test_every_size_is_a_dot_within_the_axes():
    for sides in (([178] * 9, [218] * 9), ([32, 4000, 40, 50], [5000, 30, 40, 50])):
        axes = sizes_figure(*map(np.array, sides)).axes[0]
        (dots,) = axes.collections
        assert {tuple(dot) for dot in dots.get_offsets().tolist()} == set(zip(*sides, strict=True))
        low, high = axes.get_xlim()
        assert low < min(map(min, sides)) and max(map(max, sides)) < high


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing"], "does not exist"),
        (["empty"], "no metadata.jsonl"),
        (["data", "--split", "test"], "the split `test` has no rows"),
        (["data", "--image_column", "photo"], "no column `photo_file_name`"),
        (["broken"], "DATASET.json: unreadable"),
        (["listed"], "DATASET.json: a JSON list"),
        (["--dataset_name", "builtin:birds"], "dataset_config_name is missing"),
        (["data", "--dataset_name", "builtin:birds"], "and not both"),
        ([], "give a folder"),
        (["data", "--out", "data/description"], "lies in the data"),
        (["data", "--out", "."], "holds broken, which is no part of a description"),
        (["data", "--out", "data/0.png"], "lies in the data"),
        (["data", "--out", "file"], "is a file"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(tmp_path, monkeypatch, arguments, words):
    for name, content in (("data", None), ("broken", "{"), ("listed", "[]")):
        folder(tmp_path / name, [{"file_name": "0.png"}])
        if content is not None:
            (tmp_path / name / "DATASET.json").write_text(content)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    before = state(tmp_path)
    with pytest.raises((DataError, ConfigError), match=words):
        describe_command(arguments)
    assert state(tmp_path) == before


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_a_wrong_number_of_pictures_is_refused(capsys, count):
    with pytest.raises(SystemExit) as caught:
        describe_command(["data", "--max-images", count])
    assert caught.value.code == 2
    assert "not a whole number above 0" in capsys.readouterr().err
