"""Records on disk: what was written is what is read, whoever writes beside, and damage is told."""

import contextlib
import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

from toolkit.cache.records import Records
from toolkit.cache.shard import Shard, write_shard
from toolkit.errors import CacheError
from toolkit.files import remove_unfinished

SHAPE = (2, 3)


def keys(*numbers):
    """A key for each number, far apart as digests are."""
    return np.stack([np.random.default_rng(number).integers(0, 256, 16, dtype=np.uint8) for number in numbers])


def values(*numbers):
    return torch.stack([torch.full(SHAPE, float(number)) for number in numbers])


@pytest.fixture
def records(tmp_path):
    return Records(tmp_path / "records", SHAPE, torch.float32)


def test_what_was_written_is_read_in_the_order_that_is_asked_for(records):
    records.write(keys(1, 2, 3), values(1, 2, 3))
    records.write(keys(4, 5), values(4, 5))
    records.refresh()
    assert torch.equal(records.read(keys(5, 1, 4, 1)), values(5, 1, 4, 1))
    assert records.has(keys(3, 6, 5, 7)).tolist() == [True, False, True, False]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=12, unique=True), min_size=1, max_size=6))
def test_any_number_of_shards_with_any_keys_in_common_finds_every_record(tmp_path_factory, shards):
    folder = tmp_path_factory.mktemp("records")
    for shard in shards:
        Records(folder, SHAPE, torch.float32).write(keys(*shard), values(*shard))
    read = Records(folder, SHAPE, torch.float32)
    written = sorted({number for shard in shards for number in shard})
    assert torch.equal(read.read(keys(*written)), values(*written))
    absent = [number for number in range(61) if number not in written]
    assert not absent or not read.has(keys(*absent)).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_and_no_more(tmp_path, dtype):
    given = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    records = Records(tmp_path, SHAPE, dtype)
    records.write(keys(1, 2, 3, 4), given)
    records.refresh()
    assert torch.equal(records.read(keys(1, 2, 3, 4)), given.to(dtype).float())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=12, unique=True), min_size=1, max_size=12))
def test_an_opening_that_is_extended_finds_what_a_new_one_finds(tmp_path_factory, shards):
    folder = tmp_path_factory.mktemp("records")
    opened = Records(folder, SHAPE, torch.float32)
    written = set()
    for shard in shards:
        Records(folder, SHAPE, torch.float32).write(keys(*shard), values(*shard))
        opened.extend()
        written |= set(shard)
        assert opened.has(keys(*range(61))).tolist() == [number in written for number in range(61)]
    assert torch.equal(opened.read(keys(*written)), values(*written))


def test_what_another_process_writes_is_found(records):
    code = (
        "import sys, torch; sys.path.insert(0, 'tests');"
        "from test_cache_records import *;"
        f"Records(Path({str(records.folder)!r}), SHAPE, torch.float32).write(keys(9), values(9))"
    )
    subprocess.run([sys.executable, "-c", "from pathlib import Path;" + code], check=True)
    assert not records.has(keys(9)).any()
    records.refresh()
    assert torch.equal(records.read(keys(9)), values(9))


def test_they_travel_to_worker_processes_as_paths(records):
    big = torch.zeros(2000, *SHAPE)
    records.write(keys(*range(2000)), big)
    records.refresh()
    sent = pickle.dumps(records)
    assert len(sent) < 10_000
    assert torch.equal(pickle.loads(sent).read(keys(7)), big[:1])


@pytest.mark.parametrize("find", [Records.refresh, Records.extend])
@pytest.mark.parametrize("left", [0, 5, 200])
def test_a_file_that_is_cut_off_is_removed_and_its_records_are_missing(records, left, find, capsys):
    records.write(keys(1, 2), values(1, 2))
    records.write(keys(3), values(3))
    path = next(path for path in records.folder.glob("*.shard") if len(Shard(path)) == 2)
    path.write_bytes(path.read_bytes()[:left])
    find(records)
    assert records.has(keys(1, 2, 3)).tolist() == [False, False, True]
    assert not path.exists()
    assert path.name in capsys.readouterr().err


