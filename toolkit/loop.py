"""The training loop."""

import math
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from accelerate.utils import gather_object

from toolkit import checkpoint
from toolkit.batch import Batch, Step
from toolkit.cache.encoded import EncodedTraining
from toolkit.data.examples import TrainingExamples
from toolkit.errors import DivergedError
from toolkit.loader import batches
from toolkit.pieces import Gradients, Visits
from toolkit.run import Run

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
        DivergedError: A loss or a gradient is not a number; a checkpoint holds the weights from before it.
    """
    done = checkpoint.resume(run)
    with run.stop.listening():
        _after(run, Step(done), hooks)
        for step in optimizer_steps(run, batches(run, examples, done), done):
            _after(run, step, hooks)


def _after(run: Run, step: Step, hooks: Sequence[Hook]) -> None:
    for hook in hooks:
        hook(run, step)
    if run.stop_agreed():
        checkpoint.save(run, step.index)
        raise Stopped


def optimizer_steps(run: Run, data: Iterator[Batch], done: int) -> Iterator[Step]:
    """Yield once per optimizer step, after the weights and their average have changed."""
    plan, accelerator, model, optimizer = run.plan, run.accelerator, run.model, run.optimizer
    gradients, skipped_in_a_row = Gradients(run), 0
    model.train()
    for update in range(done, plan.max_train_steps):
        started = time.perf_counter()
        learning_rate = plan.learning_rate(update)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate

        visits = Visits(data, plan.gradient_accumulation_steps)
        loss = gradients.of(update, visits)
        norm = float(accelerator.clip_grad_norm_(model.parameters(), plan.max_grad_norm or math.inf))
        overflow = not math.isfinite(norm)
        skipped_in_a_row = skipped_in_a_row + 1 if overflow else 0
        if overflow and (accelerator.scaler is None or skipped_in_a_row > SKIPPED_IN_A_ROW):
            _stop_diverged(run, update, loss, visits)
        optimizer.step()
        optimizer.zero_grad()
        if run.ema is not None and plan.ema_decay is not None:
            run.ema.update(run.task.model, plan.ema_decay(update))
        seconds = time.perf_counter() - started
        yield Step(update + 1, loss, norm, learning_rate, seconds, visits.seconds, skipped=overflow)


def _stop_diverged(run: Run, update: int, loss: torch.Tensor, visits: Visits) -> None:
    """Save the weights, which the update has not touched yet, and name the rows of the update."""
    run.optimizer.zero_grad()
    checkpoint.save(run, update)
    rows = gather_object(visits.row_ids())
    raise DivergedError(
        f"update {update + 1}: loss {float(loss):g} or its gradient is not a finite number. Rows: {', '.join(rows)}",
        f"The weights from before it are in {checkpoint.path_of(run.plan.output_dir, update)}. Look at these rows; "
        "if nothing is wrong with them, lower learning_rate or use mixed_precision bf16 or no.",
    )
