"""From the keys of a configuration to a source."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from toolkit.data.birds import BirdsSource
from toolkit.data.folder import FolderSource, holds_metadata, walk
from toolkit.data.scene_source import ScenesSource
from toolkit.data.source import Source
from toolkit.errors import ConfigError, DataError, nearest

BUILTIN: Mapping[str, tuple[Callable[..., Source], int]] = {
    "builtin:birds": (BirdsSource, 32),
    "builtin:scenes": (ScenesSource, 64),
}
"""The built-in data sets, each with the least side in pixels that it can be drawn at."""


def open_source(
    *,
    split: str,
    dataset_name: str | None,
    dataset_config_name: str | None,
    dataset_revision: str | None,
    train_data_dir: Path | None,
    image_column: str,
    caption_column: str,
    background: str,
    resolution: int,
    cache_dir: Path | None,
    label_column: str = "label",
    needs_captions: bool = True,
) -> Source:
    """The source that these keys of the configuration describe.

    Args:
        split: The split to read.
        dataset_name: One of `BUILTIN`, a data set on the Hub or a local folder of one; None reads `train_data_dir`.
        dataset_config_name: Configuration of a Hub data set; style of a built-in one.
        dataset_revision: Branch, tag or commit of a Hub data set.
        train_data_dir: An image folder with metadata, or a folder of parquet files.
        image_column: Column of images.
        caption_column: Column of captions.
        background: Colour under transparent pixels.
        resolution: Side of what is trained on, in pixels; the built-in data sets are drawn at it.
        label_column: Column of classes, where there is one.
        needs_captions: Whether data without captions are a mistake.
        cache_dir: Where datasets keeps what it downloads and converts; None is its default.

    Raises:
        DataError: The data are not there, or not as described.
        ConfigError: There is no such built-in data set, or it was given no style.
    """
    columns: dict[str, Any] = {
        "image_column": image_column,
        "caption_column": caption_column,
        "label_column": label_column,
        "needs_captions": needs_captions,
    }
    if dataset_name is not None and dataset_name.startswith("builtin:"):
        return _builtin(dataset_name, dataset_config_name, split, resolution)
    if dataset_name is not None:
        _refuse_missing_folder(dataset_name)
    else:
        assert train_data_dir is not None
        _require_folder(train_data_dir)
        if holds_metadata(train_data_dir) or not any(path.suffix == ".parquet" for path in walk(train_data_dir)):
            return FolderSource(train_data_dir, split=split, background=background, **columns)
    # Not at the top: the datasets library takes most of a second to import, and folders of images do without it.
    from toolkit.data.arrow import ArrowSource, load_hub, load_parquet_folder

    if dataset_name is not None:
        rows = load_hub(
            dataset_name, config_name=dataset_config_name, revision=dataset_revision, split=split, cache_dir=cache_dir
        )
    else:
        assert train_data_dir is not None
        rows = load_parquet_folder(train_data_dir, split=split, cache_dir=cache_dir)
    return ArrowSource(rows, name=f"{dataset_name or train_data_dir} ({split})", background=background, **columns)


def refuse_in_data(key: str, folder: Path, data: Path) -> None:
    """Refuse a folder to write to that lies in the data.

    Args:
        key: What names it.
        folder: To write to.
        data: The folder of the data.

    Raises:
        ConfigError: It does.
    """
    if folder.resolve().is_relative_to(data.resolve()):
        raise ConfigError(f"{key}: {folder} lies in the data", "Name a folder outside: data are never written to.")


def _builtin(name: str, style: str | None, split: str, resolution: int) -> Source:
    if name not in BUILTIN:
        raise ConfigError(f"data.dataset_name: there is no `{name}`", nearest(name, BUILTIN))
    if style is None:
        raise ConfigError(f"data.dataset_config_name is missing for {name}", "Give its style, `painted` or `sketch`.")
    source, least = BUILTIN[name]
    return source(style=style, split=split, size=max(least, resolution))


def _require_folder(path: Path) -> None:
    if not path.is_dir():
        what = "is a file, not a folder" if path.exists() else "does not exist"
        raise DataError(f"data.train_data_dir: {path} {what}", "Give the folder that holds the images.")


def _refuse_missing_folder(name: str) -> None:
    """A Hub name has at most one slash and starts with a letter or digit; anything else is meant as a path."""
    is_path = os.path.isabs(name) or name.startswith((".", "~")) or name.count("/") > 1
    if (is_path and not os.path.isdir(name)) or os.path.isfile(name):
        what = "is a file, not a folder" if os.path.isfile(name) else "does not exist"
        raise DataError(f"data.dataset_name: {name} {what}", "Give a folder, or the name of a data set on the Hub.")
