"""What fills a cache: each file is opened a few times."""

import pytest
import torch

from toolkit.cache import records
from toolkit.cache.encode import encode_missing, texts
from toolkit.cache.records import Records
from toolkit.cache.views import as_array, text_key


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
