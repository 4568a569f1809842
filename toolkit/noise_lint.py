"""What a noise schedule does at its two ends, told before a training that would suffer from it.

Sampling starts from standard normal noise. A schedule whose last timestep still shows the picture never trains the
network on that, and one that is noised in half precision shows it the first timesteps without noise.
"""

import math
from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from toolkit.errors import ConfigError

REFUSED_ABOVE = 0.9
"""Terminal alpha-bar above which there is nothing to train."""
WARNED_ABOVE = 0.01
"""Terminal alpha-bar above which samples have another brightness and colour than the data."""
AMPLIFIED = 1000.0
"""1 / sqrt(terminal alpha-bar) above which estimates of x0 from a predicted noise should be clipped."""
_REACH_NOISE = (
    "Respace the schedule of 1000 steps with rescale_from=1000, take the cosine schedule, or more timesteps. "
    "Of betas made by hand, check the formula: quadratic is the square of a line between square roots."
)


@dataclass(frozen=True, slots=True)
class Lint:
    """The ends of a noise schedule. The signal-to-noise ratio of a timestep is alpha-bar / (1 - alpha-bar)."""

    num_train_timesteps: int
    prediction_type: str
    sampling_clips: bool
    """Whether samplers clip their estimate of the clean sample."""
    thresholding_is_static: bool
    """Whether samplers are told to threshold dynamically and cannot: `sample_max_value` is 1, as by default."""
    terminal_alpha_bar: float
    """Share of the signal's variance that is left at the last timestep."""
    first_snr: float
    terminal_snr: float
    betas_rise: bool
    """Whether no beta is smaller than the one before it."""
    dtype: torch.dtype
    """What the next two are about; the objectives of the toolkit noise in float32 in any case."""
    noiseless_timesteps: int
    """Timesteps that would get no noise if noising were done in `dtype`."""
    inaccurate_timesteps: int
    """Timesteps whose noise would have a variance more than 10% off, those without noise included."""

    def render(self) -> str:
        """The table that is printed before training."""
        left = math.sqrt(self.terminal_alpha_bar)
        dtype = str(self.dtype).removeprefix("torch.")
        rows = {
            "predicted": self.prediction_type,
            "alpha-bar at the last": f"{self.terminal_alpha_bar:.4g}: {left:.1%} of the signal's amplitude is left",
            "signal-to-noise ratio": f"{self.first_snr:.3g} at the first, {self.terminal_snr:.3g} at the last",
            "betas": "rise" if self.betas_rise else "do not rise everywhere",
            f"noised in {dtype}": f"{self.noiseless_timesteps} timesteps would get no noise, "
            f"{self.inaccurate_timesteps} a variance more than 10% off",
        }
        width = max(map(len, rows))
        lines = (f"  {name:{width}}  {value}" for name, value in rows.items())
        return "\n".join([f"noise schedule of {self.num_train_timesteps} timesteps", *lines])


