"""From the configuration to the data of a run."""

import os
from pathlib import Path

from transformers import CLIPTokenizer

from toolkit.config import RunConfig
from toolkit.data.check import check, checked
from toolkit.data.examples import HeldOutExamples, TrainingExamples
from toolkit.data.report import Report
from toolkit.data.source import Source
from toolkit.data.splits import framing_of, split_data
from toolkit.errors import DataError
from toolkit.models.loading import load_tokenizer


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


def training_examples(config: RunConfig, source: Source) -> TrainingExamples:
    return TrainingExamples(
        source,
        seed=config.seed,
        framing=framing_of(config.data),
        caption_template=config.data.caption_template,
        proportion_empty_prompts=config.objective.proportion_empty_prompts,
    )


def held_out_examples(config: RunConfig, source: Source) -> HeldOutExamples:
    return HeldOutExamples(source, framing=framing_of(config.data), caption_template=config.data.caption_template)


def check_command(config: RunConfig) -> None:
    """Read every row that a run would read, and print the report.

    Raises:
        DataError: There are rows that cannot be trained on, whatever `on_bad_row` says of a run.
    """
    model, data = config.model, config.data
    tokenizer = load_tokenizer(model.pretrained_model_name_or_path, revision=model.revision, cache_dir=model.cache_dir)
    bad_rows = 0
    for name, source in zip(
        ("training rows", "held-out rows"), split_data(data, seed=config.seed, cache_dir=model.cache_dir), strict=True
    ):
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
