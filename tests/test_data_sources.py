import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import datasets
import pyarrow as pa
import pytest
from image_folders import contents, image_folder, picture, state

from toolkit.data.arrow import ArrowSource, load_hub, load_parquet_folder
from toolkit.data.folder import FolderSource
from toolkit.data.source import Source, file_version
from toolkit.data.sources import open_source
from toolkit.data.subset import Subset
from toolkit.errors import ConfigError, DataError

datasets.disable_progress_bars()


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def parquet_folder(folder: Path) -> list[bytes]:
    """A folder as datasets publishes it: splits train and test. Returns the training images."""
    images = [picture(seed) for seed in range(5)]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    rows = datasets.Dataset.from_dict({"image": images, "text": [f"text {i}" for i in range(5)]}, features=features)
    (folder / "data").mkdir(parents=True)
    rows.to_parquet(folder / "data/train-00000-of-00001.parquet")
    rows.select([0]).to_parquet(folder / "data/test-00000-of-00001.parquet")
    return [image.tobytes() for image in images]


def configured(tmp_path: Path, split: str = "train", /, **changes: Any) -> Source:
    arguments: dict[str, Any] = {
        "dataset_name": None,
        "dataset_config_name": None,
        "dataset_revision": None,
        "train_data_dir": None,
        "image_column": "image",
        "caption_column": "text",
        "background": "white",
        "resolution": 64,
        "cache_dir": tmp_path / ".cache",
    }
    return open_source(split=split, **(arguments | changes))


@pytest.mark.parametrize("key", ["dataset_name", "train_data_dir"])
def test_a_folder_of_parquet_is_read_under_either_key(tmp_path: Path, key: str) -> None:
    images = parquet_folder(tmp_path / "data set")
    (tmp_path / "data set/README.md").write_text("# Pictures")
    folder = tmp_path / "data set"
    source = configured(tmp_path, **{key: str(folder) if key == "dataset_name" else folder})
    assert contents(source) == [(str(i), (f"text {i}",), image) for i, image in enumerate(images)]
    assert len(configured(tmp_path, "test", **{key: str(folder) if key == "dataset_name" else folder})) == 1
    with pytest.raises(DataError, match=r"no split `validation`\nKnown: test, train"):
        configured(tmp_path, "validation", **{key: str(folder) if key == "dataset_name" else folder})


def test_metadata_in_parquet_make_an_image_folder(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "pictures", ["a.png"], "metadata.parquet")
    assert isinstance(configured(tmp_path, train_data_dir=folder), FolderSource)


def test_an_image_folder_read_by_datasets_has_the_same_rows(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "pictures", ["a.png", "b.png"])
    ours = configured(tmp_path, train_data_dir=folder)
    theirs = configured(tmp_path, dataset_name=str(folder))
    assert isinstance(ours, FolderSource) and isinstance(theirs, ArrowSource)
    assert [row[1:] for row in contents(ours)] == [row[1:] for row in contents(theirs)]
    key, fingerprint = theirs.cache_key(), theirs.fingerprint()
    os.utime(folder / "a.png", ns=(1, 1))
    assert theirs.fingerprint() == fingerprint and theirs.cache_key() != key


def test_reading_writes_nothing_into_the_data(tmp_path: Path) -> None:
    image_folder(tmp_path / "folder", ["a.png"])
    parquet_folder(tmp_path / "parquet")
    before = state(tmp_path / "folder"), state(tmp_path / "parquet")
    for name in ("folder", "parquet"):
        for key in ("dataset_name", "train_data_dir"):
            path = tmp_path / name
            source = configured(tmp_path, **{key: str(path) if key == "dataset_name" else path})
            contents(source)
            source.cache_key()
    assert (state(tmp_path / "folder"), state(tmp_path / "parquet")) == before


def arrow(rows: list[dict[str, Any]], types: dict[str, pa.DataType], **changes: str) -> ArrowSource:
    table = pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()})
    arguments = {"name": "birds", "image_column": "image", "caption_column": "text", "background": "white"} | changes
    return ArrowSource(datasets.Dataset(table), **arguments)