def lint(
    schedule: DDPMScheduler | Tensor,
    *,
    dtype: torch.dtype = torch.float32,
    prediction_type: str | None = None,
    sampling_clips: bool | None = None,
) -> Lint:
    """Measure a noise schedule.

    Args:
        schedule: A scheduler, or betas of shape (T,).
        dtype: Precision whose effect on the noising is wanted.
        prediction_type: None is what the scheduler says; `epsilon` for betas.
        sampling_clips: Whether sampling clips its estimate of the clean sample; None is what the scheduler says (its
            `clip_sample`, which only DDPM, DDIM, LCM and TCD obey, or `thresholding`); True for betas.

    Raises:
        ConfigError: The betas are no schedule, or not as many as the scheduler has timesteps.
    """
    static = False
    if isinstance(schedule, Tensor):
        betas, alphas_cumprod = schedule.double(), (1.0 - schedule.double()).cumprod(0)
    else:
        config = schedule.config
        # As the scheduler has it: that is what is trained on.
        betas, alphas_cumprod = schedule.betas.double(), schedule.alphas_cumprod.double()
        if len(betas) != config.num_train_timesteps:
            raise ConfigError(
                f"noise schedule: {len(betas)} trained_betas for num_train_timesteps = {config.num_train_timesteps}",
                "Give one beta per timestep.",
            )
        prediction_type = prediction_type or config.prediction_type
        if sampling_clips is None:
            sampling_clips = config.clip_sample or config.thresholding
        static = config.thresholding and config.sample_max_value <= 1.0
    if betas.ndim != 1 or not len(betas) or not ((betas > 0) & (betas <= 1)).all():
        raise ConfigError(
            "noise schedule: betas must be a list of numbers above 0 and at most 1",
            "Take them from toolkit.betas.betas_for.",
        )
    snr = alphas_cumprod / (1.0 - alphas_cumprod)
    variance = _noise_variance(alphas_cumprod, dtype)
    accurate = (variance / (1.0 - alphas_cumprod) - 1.0).abs() <= 0.1
    return Lint(
        num_train_timesteps=len(betas),
        prediction_type=prediction_type or "epsilon",
        sampling_clips=sampling_clips is None or bool(sampling_clips),
        thresholding_is_static=static,
        terminal_alpha_bar=float(alphas_cumprod[-1]),
        first_snr=float(snr[0]),
        terminal_snr=float(snr[-1]),
        betas_rise=bool((betas.diff() >= 0).all()),
        dtype=dtype,
        noiseless_timesteps=int((variance == 0).sum()),
        inaccurate_timesteps=int((~accurate).sum()),
    )


def require_reaches_noise(schedule: Lint) -> list[str]:
    """Refuse a schedule that cannot be trained; sentences of warning about one that can be, at a price.

    Raises:
        ConfigError: The last timestep is far from noise, or is pure noise which the network is to name.
    """
    left = (
        f"noise schedule: alpha-bar is {schedule.terminal_alpha_bar:.4g} at the last of {schedule.num_train_timesteps} "
        f"timesteps, so {math.sqrt(schedule.terminal_alpha_bar):.0%} of the signal's amplitude is left"
    )
    if schedule.terminal_alpha_bar > REFUSED_ABOVE:
        raise ConfigError(f"{left}: nothing learns to draw from noise", _REACH_NOISE)
    epsilon = schedule.prediction_type == "epsilon"
    if epsilon and schedule.terminal_alpha_bar == 0.0:
        raise ConfigError(
            "noise schedule: the signal-to-noise ratio ends at zero, and the network predicts epsilon",
            "Where the input is pure noise, naming that noise teaches nothing: take prediction_type v_prediction.",
        )
    warnings = []
    if schedule.terminal_alpha_bar > WARNED_ABOVE:
        warnings.append(f"{left} where sampling starts from pure noise: brightness and colour drift. {_REACH_NOISE}")
    amplified = schedule.terminal_alpha_bar**-0.5 if schedule.terminal_alpha_bar else math.inf
    if epsilon and not schedule.sampling_clips and amplified > AMPLIFIED:
        warnings.append(
            f"noise schedule: an error in the noise that is predicted at the last timestep is {amplified:.0f} times as "
            "large in the clean sample, and sampling does not clip it: take prediction_type v_prediction, or "
            "clip_sample or thresholding where samples are pixels."
        )
    if schedule.thresholding_is_static:
        warnings.append(
            "noise schedule: thresholding with sample_max_value 1 is static clipping to [-1, 1]: raise it, to 100."
        )
    if not schedule.betas_rise:
        warnings.append(
            "noise schedule: the betas fall somewhere: no step should add less noise than the one before it."
        )
    return warnings


def _noise_variance(alphas_cumprod: Tensor, dtype: torch.dtype) -> Tensor:
    """The variance that noise gets where alpha-bar is cast before the root is taken, as diffusers' `add_noise` does."""
    return (1.0 - alphas_cumprod.to(dtype)).sqrt().double().square()
