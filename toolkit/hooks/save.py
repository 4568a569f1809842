"""Checkpoints."""

from toolkit import checkpoint
from toolkit.batch import Step
from toolkit.run import Run


def save(run: Run, step: Step) -> None:
    """Write a checkpoint; at step 0 there is nothing to keep."""
    if step.index > 0:
        checkpoint.save(run, step.index)
