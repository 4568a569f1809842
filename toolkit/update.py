"""What both kinds of update do: of the loop, and of the loop whose optimizer steps inside the backward pass."""

import math
import time
from collections.abc import Sequence
from typing import NoReturn

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn

from toolkit import checkpoint
from toolkit.batch import Step
from toolkit.errors import DivergedError
from toolkit.optim import step_only
from toolkit.out_of_memory import FITS, told
from toolkit.pieces import Visits
from toolkit.run import Run


def set_learning_rate(run: Run, update: int) -> float:
    """Set and return the learning rate of an update, counted from 0."""
    learning_rate = run.plan.learning_rate(update)
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate
    return learning_rate


def norm_of(gradient: Tensor) -> Tensor:
    """Of a part, in float32 whatever its precision."""
    return torch.linalg.vector_norm(gradient, dtype=torch.float32)


def total_norm(norms: Sequence[Tensor]) -> Tensor:
    """The norm of everything, of the norms of its parts, float32."""
    return torch.linalg.vector_norm(torch.stack(list(norms)))


def clip_factor(norm: float, max_grad_norm: float | None) -> float:
    """What gradients of this norm are multiplied by, to the last bit as `torch.nn.utils.clip_grad_norm_` does."""
    return float(torch.clamp((max_grad_norm or math.inf) / (torch.tensor(norm) + 1e-6), max=1.0))


def clip(run: Run) -> float:
    """The norm of all gradients; where they are float32, they are scaled down to the largest that is allowed."""
    if run.bfloat16_weights is None:
        return float(run.accelerator.clip_grad_norm_(run.model.parameters(), run.plan.max_grad_norm or math.inf))
    gradients = [parameter.grad for parameter in run.bfloat16_weights.stand_ins if parameter.grad is not None]
    return float(total_norm([norm_of(gradient) for gradient in gradients]))


def step_all(run: Run, update: int, norm: float) -> None:
    """Step all weights by gradients that `clip` found to have this norm, and free these."""
    hold_weights(run)
    # The first step makes the optimizer's state.
    with told("the optimizer's step", f"Add --use_8bit_adam or --fused_backward; {FITS}"):
        if run.bfloat16_weights is None:
            run.optimizer.step()
        else:
            run.bfloat16_weights.step_all(run.optimizer, update, clip_factor(norm, run.plan.max_grad_norm))
    run.model.zero_grad()


def step_one(run: Run, update: int, factor: float, parameter: nn.Parameter) -> None:
    """Step one weight by its gradient times a factor; `hold_weights` comes before the first."""
    assert parameter.grad is not None
    if run.bfloat16_weights is None:
        parameter.grad.mul_(factor)
        step_only(run.optimizer, [parameter])
    else:
        run.bfloat16_weights.step(run.optimizer, update, [parameter], factor)


def hold_weights(run: Run) -> None:
    """Change no weights before the average has read them."""
    if run.ema is not None:
        run.ema.wait_for_copy()


def finished(
    run: Run,
    update: int,
    started: float,
    visits: Visits,
    loss: Tensor,
    norm: float,
    learning_rate: float,
    *,
    skipped: bool = False,
) -> Step:
    """Move the average after the weights, and tell what the update did.

    Args:
        update: Its number, counted from 0.
        started: When, by `time.perf_counter`.
        visits: Of the update.
        loss: Mean loss of this process, a scalar without a graph.
        norm: Of all gradients, before clipping.
        learning_rate: Of the update.
        skipped: The weights are as they were.

    Raises:
        NoRoomError: There is no room to move the average.
    """
    if run.ema is not None and run.plan.ema_decay is not None:
        with told("the average of the weights", f"Add --offload_ema, or --use_ema false; {FITS}"):
            run.ema.update(run.task.model, run.plan.ema_decay(update))
    seconds = time.perf_counter() - started
    return Step(update + 1, loss, norm, learning_rate, seconds, visits.seconds, skipped=skipped)


def stop_diverged(run: Run, update: int, loss: Tensor, visits: Visits, *, stepped: bool = False) -> NoReturn:
    """End the run at an update whose loss or gradient is not a finite number, naming its rows.

    Args:
        update: Its number, counted from 0.
        loss: Mean loss of this process.
        visits: Of the update.
        stepped: Weights have changed already, so none are saved; else those from before the update are.

    Raises:
        DivergedError: Always.
    """
    run.model.zero_grad()
    if stepped:
        kept = (
            "It was seen when weights had changed already, so nothing was saved: the same command goes on from the "
            "last checkpoint. With fused_backward_clipping exact and a max_grad_norm it is seen before."
        )
    else:
        kept = f"The weights from before it are in {checkpoint.save(run, update)}."
    rows = gather_object(visits.row_ids())
    raise DivergedError(
        f"update {update + 1}: loss {float(loss):g} or its gradient is not a finite number. Rows: {', '.join(rows)}",
        f"{kept} Look at these rows; if nothing is wrong with them, lower learning_rate or use mixed_precision bf16 "
        "or no.",
    )
