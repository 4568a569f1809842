"""Flow matching along straight lines between data and noise."""

from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from toolkit.draws import Draws
from toolkit.errors import ConfigError
from toolkit.objective import Objective, Predict, expand_like
from toolkit.residuals import LossType, per_sample_error


@dataclass(frozen=True)
class FlowMatching(Objective):
    """Rectified flow (Liu et al. 2022, arXiv 2209.03003; Lipman et al. 2022, arXiv 2210.02747).

    With s in [0, 1] the noisy sample is x = (1 - s) x0 + s e, and the network predicts the velocity dx / ds = e - x0.
    As the sampler does, it is told the time as s times `num_train_timesteps`, a float.

    Args:
        scheduler: The sampler. Its `shift` k moves times towards noise, s to k s / (1 + (k - 1) s), in training as in
            sampling (Esser et al. 2024, arXiv 2403.03206, section 5.3.2).
        time: Density of s before the shift. `logit_normal` is sigmoid(N(logit_mean, logit_std^2)) (the same, 3.1).
        logit_mean: Negative is nearer to the data.
        logit_std: Above 0.
        loss_type: How an error counts, see `toolkit.residuals`.
        huber_delta: Where `smooth_l1` and `huber` turn from square to straight.

    Raises:
        ConfigError: The scheduler shifts by the size of the image, which training does not.
    """

    scheduler: FlowMatchEulerDiscreteScheduler
    time: Literal["uniform", "logit_normal"] = "uniform"
    logit_mean: float = 0.0
    logit_std: float = 1.0
    loss_type: LossType = "mse"
    huber_delta: float = 1.0

    def __post_init__(self) -> None:
        if self.scheduler.config.use_dynamic_shifting:
            raise ConfigError(
                "flow matching with a scheduler that has use_dynamic_shifting",
                "Training knows one size of images: take the scheduler with a fixed shift instead.",
            )

    @property
    def prediction_type(self) -> str:
        return "flow_prediction"

    def __call__(self, predict: Predict, x0: Tensor, draws: Draws, *, where: Tensor | None = None) -> Tensor:
        x0 = x0.float()
        sigma = self.sigma(draws.uniform("time"))
        noise = draws.normal("noise", *x0.shape[1:])
        noisy = torch.lerp(x0, noise, expand_like(sigma, x0))
        velocity = predict(noisy, sigma * self.scheduler.config.num_train_timesteps).float()
        return per_sample_error(
            velocity, noise - x0, loss_type=self.loss_type, huber_delta=self.huber_delta, where=where
        )

    def sigma(self, quantile: Tensor) -> Tensor:
        """The time s that stands at a quantile of its density: values in [0, 1) to values in [0, 1], rising."""
        s = quantile
        if self.time == "logit_normal":
            s = torch.sigmoid(self.logit_mean + self.logit_std * torch.special.ndtri(quantile))
        shift = self.scheduler.config.shift
        return shift * s / (1.0 + (shift - 1.0) * s)
