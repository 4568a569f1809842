"""From the configuration to the data of a run."""

import os
from pathlib import Path

from transformers import CLIPTokenizer

from toolkit.config import RunConfig
from toolkit.data.check import check, checked
from toolkit.data.examples import Framing, HeldOutExamples, TrainingExamples
from toolkit.data.report import Report
from toolkit.data.source import Source
from toolkit.data.sources import open_source
from toolkit.data.subset import hold_out, sample_rows
from toolkit.errors import DataError
from toolkit.models.loading import load_tokenizer


def open_data(config: RunConfig, split: str) -> Source:
    """The rows of a split, as they are."""
    data = config.data
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
        cache_dir=config.model.cache_dir,
    )


def split_data(config: RunConfig) -> tuple[Source, Source | None]:
    """(rows to train on, held-out rows or None)."""
    data = config.data
    train, held_out = open_data(config, data.train_split), None
    if data.validation_split is not None:
        held_out = open_data(config, data.validation_split)
    elif data.validation_fraction > 0:
        train, held_out = hold_out(train, data.validation_fraction)
    if data.max_train_samples is not None:
        train = sample_rows(train, data.max_train_samples, config.seed)
    return train, held_out


def checked_data(config: RunConfig, source: Source, tokenizer: CLIPTokenizer) -> tuple[Source, Report]:
    """The rows that can be read, after the check of a data set that has not been checked before."""
    return checked(
        source,
        tokenizer=tokenizer,
        caption_template=config.data.caption_template,
        on_bad_row=config.data.on_bad_row,
        cache_dir=check_cache(config),
        workers=_workers(),
    )


def check_cache(config: RunConfig) -> Path:
    """Where the reports of data checks are kept: never in the data's own folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (config.model.cache_dir or Path(home)) / "diffusion-toolkit"


def framing_of(config: RunConfig) -> Framing:
    data = config.data
    return Framing(data.resolution, data.image_interpolation_mode, data.center_crop, data.random_flip)


def training_examples(config: RunConfig, source: Source) -> TrainingExamples:
    return TrainingExamples(
        source,
        seed=config.seed,
        framing=framing_of(config),
        caption_template=config.data.caption_template,
        proportion_empty_prompts=config.objective.proportion_empty_prompts,
    )


def held_out_examples(config: RunConfig, source: Source) -> HeldOutExamples:
    return HeldOutExamples(source, framing=framing_of(config), caption_template=config.data.caption_template)


def check_command(config: RunConfig) -> None:
    """Read every row that a run would read, and print the report.

    Raises:
        DataError: There are rows that cannot be trained on, whatever `on_bad_row` says of a run.
    """
    model, data = config.model, config.data
    tokenizer = load_tokenizer(model.pretrained_model_name_or_path, revision=model.revision, cache_dir=model.cache_dir)
    bad_rows = 0
    for name, source in zip(("training rows", "held-out rows"), split_data(config), strict=True):
        if source is not None:
            report = check(
                source, tokenizer=tokenizer, caption_template=data.caption_template, workers=_workers(), progress=True
            )
            print(f"{name}:\n{report.render()}")
            bad_rows += len(report.bad_rows)
    if bad_rows:
        raise DataError(
            f"{bad_rows} rows cannot be trained on", "Mend or delete them, or train with --on_bad_row skip."
        )


def _workers() -> int:
    return os.cpu_count() or 1
