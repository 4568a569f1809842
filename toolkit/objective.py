"""Training objectives: what is noised, what is predicted, how it is weighted.

With x0 the clean sample, e standard normal noise and a = alpha-bar of the timestep, the noisy sample is
x = sqrt(a) x0 + sqrt(1 - a) e and its signal-to-noise ratio s = a / (1 - a). All of it is float32 whatever the
precision of the network: in half precision the first timesteps would get no noise at all.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler, SchedulerMixin
from torch import Tensor

from toolkit.draws import Draws
from toolkit.residuals import LossType, per_sample_error

Predict = Callable[[Tensor, Tensor], Tensor]
"""(noisy samples (B, C, ...), timesteps (B,)) to the network's output (B, C, ...). A self-conditioned network gets its
estimates in C more channels."""


class Objective(ABC):
    """What a diffusion task minimises. The loop does not know it."""

    scheduler: SchedulerMixin
    """The noise schedule that is trained; `sampling_scheduler` makes a sampler of it."""

    @property
    @abstractmethod
    def prediction_type(self) -> str:
        """What the network predicts, in diffusers' words: epsilon, v_prediction, sample or flow_prediction."""

    @abstractmethod
    def __call__(self, predict: Predict, x0: Tensor, draws: Draws, *, where: Tensor | None = None) -> Tensor:
        """Per-sample losses, shape (B,), float32.

        Args:
            predict: The network.
            x0: What is noised, (B, C, h, w).
            draws: Of the samples.
            where: How much an error counts at each place, (B, 1, h, w), 1 in the mean; None counts all places alike.
        """


