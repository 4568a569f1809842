"""Which images of an archive are imported, and into which split."""

from pathlib import Path

import archives
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.data.importers import cub, fscoco, nabirds
from toolkit.data.importers.dataset import Archive, Record
from toolkit.data.importers.selection import check_counts, count_groups, select_classes, split_by_group
from toolkit.errors import ConfigError, DataError


def test_counts_that_differ_from_the_published_ones_are_each_named(tmp_path):
    archives.nabirds(tmp_path)
    with pytest.raises(DataError) as caught:
        check_counts(nabirds.DATASET, nabirds.read(tmp_path))
    for words in ("images: 5 instead of 48,562", "classes: 4 instead of 555", "train: 3 instead", "test: 2 instead"):
        assert words in caught.value.problem


def test_published_counts_add_up():
    for dataset in (nabirds.DATASET, cub.DATASET):
        assert dataset.counts["train"] + dataset.counts["test"] == dataset.counts["images"]


def test_classes_are_chosen_by_exact_name_and_keep_their_order(tmp_path):
    archives.nabirds(tmp_path)
    archive = nabirds.read(tmp_path)
    chosen = select_classes(archive, ["Allen's Hummingbird (Adult Male)", "Allen's Hummingbird (Female, immature)"])
    assert list(chosen.classes) == ["679", "380"]
    assert [record.class_id for record in chosen.records] == ["380", "679", "380"]
    with pytest.raises(ConfigError, match="no class `Allens Hummingbird \\(adult male\\)`") as caught:
        select_classes(archive, ["Allens Hummingbird (adult male)"])
    assert caught.value.remedy == "Did you mean `Allen's Hummingbird (Adult Male)`?"
    archives.fscoco(tmp_path)
    with pytest.raises(ConfigError, match="have no classes"):
        select_classes(fscoco.read(tmp_path), ["zebra"])


def grouped(groups: list[tuple[str, str]]) -> Archive:
    return Archive(
        [
            Record(str(number), Path(f"{number}.jpg"), split, groups={"drawer": group})
            for number, (group, split) in enumerate(groups)
        ]
    )


GROUPS = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["train", "validation", "test"])), min_size=1, max_size=40
)


@given(groups=GROUPS, fraction=st.floats(0.01, 0.99))
def test_no_group_is_both_in_validation_and_elsewhere(groups, fraction):
    archive = grouped(groups)
    try:
        split = split_by_group(archive, "drawer", fraction)
    except ConfigError as error:
        assert "without an image" in error.problem
        return
    held = {record.groups["drawer"] for record in split.records if record.split == "validation"}
    others = {record.groups["drawer"] for record in split.records if record.split != "validation"}
    assert held
    assert not held & others
    for before, after in zip(archive.records, split.records, strict=True):
        assert (after.split == "test") == (before.split == "test" and after.groups["drawer"] in others)
    counts = count_groups(split.records, "drawer")
    assert counts["validation"] == len(held)
    both = {r.groups["drawer"] for r in split.records if r.split == "train"} & {
        r.groups["drawer"] for r in split.records if r.split == "test"
    }
    assert counts["shared"] == len(both)


def test_a_group_goes_the_same_way_whoever_else_is_there():
    names = [f"person {number}" for number in range(200)]
    whole = split_by_group(grouped([(name, "train") for name in names]), "drawer", 0.3)
    part = split_by_group(
        grouped([(name, "test") for name in names[:50]] + [(f"x{number}", "train") for number in range(9)]),
        "drawer",
        0.3,
    )
    held = [record.split == "validation" for record in whole.records]
    assert [record.split == "validation" for record in part.records][:50] == held[:50]
    assert 40 <= sum(held) <= 80


def test_splits_can_be_kept_apart_by_class(tmp_path):
    archives.cub(tmp_path)
    archive = split_by_group(cub.read(tmp_path), "class", 0.4)
    held = {record.class_id for record in archive.records if record.split == "validation"}
    assert held
    assert not held & {record.class_id for record in archive.records if record.split != "validation"}


def test_images_without_a_group_are_each_one_of_their_own():
    drawers = [{"drawer": "a"}] * 2 + [{}] * 40
    records = [Record(str(n), Path(f"{n}.jpg"), "train", groups=drawer) for n, drawer in enumerate(drawers)]
    split = split_by_group(Archive(records), "drawer", 0.5).records
    assert {record.split for record in split[2:]} == {"train", "validation"}
    counts = count_groups(split, "drawer")
    assert counts["train"] + counts["validation"] == 41


def test_groups_are_counted_by_split(tmp_path):
    archives.nabirds(tmp_path)
    counts = count_groups(nabirds.read(tmp_path).records, "photographer")
    # Ana Peña has an image in train and one in test; of one in test nobody knows who took it.
    assert counts == {"train": 2, "validation": 0, "test": 2, "shared": 1}


def test_groups_that_are_not_known_or_not_split_are_refused(tmp_path):
    archives.nabirds(tmp_path)
    archive = nabirds.read(tmp_path)
    with pytest.raises(ConfigError, match="have no drawer") as caught:
        split_by_group(archive, "drawer", 0.5)
    assert caught.value.remedy == "Known: class, photographer."
    with pytest.raises(ConfigError, match="publish no such split"):
        split_by_group(archive, "photographer", None)
    with pytest.raises(ConfigError, match="leave validation without an image"):
        split_by_group(archive, "photographer", 1e-9)
    with pytest.raises(ConfigError, match="leave train without an image"):
        split_by_group(archive, "photographer", 1 - 1e-9)
