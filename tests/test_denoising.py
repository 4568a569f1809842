"""Denoising with every scheduler, by networks that know the truth, and what becomes of the estimates on the way."""

import numpy as np
import pytest
import torch
from denoisers import answering, generators, noise, quiet
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from hypothesis import given
from hypothesis import strategies as st

from toolkit.betas import noise_schedule
from toolkit.pipelines.pixel import PixelDiffusionPipeline

TRUTH = noise(2, 3, 8, 8, seed=9).clamp(-1, 1)
# Betas are given, as other schedulers' own defaults would take the place of what is a default here.
TRAINED = DDPMScheduler(
    trained_betas=np.linspace(1e-4, 0.02, 1000).tolist(), timestep_spacing="leading", clip_sample=True
)


def knowing(prediction_type):
    """The answer that belongs to TRUTH, by the definition of alpha-bar."""

    def answer(sample, timestep, _):
        a = TRAINED.alphas_cumprod[timestep.long()].view(-1, 1, 1, 1)
        epsilon = (sample - a.sqrt() * TRUTH) / (1 - a).sqrt()
        return epsilon if prediction_type == "epsilon" else a.sqrt() * epsilon - (1 - a).sqrt() * TRUTH

    return answer


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    "scheduler_class",
    [
        DDPMScheduler,
        DDIMScheduler,
        DEISMultistepScheduler,
        DPMSolverMultistepScheduler,
        DPMSolverSinglestepScheduler,
        EulerAncestralDiscreteScheduler,
        EulerDiscreteScheduler,
        HeunDiscreteScheduler,
        LCMScheduler,
        LMSDiscreteScheduler,
        PNDMScheduler,
        UniPCMultistepScheduler,
    ],
)
def test_with_any_scheduler_a_network_that_knows_ends_at_the_truth(scheduler_class, prediction_type):
    scheduler = scheduler_class.from_config(TRAINED.config, prediction_type=prediction_type)
    network = answering(knowing(prediction_type))
    steps = list(quiet(PixelDiffusionPipeline(network, scheduler)).denoise(2, num_inference_steps=20))
    assert steps[0].timestep > 900
    assert 0.9 < steps[0].sample.std() < 1.1
    for step in steps:
        torch.testing.assert_close(step.pred_original_sample, TRUTH, rtol=0, atol=2e-3)
    torch.testing.assert_close(steps[-1].prev_sample, TRUTH, rtol=0, atol=0.05)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("scheduler_class", [FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler])
def test_flow_matching_ends_at_the_truth(scheduler_class, shift):
    def velocity(sample, timestep, _):
        return (sample - TRUTH) / (timestep / 1000).view(-1, 1, 1, 1)

    pipeline = quiet(PixelDiffusionPipeline(answering(velocity), scheduler_class(shift=shift)))
    steps = list(pipeline.denoise(2, num_inference_steps=5))
    for step in steps:
        torch.testing.assert_close(step.pred_original_sample, TRUTH, rtol=0, atol=1e-4)
    torch.testing.assert_close(steps[-1].prev_sample, TRUTH, rtol=0, atol=1e-4)


@pytest.mark.parametrize("scheduler_class", [DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler])
@pytest.mark.parametrize("guided", [False, True])
def test_a_self_conditioned_network_sees_its_last_estimate_at_first_zeros(scheduler_class, guided):
    def wild(sample, timestep, labels):
        return torch.sin(40 * sample[:, :3] + sample[:, 3:])

    scheduler = scheduler_class.from_config(TRAINED.config)
    network = answering(wild, in_channels=6, num_class_embeds=2 if guided else None)
    pipeline = quiet(PixelDiffusionPipeline(network, scheduler))
    options = {"class_labels": [0, 1], "guidance_scale": 2.0} if guided else {"batch_size": 2}
    steps = list(pipeline.denoise(num_inference_steps=4, generator=generators(2), **options))
    estimates = [torch.zeros(2, 3, 8, 8), *(step.pred_original_sample for step in steps)]
    for (sample, _, _), step, estimate in zip(network.asked, steps, estimates[:-1], strict=True):
        for half in sample.split(2):
            assert torch.equal(half, torch.cat([step.sample, estimate], 1))
    assert all(estimate.abs().max() <= 1 for estimate in estimates)
    assert steps[-1].prev_sample.shape == (2, 3, 8, 8)


@given(st.floats(0.5, 1.0), st.floats(0.01, 15.0), st.integers(0, 99))
@pytest.mark.parametrize("scheduler_class", [DDPMScheduler, DDIMScheduler])
def test_dynamic_thresholding_divides_by_a_quantile_of_each_image(scheduler_class, ratio, size, seed):
    x0 = size * noise(3, 3, 4, 4, seed=seed)
    trained = noise_schedule("linear", 1000, prediction_type="sample", dynamic_thresholding_ratio=ratio)
    scheduler = scheduler_class.from_config(trained.config)
    scheduler.set_timesteps(10)
    step = scheduler.timesteps[1]
    estimate = scheduler.step(x0, step, noise(3, 3, 4, 4), generator=generators(1)[0]).pred_original_sample
    quantile = np.quantile(x0.abs().flatten(1).double().numpy(), ratio, axis=1)
    s = torch.tensor(np.maximum(quantile, 1.0), dtype=torch.float32).view(3, 1, 1, 1)
    torch.testing.assert_close(estimate, x0.clamp(-s, s) / s, rtol=1e-4, atol=1e-5)


def test_thresholding_alone_would_only_clip():
    scheduler, x0 = DDIMScheduler(prediction_type="sample", thresholding=True), 5 * noise(2, 3, 4, 4)
    scheduler.set_timesteps(10)
    assert torch.equal(scheduler.step(x0, 900, x0).pred_original_sample, x0.clamp(-1, 1))
