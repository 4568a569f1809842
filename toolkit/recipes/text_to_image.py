"""Fine-tune a text-to-image pipeline."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from toolkit import metrics
from toolkit.batch import Step
from toolkit.checkpoint import path_of
from toolkit.cli import dump, load_config
from toolkit.config import DataConfig, RunConfig
from toolkit.config.unused import unused_keys
from toolkit.data.splits import split_data
from toolkit.errors import ConfigError, PublishError
from toolkit.export import export
from toolkit.files import write_text
from toolkit.hooks import every
from toolkit.hooks.evaluation import Evaluate, Evaluation
from toolkit.loop import Hook, Stopped, train
from toolkit.precision import slow_precision
from toolkit.publish import prepare, publish
from toolkit.recipes.card import write_run_card
from toolkit.recipes.data import checked_data, training_examples
from toolkit.recipes.from_checkpoint import export_checkpoint
from toolkit.recipes.run import build_plan, hooks_of, start_accelerator, start_run, start_trackers
from toolkit.recipes.task import base_loader, build_task
from toolkit.run import Run

MakeEvaluation = Callable[[str, DataConfig, int], Evaluation]
"""Of the name of an evaluation's configuration, the run's data and the run's seed."""


def main(argv: Sequence[str], evaluation: MakeEvaluation | None = None) -> None:
    """Train, export and publish what the command line describes.

    Args:
        argv: Words after the program's name.
        evaluation: Makes an evaluation; None where this program has none.

    Raises:
        ToolkitError: A mistake in the configuration, the data or the Hub account.
        SystemExit: A signal stopped the run; the code is 128 plus its number.
    """
    config = load_config(argv)
    _require_directory(config)
    _hide_token(config)
    accelerator = start_accelerator(config)
    main_process = accelerator.is_main_process
    if main_process:
        for sentence in [*unused_keys(config), *slow_precision(accelerator.mixed_precision)]:
            print(f"warning: {sentence}", file=sys.stderr)
    evaluate = _evaluate(config, evaluation)
    repo_id = None
    if config.export.push_to_hub and main_process:
        repo_id = prepare(
            output_dir=config.output_dir,
            hub_model_id=config.export.hub_model_id,
            token=config.export.hub_token,
            private=config.export.hub_private_repo,
        )

    with accelerator.main_process_first():
        base = base_loader(config)()
        rows, held_out = split_data(config.data, seed=config.seed, cache_dir=config.model.cache_dir)
        rows, report = checked_data(config, rows, base.tokenizer)
        if held_out is not None:
            held_out, _ = checked_data(config, held_out, base.tokenizer)
    if main_process:
        print(report.render())

    task = build_task(config, base, accelerator.device, accelerator.mixed_precision)
    plan = build_plan(config, accelerator, rows)
    run = start_run(config, accelerator, task, plan)
    start_trackers(config, accelerator)
    hooks = [_record(config), *hooks_of(config, plan, held_out, len(rows), run.effective_batch_size), *evaluate]
    try:
        train(run, training_examples(config, rows), hooks)
    except Stopped:
        accelerator.end_training()
        sys.exit(run.stop.exit_code)

    if main_process:
        _finish(config, run, repo_id)
    accelerator.wait_for_everyone()
    accelerator.end_training()


def _finish(config: RunConfig, run: Run, repo_id: str | None) -> None:
    """Export the pipeline, describe it and publish it."""
    steps = run.plan.max_train_steps
    if run.sharded:
        # A forward pass would need every process; the last checkpoint has the same weights in one piece.
        export_checkpoint(path_of(config.output_dir, steps), config.output_dir)
    else:
        export(run)
    write_run_card(config, run, repo_id=repo_id)
    _tell_results(config.output_dir)
    if repo_id is not None:
        _publish(config, repo_id, steps)


def _hide_token(config: RunConfig) -> None:
    """Take the token out of the command line, which trackers record."""
    if config.export.hub_token is not None:
        token = config.export.hub_token.get_secret_value()
        sys.argv[:] = [word.replace(token, "***") for word in sys.argv]


def _require_directory(config: RunConfig) -> None:
    for path in (config.output_dir, *config.output_dir.parents):
        if path.exists():
            if not path.is_dir():
                raise ConfigError(f"output_dir: {path} is a file", "Give a folder, or a path where nothing is yet.")
            return


def _record(config: RunConfig) -> Hook:
    """The hook that keeps the resolved configuration; as a hook, because a run that is refused must not replace it."""

    def record(run: Run, step: Step) -> None:
        if step.loss is None and run.accelerator.is_main_process:
            write_text(config.output_dir / "config.yaml", dump(config))

    return record


def _evaluate(config: RunConfig, evaluation: MakeEvaluation | None) -> list[Hook]:
    """The hook that evaluates, if there is to be one. Whatever it needs is loaded here, before anything is trained."""
    steps, name = config.validation.eval_steps, config.validation.eval_config
    if steps is None or name is None:
        return []
    if evaluation is None:
        raise ConfigError("validation.eval_steps: this program cannot evaluate", "Start train_text_to_image.py.")
    resume_from = config.checkpoints.resume_from_checkpoint
    evaluated = evaluation(name, config.data, config.seed)
    return [every(steps, Evaluate(evaluated, config.output_dir, resume_from))]


def _tell_results(output_dir: Path) -> None:
    """Say how the held-out loss has changed, and where everything is."""
    measured = [row for row in metrics.read(output_dir) if "held_out_change" in row]
    if measured:
        last = measured[-1]
        print(
            f"held-out loss: {last['held_out_loss']:.4f}, {last['held_out_change']:+.4f} since the base model "
            f"(95 % {last['held_out_change_low']:+.4f} to {last['held_out_change_high']:+.4f})"
        )
    for what, path in (
        ("pipeline", output_dir),
        ("before and after", output_dir / "card" / "before_after.png"),
        ("loss", output_dir / "card" / "loss.png"),
        ("log", metrics.path_of(output_dir)),
    ):
        if path.exists():
            print(f"{what}: {path}")


def _publish(config: RunConfig, repo_id: str, step: int) -> None:
    """Publish; a failure is told, and does not make a training that succeeded one that failed."""
    try:
        url = publish(output_dir=config.output_dir, repo_id=repo_id, token=config.export.hub_token, step=step)
    except PublishError as error:
        print(f"not published: {error}", file=sys.stderr)
    else:
        print(f"published: {url}")
