"""Noise schedules by name, and the schedulers that train and sample on them.

A schedule is T numbers beta in (0, 1). Step i keeps the share 1 - beta_i of the signal's variance, so that
alpha-bar_i = (1 - beta_1) ... (1 - beta_i) is left after i steps.

The samplers of diffusers do not all know the same names, and one that does not know a name refuses to load. So the
betas are made here and handed over as `trained_betas`, which every sampler takes.
"""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from toolkit.errors import ConfigError, nearest

MAX_BETA = 0.999
"""Cap of betas made from alpha-bar, which may end at 0 (Nichol and Dhariwal 2021, section 3.2)."""

_SAMPLE_MAX_VALUE = 100.0
"""Largest quantile that dynamic thresholding scales to 1. With diffusers' own default, 1, it is static clipping."""
_JABRI_START, _JABRI_END, _JABRI_TAU = -3.0, 3.0, 1.0


def betas_for(
    name: str,
    num_train_timesteps: int,
    *,
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    rescale_from: int | None = None,
) -> Tensor:
    """The betas of a schedule, shape (T,), float64, in (0, 1).

    With u = (i - 1) / (T - 1), which goes from 0 to 1, and s(x) = 1 / (1 + exp(-x)):

    - `linear`: beta_i = start + (end - start) u (Ho et al. 2020, arXiv 2006.11239, section 4).
    - `quadratic` and `scaled_linear`, the same thing: beta_i = (sqrt(start) + (sqrt(end) - sqrt(start)) u)^2
      (Rombach et al. 2022, arXiv 2112.10752, whose start and end are 0.00085 and 0.012).
    - `sigmoid`: beta_i = start + (end - start) s(12 u - 6) (GeoDiff, Xu et al. 2022, arXiv 2203.02923).

    The others are functions alpha-bar(v) of the share v of the process. There beta_i is
    1 - alpha-bar(i / T) / alpha-bar((i - 1) / T), at most 0.999, and `beta_start` and `beta_end` mean nothing:

    - `cosine`: cos^2(pi / 2 (v + 0.008) / 1.008), up to a factor (Nichol and Dhariwal 2021, arXiv 2102.09672, eq. 17).
    - `jabri-sigmoid`: (s(3) - s(6 v - 3)) / (s(3) - s(-3)) (Jabri et al. 2022, arXiv 2212.11972; Chen 2023,
      arXiv 2301.10972, with its start -3, end 3 and tau 1).

    Args:
        name: One of `NOISE_SCHEDULES`.
        num_train_timesteps: T, at least 1.
        beta_start: First beta.
        beta_end: Last beta; 1e-4 and 0.02 were chosen for 1000 steps, and fewer of them do not reach noise.
        rescale_from: Take the schedule of so many steps and respace it to T: alpha-bar is the same at the same share
            of the process, interpolated along its logarithm, with betas of at most 0.999. It holds for every T. The
            usual shortcut, betas times 1000 / T, comes near it for large T and exceeds 1 for small ones, such as 15.

    Raises:
        ConfigError: No such schedule, or a number out of its range.
    """
    if name not in NOISE_SCHEDULES:
        raise ConfigError(f"noise schedule {name!r} does not exist", nearest(name, NOISE_SCHEDULES))
    if not 0.0 < beta_start <= beta_end < 1.0:
        raise ConfigError(
            f"noise schedule: beta_start = {beta_start:g} and beta_end = {beta_end:g} make no schedule",
            "Betas rise from above 0 to below 1; 1e-4 and 0.02 are usual for 1000 steps.",
        )
    for key, steps in (("num_train_timesteps", num_train_timesteps), ("rescale_from", rescale_from)):
        if steps is not None and steps < 1:
            raise ConfigError(f"noise schedule: {key} = {steps}", "Give at least 1 step.")
    if rescale_from is None:
        return NOISE_SCHEDULES[name](num_train_timesteps, beta_start, beta_end)
    return _respaced(NOISE_SCHEDULES[name](rescale_from, beta_start, beta_end), num_train_timesteps)


