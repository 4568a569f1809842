"""Data sets that the datasets library reads: those of the Hub, local copies of them, and folders of parquet files."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from datasets.exceptions import DatasetsError
from PIL.Image import Image

from toolkit.data.labels import Labels, number_labels
from toolkit.data.source import Source, file_version, without_empty
from toolkit.errors import DataError, nearest
from toolkit.images import decode_image, parse_colour


class ArrowSource(Source):
    """The rows of one split. Images are decoded by `toolkit.images`, not by datasets.

    Args:
        rows: The split.
        name: What messages call it.
        image_column: Column of images: datasets' image type, or the bytes of image files.
        caption_column: Column of strings, or of lists of strings; it may be absent where `needs_captions` is false.
        label_column: Column of classes: datasets' ClassLabel, or numbers. Without it rows have none.
        needs_captions: Whether data without captions are a mistake.
        background: Colour under transparent pixels, by name or `#rrggbb`.

    Raises:
        DataError: A column is missing or holds something else; there are no rows.
        ConfigError: `background` is no colour.
    """

    def __init__(
        self,
        rows: datasets.Dataset,
        *,
        name: str,
        image_column: str,
        caption_column: str,
        background: str,
        label_column: str = "label",
        needs_captions: bool = True,
    ) -> None:
        parse_colour(background)
        self._name = name
        self._background = background
        self._image_column = image_column
        self._caption_column = caption_column
        has_captions = needs_captions or caption_column in rows.column_names
        has_labels = label_column != "label" or label_column in rows.column_names
        wanted = {"image_column": image_column}
        wanted |= {"caption_column": caption_column} if has_captions else {}
        wanted |= {"label_column": label_column} if has_labels else {}
        for key, column in wanted.items():
            if column not in rows.column_names:
                raise DataError(
                    f"{name}: there is no column `{column}`; its columns are {', '.join(sorted(rows.column_names))}",
                    f"{nearest(column, rows.column_names)} Give it as {key}.",
                )
        # In the arrow format, datasets hands out what is stored and decodes nothing.
        self._rows = rows.with_format("arrow", columns=[*wanted.values()])
        _require_images(rows.data.schema, name, image_column)
        if has_captions:
            _require_text(rows.data.schema, name, caption_column)
        self._has_captions = has_captions
        self._labels = _labels(rows, name, label_column) if has_labels else Labels((), ())
        if not len(rows):
            raise DataError(f"{name} has no rows", "Name another split or data set.")

    def __len__(self) -> int:
        return len(self._rows)

    def row_id(self, index: int) -> str:
        return str(index)

    def captions(self, index: int) -> tuple[str, ...]:
        if not self._has_captions:
            return ()
        value = self._value(index, self._caption_column)
        return without_empty(value if isinstance(value, list) else [value])

    def label(self, index: int) -> int | None:
        return self._labels.values[index] if self._labels.values else None

    @property
    def label_names(self) -> tuple[str, ...]:
        return self._labels.names

    def image(self, index: int) -> Image:
        value = self._value(index, self._image_column)
        name = f"{self._name}, row {index}"
        content, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if content is None and path:
            content = Path(path)
        if content is None:
            raise DataError(f"{name}: the image is missing", "Add the image or delete the row.")
        return decode_image(content, background=self._background, name=name)

    def fingerprint(self) -> str:
        return self._digest(with_times=False)

    def cache_key(self) -> str:
        return self._digest(with_times=True)

    def _value(self, index: int, column: str) -> Any:
        return self._rows[index].column(column)[0].as_py()

    def _digest(self, with_times: bool) -> str:
        digest = hashlib.blake2b(digest_size=16)
        if with_times:
            digest.update(f"{self._background} {self._image_column}".encode("utf-8", "surrogatepass"))
        table = self._rows.data
        states = _file_states(table.column(self._image_column), with_times)
        for index, state in enumerate(states):
            captions = table.column(self._caption_column)[index].as_py() if self._has_captions else None
            digest.update(repr((captions, state)).encode("utf-8", "surrogatepass"))
        if self._labels.values:
            digest.update(repr(self._labels).encode("utf-8", "surrogatepass"))
        # datasets writes its table anew when a file that it was made from changes.
        for file in self._rows.cache_files if with_times else []:
            digest.update(repr(file_version(os.stat(file["filename"]))).encode())
        return digest.hexdigest()


def _file_states(column: pa.ChunkedArray, with_times: bool) -> Iterator[tuple[int, ...]]:
    """Of each row's image `file_version`, or (size, 0) where that is not asked for or it lies in the table."""
    for chunk in column.chunks:
        nested = pa.types.is_struct(chunk.type)
        sizes = pc.binary_length(pc.struct_field(chunk, "bytes") if nested else chunk).to_pylist()
        paths = (
            pc.struct_field(chunk, "path").to_pylist() if nested and _has(chunk.type, "path") else [None] * len(chunk)
        )
        for size, path in zip(sizes, paths, strict=True):
            if size is not None:
                yield size, 0
            elif path and os.path.isfile(path):
                status = os.stat(path)
                yield file_version(status) if with_times else (status.st_size, 0)
            else:
                yield -1, 0