@dataclass(frozen=True)
class Ddpm(Objective):
    """Discrete-time noise, velocity or sample prediction (Ho et al. 2020; Salimans and Ho 2022).

    Args:
        scheduler: Its betas are the noise schedule and its `prediction_type` is what the network predicts.
        snr_gamma: Min-SNR weighting (Hang et al. 2023, arXiv 2303.09556), None for none.
        noise_offset: Standard deviation of a constant added to the noise of each channel.
        input_perturbation: Standard deviation of extra noise on the input only (Ning et al. 2023, arXiv 2301.11706).
        dream_detail_preservation: Exponent p of DREAM (Zhou et al. 2023, arXiv 2312.00210), None for no DREAM.
        loss_type: How an error counts, see `toolkit.residuals`; values of different losses cannot be compared, since
            smooth_l1 of residuals below 1 is half of mse. Min-SNR weights are those of squared errors with all of them.
        huber_delta: Where `smooth_l1` and `huber` turn from square to straight.
        self_conditioning: Give the network its own estimate of x0 beside x (Chen, Zhang and Hinton 2022, Analog Bits,
            arXiv 2208.04202, algorithm 1): its input is then cat(x, estimate), with twice the channels, the estimate
            being zeros for half of the samples. A sampler hands on the estimate of its step before.
    """

    scheduler: DDPMScheduler
    snr_gamma: float | None = None
    noise_offset: float = 0.0
    input_perturbation: float = 0.0
    dream_detail_preservation: float | None = None
    loss_type: LossType = "mse"
    huber_delta: float = 1.0
    self_conditioning: bool = False

    @property
    def prediction_type(self) -> str:
        return self.scheduler.config.prediction_type

    def __call__(self, predict: Predict, x0: Tensor, draws: Draws, *, where: Tensor | None = None) -> Tensor:
        x0 = x0.float()
        t = draws.integers("time", self.scheduler.config.num_train_timesteps)
        signal, sigma = (expand_like(values, x0) for values in self._signal_and_sigma(t))
        if self.self_conditioning:
            predict = self._self_conditioned(predict, draws.uniform("self_conditioning") < 0.5)

        noise = draws.normal("noise", *x0.shape[1:])
        if self.noise_offset:
            noise = noise + self.noise_offset * draws.normal("noise_offset", x0.shape[1], *[1] * (x0.ndim - 2))
        added = noise
        if self.input_perturbation:
            added = noise + self.input_perturbation * draws.normal("input_perturbation", *x0.shape[1:])

        noisy = signal * x0 + sigma * added
        target = self._target(x0, noise, signal, sigma)
        if self.dream_detail_preservation is not None:
            noisy, target = _dream(predict, noisy, target, sigma, t, self.dream_detail_preservation)
        error = per_sample_error(
            predict(noisy, t).float(), target, loss_type=self.loss_type, huber_delta=self.huber_delta, where=where
        )
        return error if self.snr_gamma is None else error * self.weight(t)

    def weight(self, t: Tensor) -> Tensor:
        """Min-SNR weights, shape (B,), in closed forms that hold at a ratio of 0, where the noise is pure.

        min(s, gamma) weights an error in x0. An error in the noise is sqrt(s) times that one and an error in the
        velocity sqrt(s + 1) times, so their weights are min(s, gamma) / s and min(s, gamma) / (s + 1).
        """
        assert self.snr_gamma is not None
        signal, sigma = self._signal_and_sigma(t)
        snr = (signal / sigma).square()
        match self.prediction_type:
            case "epsilon":
                return (self.snr_gamma / snr).clamp(max=1.0)
            case "v_prediction":
                return snr.clamp(max=self.snr_gamma) / (snr + 1.0)
            case _:
                return snr.clamp(max=self.snr_gamma)

    def estimate_x0(self, output: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        """The clean sample that an output of the network means, (B, ...), clipped where the scheduler clips samples.

        Args:
            output: Of the network, (B, ...).
            noisy: What it was given, the same shape.
            t: Timesteps, (B,).
        """
        signal, sigma = (expand_like(values, noisy) for values in self._signal_and_sigma(t))
        match self.prediction_type:
            case "epsilon":
                x0 = (noisy - sigma * output) / signal
            case "v_prediction":
                x0 = signal * noisy - sigma * output
            case _:
                x0 = output
        config = self.scheduler.config
        return x0.clamp(-config.clip_sample_range, config.clip_sample_range) if config.clip_sample else x0

    def _self_conditioned(self, predict: Predict, estimated: Tensor) -> Predict:
        """The same network for callers that know nothing of estimates; those of samples not `estimated` are zeros."""

        def with_estimate(noisy: Tensor, t: Tensor) -> Tensor:
            nothing = torch.zeros_like(noisy)
            with torch.no_grad():
                estimate = self.estimate_x0(predict(torch.cat([noisy, nothing], 1), t).float(), noisy, t)
            previous = torch.where(expand_like(estimated, noisy), estimate, nothing)
            return predict(torch.cat([noisy, previous], 1), t)

        return with_estimate

    def _signal_and_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alphas_cumprod = self.scheduler.alphas_cumprod.to(t.device, torch.float32)[t]
        return alphas_cumprod.sqrt(), (1.0 - alphas_cumprod).sqrt()

    def _target(self, x0: Tensor, noise: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
        match self.prediction_type:
            case "epsilon":
                return noise
            case "v_prediction":
                return signal * noise - sigma * x0
            case _:
                return x0


def training_scheduler(
    base: SchedulerMixin, *, prediction_type: str | None, rescale_betas_zero_snr: bool
) -> DDPMScheduler:
    """The noise schedule to train on: the base model's own, changed where the run asks for it.

    Args:
        base: Any diffusers scheduler of the base pipeline; only its configuration is read.
        prediction_type: What to predict; None is what the base predicts.
        rescale_betas_zero_snr: Rescale the betas to zero terminal SNR (Lin et al. 2023, arXiv 2305.08891, alg. 1).
    """
    changes: dict[str, object] = {}
    if prediction_type is not None:
        changes["prediction_type"] = prediction_type
    if rescale_betas_zero_snr:
        changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return DDPMScheduler.from_config(base.config, **changes)


def sampling_scheduler(base: SchedulerMixin, trained: SchedulerMixin) -> SchedulerMixin:
    """The scheduler that the finished pipeline draws with: the base's own, told what was really trained.

    Where the base's kind cannot sample that (zero terminal SNR, sample prediction), it is DDIM, which can sample all
    but flows: those are sampled by the scheduler that they were trained with.
    """
    if isinstance(trained, FlowMatchEulerDiscreteScheduler):
        return FlowMatchEulerDiscreteScheduler.from_config(trained.config)
    if trained.config.rescale_betas_zero_snr or trained.config.prediction_type == "sample":
        return DDIMScheduler.from_config(trained.config, set_alpha_to_one=False)
    return type(base).from_config(base.config, prediction_type=trained.config.prediction_type)


def expand_like(values: Tensor, samples: Tensor) -> Tensor:
    """One value per sample, (B,), shaped to be multiplied with samples (B, ...)."""
    return values.view(-1, *[1] * (samples.ndim - 1))


def _dream(
    predict: Predict, noisy: Tensor, target: Tensor, sigma: Tensor, t: Tensor, power: float
) -> tuple[Tensor, Tensor]:
    """Move input and target towards what the model itself would have estimated, as sampling will."""
    with torch.no_grad():
        correction = sigma**power * (target - predict(noisy, t).float())
    return noisy + sigma * correction, target + correction
