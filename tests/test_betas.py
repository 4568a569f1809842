"""Noise schedules against diffusers' own and closed forms, and every sampler on each of them."""

import logging
import math

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)
from diffusers.utils import logging as diffusers_logging
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from toolkit.betas import MAX_BETA, NOISE_SCHEDULES, betas_for, noise_schedule
from toolkit.errors import ConfigError

SAMPLERS = [
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
]
STOCHASTIC = (
    DDPMScheduler,
    EulerAncestralDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    LCMScheduler,
)
FIRST_ORDER = (DDIMScheduler, DDPMScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, TCDScheduler)
MEAN, DEVIATION = 0.4, 0.3


def alpha_bar(betas):
    return (1 - betas).cumprod(0)


@pytest.fixture
def warnings(caplog):
    """What diffusers says aloud."""
    diffusers_logging.enable_propagation()
    with caplog.at_level(logging.WARNING, logger="diffusers"):
        yield caplog
    diffusers_logging.disable_propagation()


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("linear", "linear"),
        ("quadratic", "scaled_linear"),
        ("scaled_linear", "scaled_linear"),
        ("sigmoid", "sigmoid"),
        ("cosine", "squaredcos_cap_v2"),
    ],
)
@pytest.mark.parametrize("steps", [15, 300, 1000])
def test_schedules_that_diffusers_knows_have_its_values(name, theirs, steps):
    expected = DDPMScheduler(num_train_timesteps=steps, beta_schedule=theirs).betas.double()
    torch.testing.assert_close(betas_for(name, steps), expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("steps", [15, 1000])
def test_the_sigmoid_of_jabri_and_chen_is_their_alpha_bar_below_the_cap(steps):
    share = np.arange(1, steps) / steps
    expected = (expit(3) - expit(6 * share - 3)) / (expit(3) - expit(-3))
    betas = betas_for("jabri-sigmoid", steps)
    np.testing.assert_allclose(alpha_bar(betas)[:-1], expected, rtol=1e-9)
    assert betas[-1] == 0.999


@given(
    name=st.sampled_from(sorted(NOISE_SCHEDULES)),
    steps=st.integers(1, 400),
    start=st.floats(1e-5, 1e-2),
    width=st.floats(0.0, 0.9),
    rescale_from=st.none() | st.integers(1, 1200),
)
def test_every_schedule_is_as_many_rising_shares_as_there_are_steps(name, steps, start, width, rescale_from):
    betas = betas_for(name, steps, beta_start=start, beta_end=start + width, rescale_from=rescale_from)
    assert betas.shape == (steps,)
    assert betas.dtype == torch.float64
    assert ((betas > 0) & (betas < 1)).all()
    assert rescale_from is None or betas.max() <= MAX_BETA
    assert (betas.diff() >= -1e-12).all()


@pytest.mark.parametrize("name", NOISE_SCHEDULES)
@pytest.mark.parametrize("steps", [10, 250, 1000, 3000])
def test_respaced_betas_keep_alpha_bar_at_the_same_share_of_the_process(name, steps):
    whole, respaced = alpha_bar(betas_for(name, 1000)), alpha_bar(betas_for(name, steps, rescale_from=1000))
    common = math.gcd(steps, 1000)
    whole, shared = whole[1000 // common - 1 :: 1000 // common], respaced[steps // common - 1 :: steps // common]
    torch.testing.assert_close(shared[:-1], whole[:-1], rtol=1e-9, atol=0)
    # The last beta may be at its cap.
    last = whole[-1] if steps == 3000 else max(whole[-1], 0.001 * respaced[-2])
    torch.testing.assert_close(shared[-1], last, rtol=1e-9, atol=0)


def test_fifteen_steps_can_be_respaced_where_betas_times_1000_over_15_exceed_one():
    assert (betas_for("linear", 15) * 1000 / 15).max() > 1
    respaced = betas_for("linear", 15, rescale_from=1000)
    assert respaced.max() < 1
    torch.testing.assert_close(alpha_bar(respaced)[-1], alpha_bar(betas_for("linear", 1000))[-1])


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("cosin", {}, "`cosine`"),
        ("linear", {"num_train_timesteps": 0}, "num_train_timesteps"),
        ("linear", {"rescale_from": 0}, "rescale_from"),
        ("linear", {"beta_start": 0.02, "beta_end": 1e-4}, "beta_start"),
        ("linear", {"beta_start": 0.0}, "beta_start"),
        ("linear", {"beta_end": 1.0}, "beta_end"),
    ],
)
def test_what_is_no_schedule_is_named(name, options, words):
    with pytest.raises(ConfigError, match=words):
        betas_for(name, **({"num_train_timesteps": 10} | options))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    ("name", "steps", "rescale_from"), [*((name, 1000, None) for name in NOISE_SCHEDULES), ("linear", 15, 1000)]
)
def test_every_sampler_takes_every_schedule_and_keeps_its_name(name, steps, rescale_from, sampler, tmp_path, warnings):
    trained = noise_schedule(name, steps, rescale_from=rescale_from)
    trained.save_pretrained(tmp_path / "trained")
    loaded = DDPMScheduler.from_pretrained(tmp_path / "trained")
    sampler.from_config(loaded.config).save_pretrained(tmp_path / "sampler")
    sampling = sampler.from_pretrained(tmp_path / "sampler")
    back = DDPMScheduler.from_config(sampling.config)
    for scheduler in (loaded, sampling, back):
        assert torch.equal(scheduler.alphas_cumprod, trained.alphas_cumprod)
        assert scheduler.config.beta_schedule == name
        assert scheduler.config["_rescale_from"] == rescale_from
        assert scheduler.config.num_train_timesteps == len(scheduler.config.trained_betas) == steps
    # These two do not know a key of DDPM and say so whatever the schedule.
    assert ["variance_type" in warning for warning in warnings.messages] == [True] * len(warnings.messages)
    assert not warnings.messages or sampler in (LCMScheduler, TCDScheduler)


