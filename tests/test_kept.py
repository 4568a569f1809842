"""Pictures that are kept in memory are those that were read, once, and no more than there is room for."""

import pytest
from image_folders import contents

from toolkit.data.birds import BirdsSource
from toolkit.data.kept import Kept
from toolkit.data.subset import Subset


class Counting(BirdsSource):
    """Birds that count how often they are drawn."""

    def __init__(self) -> None:
        super().__init__("painted", "train", 32, count=4)
        self.drawn: list[int] = []

    def image(self, index):
        self.drawn.append(index)
        return super().image(index)


@pytest.fixture
def birds() -> Counting:
    return Counting()


def test_kept_rows_are_the_source_s_own(birds):
    kept = Kept(birds)
    assert contents(kept) == contents(birds) == contents(kept)
    assert [kept.label(i) for i in range(4)] == [birds.label(i) for i in range(4)]
    assert kept.label_names == birds.label_names


def test_kept_rows_have_the_identity_of_the_source(birds):
    kept = Kept(birds)
    assert (kept.fingerprint(), kept.cache_key()) == (birds.fingerprint(), birds.cache_key())


def test_a_picture_is_drawn_once(birds):
    kept = Kept(birds)
    for index in (0, 1, 0, 1):
        kept.image(index)
    assert birds.drawn == [0, 1]


def test_what_there_is_no_room_for_is_read_again(birds):
    kept = Kept(birds, limit=32 * 32 * 3)
    for index in (0, 1, 0, 1):
        kept.image(index)
    assert birds.drawn == [0, 1, 1]


def test_pictures_that_are_let_go_are_read_again(birds):
    kept = Kept(birds)
    rows = Subset(kept, [1])
    for _ in range(2):
        rows.image(0)
    rows.forget_images()
    rows.image(0)
    assert birds.drawn == [1, 1]
