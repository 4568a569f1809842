"""What every kind of run does around its training, from the command line to the Hub."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import DistributedType

from toolkit import metrics
from toolkit.batch import Step
from toolkit.cache.encoded import EncodedTraining
from toolkit.checkpoint import path_of
from toolkit.cli import dump
from toolkit.config import BaseConfig, DataConfig, GanConfig
from toolkit.config.unused import unused_keys
from toolkit.data.examples import TrainingExamples
from toolkit.errors import ConfigError, PublishError
from toolkit.export import export
from toolkit.files import write_text
from toolkit.hooks import every
from toolkit.hooks.evaluation import Evaluate, Evaluation
from toolkit.loop import Hook, Stopped, train
from toolkit.precision import slow_precision
from toolkit.publish import prepare, publish
from toolkit.recipes.from_checkpoint import export_checkpoint
from toolkit.recipes.memory import require_compatible
from toolkit.recipes.run import start_accelerator
from toolkit.run import Run

MakeEvaluation = Callable[[str, DataConfig, int], Evaluation]
"""Of the name of an evaluation's configuration, the run's data and the run's seed."""
WriteCard = Callable[[Run, str | None], None]
"""Of the finished run and the repository that it is published to, if any."""


def begin(config: BaseConfig) -> Accelerator:
    """The accelerator of a run whose configuration can be carried out on this machine.

    Raises:
        ConfigError: It cannot.
    """
    _require_directory(config)
    _hide_token(config)
    accelerator = start_accelerator(config)
    if not isinstance(config, GanConfig):
        require_compatible(
            config,
            accelerator.mixed_precision,
            num_processes=accelerator.num_processes,
            is_sharded=accelerator.distributed_type == DistributedType.FSDP,
        )
    if accelerator.is_main_process:
        for sentence in [*unused_keys(config), *slow_precision(accelerator.mixed_precision)]:
            print(f"warning: {sentence}", file=sys.stderr)
    return accelerator


def repository(config: BaseConfig, accelerator: Accelerator) -> str | None:
    """The repository that the run is published to, tried out on the first process; None where it is not.

    Raises:
        PublishError: Publishing will not be possible.
    """
    if not (config.export.push_to_hub and accelerator.is_main_process):
        return None
    return prepare(
        output_dir=config.output_dir,
        hub_model_id=config.export.hub_model_id,
        token=config.export.hub_token,
        private=config.export.hub_private_repo,
    )


def carry_out(
    config: BaseConfig,
    run: Run,
    examples: TrainingExamples | EncodedTraining,
    hooks: Sequence[Hook],
    *,
    write_card: WriteCard,
    repo_id: str | None,
) -> None:
    """Train, export, describe and publish.

    Raises:
        SystemExit: A signal stopped the run; the code is 128 plus its number.
    """
    accelerator = run.accelerator
    try:
        train(run, examples, [_record(config), *hooks])
    except Stopped:
        accelerator.end_training()
        sys.exit(run.stop.exit_code)
    if accelerator.is_main_process:
        steps = run.plan.max_train_steps
        if run.sharded:
            # A forward pass would need every process; the last checkpoint has the same weights in one piece.
            export_checkpoint(path_of(config.output_dir, steps), config.output_dir)
        else:
            export(run)
        write_card(run, repo_id)
        tell_results(config.output_dir)
        if repo_id is not None:
            publish_run(config, repo_id, steps)
    accelerator.wait_for_everyone()
    accelerator.end_training()


def evaluation_hooks(config: BaseConfig, evaluation: MakeEvaluation | None) -> list[Hook]:
    """The hook that evaluates, if there is to be one. Whatever it needs is loaded here, before anything is trained."""
    steps, name = config.validation.eval_steps, config.validation.eval_config
    if steps is None or name is None:
        return []
    if evaluation is None:
        raise ConfigError("validation.eval_steps: this program cannot evaluate", f"Start {config.program}.")
    resume_from = config.checkpoints.resume_from_checkpoint
    evaluated = evaluation(name, config.data, config.seed)
    return [every(steps, Evaluate(evaluated, config.output_dir, resume_from))]


def _hide_token(config: BaseConfig) -> None:
    """Take the token out of the command line, which trackers record."""
    if config.export.hub_token is not None:
        token = config.export.hub_token.get_secret_value()
        sys.argv[:] = [word.replace(token, "***") for word in sys.argv]


def _require_directory(config: BaseConfig) -> None:
    for path in (config.output_dir, *config.output_dir.parents):
        if path.exists():
            if not path.is_dir():
                raise ConfigError(f"output_dir: {path} is a file", "Give a folder, or a path where nothing is yet.")
            return


def _record(config: BaseConfig) -> Hook:
    """The hook that keeps the resolved configuration; as a hook, because a run that is refused must not replace it."""

    def record(run: Run, step: Step) -> None:
        if step.loss is None and run.accelerator.is_main_process:
            write_text(config.output_dir / "config.yaml", dump(config))

    return record


def tell_results(output_dir: Path) -> None:
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


def publish_run(config: BaseConfig, repo_id: str, step: int) -> None:
    """Publish; a failure is told, and does not make a training that succeeded one that failed."""
    try:
        url = publish(output_dir=config.output_dir, repo_id=repo_id, token=config.export.hub_token, step=step)
    except PublishError as error:
        print(f"not published: {error}", file=sys.stderr)
    else:
        print(f"published: {url}")
