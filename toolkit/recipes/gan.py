"""Train a generative adversarial network from random weights."""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from toolkit.adversarial.export import export_gan
from toolkit.adversarial.loop import GanHook, train_gan
from toolkit.adversarial.run import GanRun, GanSettings, GanStep, start_gan
from toolkit.batch import Request
from toolkit.cli import dump, load_config
from toolkit.config import GanConfig
from toolkit.errors import ConfigError
from toolkit.files import write_text, write_with
from toolkit.hooks import is_due
from toolkit.hooks.over_time import OverTime
from toolkit.hooks.process import BETWEEN, between
from toolkit.hooks.samples import Row, contact_sheet
from toolkit.loop import Stopped
from toolkit.models.gan import Discriminator, Generator
from toolkit.out_of_memory import told
from toolkit.pipelines.gan import GanPipeline
from toolkit.recipes.card import describe_gan
from toolkit.recipes.carry_out import begin, publish_run, repository, tell_results
from toolkit.recipes.data import checked_data, split_rows, training_examples
from toolkit.recipes.run import start_trackers
from toolkit.recipes.sheet import sheet_of

_SMALLER = (
    "End what else takes memory of the device; or lower train_batch_size, model.channels or data.resolution and take "
    "another output_dir, because they are a part of what this run is."
)


def main(argv: Sequence[str]) -> None:
    """Train, export and publish what the command line describes.

    Args:
        argv: Words after the program's name.

    Raises:
        ToolkitError: A mistake in the configuration, the data or the Hub account.
        NoRoomError: The device has no room for the networks and a batch of pictures.
        SystemExit: A signal stopped the run; the code is 128 plus its number.
    """
    config = load_config(argv, GanConfig)
    accelerator = begin(config)
    repo_id = repository(config, accelerator)
    rows, _ = split_rows(config)
    rows, report = checked_data(config, rows)
    print(report.render())

    classes = _classes(config, rows.label_names)
    generator, discriminator = _networks(config, len(classes) or None)
    examples = training_examples(config, rows)
    settings = _settings(config, len(rows))
    period = config.validation.validation_steps or max(
        1, config.validation.validation_epochs * len(rows) // settings.train_batch_size
    )
    try:
        with told("training a GAN", _SMALLER):
            run = start_gan(generator, discriminator, examples, settings, config.output_dir, accelerator)
            start_trackers(config, accelerator)
            train_gan(run, [_record(config), _samples(sheet_of(config.validation, classes), period)])
    except Stopped:
        accelerator.end_training()
        sys.exit(run.stop.exit_code)
    export_gan(run)
    describe_gan(config, rows.label_names, run, repo_id)
    tell_results(config.output_dir)
    if repo_id is not None:
        publish_run(config, repo_id, settings.max_train_steps)
    accelerator.end_training()


def _classes(config: GanConfig, names: Sequence[str]) -> Sequence[str]:
    if config.task.condition == "none":
        return ()
    if not names:
        raise ConfigError(
            "task.condition is class, and the rows have no labels",
            f"Name their column as label_column (now `{config.data.label_column}`), or take condition none.",
        )
    return names


def _networks(config: GanConfig, classes: int | None) -> tuple[Generator, Discriminator]:
    model, side = config.model, config.data.resolution
    generator = Generator(
        sample_size=side,
        latent_dim=model.latent_dim,
        channels=model.channels,
        norm_num_groups=model.norm_num_groups,
        num_class_embeds=classes,
    )
    return generator, Discriminator(sample_size=side, channels=model.channels, num_class_embeds=classes)


def _settings(config: GanConfig, rows: int) -> GanSettings:
    training, optimizer, checkpoints = config.training, config.optimizer, config.checkpoints
    epochs = training.num_train_epochs
    return GanSettings(
        max_train_steps=training.max_train_steps or -(-epochs * rows // training.train_batch_size),
        train_batch_size=training.train_batch_size,
        seed=config.seed,
        generator_learning_rate=optimizer.learning_rate,
        discriminator_learning_rate=(
            optimizer.learning_rate
            if optimizer.discriminator_learning_rate is None
            else optimizer.discriminator_learning_rate
        ),
        lr_scheduler=optimizer.lr_scheduler,
        lr_warmup_steps=optimizer.lr_warmup_steps,
        adam_betas=(optimizer.adam_beta1, optimizer.adam_beta2),
        r1_gamma=optimizer.r1_gamma,
        r1_every=optimizer.r1_every,
        ema_half_life=config.ema.ema_half_life if config.ema.use_ema else None,
        checkpointing_steps=checkpoints.checkpointing_steps,
        checkpoints_total_limit=checkpoints.checkpoints_total_limit,
        resume_from_checkpoint=checkpoints.resume_from_checkpoint,
        logging_steps=config.tracking.logging_steps,
        dataloader_num_workers=config.data.dataloader_num_workers,
    )


def _record(config: GanConfig) -> GanHook:
    """The hook that keeps the resolved configuration; as a hook, because a run that is refused must not replace it."""

    def record(run: GanRun, step: GanStep) -> None:
        if step.losses is None:
            write_text(config.output_dir / "config.yaml", dump(config))

    return record


def _samples(sheet: Sequence[Row], period: int) -> GanHook:
    """The hook that draws with the averaged generator, into files of the names that other runs give them.

    These are the sheet, its first pictures over time, and what lies between the latents of two pictures.
    """
    requests = [request for row in sheet for request in row.requests]

    def draw(run: GanRun, step: GanStep) -> None:
        if not is_due(step.index, period, run.settings.max_train_steps):
            return
        path = run.output_dir / "samples" / f"step-{step.index:06d}.png"
        if not path.exists():
            with run.averaged() as generator:
                pipeline: Any = GanPipeline(generator)
                pictures = pipeline(**_arguments(requests)).images
                strip = pipeline(**_arguments([requests[0]] * BETWEEN), latents=_latents_between(generator)).images
            write_with(run.output_dir / "interpolation" / path.name, contact_sheet(strip, [""]).save)
            write_with(path, contact_sheet(pictures, [row.title for row in sheet]).save)
        side, titled = run.generator.model.config.sample_size, any(row.title for row in sheet)
        OverTime(side, len(sheet[0].requests), titled=titled).draw(run.output_dir, run.settings.train_batch_size)

    return draw


def _latents_between(generator: Generator) -> Tensor:
    """From the latent of seed 0 to that of seed 1, (BETWEEN, D)."""
    ends = [
        torch.randn(1, generator.config.latent_dim, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)
    ]
    return between(ends[0], ends[1], BETWEEN)


def _arguments(requests: Sequence[Request]) -> dict[str, object]:
    labels = [request.label for request in requests]
    return {
        "batch_size": len(requests),
        "class_labels": None if None in labels else labels,
        "generator": [torch.Generator().manual_seed(request.seed) for request in requests],
    }
