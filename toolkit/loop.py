"""The training loop."""

import math
import time
from collections.abc import Callable, Iterator, Sequence

from toolkit import checkpoint
from toolkit.batch import Batch, Step
from toolkit.cache.encoded import EncodedTraining
from toolkit.data.examples import TrainingExamples
from toolkit.fused_loop import fused_optimizer_steps
from toolkit.loader import batches
from toolkit.pieces import Gradients, Visits
from toolkit.run import Run
from toolkit.update import clip, finished, set_learning_rate, step_all, stop_diverged

Hook = Callable[[Run, Step], None]
"""Called on every process after every optimizer step, and once at the start with the step that the run resumes from.

A hook leaves what it made as a file named by the step, and does nothing where that file is there already.
"""

SKIPPED_IN_A_ROW = 20
"""Updates that the fp16 loss scaler may skip one after another: by then the scale has fallen by a million."""


class Stopped(Exception):
    """The run was asked to stop, and left a checkpoint."""


def train(run: Run, examples: TrainingExamples | EncodedTraining, hooks: Sequence[Hook]) -> None:
    """Train to the last update of the plan, from the newest checkpoint if there is one.

    Raises:
        Stopped: A signal asked for it; the last update is in a checkpoint.
        DivergedError: A loss or a gradient is not a number; a checkpoint holds the weights from before it, if it could
            be seen before they changed.
    """
    done = checkpoint.resume(run)
    with run.stop.listening():
        _after(run, Step(done), hooks)
        for step in updates(run, batches(run, examples, done), done):
            _after(run, step, hooks)


def _after(run: Run, step: Step, hooks: Sequence[Hook]) -> None:
    for hook in hooks:
        hook(run, step)
    if run.stop_agreed():
        checkpoint.save(run, step.index)
        raise Stopped


def updates(run: Run, data: Iterator[Batch], done: int) -> Iterator[Step]:
    """The updates after those that are done, of the kind that the plan asks for."""
    steps = optimizer_steps if run.plan.fused_backward is None else fused_optimizer_steps
    return steps(run, data, done)


def optimizer_steps(run: Run, data: Iterator[Batch], done: int) -> Iterator[Step]:
    """Yield once per optimizer step, after the weights and their average have changed."""
    plan, accelerator = run.plan, run.accelerator
    gradients, skipped_in_a_row = Gradients(run), 0
    run.model.train()
    for update in range(done, plan.max_train_steps):
        started = time.perf_counter()
        learning_rate = set_learning_rate(run, update)
        visits = Visits(data, plan.gradient_accumulation_steps)
        loss = gradients.of(update, visits)
        norm = clip(run)
        overflow = not math.isfinite(norm)
        skipped_in_a_row = skipped_in_a_row + 1 if overflow else 0
        if overflow and (accelerator.scaler is None or skipped_in_a_row > SKIPPED_IN_A_ROW):
            gradients.undo()
            stop_diverged(run, update, loss, visits)
        step_all(run, update, norm)
        yield finished(run, update, started, visits, loss, norm, learning_rate, skipped=overflow)
