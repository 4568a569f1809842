"""From the configuration to the data of a run."""

import os
from pathlib import Path

from transformers import CLIPTokenizer

from toolkit.config import BaseConfig, DataConfig, RunConfig, ScratchConfig
from toolkit.data.check import check, checked
from toolkit.data.examples import HeldOutExamples, TrainingExamples
from toolkit.data.kept import Kept
from toolkit.data.report import Report
from toolkit.data.source import Source
from toolkit.data.sources import refuse_in_data
from toolkit.data.splits import framing_of, split_data
from toolkit.errors import DataError
from toolkit.models.loading import load_tokenizer


def checked_data(config: BaseConfig, source: Source, tokenizer: CLIPTokenizer | None = None) -> tuple[Source, Report]:
    """The rows that can be read, after the check of a data set that has not been checked before.

    Args:
        config: Of the run.
        source: The rows.
        tokenizer: Of a text encoder that cuts long captions off, to say which; None leaves their length unchecked.
    """
    return checked(
        source,
        tokenizer=tokenizer,
        caption_template=config.data.caption_template,
        on_bad_row=config.data.on_bad_row,
        cache_dir=check_cache(config),
        workers=_workers(),
        needs_captions=needs_captions(config),
    )


def checked_rows(config: BaseConfig, tokenizer: CLIPTokenizer | None = None) -> tuple[Source, Source | None, Report]:
    """(training rows, held-out rows, what the check found of the first) of a run; see `checked_data`."""
    rows, held_out = split_rows(config)
    rows, report = checked_data(config, rows, tokenizer)
    if held_out is not None:
        held_out, _ = checked_data(config, held_out, tokenizer)
    return rows, held_out, report


def split_rows(config: BaseConfig) -> tuple[Source, Source | None]:
    """(training rows, held-out rows) of a run, each picture read once where no other processes read.

    Raises:
        ConfigError: Encodings would be written into the folder of the data.
    """
    _refuse_cache_in_data(config.data)
    both = split_data(config.data, seed=config.seed, cache_dir=config.cache_dir, needs_captions=needs_captions(config))
    if config.data.dataloader_num_workers > 0:
        return both
    rows, held_out = both
    return Kept(rows), None if held_out is None else Kept(held_out)


def _refuse_cache_in_data(data: DataConfig) -> None:
    folder = Path(str(data.train_data_dir or data.dataset_name))
    if data.cache not in ("auto", "off") and folder.is_dir():
        refuse_in_data("data.cache", Path(data.cache), folder)


def check_cache(config: BaseConfig) -> Path:
    """Where the reports of data checks are kept: never in the data's own folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (config.cache_dir or Path(home)) / "diffusion-toolkit"


def training_examples(config: BaseConfig, source: Source, *, proportion_empty_prompts: float = 0.0) -> TrainingExamples:
    return TrainingExamples(
        source,
        seed=config.seed,
        framing=framing_of(config.data),
        caption_template=config.data.caption_template,
        proportion_empty_prompts=proportion_empty_prompts,
    )


def held_out_examples(config: BaseConfig, source: Source) -> HeldOutExamples:
    return HeldOutExamples(source, framing=framing_of(config.data), caption_template=config.data.caption_template)


def needs_captions(config: BaseConfig) -> bool:
    """Whether a run of this configuration reads captions."""
    if isinstance(config, ScratchConfig):
        return config.task.condition == "text"
    return isinstance(config, RunConfig)


def check_command(config: BaseConfig) -> None:
    """Read every row that a run would read, and print the report.

    Raises:
        DataError: There are rows that cannot be trained on, whatever `on_bad_row` says of a run.
    """
    data, cache_dir = config.data, config.cache_dir
    tokenizer = None
    if isinstance(config, RunConfig):
        name = config.model.pretrained_model_name_or_path
        tokenizer = load_tokenizer(name, revision=config.model.revision, cache_dir=cache_dir)
    reads_captions = needs_captions(config)
    both = split_data(data, seed=config.seed, cache_dir=cache_dir, needs_captions=reads_captions)
    bad_rows = 0
    for name, source in zip(("training rows", "held-out rows"), both, strict=True):
        if source is not None:
            report = check(
                source,
                tokenizer=tokenizer,
                caption_template=data.caption_template,
                workers=_workers(),
                progress=True,
                needs_captions=reads_captions,
            )
            print(f"{name}:\n{report.render()}")
            bad_rows += len(report.bad_rows)
    if bad_rows:
        raise DataError(
            f"{bad_rows} rows cannot be trained on", "Mend or delete them, or train with --on_bad_row skip."
        )


def _workers() -> int:
    return os.cpu_count() or 1
