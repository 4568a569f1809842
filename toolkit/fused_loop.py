"""The update whose optimizer steps inside the backward pass, so that gradients never lie in memory together.

A weight is stepped as soon as its gradient is whole, and the gradient is freed. Nothing reads a weight after that: all
that backward passes compute from a weight, its gradient included, is computed before or with its gradient.
"""

import math
import time
from collections.abc import Callable, Iterator
from functools import partial

from torch import Tensor, nn

from toolkit.batch import Batch, Step
from toolkit.ema import trainable
from toolkit.out_of_memory import FITS, told
from toolkit.pieces import Visits, as_before, mean_loss
from toolkit.run import Run
from toolkit.update import (
    clip_factor,
    finished,
    hold_weights,
    norm_of,
    set_learning_rate,
    step_one,
    stop_diverged,
    total_norm,
)

_REMEDY = (
    "Add --gradient_checkpointing, or --fused_backward false with a smaller train_batch_size and more "
    f"gradient_accumulation_steps; {FITS}"
)


def fused_optimizer_steps(run: Run, data: Iterator[Batch], done: int) -> Iterator[Step]:
    """As `optimizer_steps` of the loop, for one process, one micro-batch per update and no loss scaler.

    Clipping is exact where the gradient's norm is measured by a pass of its own before anything changes. Where the norm
    of the update before is taken for it, only the first update has such a pass.

    Raises:
        DivergedError: A loss or a gradient is not a number. Where the norm was measured, and where the loss shows it, a
            checkpoint holds the weights from before; else nothing was saved.
    """
    plan = run.plan
    run.model.train()
    for update in range(done, plan.max_train_steps):
        started = time.perf_counter()
        learning_rate = set_learning_rate(run, update)
        visits = Visits(data, 1)
        with told("training with fused_backward, which takes all images at once", _REMEDY):
            loss, norm = _stepped(run, update, visits)
        if not math.isfinite(norm):
            stop_diverged(run, update, loss, visits, stepped=True)
        if plan.fused_backward == "previous_norm" and plan.max_grad_norm is not None:
            run.previous_norm.value = norm
        yield finished(run, update, started, visits, loss.detach(), norm, learning_rate)


def _stepped(run: Run, update: int, visits: Visits) -> tuple[Tensor, float]:
    """Do an update; its loss, and the norm of its gradient.

    Raises:
        DivergedError: It is seen before weights change that one of them is not finite.
    """
    (batch,), most, previous = visits, run.plan.max_grad_norm, run.previous_norm.value
    factor = 1.0
    if most is not None:
        factor = clip_factor(_measured_norm(run, update, visits) if previous is None else previous, most)
    put_back = as_before(run.task.model)
    loss = mean_loss(run, update, 0, batch)
    if not math.isfinite(float(loss)):
        put_back()
        stop_diverged(run, update, loss, visits)
    hold_weights(run)
    return loss, _backward(run, loss, partial(step_one, run, update, factor))


def _measured_norm(run: Run, update: int, visits: Visits) -> float:
    """The norm of an update's gradient, by a forward and a backward pass that leave nothing behind.

    Raises:
        DivergedError: It is not finite.
    """
    put_back = as_before(run.task.model)
    (batch,) = visits
    loss = mean_loss(run, update, 0, batch)
    norm = _backward(run, loss, lambda parameter: None)
    put_back()
    if not math.isfinite(norm):
        stop_diverged(run, update, loss, visits)
    return norm


def _backward(run: Run, loss: Tensor, use: Callable[[nn.Parameter], None]) -> float:
    """One backward pass; each parameter is used when its gradient is whole, which is then freed. The norm of all."""
    parameters = list(trainable(run.task.model).values())
    norms: dict[nn.Parameter, Tensor] = {}

    def take(parameter: nn.Parameter) -> None:
        assert parameter.grad is not None
        norms[parameter] = norm_of(parameter.grad)
        use(parameter)
        parameter.grad = None

    handles = [parameter.register_post_accumulate_grad_hook(take) for parameter in parameters]
    try:
        run.accelerator.backward(loss)
    finally:
        for handle in handles:
            handle.remove()
    return float(total_norm([norms[parameter] for parameter in parameters if parameter in norms]))
