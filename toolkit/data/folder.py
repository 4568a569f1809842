"""A local image folder with its captions in metadata files, by the convention of datasets' imagefolder.

```
birds/train/metadata.jsonl    {"file_name": "a/1.jpg", "text": "a bird on a branch"}
birds/train/a/1.jpg
birds/test/metadata.csv       file_name,text
```
"""

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL.Image import Image

from toolkit.data.labels import Labels, number_labels
from toolkit.data.source import Source, file_version, without_empty
from toolkit.errors import DataError, nearest
from toolkit.images import decode_image, parse_colour

METADATA_FILES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")

_SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True, slots=True)
class _Row:
    path: str
    """Relative to the folder, with forward slashes."""
    captions: tuple[str, ...]
    split: str
    label: object
    """As the file spells it; None where it has none."""
    label_name: object


class FolderSource(Source):
    """The rows of one split of an image folder, in the order of its metadata files.

    A row belongs to the split that its column `split` tells, else the first folder on its path that is named after one
    (`train`, `val`, `testing`, ...), and to `train` where none does. Image files are not looked at before they are
    asked for.

    Args:
        folder: The folder.
        split: Any name of a split that a folder may have.
        image_column: `image` reads file names from the column `file_name`, `x` from `x_file_name`.
        caption_column: Column that holds a caption, or a list of captions; it may be absent where `needs_captions`
            is false.
        label_column: Column that holds the class, as `number_labels` reads it; `label_name` beside it names it.
        needs_captions: Whether a metadata file without captions is a mistake.
        background: Colour under transparent pixels, by name or `#rrggbb`.

    Raises:
        DataError: No metadata, a line that cannot be read, a missing column, a path out of the folder, no such split.
        ConfigError: `background` is no colour.
    """

    def __init__(
        self,
        folder: Path,
        *,
        split: str,
        image_column: str,
        caption_column: str,
        background: str,
        label_column: str = "label",
        needs_captions: bool = True,
    ) -> None:
        parse_colour(background)
        self._folder = folder
        self._background = background
        file_column = "file_name" if image_column == "image" else f"{image_column}_file_name"
        columns = _Columns(file_column, caption_column, label_column, needs_captions)
        rows = [row for metadata in _metadata_files(folder) for row in _read_rows(folder, metadata, columns)]
        labels = number_labels(
            [row.label for row in rows], [row.label_name for row in rows], where=str(folder), column=label_column
        )
        wanted = _SPLITS.get(split.lower(), split)
        chosen = [index for index, row in enumerate(rows) if row.split == wanted]
        if not chosen:
            counts = ", ".join(f"{name} ({count} rows)" for name, count in Counter(row.split for row in rows).items())
            raise DataError(
                f"{folder}: the split `{split}` has no rows",
                f"Splits with rows: {counts}." if counts else "Its metadata files are empty: add one line per image.",
            )
        self._rows = [rows[index] for index in chosen]
        self._labels = Labels(tuple(labels.values[index] for index in chosen) if labels.values else (), labels.names)

    def __len__(self) -> int:
        return len(self._rows)

    def row_id(self, index: int) -> str:
        return self._rows[index].path

    def captions(self, index: int) -> tuple[str, ...]:
        return self._rows[index].captions

    def label(self, index: int) -> int | None:
        return self._labels.values[index] if self._labels.values else None

    @property
    def label_names(self) -> tuple[str, ...]:
        return self._labels.names

    def image(self, index: int) -> Image:
        path = self._rows[index].path
        return decode_image(self._folder / path, background=self._background, name=path)

    def fingerprint(self) -> str:
        return self._digest(with_times=False)

    def cache_key(self) -> str:
        return self._digest(with_times=True)

    def _digest(self, with_times: bool) -> str:
        digest = hashlib.blake2b(digest_size=16)
        if with_times:
            # Of what is read: other colours under transparent pixels, or another folder of the same names.
            digest.update(f"{self._background} {self._folder.resolve()}".encode("utf-8", "surrogatepass"))
        for row in self._rows:
            try:
                status = os.stat(self._folder / row.path)
                state = file_version(status) if with_times else (status.st_size, 0)
            except OSError:
                state = (-1, 0)
            digest.update(repr((row.path, row.captions, state)).encode("utf-8", "surrogatepass"))
        if self._labels.values:
            digest.update(repr(self._labels).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


def holds_metadata(folder: Path) -> bool:
    """Whether any metadata file lies in the folder or below it."""
    return any(path.name in METADATA_FILES for path in walk(folder))


def walk(folder: Path) -> Iterator[Path]:
    """Every file in the folder and below it, in order. Links are followed once; hidden folders are not entered."""
    seen = set()
    for directory, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(directory)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        yield from (Path(directory, name) for name in sorted(files))


def _metadata_files(folder: Path) -> list[Path]:
    found: list[Path] = []
    near = []
    for path in walk(folder):
        if path.name in METADATA_FILES:
            found.append(path)
        elif path.name.lower().startswith("metadata") or path.suffix.lower() in (".json", ".jsonl", ".csv", ".parquet"):
            near.append(str(path.relative_to(folder)))
    if not found:
        seen = f" (there is {', '.join(near[:5])})" if near else ""
        raise DataError(
            f"{folder}: no metadata.jsonl, metadata.csv or metadata.parquet in it or below it{seen}",
            'Captions are read from such a file, one line per image: {"file_name": "1.jpg", "text": "a red bird"}.',
        )
    for first, second in pairwise(found):
        if first.parent == second.parent:
            raise DataError(
                f"{first.parent}: both {first.name} and {second.name} lie in it, so every row would count twice",
                "Keep one of them.",
            )
    return found


def _split_of(path: str) -> str:
    folders = PurePosixPath(path.lower()).parts[:-1]
    return next((_SPLITS[name] for name in folders if name in _SPLITS), "train")


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where a metadata file says what."""

    file: str
    caption: str
    label: str
    needs_captions: bool

    def wanted(self) -> Iterator[tuple[str, str]]:
        """(column that has to be there, the key of a configuration that names it)."""
        yield self.file, "image_column"
        if self.needs_captions:
            yield self.caption, "caption_column"
        if self.label != "label":
            yield self.label, "label_column"


def _read_rows(folder: Path, metadata: Path, names: _Columns) -> Iterator[_Row]:
    readers = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
    try:
        lines = list(readers[metadata.suffix](metadata))
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise DataError(f"{metadata}: unreadable: {error}", "Write it again, text in UTF-8.") from error
    columns = {column for _, values in lines for column in values}
    for column, key in names.wanted():
        if lines and column not in columns:
            hint = f"Name it {column}." if column == names.file else f"Or give the column's name as {key}."
            raise DataError(
                f"{metadata}: there is no column `{column}`; its columns are {', '.join(sorted(columns))}",
                f"{nearest(column, columns)} {hint}",
            )
    prefix = PurePosixPath(metadata.parent.relative_to(folder).as_posix())
    for where, values in lines:
        place = f"{metadata}, {where}"
        path = (prefix / _inside(values.get(names.file), place, names.file)).as_posix()
        captions, split = _captions(values.get(names.caption), place), values.get("split")
        yield _Row(
            path,
            captions,
            _SPLITS.get(split.lower(), split) if isinstance(split, str) else _split_of(path),
            values.get(names.label),
            values.get("label_name"),
        )


def _inside(file_name: object, where: str, column: str) -> PurePosixPath:
    if not isinstance(file_name, str) or not file_name:
        raise DataError(f"{where}: `{column}` is {file_name!r}, not a file name", "Name the row's image, or delete it.")
    path = PurePosixPath(file_name)
    if path.is_absolute() or Path(file_name).is_absolute() or ".." in path.parts:
        raise DataError(
            f"{where}: `{column}` is {file_name!r}, which leaves the folder of the metadata file",
            "Give a path relative to the metadata file, without `..`; move the metadata file up if need be.",
        )
    return path


def _captions(value: object, where: str) -> tuple[str, ...]:
    captions = []
    for caption in value if isinstance(value, list) else [value]:
        if isinstance(caption, str):
            captions.append(caption)
        elif caption is not None:
            raise DataError(
                f"{where}: the caption is {caption!r}, not text", "Write a string, or a list of strings to draw from."
            )
    return without_empty(captions)


def _read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    # utf-8-sig: some editors put a byte order mark first.
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                values = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{path}, line {number}: not JSON: {error.msg} at column {error.colno}",
                    'Write one object per line: {"file_name": "1.jpg", "text": "a red bird"}.',
                ) from None
            if not isinstance(values, dict):
                raise DataError(
                    f"{path}, line {number}: a JSON {type(values).__name__}, not an object",
                    'Write one object per line: {"file_name": "1.jpg", "text": "a red bird"}.',
                )
            yield f"line {number}", values


def _read_csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, [])
        for values in reader:
            if not values:
                continue
            if len(values) != len(header):
                raise DataError(
                    f"{path}, line {reader.line_num}: {len(values)} fields under a header of {len(header)}",
                    "Put captions that hold commas into double quotes.",
                )
            yield f"line {reader.line_num}", dict(zip(header, values, strict=True))


def _read_parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, values in enumerate(pq.read_table(path).to_pylist()):
        yield f"row {number}", values
