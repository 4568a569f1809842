"""From the `data` section of a configuration to the rows that are trained on and those that are held out."""

from pathlib import Path

from toolkit.config import DataConfig
from toolkit.data.examples import Framing
from toolkit.data.source import Source
from toolkit.data.sources import open_source
from toolkit.data.subset import hold_out, sample_rows


def split_data(
    data: DataConfig, *, seed: int, cache_dir: Path | None = None, needs_captions: bool = True
) -> tuple[Source, Source | None]:
    """(rows to train on, held-out rows or None).

    Args:
        data: What is read, and how it is split.
        seed: Chooses the rows of `max_train_samples`.
        cache_dir: Where downloads are kept; None is the Hugging Face default.
        needs_captions: Whether data without captions are a mistake.

    Raises:
        DataError: The data are not there, or not as described.
        ConfigError: There is no such built-in data set, or it was given no style.
    """
    train, held_out = open_split(data, data.train_split, cache_dir, needs_captions), None
    if data.validation_split is not None:
        held_out = open_split(data, data.validation_split, cache_dir, needs_captions)
    elif data.validation_fraction > 0:
        train, held_out = hold_out(train, data.validation_fraction)
    if data.max_train_samples is not None:
        train = sample_rows(train, data.max_train_samples, seed)
    return train, held_out


def framing_of(data: DataConfig) -> Framing:
    """How the rows' pictures are cut to the training's resolution."""
    return Framing(
        data.resolution, data.image_interpolation_mode, data.center_crop, data.random_flip, data.planned_crops
    )


def open_split(data: DataConfig, split: str, cache_dir: Path | None = None, needs_captions: bool = True) -> Source:
    """The rows of one split, by the name that the data set gives it; see `split_data`."""
    return open_source(
        split=split,
        dataset_name=data.dataset_name,
        dataset_config_name=data.dataset_config_name,
        dataset_revision=data.dataset_revision,
        train_data_dir=data.train_data_dir,
        image_column=data.image_column,
        caption_column=data.caption_column,
        background=data.background,
        resolution=data.resolution,
        cache_dir=cache_dir,
        label_column=data.label_column,
        needs_captions=needs_captions,
    )