def noise_schedule(
    name: str,
    num_train_timesteps: int = 1000,
    *,
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    rescale_from: int | None = None,
    prediction_type: Literal["epsilon", "sample", "v_prediction"] = "epsilon",
    clip_sample: bool = True,
    dynamic_thresholding_ratio: float | None = None,
    timestep_spacing: Literal["leading", "trailing", "linspace"] = "trailing",
) -> DDPMScheduler:
    """A scheduler on the betas of `betas_for`, from whose configuration every sampler of diffusers can be made.

    Its configuration keeps the betas as `trained_betas`, the schedule's name as `beta_schedule` and `rescale_from` as
    `_rescale_from`; all three survive saving, loading and the change to another sampler.

    Args:
        prediction_type: What the network predicts.
        clip_sample: Clip the estimate of the clean sample to [-1, 1] while sampling: for pixels, not for latents.
        dynamic_thresholding_ratio: Clip it dynamically instead, to this quantile of its absolute values, which then
            becomes 1 (Saharia et al. 2022, arXiv 2205.11487, section 2.3).
        timestep_spacing: Which timesteps fewer steps visit; `trailing` starts at the last one, where noise is pure
            (Lin et al. 2023, arXiv 2305.08891, section 3.3). PNDM diverges from there where alpha-bar ends near 0, as
            cosine and jabri-sigmoid do; give it `leading`.

    Raises:
        ConfigError: As `betas_for`.
    """
    betas = betas_for(
        name, num_train_timesteps, beta_start=beta_start, beta_end=beta_end, rescale_from=rescale_from
    ).tolist()
    thresholding: dict[str, object] = {}
    if dynamic_thresholding_ratio is not None:
        thresholding = {
            "thresholding": True,
            "dynamic_thresholding_ratio": dynamic_thresholding_ratio,
            "sample_max_value": _SAMPLE_MAX_VALUE,
        }
    assert len(betas) == num_train_timesteps  # diffusers does not compare the two.
    return DDPMScheduler(
        num_train_timesteps=num_train_timesteps,
        beta_start=beta_start,
        beta_end=beta_end,
        # Read by nobody beside trained_betas: it is the record of what they are.
        beta_schedule=name,
        trained_betas=betas,
        # diffusers keeps what starts with an underscore, and warns of other keys that it does not know.
        _rescale_from=rescale_from,
        prediction_type=prediction_type,
        clip_sample=clip_sample,
        **thresholding,
        timestep_spacing=timestep_spacing,
    )


def _linear(steps: int, start: float, end: float) -> Tensor:
    return torch.linspace(start, end, steps, dtype=torch.float64)


def _quadratic(steps: int, start: float, end: float) -> Tensor:
    return _linear(steps, math.sqrt(start), math.sqrt(end)).square()


def _sigmoid(steps: int, start: float, end: float) -> Tensor:
    return start + (end - start) * torch.sigmoid(_linear(steps, -6.0, 6.0))


def _cosine(steps: int, start: float, end: float) -> Tensor:
    return _from_alpha_bar(lambda v: torch.cos(math.pi / 2 * (v + 0.008) / 1.008).square(), steps)


def _jabri_sigmoid(steps: int, start: float, end: float) -> Tensor:
    def falling(v: Tensor) -> Tensor:
        return torch.sigmoid(-(_JABRI_START + (_JABRI_END - _JABRI_START) * v) / _JABRI_TAU)

    first, last = falling(torch.tensor([0.0, 1.0], dtype=torch.float64))
    return _from_alpha_bar(lambda v: (falling(v) - last) / (first - last), steps)


NOISE_SCHEDULES: dict[str, Callable[[int, float, float], Tensor]] = {
    "linear": _linear,
    "scaled_linear": _quadratic,
    "quadratic": _quadratic,
    "cosine": _cosine,
    "sigmoid": _sigmoid,
    "jabri-sigmoid": _jabri_sigmoid,
}
"""The schedules of `betas_for`, by name: functions of T, first and last beta."""


def _from_alpha_bar(alpha_bar: Callable[[Tensor], Tensor], steps: int) -> Tensor:
    values = alpha_bar(_linear(steps + 1, 0.0, 1.0))
    return (1.0 - values[1:] / values[:-1]).clamp(max=MAX_BETA)


def _respaced(betas: Tensor, steps: int) -> Tensor:
    log_alpha_bar = np.concatenate([[0.0], np.log1p(-betas.numpy()).cumsum()])
    positions = np.linspace(0.0, len(betas), steps + 1)
    at = np.interp(positions, np.arange(len(betas) + 1), log_alpha_bar)
    return torch.from_numpy(-np.expm1(np.diff(at))).clamp(max=MAX_BETA)
