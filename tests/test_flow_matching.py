"""Flow matching against Gaussian data, whose velocity is known."""

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler, PNDMScheduler
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from toolkit.draws import Draws
from toolkit.errors import ConfigError
from toolkit.flow_matching import FlowMatching
from toolkit.objective import sampling_scheduler

CPU = torch.device("cpu")
MEAN, DEVIATION = 0.4, 0.3
SHIFTS = [1.0, 3.0]


def objective(shift=1.0, **options):
    return FlowMatching(FlowMatchEulerDiscreteScheduler(shift=shift), **options)


def exact_velocity(x, t):
    """E[e - x0 | x] where x0 ~ N(MEAN, DEVIATION^2) and e ~ N(0, 1): linear in x, all three being jointly normal."""
    s = (t.double() / 1000).view(-1, *[1] * (x.ndim - 1))
    variance = (1 - s) ** 2 * DEVIATION**2 + s**2
    covariance = s - (1 - s) * DEVIATION**2
    return (-MEAN + covariance / variance * (x.double() - (1 - s) * MEAN)).to(x.dtype)


class At(Draws):
    """Draws whose time is given."""

    def __init__(self, quantiles):
        super().__init__(0, range(len(quantiles)), CPU)
        self.quantiles = torch.tensor(quantiles)

    def uniform(self, purpose):
        assert purpose == "time"
        return self.quantiles


def gaussian(count):
    return MEAN + DEVIATION * torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("shift", SHIFTS)
def test_the_exact_velocity_draws_gaussian_data_with_the_sampler_that_was_trained(shift):
    sampler = sampling_scheduler(DDPMScheduler(), objective(shift).scheduler)
    sampler.set_timesteps(200)
    x = torch.randn(20, 1, 25, 40, generator=torch.Generator().manual_seed(0))
    for t in sampler.timesteps:
        x = sampler.step(exact_velocity(x, t[None]), t, x).prev_sample
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(x.std()) == pytest.approx(DEVIATION, rel=0.03)


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("time", ["uniform", "logit_normal"])
@pytest.mark.parametrize("loss_type", ["mse", "l1"])
def test_the_exact_velocity_has_the_smallest_loss(loss_type, time, shift):
    flow = objective(shift, time=time, loss_type=loss_type)
    draws, x0 = Draws(0, range(2000), CPU), gaussian(2000)

    def losses(change):
        return flow(lambda x, t: exact_velocity(x, t) + change(x, t.view(-1, 1, 1, 1) / 1000), x0, draws)

    best = losses(lambda x, s: 0.0)
    directions = [
        lambda x, s: torch.ones_like(x),
        lambda x, s: x,
        lambda x, s: s * torch.ones_like(x),
        lambda x, s: s * x,
        lambda x, s: torch.sin(3 * x + 5 * s),
    ]
    for direction in directions:
        forth, back = (losses(lambda x, s, h=h, g=direction: h * g(x, s)) - best for h in (0.1, -0.1))
        assert forth.mean() > 0
        assert back.mean() > 0
        # At a minimum the slope is zero: nothing but chance makes one way better than the other.
        slope = forth - back
        assert abs(slope.mean()) < 4 * slope.std() / len(slope) ** 0.5


def test_input_target_and_time_are_the_samplers_own():
    flow, quantiles = objective(3.0), [0.0, 0.125, 0.5, 0.75, 0.999]
    draws, x0, seen = At(quantiles), gaussian(5), []
    noise = draws.normal("noise", 1, 4, 4)

    def perfect(x, t):
        seen.append((x, t))
        return noise - x0

    torch.testing.assert_close(flow(perfect, x0, draws), torch.zeros(5))
    ((x, t),) = seen
    sigmas = torch.tensor([3 * q / (1 + 2 * q) for q in quantiles])
    torch.testing.assert_close(t, 1000 * sigmas)
    theirs = FlowMatchEulerDiscreteScheduler()
    theirs.set_timesteps(sigmas=sigmas.tolist())
    torch.testing.assert_close(t, theirs.timesteps)
    torch.testing.assert_close(x, theirs.scale_noise(x0, theirs.timesteps, noise))


@pytest.mark.parametrize("shift", SHIFTS)
def test_the_shift_is_the_samplers(shift):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    unshifted = torch.arange(1000, 0, -1) / 1000
    torch.testing.assert_close(FlowMatching(scheduler).sigma(unshifted), scheduler.sigmas)


@given(quantile=st.floats(1e-4, 1 - 1e-4), mean=st.floats(-1, 1), std=st.floats(0.3, 2))
def test_logit_normal_times_have_normal_logits(quantile, mean, std):
    sigma = objective(time="logit_normal", logit_mean=mean, logit_std=std).sigma(torch.tensor([quantile]).double())
    assert float(torch.logit(sigma)) == pytest.approx(norm.ppf(quantile, mean, std), abs=1e-4)


@pytest.mark.parametrize("time", ["uniform", "logit_normal"])
def test_times_stay_between_data_and_noise_and_rise_with_their_quantile(time):
    sigma = objective(3.0, time=time).sigma(torch.tensor([0.0, 1e-8, 0.1, 0.5, 0.9, 1 - 2**-24]))
    assert sigma.isfinite().all()
    assert (sigma.diff() > 0).all()
    assert sigma.min() == 0
    assert sigma.max() <= 1


def test_errors_are_counted_as_told_and_where_told():
    draws, x0 = At([0.3] * 5), gaussian(5)
    target = draws.normal("noise", 1, 4, 4) - x0
    where = torch.zeros(5, 1, 4, 4)
    where[..., 0, 1] = 16.0
    for loss_type, expected in (("mse", 4.0), ("l1", 2.0), ("huber", 0.875), ("smooth_l1", 1.75)):
        flow = objective(loss_type=loss_type, huber_delta=0.5)
        wrong = target.clone()
        wrong[..., 0, 1] += 2.0
        wrong[..., 1, 1] += 9.0
        found = flow(lambda *_, wrong=wrong: wrong, x0, draws, where=where)
        torch.testing.assert_close(found, torch.full((5,), expected), rtol=1e-4, atol=1e-4)


def test_half_precision_inputs_are_noised_in_float32():
    draws, x0, seen = At([1e-4] * 5), gaussian(5).bfloat16(), []

    def network(x, t):
        seen.append(x)
        return torch.zeros_like(x, dtype=torch.bfloat16)

    losses = objective()(network, x0, draws)
    assert losses.dtype == seen[0].dtype == torch.float32
    assert (seen[0] != x0.float()).all()


def test_the_sampler_of_a_flow_is_its_own_whatever_the_base():
    trained = FlowMatchEulerDiscreteScheduler(shift=3.0)
    sampler = sampling_scheduler(PNDMScheduler(), trained)
    assert isinstance(sampler, FlowMatchEulerDiscreteScheduler)
    assert sampler is not trained
    assert sampler.config.shift == 3.0
    assert FlowMatching(trained).prediction_type == "flow_prediction"


def test_a_shift_by_the_size_of_the_image_is_refused():
    with pytest.raises(ConfigError, match="use_dynamic_shifting"):
        FlowMatching(FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True))