def test_a_flipped_bit_is_never_served(records):
    records.write(keys(1, 2), values(1, 2))
    (path,) = records.folder.glob("*.shard")
    content = bytearray(path.read_bytes())
    place = bytes(content).index(values(2).numpy().tobytes())
    content[place] ^= 4
    path.write_bytes(content)
    records.refresh()
    assert torch.equal(records.read(keys(1)), values(1))
    with pytest.raises(CacheError, match=r"record 1 is not what was written") as told:
        records.read(keys(2))
    assert path.name in told.value.remedy


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_no_bit_of_a_shard_can_flip_and_give_other_values(tmp_path, dtype):
    Records(tmp_path, SHAPE, dtype).write(keys(1, 2), values(1, 2))
    (path,) = tmp_path.glob("*.shard")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    for bit in range(0, 8 * len(whole), 3):
        flipped[:] = whole
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with contextlib.suppress(CacheError):
            shard = Shard(path)
            for row, key in enumerate(shard.keys):
                # A key that is another one now is not asked for.
                if key.tobytes() == keys(row + 1)[0].tobytes():
                    with contextlib.suppress(CacheError):
                        assert torch.equal(shard.read(row, key.tobytes()), values(row + 1)[0]), f"bit {bit}"


def test_records_of_another_version_are_not_read(records):
    records.write(keys(1), values(1))
    (path,) = records.folder.glob("*.shard")
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"format":"1"', b'"format":"9"'))
    records.refresh()
    assert not records.has(keys(1)).any()


def test_no_room_is_said_before_anything_is_written(records, monkeypatch):
    monkeypatch.setattr("toolkit.cache.records.shutil.disk_usage", lambda _: SimpleNamespace(free=2**25))
    with pytest.raises(CacheError, match=r"1,000,000 encodings need 0\.043 GiB, and 0\.031 GiB are free"):
        records.require_room(1_000_000)


def test_a_damaged_index_is_made_anew(records):
    records.write(keys(1), values(1))
    records.refresh()
    (index,) = records.folder.glob("*.index")
    index.write_bytes(index.read_bytes()[:-3])
    records.refresh()
    assert torch.equal(records.read(keys(1)), values(1))


def test_there_is_one_index_however_often_shards_come(records):
    for number in range(5):
        records.write(keys(number), values(number))
        records.refresh()
    assert len(list(records.folder.glob("*.index"))) == 1
    assert torch.equal(records.read(keys(*range(5))), values(*range(5)))


def test_a_folder_that_cannot_be_written_to_is_read(records, monkeypatch):
    records.write(keys(1, 2), values(1, 2))

    def refuse(*_):
        raise SafetensorError("I/O error: Permission denied (os error 13)")

    monkeypatch.setattr("toolkit.cache.records.write_with", refuse)
    records.refresh()
    assert torch.equal(records.read(keys(2)), values(2))
    assert not list(records.folder.glob("*.index"))


def test_a_file_that_cannot_be_read_now_is_not_taken_for_damaged(records, monkeypatch):
    records.write(keys(1), values(1))

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("toolkit.cache.shard.np.memmap", refuse)
    with pytest.raises(CacheError, match="Permission denied"):
        records.refresh()
    assert len(list(records.folder.glob("*.shard"))) == 1


class _Entry:
    """A file as `os.scandir` gives it, whose length cannot be asked for."""

    def __init__(self, entry, error):
        self.name, self.error = entry.name, error

    def stat(self):
        raise self.error


@contextlib.contextmanager
def _scanned(path, error, scandir):
    """Of shards with one record the length is refused."""
    with scandir(path) as entries:
        shards = [entry for entry in entries if entry.name.endswith(".shard")]
        yield [_Entry(entry, error) if len(Shard(Path(entry.path))) == 1 else entry for entry in shards]


