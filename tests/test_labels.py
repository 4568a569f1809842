"""Classes of rows: from files, from data sets, through splits and subsets, to a batch."""

import json

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_folders import picture

from toolkit.data.arrow import ArrowSource
from toolkit.data.birds import LABELS, BirdsSource
from toolkit.data.examples import Framing, HeldOutExamples, collate
from toolkit.data.folder import FolderSource
from toolkit.data.labels import number_labels
from toolkit.data.subset import Subset
from toolkit.errors import DataError


def numbered(given, names=None):
    return number_labels(given, names or [None] * len(given), where="rows.jsonl", column="label")


def test_numbers_stand_and_are_called_by_their_names():
    labels = numbered([2, 0, 2], ["Ram C/V, van", "Audi", "Ram C/V, van"])
    assert labels.values == (2, 0, 2)
    assert labels.names == ("Audi", "1", "Ram C/V, van")


def test_numbers_of_a_csv_file_are_numbers():
    assert numbered(["10", "2", "1"]).values == (10, 2, 1)


def test_rows_without_classes_have_none():
    assert numbered([None, None]).values == ()


@given(st.lists(st.text(min_size=1).filter(lambda word: not word.isdecimal()), min_size=1))
def test_words_are_numbered_from_0_in_their_order(words):
    labels = numbered(words)
    assert [labels.names[value] for value in labels.values] == words
    assert list(labels.names) == sorted(set(words))


@pytest.mark.parametrize(
    ("given", "names", "problem"),
    [
        ([1, None], None, "1 of 2 rows have no `label`, the first is row 1"),
        ([-1, 0], None, "`label` is -1"),
        ([True, 0], None, "`label` is True"),
        ([1.5, 0], None, r"`label` is 1\.5"),
        ([0, "a"], None, "`label` is 'a'"),
        ([3, 3], ["a", "b"], "`label` 3 is called both 'a' and 'b'"),
    ],
)
def test_what_is_no_class_is_named(given, names, problem):
    with pytest.raises(DataError, match=problem):
        numbered(given, names)


@pytest.fixture
def folder(tmp_path):
    """Five rows of three classes in one metadata file, with their splits."""
    rows = [("a", 2, "train"), ("b", 0, "train"), ("c", 1, "val"), ("d", 2, "test"), ("e", 0, "train")]
    lines = []
    for number, (name, label, split) in enumerate(rows):
        picture(number).save(tmp_path / f"{name}.png")
        row = {"file_name": f"{name}.png", "label": label, "label_name": f"kind {label}", "split": split}
        lines.append(json.dumps(row))
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    return tmp_path


def opened(folder, split="train", **changes):
    arguments = {"image_column": "image", "caption_column": "text", "background": "white", "needs_captions": False}
    return FolderSource(folder, split=split, **arguments | changes)


def test_a_folder_s_rows_have_the_classes_and_splits_that_their_columns_say(folder):
    train, validation = opened(folder), opened(folder, "validation")
    assert [train.row_id(i) for i in range(len(train))] == ["a.png", "b.png", "e.png"]
    assert [train.label(i) for i in range(len(train))] == [2, 0, 0]
    assert validation.label(0) == 1
    # Also of classes that the split does not show.
    assert train.label_names == validation.label_names == ("kind 0", "kind 1", "kind 2")


def test_captions_may_be_missing_only_where_nobody_reads_them(folder):
    assert opened(folder).captions(0) == ()
    with pytest.raises(DataError, match="no column `text`"):
        opened(folder, needs_captions=True)


def test_another_class_is_another_data_set(folder):
    before = opened(folder).fingerprint()
    path = folder / "metadata.jsonl"
    path.write_text(
        path.read_text().replace('"label": 2, "label_name": "kind 2"', '"label": 1, "label_name": "kind 1"', 1)
    )
    assert opened(folder).fingerprint() != before


def test_a_column_of_classes_that_is_asked_for_has_to_be_there(folder):
    with pytest.raises(DataError, match="no column `species`"):
        opened(folder, label_column="species")


def rows_of(labels, feature):
    features = datasets.Features({"image": datasets.Image(), "label": feature})
    return datasets.Dataset.from_dict({"image": [picture(i) for i in range(len(labels))], "label": labels}, features)


def arrow(labels, feature):
    return ArrowSource(
        rows_of(labels, feature),
        name="rows",
        image_column="image",
        caption_column="text",
        background="white",
        needs_captions=False,
    )


def test_a_data_set_s_own_names_are_kept_with_those_that_the_split_does_not_show():
    source = arrow([2, 0], datasets.ClassLabel(names=["1", "10", "2"]))
    assert [source.label(0), source.label(1)] == [2, 0]
    assert source.label_names == ("1", "10", "2")


def test_words_in_a_data_set_are_refused_because_splits_would_number_them_differently():
    with pytest.raises(DataError, match="holds words"):
        arrow(["b", "a"], datasets.Value("string"))


def test_classes_follow_their_rows_into_subsets_and_batches():
    source = Subset(BirdsSource("painted", "train", 32, count=6), [4, 1])
    assert source.label_names == LABELS
    examples = HeldOutExamples(source, framing=Framing(32))
    batch = collate([examples[0], examples[1]])
    whole = BirdsSource("painted", "train", 32, count=6)
    assert batch.labels.tolist() == [whole.label(4), whole.label(1)]