def test_dynamic_thresholding_thresholds_and_survives_the_change_of_sampler():
    estimate = torch.linspace(-4, 4, 1001).view(1, 1, 7, 143)
    for sampler in (DDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler):
        scheduler = sampler.from_config(
            noise_schedule("cosine", prediction_type="sample", dynamic_thresholding_ratio=0.9).config
        )
        scheduler.set_timesteps(10)
        noise = torch.zeros_like(estimate)
        if sampler is DPMSolverMultistepScheduler:
            scheduler.step(estimate, scheduler.timesteps[0], noise)
            seen = scheduler.model_outputs[-1]
        else:
            seen = scheduler.step(estimate, scheduler.timesteps[0], noise).pred_original_sample
        torch.testing.assert_close(seen, (estimate / 3.6).clamp(-1, 1), rtol=1e-5, atol=1e-5)


def exact_noise(x, alpha_bar):
    """The noise that is expected in x where the data are N(MEAN, DEVIATION^2)."""
    variance = alpha_bar * DEVIATION**2 + 1 - alpha_bar
    return (1 - alpha_bar) ** 0.5 * (x - alpha_bar**0.5 * MEAN) / variance


def exact_consistency(x, alpha_bar):
    """The noise that points from x to where the probability flow of these data ends, as a consistency model's does."""
    variance = alpha_bar * DEVIATION**2 + 1 - alpha_bar
    end = MEAN + DEVIATION * (x - alpha_bar**0.5 * MEAN) / variance**0.5
    return (x - alpha_bar**0.5 * end) / (1 - alpha_bar) ** 0.5


def alpha_bar_at(scheduler, t):
    """Of a timestep that may lie between two: the logarithm of sigma is interpolated, as by the samplers."""
    alphas = scheduler.alphas_cumprod.double().numpy()
    log_sigma = np.interp(float(t), np.arange(len(alphas)), 0.5 * np.log((1 - alphas) / alphas))
    return float(1 / (1 + np.exp(2 * log_sigma)))


def sampled(scheduler, model, steps):
    """20,000 independent samples."""
    generator = torch.Generator().manual_seed(0)
    scheduler.set_timesteps(steps)
    x = torch.randn(20, 1, 25, 40, generator=generator) * scheduler.init_noise_sigma
    arguments = {"generator": generator} if type(scheduler) in STOCHASTIC else {}
    if isinstance(scheduler, TCDScheduler):
        arguments = {"eta": 0.0}
    for t in scheduler.timesteps:
        predicted = model(scheduler.scale_model_input(x, t), alpha_bar_at(scheduler, t))
        x = scheduler.step(predicted, t, x, **arguments).prev_sample
    return x


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", ["linear", "cosine", "jabri-sigmoid"])
def test_every_sampler_draws_gaussian_data_from_their_exact_noise(name, sampler):
    trained = noise_schedule(
        name, clip_sample=False, timestep_spacing="leading" if sampler is PNDMScheduler else "trailing"
    )
    changes = {"original_inference_steps": 1000} if sampler in (LCMScheduler, TCDScheduler) else {}
    scheduler = sampler.from_config(trained.config, **changes)
    model = exact_consistency if sampler is LCMScheduler else exact_noise
    samples = sampled(scheduler, model, 500 if sampler in FIRST_ORDER else 100)
    assert float(samples.mean()) == pytest.approx(MEAN, abs=0.012)
    assert float(samples.std()) == pytest.approx(DEVIATION, rel=0.025)


@pytest.mark.parametrize("sampler", [DDPMScheduler, DDIMScheduler])
def test_a_process_of_fifteen_steps_draws_gaussian_data_where_it_is_rescaled(sampler):
    samples = {}
    for rescale_from in (1000, None):
        trained = noise_schedule("linear", 15, rescale_from=rescale_from, clip_sample=False)
        samples[rescale_from] = sampled(sampler.from_config(trained.config), exact_noise, 15)
    assert float(samples[1000].mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(samples[1000].std()) == pytest.approx(DEVIATION, abs=0.11)
    # What is left of the signal at the last step is missing in the noise that sampling starts from.
    assert float(samples[None].mean()) < MEAN - 0.1
    assert float(samples[None].std()) > DEVIATION + 0.11