@pytest.mark.parametrize("find", [Records.refresh, Records.extend])
def test_a_file_that_another_process_removes_is_passed_over(records, monkeypatch, find):
    records.write(keys(1, 2), values(1, 2))
    records.write(keys(3), values(3))
    scan = partial(_scanned, error=FileNotFoundError(2, "No such file"), scandir=os.scandir)
    monkeypatch.setattr("toolkit.cache.records.os.scandir", scan)
    find(records)
    assert records.has(keys(1, 2, 3)).tolist() == [True, True, False]


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_folder_that_cannot_be_read_is_named(records, monkeypatch, what):
    records.write(keys(1), values(1))
    error = PermissionError(13, "Permission denied")

    def refuse(_):
        raise error

    scan = refuse if what == "folder" else partial(_scanned, error=error, scandir=os.scandir)
    monkeypatch.setattr("toolkit.cache.records.os.scandir", scan)
    with pytest.raises(CacheError, match=r"records cannot be read: .*Permission denied"):
        Records(records.folder, SHAPE, torch.float32)


def test_an_index_that_points_elsewhere_serves_nothing(records):
    records.write(keys(1, 2), values(1, 2))
    records.refresh()
    (index,) = records.folder.glob("*.index")
    content = bytearray(index.read_bytes())
    # The records change places.
    place = bytes(content).index(b"".join(each.tobytes() for each in records._parts[0].place))
    content[place : place + 16] = content[place + 8 : place + 16] + content[place : place + 8]
    index.write_bytes(content)
    records.refresh()
    with pytest.raises(CacheError, match="its index does not fit"):
        records.read(keys(1))


def test_more_shards_than_may_be_open_are_read(records, monkeypatch):
    monkeypatch.setattr("toolkit.cache.records._OPEN", 3)
    for number in range(8):
        records.write(keys(number), values(number))
    records.refresh()
    assert torch.equal(records.read(keys(*range(8), 0)), values(*range(8), 0))
    assert len(records._shards) <= 3


def test_a_full_disk_leaves_nothing_behind(records, monkeypatch):
    def full(*_):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("toolkit.cache.shard.save_file", full)
    with pytest.raises(CacheError, match="No space left on device"):
        records.write(keys(1), values(1))
    assert [path.name for path in records.folder.iterdir()] == [".lock"]


def test_what_a_killed_process_was_writing_is_removed_at_the_next_opening(records, tmp_path):
    code = """if True:
        import sys, time
        from pathlib import Path
        from toolkit.files import write_with, writing_in
        def half(scratch):
            scratch.write_bytes(b"half")
            print("half", flush=True)
            time.sleep(600)
        with writing_in(Path(sys.argv[1])):
            write_with(Path(sys.argv[1]) / "0123.shard", half)
    """
    records.write(keys(1), values(1))
    with subprocess.Popen([sys.executable, "-c", code, records.folder], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"half\n"
            assert len(list(records.folder.glob("*.shard"))) == 2
            Records(records.folder, SHAPE, torch.float32)
            assert len(list(records.folder.glob("*.shard"))) == 2
        finally:
            process.kill()
    opened = Records(records.folder, SHAPE, torch.float32)
    assert len(list(records.folder.glob("*.shard"))) == 1
    assert torch.equal(opened.read(keys(1)), values(1))


@pytest.mark.parametrize("kind", ["shard", "index"])
def test_what_is_being_written_is_not_taken_for_a_dead_processs(records, monkeypatch, kind):
    there, replace = [], Path.replace

    def opened_by_others_before(scratch, path):
        if scratch.suffix == f".{kind}":
            remove_unfinished(records.folder)
            there.append(scratch.exists())
        return replace(scratch, path)

    records.write(keys(1), values(1))
    records.refresh()
    monkeypatch.setattr(Path, "replace", opened_by_others_before)
    records.write(keys(2), values(2))
    if kind == "index":
        records.refresh()
    assert there == [True]


def test_a_key_that_is_not_there_is_told(records):
    with pytest.raises(CacheError, match="has lost a record"):
        records.read(keys(1))


def test_a_shard_keeps_its_records_apart(tmp_path):
    write_shard(tmp_path / "one.shard", keys(1, 2), values(1, 2))
    shard = Shard(tmp_path / "one.shard")
    assert len(shard) == 2
    assert torch.equal(shard.read(1, keys(2)[0].tobytes()), values(2)[0])
    with pytest.raises(CacheError, match="its index does not fit"):
        shard.read(1, keys(1)[0].tobytes())
