"""Objectives against closed forms, over all timesteps."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, PNDMScheduler
from diffusers.training_utils import compute_dream_and_update_latents

from toolkit.draws import Draws
from toolkit.objective import Ddpm, sampling_scheduler, training_scheduler

CPU = torch.device("cpu")
T = torch.arange(1000)
SD2 = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}


def scheduler(prediction_type, **changes):
    return DDPMScheduler(prediction_type=prediction_type, **(SD2 | changes))


class EveryTimestep(Draws):
    """Draws whose sample n stands at timestep n."""

    def integers(self, purpose, high):
        assert purpose == "time"
        return torch.arange(high)


@pytest.fixture(scope="module")
def x0():
    return torch.randn(1000, 2, 2, 2, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def draws():
    return EveryTimestep(0, range(1000), CPU)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_input_and_target_are_diffusers_at_every_timestep(kind, x0, draws):
    ddpm, noise, seen = scheduler(kind), draws.normal("noise", 2, 2, 2), []
    target = {"epsilon": noise, "sample": x0, "v_prediction": ddpm.get_velocity(x0, noise, T)}[kind]

    def perfect(noisy, t):
        seen.append((noisy, t))
        return target

    losses = Ddpm(ddpm)(perfect, x0, draws)
    torch.testing.assert_close(losses, torch.zeros(1000), rtol=0, atol=1e-10)
    ((noisy, t),) = seen
    assert torch.equal(t, T)
    torch.testing.assert_close(noisy, ddpm.add_noise(x0, noise, T), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_losses_are_per_sample_squared_errors(kind, x0, draws):
    zero = Ddpm(scheduler(kind))(lambda x, t: torch.zeros_like(x), x0, draws)
    noise, ddpm = draws.normal("noise", 2, 2, 2), scheduler(kind)
    target = {"epsilon": noise, "sample": x0, "v_prediction": ddpm.get_velocity(x0, noise, T)}[kind]
    torch.testing.assert_close(zero, target.square().flatten(1).mean(1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("zero_terminal", [False, True])
@pytest.mark.parametrize("gamma", [1.0, 5.0])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_min_snr_weights_are_the_closed_forms_at_every_timestep(kind, gamma, zero_terminal):
    ddpm = scheduler(kind, rescale_betas_zero_snr=zero_terminal)
    alphas = ddpm.alphas_cumprod.double()
    snr = alphas / (1 - alphas)
    capped = snr.clamp(max=gamma)
    in_x0 = {"epsilon": snr, "v_prediction": snr + 1, "sample": torch.ones_like(snr)}[kind]
    expected = torch.where(snr == 0, float(kind == "epsilon"), capped / in_x0)
    weights = Ddpm(ddpm, snr_gamma=gamma).weight(T)
    assert torch.isfinite(weights).all()
    torch.testing.assert_close(weights.double(), expected, rtol=1e-4, atol=1e-7)


def test_zero_terminal_rescaling_reaches_pure_noise_and_keeps_the_first_step():
    base = scheduler("v_prediction")
    rescaled = training_scheduler(base, prediction_type=None, rescale_betas_zero_snr=True)
    assert rescaled.alphas_cumprod[-1] == 0
    torch.testing.assert_close(rescaled.alphas_cumprod[0], base.alphas_cumprod[0], rtol=1e-5, atol=0)


def test_noise_offset_shifts_whole_channels_and_input_perturbation_only_the_input(x0, draws):
    plain, noise = scheduler("epsilon"), draws.normal("noise", 2, 2, 2)
    inputs, targets = [], []

    def spy(noisy, t):
        inputs.append(noisy)
        return torch.zeros_like(noisy)

    for objective in (Ddpm(plain), Ddpm(plain, noise_offset=0.1), Ddpm(plain, input_perturbation=0.1)):
        targets.append(objective(spy, x0, draws))
    sigma = (1 - plain.alphas_cumprod).sqrt().view(-1, 1, 1, 1)
    offset = (inputs[1] - inputs[0]) / sigma
    torch.testing.assert_close(offset, 0.1 * draws.normal("noise_offset", 2, 1, 1).expand_as(noise), rtol=0, atol=1e-4)
    assert not torch.equal(targets[1], targets[0])
    extra = (inputs[2] - inputs[0]) / sigma
    torch.testing.assert_close(extra, 0.1 * draws.normal("input_perturbation", 2, 2, 2), rtol=0, atol=1e-4)
    assert torch.equal(targets[2], targets[0])


def test_half_precision_inputs_are_noised_in_float32(x0, draws):
    seen = []

    def spy(noisy, t):
        seen.append(noisy)
        return torch.zeros_like(noisy)

    Ddpm(scheduler("epsilon"))(spy, x0.bfloat16(), draws)
    added = seen[0] - scheduler("epsilon").alphas_cumprod.sqrt().view(-1, 1, 1, 1) * x0.bfloat16().float()
    assert seen[0].dtype == torch.float32
    assert (added[0].abs() > 0).all()


def test_dream_is_diffusers_dream(x0, draws):
    ddpm, noise = scheduler("epsilon"), draws.normal("noise", 2, 2, 2)
    seen = []

    def network(x, t, *_):
        seen.append(x)
        return SimpleNamespace(sample=torch.sin(3 * x))

    losses = Ddpm(ddpm, dream_detail_preservation=2.0)(lambda x, t: network(x, t).sample, x0, draws)
    noisy = ddpm.add_noise(x0, noise, T)
    theirs, target = compute_dream_and_update_latents(network, ddpm, T, noise, noisy, noise, None, 2.0)
    torch.testing.assert_close(seen[1], theirs, rtol=1e-4, atol=1e-5)
    expected = (torch.sin(3 * theirs) - target).square().flatten(1).mean(1)
    torch.testing.assert_close(losses, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "base",
    [
        PNDMScheduler(**{k: v for k, v in SD2.items() if k != "clip_sample"}),
        DPMSolverMultistepScheduler(**{k: v for k, v in SD2.items() if k != "clip_sample"}),
    ],
)
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("zero", [False, True])
def test_the_pipeline_draws_with_what_was_trained(base, kind, zero):
    trained = training_scheduler(base, prediction_type=kind, rescale_betas_zero_snr=zero)
    sampler = sampling_scheduler(base, trained)
    assert sampler.config.prediction_type == kind
    assert bool(sampler.config.get("rescale_betas_zero_snr")) == zero
    assert torch.allclose(trained.betas, sampler.betas)


def test_an_error_counts_as_its_place_does(x0, draws):
    noise, where = draws.normal("noise", 2, 2, 2), torch.zeros(1000, 1, 2, 2)
    where[:, :, 0, 1] = 4.0
    for place, expected in (((0, 1), 1.0), ((1, 1), 0.0)):
        wrong = noise.clone()
        wrong[:, :, *place] += 1.0
        losses = Ddpm(scheduler("epsilon"))(lambda *_, wrong=wrong: wrong, x0, draws, where=where)
        torch.testing.assert_close(losses, torch.full((1000,), expected))
