"""From the configuration of a run that starts from random weights to its process from picture to noise."""

from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SchedulerMixin,
)

from toolkit.betas import noise_schedule
from toolkit.config import ScratchConfig
from toolkit.flow_matching import FlowMatching
from toolkit.objective import Ddpm, Objective


def build_objective(config: ScratchConfig) -> Objective:
    """What the run minimises, with the noise schedule that it trains on."""
    noise, objective = config.noise, config.objective
    if noise.process == "flow":
        scheduler = FlowMatchEulerDiscreteScheduler(noise.num_train_timesteps, shift=noise.shift)
        return FlowMatching(scheduler, loss_type=objective.loss_type, huber_delta=objective.huber_delta)
    return Ddpm(
        noise_schedule(
            noise.noise_schedule,
            noise.num_train_timesteps,
            beta_start=noise.beta_start,
            beta_end=noise.beta_end,
            rescale_from=noise.rescale_betas_from,
            prediction_type=objective.prediction_type,
            clip_sample=config.task.kind != "latents",
            dynamic_thresholding_ratio=noise.dynamic_thresholding_ratio,
        ),
        loss_type=objective.loss_type,
        huber_delta=objective.huber_delta,
        snr_gamma=objective.snr_gamma,
        noise_offset=objective.noise_offset,
        input_perturbation=objective.input_perturbation,
        self_conditioning=objective.self_conditioning,
    )


def build_sampler(config: ScratchConfig, objective: Objective) -> SchedulerMixin:
    """What the pipeline draws with: of the noise schedule that `objective` trains on, by its betas."""
    trained = objective.scheduler
    kinds = {"ddim": DDIMScheduler, "dpmsolver++": DPMSolverMultistepScheduler}
    return kinds.get(config.noise.scheduler, type(trained)).from_config(trained.config)


def sampling_clips(sampler: SchedulerMixin) -> bool:
    """Whether what `build_sampler` made, of a diffusion, clips its estimates of the clean sample."""
    # DPM-Solver++ keeps `clip_sample` in its configuration and does not read it.
    reads_clip_sample = not isinstance(sampler, DPMSolverMultistepScheduler)
    return sampler.config.thresholding or (reads_clip_sample and sampler.config.clip_sample)
