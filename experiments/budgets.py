"""How many updates take so many seconds, by a short trial."""

from itertools import pairwise
from typing import Any

from experiments.jobs import Job
from toolkit import metrics
from toolkit.errors import DataError

TRIAL_STEPS = 60
_LOGGING_STEPS = 10
_NEVER = 10**9

TRIAL: dict[str, Any] = {
    "training.max_train_steps": TRIAL_STEPS,
    "tracking.logging_steps": _LOGGING_STEPS,
    "tracking.report_to": "none",
    # Schedules want a whole training, and are not what takes time.
    "optimizer.lr_scheduler": "constant",
    "optimizer.lr_step_rules": None,
    "optimizer.lr_step_epochs": None,
    "checkpoints.checkpointing_steps": _NEVER,
    "validation.validation_steps": _NEVER,
    "validation.num_validation_images": 1,
    "validation.validation_inference_steps": 1,
    "validation.validation_rows": 1,
    "validation.eval_steps": None,
    "validation.eval_config": None,
}
"""Values by dotted key that make a training a trial."""


def steps_within(seconds: float, trial: Job) -> int:
    """Updates that take so long, by the speed of a finished trial, whose first updates are not counted.

    Raises:
        DataError: Its record does not tell a speed.
    """
    rows = [row for row in metrics.read(trial.folder) if "images_per_second" in row]
    took = sum((after["images"] - before["images"]) / after["images_per_second"] for before, after in pairwise(rows))
    if not took:
        raise DataError(f"{trial.folder}: its record tells no speed", f"Move {trial.folder} away, to try again.")
    return max(1, int(seconds * (rows[-1]["step"] - rows[0]["step"]) / took))
