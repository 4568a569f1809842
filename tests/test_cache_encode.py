"""What fills a cache: only what is finite, each file opened a few times; and what is computed again."""

import pytest
import torch

from toolkit.cache import records
from toolkit.cache.encode import encode_missing, texts, verify
from toolkit.cache.records import Records
from toolkit.cache.views import as_array, text_key
from toolkit.errors import CacheError


def numbers(some):
    """The encoding of a number that is written out: itself."""
    return torch.tensor([[float(text)] for text in some])


def keys(some):
    return as_array([text_key(str(number)) for number in some])


@pytest.fixture
def kept(tmp_path):
    return Records(tmp_path / "records", (1,), torch.float32)


def test_a_long_fill_opens_each_file_a_few_times(kept, monkeypatch):
    monkeypatch.setattr("toolkit.cache.encode._LOOKED_AT", 4)
    opened, shard = [], records.Shard
    monkeypatch.setattr(records, "Shard", lambda path: opened.append(path) or shard(path))
    windows = 40
    # Of each window half was seen before.
    seen = [str(number) for window in range(windows) for number in range(2 * window, 2 * window + 4)]
    encode_missing(texts(seen), kept, numbers, "numbers")
    files = list(kept.folder.glob("*.shard"))
    assert len(files) == windows
    assert len(opened) <= 5 * windows
    assert torch.equal(kept.read(keys(range(2 * windows + 2))), torch.arange(2 * windows + 2.0)[:, None])
    assert len({path.name for path in kept.folder.glob("*.index")}) == 1


@pytest.mark.parametrize(
    ("number", "where", "remedy"),
    [("1e6", "in float16", "data.cache_dtype"), ("nan", "as it is computed", "mixed_precision")],
)
def test_what_is_not_finite_is_named_and_not_kept(tmp_path, number, where, remedy):
    kept = Records(tmp_path, (1,), torch.float16)
    some = ["1", "2", number, "3"]
    with pytest.raises(CacheError, match=f"the caption '{number}' is not finite {where}") as told:
        encode_missing(texts(some), kept, numbers, "numbers")
    assert remedy in told.value.remedy
    assert not list(tmp_path.glob("*.shard"))
    encode_missing(texts(["1e6"]), Records(tmp_path / "wide", (1,), torch.bfloat16), numbers, "numbers")


def verified(kept, wanted, seed, encode=numbers):
    computed = []

    def counted(some):
        values = encode(some)
        computed.extend(some)
        return values

    verify(texts(wanted), kept, counted, seed)
    return computed


def test_what_is_verified_was_kept_and_is_chosen_by_the_seed(kept, monkeypatch):
    monkeypatch.setattr("toolkit.cache.encode._LOOKED_AT", 32)
    old, new = [str(number) for number in range(20)], [str(number) for number in range(100, 180)]
    assert verified(kept, old, 1) == []
    encode_missing(texts(old), kept, numbers, "numbers")
    chosen = [verified(kept, new + old, seed) for seed in range(3)]
    assert all(len(set(some)) == 4 and set(some) <= set(old) for some in chosen)
    assert len({tuple(some) for some in chosen}) == 3
    assert verified(kept, new + old, 2) == chosen[2]
    with pytest.raises(CacheError, match="does not hold what these networks make"):
        verified(kept, new + old, 1, lambda some: numbers(some) + 5)


def test_what_is_verified_is_computed_one_by_one_where_memory_is_short(kept):
    def short(some):
        if len(some) > 1:
            raise torch.OutOfMemoryError
        return numbers(some)

    old = [str(number) for number in range(20)]
    encode_missing(texts(old), kept, numbers, "numbers")
    assert len(verified(kept, old, 1, short)) == 4
