import pytest
from PIL import Image

from toolkit.data.source import Source
from toolkit.data.subset import Subset, hold_out, sample_rows
from toolkit.errors import DataError


class Names(Source):
    """Rows that are nothing but their ids."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def row_id(self, index: int) -> str:
        return self.names[index]

    def captions(self, index: int) -> tuple[str, ...]:
        return (self.names[index],)

    def image(self, index: int) -> Image.Image:
        return Image.new("RGB", (len(self.names[index]), 1))

    def fingerprint(self) -> str:
        return ",".join(self.names)


def ids(source: Source) -> list[str]:
    return [source.row_id(index) for index in range(len(source))]


def test_a_subset_shows_its_rows_alone() -> None:
    subset = Subset(Names(["a", "bb", "ccc"]), [2, 0])
    assert ids(subset) == ["ccc", "a"]
    assert subset.captions(0) == ("ccc",) and subset.image(0).size == (3, 1)
    assert subset.fingerprint() != Subset(Names(["a", "bb", "ccc"]), [0, 2]).fingerprint()
    assert subset.fingerprint() != Subset(Names(["a", "bb", "cccc"]), [2, 0]).fingerprint()


def test_holding_out_decides_every_row_alone() -> None:
    names = [f"{i}.jpg" for i in range(2000)]
    train, held = hold_out(Names(names), 0.1)
    assert sorted(ids(train) + ids(held)) == sorted(names)
    assert 150 < len(held) < 250
    assert set(ids(hold_out(Names(names[:1000]), 0.1)[1])) == set(ids(held)) & set(names[:1000])
    assert set(ids(held)) < set(ids(hold_out(Names(names[::-1]), 0.3)[1]))


def test_holding_out_nothing_or_everything_is_refused() -> None:
    with pytest.raises(DataError, match=r"0\.001 of 3 rows(.|\n)*validation_fraction"):
        hold_out(Names(["a", "b", "c"]), 0.001)
    with pytest.raises(DataError):
        hold_out(Names(["a"]), 0.999)


def test_a_sample_is_chosen_by_seed_and_grows_by_adding() -> None:
    names = [f"{i}.jpg" for i in range(500)]
    source = Names(names)
    small, large = ids(sample_rows(source, 50, seed=1)), ids(sample_rows(source, 100, seed=1))
    assert len(small) == 50 and set(small) < set(large)
    assert small == [name for name in names if name in set(small)]
    assert small != ids(sample_rows(source, 50, seed=2))
    assert len(set(ids(sample_rows(Names([*names, "new.jpg"]), 50, seed=1))) - set(small)) <= 1
    assert sample_rows(source, 500, seed=1) is source
