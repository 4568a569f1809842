"""What an attempt left behind that was killed before its first checkpoint."""

from toolkit import checkpoint, metrics
from toolkit.batch import Step
from toolkit.run import Run

MADE_BY_HOOKS = ("samples", "process", "interpolation", "held_out", "evaluation")
"""Folders of files that are named by their step; what is there already is not made again."""


def remove_leftovers(run: Run, step: Step) -> None:
    """The hook that comes first: in a folder without a checkpoint no such file is of a run that starts from step 0.

    With a checkpoint they are, because a checkpoint of a run with another base or other settings is refused; and a run
    that continues from a checkpoint elsewhere may have left them.
    """
    if step.index > 0 or checkpoint.found(run.plan.output_dir):
        return
    if run.accelerator.is_main_process:
        # Not the folders: a user's own files may lie beside them.
        for path in (path for name in MADE_BY_HOOKS for path in (run.plan.output_dir / name).glob("step-*")):
            path.unlink()
        for file in (checkpoint.record_of_best(run.plan.output_dir), metrics.path_of(run.plan.output_dir)):
            file.unlink(missing_ok=True)
    run.accelerator.wait_for_everyone()
