"""Fine-tune a text-to-image pipeline."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from toolkit.cli import load_config
from toolkit.config import RunConfig
from toolkit.hooks.samples import Samples, prompt_rows
from toolkit.loop import Hook
from toolkit.recipes.cache import from_cache
from toolkit.recipes.card import describe_fine_tune
from toolkit.recipes.carry_out import MakeEvaluation, begin, carry_out, evaluation_hooks, repository
from toolkit.recipes.data import checked_rows, held_out_examples, training_examples
from toolkit.recipes.run import build_plan, hooks_of, start_run, start_trackers
from toolkit.recipes.task import base_loader, build_task


def main(argv: Sequence[str], evaluation: MakeEvaluation | None = None) -> None:
    """Train, export and publish what the command line describes.

    Args:
        argv: Words after the program's name.
        evaluation: Makes an evaluation; None where this program has none.

    Raises:
        ToolkitError: A mistake in the configuration, the data or the Hub account.
        SystemExit: A signal stopped the run; the code is 128 plus its number.
    """
    config = load_config(argv, RunConfig)
    accelerator = begin(config)
    evaluate = evaluation_hooks(config, evaluation)
    repo_id = repository(config, accelerator)

    with accelerator.main_process_first():
        base = base_loader(config)()
        rows, held_out, report = checked_rows(config, base.tokenizer)
    if accelerator.is_main_process:
        print(report.render())

    task = build_task(config, base, accelerator.device, accelerator.mixed_precision)
    plan, visits, measured_on = from_cache(
        config,
        accelerator,
        task,
        build_plan(config, accelerator, rows),
        training_examples(config, rows, proportion_empty_prompts=config.objective.proportion_empty_prompts),
        None if held_out is None else held_out_examples(config, held_out),
    )
    run = start_run(config, accelerator, task, plan, _average_start(config))
    start_trackers(config, accelerator)
    hooks = hooks_of(config, plan, _drawing(config), measured_on, rows=len(rows), batch=run.effective_batch_size)
    write_card = partial(describe_fine_tune, config)
    carry_out(config, run, visits, [*hooks, *evaluate], write_card=write_card, repo_id=repo_id)


def _average_start(config: RunConfig) -> Callable[[], nn.Module] | None:
    """What the average starts from, where the trained UNet is of another revision."""
    if config.model.non_ema_revision is None or config.task.kind != "full":
        return None
    return lambda: base_loader(config)().unet


def _drawing(config: RunConfig) -> list[Hook]:
    validation = config.validation
    if not validation.validation_prompts:
        return []
    return [Samples(prompt_rows(validation.validation_prompts, validation.num_validation_images))]
