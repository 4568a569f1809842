"""How the error of a prediction is counted."""

from typing import Literal

from torch import Tensor
from torch.nn import functional

LossType = Literal["mse", "l1", "smooth_l1", "huber"]


def per_sample_error(
    predicted: Tensor, target: Tensor, *, loss_type: LossType, huber_delta: float, where: Tensor | None = None
) -> Tensor:
    """The mean error of each sample, shape (B,).

    With r = predicted - target and d = `huber_delta`, an element counts
    `mse` r^2; `l1` |r|; `huber` r^2 / 2 where |r| < d, else d (|r| - d / 2); `smooth_l1` huber / d.

    Values of different losses cannot be compared: smooth_l1 and huber with d = 1 are exactly half of mse as long as
    all residuals are below 1, as they are late in a training. Compare such runs by what they draw.

    Args:
        predicted: (B, ...).
        target: The same shape.
        where: How much an error counts at each place, broadcast to the same shape; None counts all places alike.
    """
    match loss_type:
        case "mse":
            error = (predicted - target).square()
        case "l1":
            error = (predicted - target).abs()
        case "smooth_l1":
            error = functional.smooth_l1_loss(predicted, target, reduction="none", beta=huber_delta)
        case "huber":
            error = functional.huber_loss(predicted, target, reduction="none", delta=huber_delta)
    return (error if where is None else error * where).flatten(1).mean(1)