def _has(struct: pa.StructType, field: str) -> bool:
    return bool(struct.get_field_index(field) >= 0)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _require_images(schema: pa.Schema, name: str, column: str) -> None:
    image = schema.field(column).type
    if not (_is_binary(image) or (pa.types.is_struct(image) and _has(image, "bytes"))):
        raise DataError(
            f"{name}: the column `{column}` holds {image}, not images",
            f"Name the column of images as image_column; the columns are {', '.join(schema.names)}.",
        )


def _require_text(schema: pa.Schema, name: str, column: str) -> None:
    caption = schema.field(column).type
    listed = pa.types.is_list(caption) or pa.types.is_large_list(caption)
    if not _is_text(caption.value_type if listed else caption):
        raise DataError(
            f"{name}: the column `{column}` holds {caption}, not text",
            f"Name the column of captions as caption_column; the columns are {', '.join(schema.names)}.",
        )


def _labels(rows: datasets.Dataset, name: str, column: str) -> Labels:
    """Words are refused: one split does not show all of them, so that splits would number them differently."""
    values = rows.with_format(None)[column][:]
    if any(isinstance(value, str) for value in values):
        raise DataError(
            f"{name}: the column `{column}` holds words",
            f"Number them for all splits together: data.class_encode_column({column!r}) of the datasets library.",
        )
    feature = rows.features[column]
    names = feature.names if isinstance(feature, datasets.ClassLabel) else None
    called = [None if names is None or value is None or value < 0 else names[value] for value in values]
    labels = number_labels(values, called, where=name, column=column)
    # A split does not have to show every class.
    return Labels(labels.values, tuple(names)) if names is not None and labels.values else labels


def load_hub(
    name: str, *, config_name: str | None, revision: str | None, split: str, cache_dir: Path | None
) -> datasets.Dataset:
    """A split of a data set on the Hub, or of a local copy of one.

    Raises:
        DataError: It cannot be had, or has no such split.
    """
    return _load(name, split, path=name, name=config_name, revision=revision, cache_dir=cache_dir)


def load_parquet_folder(folder: Path, *, split: str, cache_dir: Path | None) -> datasets.Dataset:
    """A split of the parquet files in a folder and below it; what names no split is `train`.

    Raises:
        DataError: They cannot be read, or have no such split.
    """
    files = str(folder)
    return _load(files, split, path="parquet", data_dir=files, cache_dir=cache_dir)


def _load(shown: str, split: str, *, cache_dir: Path | None, **arguments: Any) -> datasets.Dataset:
    try:
        splits = datasets.load_dataset(**arguments, cache_dir=cache_dir and str(cache_dir))
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        reason = " ".join(f"{error} {error.__cause__ or ''}".split())
        raise DataError(
            f"the data set {shown} cannot be loaded: {reason}",
            "Check its name, configuration and revision; the network or HF_HUB_OFFLINE; and, for a private or gated "
            "data set, `hf auth login`.",
        ) from error
    if split not in splits:
        raise DataError(f"{shown}: there is no split `{split}`", nearest(split, splits))
    return splits[split]