def test_plain_bytes_and_list_captions_are_read(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    source = arrow(
        [{"image": content, "text": ["one", None, " "]}, {"image": None, "text": None}],
        {"image": pa.binary(), "text": pa.list_(pa.string())},
    )
    assert source.image(0).tobytes() == picture(0).tobytes()
    assert [source.captions(0), source.captions(1)] == [("one",), ()]
    with pytest.raises(DataError, match="birds, row 1: the image is missing"):
        source.image(1)


def test_a_wrong_column_is_named_with_the_nearest() -> None:
    rows, types = [{"image": b"x", "caption": "y"}], {"image": pa.binary(), "caption": pa.string()}
    with pytest.raises(DataError, match=r"no column `captoin`.*caption, image\nDid you mean `caption`.*caption_column"):
        arrow(rows, types, caption_column="captoin")
    with pytest.raises(DataError, match=r"no column `img`.*\n.*image_column"):
        arrow(rows, types, image_column="img", caption_column="caption")


def test_columns_of_another_kind_are_refused() -> None:
    rows, types = [{"image": "a.png", "text": 3}], {"image": pa.string(), "text": pa.int64()}
    with pytest.raises(DataError, match="`image` holds string, not images"):
        arrow(rows, types)
    with pytest.raises(DataError, match="`text` holds int64, not text"):
        arrow([{"image": b"", "text": 3}], types | {"image": pa.binary()})
    with pytest.raises(DataError, match="birds has no rows"):
        arrow([], {"image": pa.binary(), "text": pa.string()})


def test_the_fingerprint_of_a_table_sees_captions_and_sizes() -> None:
    types = {"image": pa.binary(), "text": pa.string()}
    tables: list[list[tuple[bytes | None, str]]] = [
        [(b"abc", "x")],
        [(b"ab", "x")],
        [(b"abc", "y")],
        [(None, "x")],
        [(b"abc", "x")] * 2,
    ]
    seen = {arrow([{"image": i, "text": t} for i, t in rows], types).fingerprint() for rows in tables}
    assert len(seen) == len(tables)


def test_a_rewritten_parquet_file_changes_the_cache_key(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    parquet_folder(folder)
    source = configured(tmp_path, train_data_dir=folder)
    key = source.cache_key()
    assert configured(tmp_path, train_data_dir=folder).cache_key() == key
    os.utime(folder / "data/train-00000-of-00001.parquet", (1, 1))
    again = configured(tmp_path, train_data_dir=folder)
    assert again.cache_key() != key and again.fingerprint() == source.fingerprint()


@pytest.mark.parametrize("key", ["dataset_name", "train_data_dir"])
def test_a_file_that_is_rewritten_at_its_size_and_time_changes_the_cache_key(tmp_path: Path, key: str) -> None:
    folder = image_folder(tmp_path / "pictures", ["a.bmp"])
    source = configured(tmp_path, **{key: str(folder) if key == "dataset_name" else folder})
    path, before, kept = folder / "a.bmp", (folder / "a.bmp").stat(), source.cache_key()
    assert source.cache_key() == kept
    picture(9).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert source.cache_key() != kept


@pytest.mark.parametrize("field", ["st_size", "st_mtime_ns", "st_ctime_ns", "st_ino"])
def test_a_file_is_another_by_each_of_what_tells_it(field: str) -> None:
    fields = {"st_size": 1, "st_mtime_ns": 2, "st_ctime_ns": 3, "st_ino": 4}
    versions = [file_version(cast(os.stat_result, SimpleNamespace(**each))) for each in (fields, fields | {field: 5})]
    assert versions[0] != versions[1]


def test_a_data_set_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"some-owner/nothing cannot be loaded(.|\n)*network"):
        load_hub("some-owner/nothing", config_name=None, revision=None, split="train", cache_dir=tmp_path)
    parquet_folder(tmp_path / "p")
    with pytest.raises(DataError, match=r"cannot be loaded.*'odd'.*default"):
        load_hub(str(tmp_path / "p"), config_name="odd", revision=None, split="train", cache_dir=tmp_path / "c")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"broken cannot be loaded"):
        load_parquet_folder(tmp_path / "broken", split="train", cache_dir=tmp_path / "c")


@pytest.mark.parametrize("key", ["dataset_name", "train_data_dir"])
def test_a_path_that_is_no_folder_is_named(tmp_path: Path, key: str) -> None:
    (tmp_path / "file").write_text("")
    for name, what in (("file", "is a file"), ("gone", "does not exist")):
        path = tmp_path / name
        with pytest.raises(DataError, match=f"data.{key}: .*{name} {what}"):
            configured(tmp_path, **{key: str(path) if key == "dataset_name" else path})


@pytest.mark.parametrize("name", ["builtin:scenes", "builtin:birds"])
def test_built_in_data_are_drawn_at_the_resolution(tmp_path: Path, name: str) -> None:
    styled = {"dataset_name": name, "dataset_config_name": "sketch"}
    assert configured(tmp_path, resolution=96, **styled).image(0).size == (96, 96)
    with pytest.raises(ConfigError, match=r"data\.dataset_config_name"):
        configured(tmp_path, dataset_name=name)


def test_an_unknown_built_in_data_set_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="builtin:birds"):
        configured(tmp_path, dataset_name="builtin:bird")


def test_sources_cross_process_boundaries(tmp_path: Path) -> None:
    parquet_folder(tmp_path / "p")
    image_folder(tmp_path / "f", ["a.png"])
    for folder in ("p", "f"):
        source = Subset(configured(tmp_path, train_data_dir=tmp_path / folder), [0])
        packed = pickle.dumps(source)
        assert len(packed) < 5000
        assert contents(pickle.loads(packed)) == contents(source)
