"""Objectives against closed forms, over all timesteps."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, PNDMScheduler
from diffusers.training_utils import compute_dream_and_update_latents
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from toolkit.draws import Draws
from toolkit.objective import Ddpm, sampling_scheduler, training_scheduler
from toolkit.residuals import per_sample_error

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


LOSSES = {
    "mse": lambda predicted, target, delta: functional.mse_loss(predicted, target),
    "l1": lambda predicted, target, delta: functional.l1_loss(predicted, target),
    "smooth_l1": lambda predicted, target, delta: functional.smooth_l1_loss(predicted, target, beta=delta),
    "huber": lambda predicted, target, delta: functional.huber_loss(predicted, target, delta=delta),
}


@pytest.mark.parametrize("gamma", [None, 5.0])
@pytest.mark.parametrize("delta", [0.3, 1.0])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("loss_type", LOSSES)
def test_each_loss_is_torchs_of_each_sample_and_is_weighted_like_the_others(loss_type, kind, delta, gamma, x0, draws):
    ddpm, noise = scheduler(kind), draws.normal("noise", 2, 2, 2)
    target = {"epsilon": noise, "sample": x0, "v_prediction": ddpm.get_velocity(x0, noise, T)}[kind]
    objective = Ddpm(ddpm, snr_gamma=gamma, loss_type=loss_type, huber_delta=delta)
    losses = objective(lambda x, t: torch.zeros_like(x), x0, draws)
    for n in range(0, 1000, 37):
        expected = LOSSES[loss_type](torch.zeros_like(target[n]), target[n], delta)
        expected = expected if gamma is None else expected * objective.weight(T)[n]
        torch.testing.assert_close(losses[n], expected, rtol=1e-4, atol=1e-6)


@given(residual=st.floats(-0.999, 0.999))
def test_small_residuals_cost_half_of_their_square_by_smooth_l1_and_huber(residual):
    predicted, target = torch.tensor([[residual]]), torch.zeros(1, 1)
    square, *halves = (
        per_sample_error(predicted, target, loss_type=loss_type, huber_delta=1.0)
        for loss_type in ("mse", "smooth_l1", "huber")
    )
    for half in halves:
        torch.testing.assert_close(half, square / 2)


@pytest.mark.parametrize("clip_sample", [False, True])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_estimates_are_those_of_the_sampler(kind, clip_sample, x0):
    ddpm = scheduler(kind, clip_sample=clip_sample)
    noisy = torch.randn(1000, 2, 2, 2, generator=torch.Generator().manual_seed(2))
    estimates = Ddpm(ddpm).estimate_x0(x0, noisy, T)
    for t in range(0, 1000, 37):
        theirs = ddpm.step(x0[t : t + 1], t, noisy[t : t + 1]).pred_original_sample
        torch.testing.assert_close(estimates[t : t + 1], theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_self_conditioning_shows_half_of_the_samples_the_networks_own_estimate(kind, x0, draws):
    objective, weight, seen = Ddpm(scheduler(kind), self_conditioning=True), torch.tensor(0.5, requires_grad=True), []

    def network(x, t):
        noisy, previous = x.chunk(2, dim=1)
        output = weight * noisy + 0.1 * previous
        seen.append((noisy, previous, output))
        return output

    losses = objective(network, x0, draws)
    (noisy, nothing, guess), (same, previous, output) = seen
    assert torch.equal(noisy, same)
    assert not nothing.any()
    shown = draws.uniform("self_conditioning") < 0.5
    assert 430 < shown.sum() < 570
    torch.testing.assert_close(previous[shown], objective.estimate_x0(guess, noisy, T)[shown])
    assert not previous[~shown].any()
    assert not guess.requires_grad
    assert not previous.requires_grad
    # The target is made of the true sample, not of the estimate.
    noise = draws.normal("noise", 2, 2, 2)
    target = {"epsilon": noise, "sample": x0, "v_prediction": objective.scheduler.get_velocity(x0, noise, T)}[kind]
    torch.testing.assert_close(losses, (output - target).square().flatten(1).mean(1), rtol=1e-4, atol=1e-5)
    losses.mean().backward()
    expected = torch.autograd.grad(
        ((weight * noisy + 0.1 * previous - target).square().flatten(1).mean(1)).mean(), weight
    )
    torch.testing.assert_close(weight.grad, expected[0], rtol=1e-4, atol=1e-6)


def test_self_conditioning_changes_no_other_draw(x0, draws):
    seen = []

    def spy(x, t):
        seen.append((x[:, :2], t))
        return torch.zeros_like(x[:, :2])

    plain = Ddpm(scheduler("epsilon"))(spy, x0, draws)
    conditioned = Ddpm(scheduler("epsilon"), self_conditioning=True)(spy, x0, draws)
    assert torch.equal(plain, conditioned)
    assert all(torch.equal(x, seen[0][0]) and torch.equal(t, T) for x, t in seen)


def test_self_conditioning_and_dream_go_together(x0, draws):
    calls = []

    def network(x, t):
        calls.append(x.shape[1])
        return torch.sin(x[:, :2] + x[:, 2:])

    objective = Ddpm(scheduler("epsilon"), self_conditioning=True, dream_detail_preservation=1.0)
    assert objective(network, x0, draws).isfinite().all()
    assert calls == [4] * 4
