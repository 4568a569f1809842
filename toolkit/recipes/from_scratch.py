"""Train a generative model from random weights."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from accelerate import Accelerator

from toolkit.cli import load_config
from toolkit.config import ScratchConfig
from toolkit.data.source import Source
from toolkit.hooks.over_time import OverTime
from toolkit.hooks.process import Process, StepByStep
from toolkit.hooks.samples import Samples
from toolkit.loop import Hook
from toolkit.noise_lint import lint, require_reaches_noise
from toolkit.objective import Ddpm
from toolkit.recipes.cache import from_cache
from toolkit.recipes.card import describe_generation
from toolkit.recipes.carry_out import MakeEvaluation, begin, carry_out, evaluation_hooks, repository
from toolkit.recipes.data import checked_rows, held_out_examples, needs_captions, training_examples
from toolkit.recipes.generation import build_task, look_at
from toolkit.recipes.noise import build_objective, build_sampler, sampling_clips
from toolkit.recipes.run import build_plan, hooks_of, start_run, start_trackers
from toolkit.recipes.sheet import sheet_of, sheet_of_texts
from toolkit.recipes.task import FROZEN_DTYPES
from toolkit.task import DrawingTask
from toolkit.tasks.generation import Generation
from toolkit.tasks.prior import Prior
from toolkit.tasks.super_resolution import SuperResolution
from toolkit.tasks.text_to_pixels import TextToPixels

BANDS = 10
"""Bands of timesteps of the held-out loss."""


def main(argv: Sequence[str], evaluation: MakeEvaluation | None = None) -> None:
    """Train, export and publish what the command line describes.

    Args:
        argv: Words after the program's name.
        evaluation: Makes an evaluation; None where this program has none.

    Raises:
        ToolkitError: A mistake in the configuration, the data or the Hub account.
        SystemExit: A signal stopped the run; the code is 128 plus its number.
    """
    config = load_config(argv, ScratchConfig)
    accelerator = begin(config)
    _lint_noise(config, accelerator)
    evaluate = evaluation_hooks(config, evaluation)
    repo_id = repository(config, accelerator)

    with accelerator.main_process_first():
        rows, held_out, report = checked_rows(config)
        data = look_at(config, rows, held_out, accelerator.device)
    held_out_pictures = None if held_out is None else held_out_examples(config, held_out)
    task = build_task(config, data, accelerator.device, accelerator.mixed_precision, held_out=held_out_pictures)
    if accelerator.is_main_process:
        print(report.render())

    plan, visits, measured_on = from_cache(
        config,
        accelerator,
        task,
        build_plan(config, accelerator, rows, data.identity()),
        training_examples(
            config, rows, proportion_empty_prompts=config.task.condition_dropout if needs_captions(config) else 0.0
        ),
        held_out_pictures,
    )
    run = start_run(config, accelerator, task, plan)
    start_trackers(config, accelerator)
    hooks = hooks_of(
        config,
        plan,
        _drawing(config, task, rows, held_out),
        measured_on,
        rows=len(rows),
        batch=run.effective_batch_size,
        bands=1 if isinstance(task, Prior) else BANDS,
    )
    write_card = partial(describe_generation, config, rows)
    carry_out(config, run, visits, [*hooks, *evaluate], write_card=write_card, repo_id=repo_id)


def _lint_noise(config: ScratchConfig, accelerator: Accelerator) -> None:
    """Say what the noise schedule does at its ends.

    Raises:
        ConfigError: It does not reach noise.
    """
    objective = build_objective(config)
    if config.task.kind == "autoencoder" or not isinstance(objective, Ddpm):
        return
    clips = sampling_clips(build_sampler(config, objective))
    found = lint(objective.scheduler, dtype=FROZEN_DTYPES[accelerator.mixed_precision], sampling_clips=clips)
    if accelerator.is_main_process:
        print(found.render())
    warnings = require_reaches_noise(found)
    if accelerator.is_main_process:
        for sentence in warnings:
            print(f"warning: {sentence}", file=sys.stderr)


def _drawing(config: ScratchConfig, task: DrawingTask, rows: Source, held_out: Source | None) -> list[Hook]:
    if isinstance(task, TextToPixels):
        sheet = sheet_of_texts(config, rows if held_out is None else held_out)
    elif isinstance(task, SuperResolution) and held_out is None:
        return []
    else:
        sheet = sheet_of(config.validation, rows.label_names if _told_classes(task) else ())
    columns = len(sheet[0].requests)
    hooks: list[Hook] = [Samples(sheet), OverTime(config.data.resolution, columns, titled=any(r.title for r in sheet))]
    if isinstance(task, StepByStep):
        hooks.append(Process([replace(sheet[0].requests[0], seed=seed) for seed in (0, 1)]))
    return hooks


def _told_classes(task: DrawingTask) -> bool:
    return isinstance(task, Generation) and task.classes is not None
