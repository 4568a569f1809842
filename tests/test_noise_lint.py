"""The lint of noise schedules against a published mistake, known values and what diffusers does."""

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from toolkit.betas import NOISE_SCHEDULES, betas_for, noise_schedule
from toolkit.errors import ConfigError
from toolkit.noise_lint import lint, require_reaches_noise

CIRCULATING_QUADRATIC = torch.linspace(1e-4**2, 0.02**2, 1000, dtype=torch.float64) ** 2
"""As a widely copied tutorial has it: squared twice, where the roots should be taken first."""


@pytest.mark.parametrize(
    ("name", "steps", "terminal"),
    [
        ("linear", 200, "0.132"),
        ("linear", 300, "0.048"),
        ("linear", 1000, "0.000040"),
        ("quadratic", 200, "0.236"),
        ("quadratic", 300, "0.1145"),
        ("quadratic", 1000, "0.00073"),
        ("sigmoid", 200, "0.132"),
        ("sigmoid", 300, "0.048"),
        ("sigmoid", 1000, "0.000040"),
        ("cosine", 300, "0.00000003"),
    ],
)
def test_terminal_alpha_bars_are_the_known_ones(name, steps, terminal):
    for schedule in (betas_for(name, steps), noise_schedule(name, steps)):
        found = lint(schedule).terminal_alpha_bar
        assert f"{found:.{len(terminal) - 2}f}" == terminal


@pytest.mark.parametrize("as_scheduler", [False, True])
def test_the_circulating_quadratic_is_refused(as_scheduler):
    betas = CIRCULATING_QUADRATIC
    found = lint(DDPMScheduler(trained_betas=betas.tolist()) if as_scheduler else betas)
    assert f"{found.terminal_alpha_bar:.4f}" == "0.9999"
    with pytest.raises(ConfigError, match=r"100% of the signal's amplitude(.|\n)*between square roots"):
        require_reaches_noise(found)
    assert require_reaches_noise(lint(betas_for("quadratic", 1000))) == []


@pytest.mark.parametrize("wanted", ["rescale_from=1000", "cosine", "more timesteps"])
def test_a_schedule_that_keeps_a_fifth_of_the_signal_is_warned_of_with_what_mends_it(wanted):
    (warning,) = require_reaches_noise(lint(betas_for("linear", 300)))
    assert "22% of the signal's amplitude" in warning
    assert wanted in warning


@pytest.mark.parametrize("name", NOISE_SCHEDULES)
@pytest.mark.parametrize("steps", [15, 300])
def test_what_the_warning_proposes_has_no_warning(name, steps):
    assert require_reaches_noise(lint(betas_for(name, steps, rescale_from=1000))) == []
    assert require_reaches_noise(lint(betas_for("cosine", steps))) == []
    assert require_reaches_noise(lint(betas_for(name, 1000))) == []


@given(beta=st.floats(1e-6, 0.999), steps=st.integers(1, 50))
def test_above_nine_tenths_is_refused_and_above_a_hundredth_warned_of(beta, steps):
    found = lint(torch.full((steps,), beta, dtype=torch.float64), prediction_type="v_prediction")
    terminal = found.terminal_alpha_bar
    assert terminal == pytest.approx((1 - beta) ** steps, rel=1e-9)
    assert found.terminal_snr == pytest.approx(terminal / (1 - terminal), rel=1e-9)
    if terminal > 0.9:
        with pytest.raises(ConfigError, match="nothing learns"):
            require_reaches_noise(found)
    else:
        assert len(require_reaches_noise(found)) == (terminal > 0.01)


@pytest.mark.parametrize(
    ("dtype", "noiseless", "inaccurate"), [(torch.bfloat16, 10, 25), (torch.float16, 2, 6), (torch.float32, 0, 0)]
)
def test_low_precision_takes_the_noise_from_the_first_timesteps_as_in_diffusers(dtype, noiseless, inaccurate):
    scheduler, zeros = DDPMScheduler(), torch.zeros(1000, 1, dtype=dtype)
    # In a copy, as add_noise casts what the scheduler keeps.
    noised = DDPMScheduler().add_noise(zeros, torch.ones_like(zeros), torch.arange(1000)).double().square().flatten()
    wanted = 1 - scheduler.alphas_cumprod.double()
    found = lint(scheduler, dtype=dtype)
    assert found.noiseless_timesteps == noiseless == (noised == 0).sum()
    assert found.inaccurate_timesteps == inaccurate == ((noised / wanted - 1).abs() > 0.1).sum()


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_pure_noise_at_the_end_is_refused_where_that_noise_is_to_be_predicted(kind):
    found = lint(DDPMScheduler(rescale_betas_zero_snr=True, prediction_type=kind))
    assert found.terminal_snr == 0
    if kind == "epsilon":
        with pytest.raises(ConfigError, match="v_prediction"):
            require_reaches_noise(found)
    else:
        assert require_reaches_noise(found) == []


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({"clip_sample": False}, True),
        ({"clip_sample": True}, False),
        ({"clip_sample": False, "dynamic_thresholding_ratio": 0.95}, False),
        ({"clip_sample": False, "prediction_type": "v_prediction"}, False),
    ],
)
def test_noise_prediction_up_to_nearly_pure_noise_wants_a_clip(options, warned):
    warnings = require_reaches_noise(lint(noise_schedule("cosine", 1000, **options)))
    assert [("20291 times" in warning) for warning in warnings] == [True] * warned
    assert require_reaches_noise(lint(noise_schedule("linear", 1000, **options))) == []


def test_thresholding_that_cannot_threshold_is_warned_of():
    (warning,) = require_reaches_noise(lint(DDPMScheduler(thresholding=True)))
    assert "sample_max_value" in warning
    assert require_reaches_noise(lint(noise_schedule("linear", dynamic_thresholding_ratio=0.95))) == []


def test_falling_betas_are_warned_of():
    betas = betas_for("linear", 1000)
    (warning,) = require_reaches_noise(lint(betas.flip(0)))
    assert "fall" in warning


@pytest.mark.parametrize("wrong", [[], [0.0, 0.1], [0.1, 1.1], [0.1, float("nan")], [-0.1]])
def test_numbers_that_are_no_betas_are_refused(wrong):
    with pytest.raises(ConfigError, match="betas"):
        lint(torch.tensor(wrong))


def test_another_number_of_betas_than_of_timesteps_is_refused():
    with pytest.raises(ConfigError, match="200 trained_betas for num_train_timesteps = 1000"):
        lint(DDPMScheduler(num_train_timesteps=1000, trained_betas=betas_for("linear", 200).tolist()))


def test_the_table_tells_both_ends():
    found = lint(noise_schedule("linear", 300, prediction_type="v_prediction"), dtype=torch.bfloat16)
    text, low = found.render(), f"{found.noiseless_timesteps} timesteps would get no noise"
    for told in ("300 timesteps", "v_prediction", "0.04806", "21.9%", "1e+04", "0.0505", " rise", "in bfloat16", low):
        assert told in text
