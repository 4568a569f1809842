"""Train a generative model from random weights."""

import sys
from collections.abc import Sequence
from functools import partial

from toolkit.batch import Request
from toolkit.cli import load_config
from toolkit.config import ScratchConfig
from toolkit.data.source import Source
from toolkit.data.splits import split_data
from toolkit.hooks.over_time import OverTime
from toolkit.hooks.process import Process
from toolkit.hooks.samples import Samples
from toolkit.loop import Hook
from toolkit.noise_lint import lint, require_reaches_noise
from toolkit.objective import Ddpm
from toolkit.recipes.card import describe_generation
from toolkit.recipes.carry_out import MakeEvaluation, begin, carry_out, evaluation_hooks, repository
from toolkit.recipes.data import checked_data, held_out_examples, training_examples
from toolkit.recipes.generation import build_task, look_at
from toolkit.recipes.run import build_plan, hooks_of, start_run, start_trackers
from toolkit.recipes.sheet import sheet_of
from toolkit.task import DrawingTask
from toolkit.tasks.generation import Generation

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
    evaluate = evaluation_hooks(config, evaluation)
    repo_id = repository(config, accelerator)

    with accelerator.main_process_first():
        rows, held_out = split_data(config.data, seed=config.seed, cache_dir=config.cache_dir, needs_captions=False)
        rows, report = checked_data(config, rows, None)
        if held_out is not None:
            held_out, _ = checked_data(config, held_out, None)
        data = look_at(config, rows)
    task = build_task(config, data, accelerator.device, accelerator.mixed_precision)
    if accelerator.is_main_process:
        print(report.render())
        _lint_noise(task)

    plan = build_plan(config, accelerator, rows, data.identity())
    run = start_run(config, accelerator, task, plan)
    start_trackers(config, accelerator)
    hooks = hooks_of(
        config,
        plan,
        _drawing(config, task, rows),
        None if held_out is None else held_out_examples(config, held_out),
        rows=len(rows),
        batch=run.effective_batch_size,
        bands=BANDS if isinstance(task, Generation) else 1,
    )
    write_card = partial(describe_generation, config, rows.label_names)
    carry_out(config, run, training_examples(config, rows), [*hooks, *evaluate], write_card=write_card, repo_id=repo_id)


def _lint_noise(task: DrawingTask) -> None:
    """Say what the noise schedule does at its ends.

    Raises:
        ConfigError: It does not reach noise.
    """
    if isinstance(task, Generation) and isinstance(task.objective, Ddpm):
        found = lint(task.objective.scheduler)
        print(found.render())
        for sentence in require_reaches_noise(found):
            print(f"warning: {sentence}", file=sys.stderr)


def _drawing(config: ScratchConfig, task: DrawingTask, rows: Source) -> list[Hook]:
    sheet = sheet_of(config.validation, rows.label_names if _told_classes(task) else ())
    columns = len(sheet[0].requests)
    hooks: list[Hook] = [Samples(sheet), OverTime(config.data.resolution, columns, titled=any(r.title for r in sheet))]
    if isinstance(task, Generation):
        label = sheet[0].requests[0].label
        hooks.append(Process([Request("", seed, label=label) for seed in (0, 1)]))
    return hooks


def _told_classes(task: DrawingTask) -> bool:
    return isinstance(task, Generation) and task.classes is not None
