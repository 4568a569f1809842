"""Learning rate and decay as functions of the update, against diffusers' stateful ones."""

import warnings

import pytest
import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import ConfigError
from toolkit.schedule import EmaDecay, LearningRate

RULES = "1:3,0.5:7,0.1"


def diffusers_rates(name, *, peak, warmup, total, num_cycles, power):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    scheduler = get_scheduler(
        name,
        optimizer,
        step_rules=RULES,
        num_warmup_steps=warmup,
        num_training_steps=total,
        num_cycles=num_cycles,
        power=power,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(total):
            yield scheduler.get_last_lr()[0]
            scheduler.step()


NAMES = [
    "constant",
    "constant_with_warmup",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "piecewise_constant",
]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(warmup=st.integers(0, 9), extra=st.integers(1, 20), cycles=st.integers(1, 3), power=st.sampled_from([1.0, 2.0]))
def test_every_schedule_has_diffusers_values(name, warmup, extra, cycles, power):
    total, peak = warmup + extra, 3e-4
    rules = RULES if name == "piecewise_constant" else None
    ours = LearningRate(name, peak, warmup, total, num_cycles=cycles, power=power, step_rules=rules)
    theirs = diffusers_rates(name, peak=peak, warmup=warmup, total=total, num_cycles=cycles, power=power)
    if name == "cosine":
        theirs = diffusers_rates(name, peak=peak, warmup=warmup, total=total, num_cycles=0.5, power=power)
    assert [ours(update) for update in range(total)] == pytest.approx(list(theirs), rel=1e-12, abs=1e-18)


@pytest.mark.parametrize("rules", ["", "1:10", "a:1,2", "1:2:3,1"])
def test_unreadable_rules_are_named(rules):
    with pytest.raises(ConfigError, match="lr_step_rules"):
        LearningRate("piecewise_constant", 1.0, step_rules=rules)


@settings(max_examples=25, deadline=None)
@given(
    warmup=st.integers(0, 9), total=st.integers(1, 60), period=st.integers(1, 12), factor=st.sampled_from([0.8, 0.1])
)
def test_steps_are_those_of_torch_after_the_warmup(warmup, total, period, factor):
    ours = LearningRate("step", 3e-4, warmup, total, step_period=period, step_factor=factor)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    theirs = torch.optim.lr_scheduler.StepLR(optimizer, period, factor)
    expected = [3e-4 * update / warmup for update in range(warmup)]
    for _ in range(total):
        expected.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    assert [ours(update) for update in range(warmup + total)] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("period", [None, 0, -1])
def test_steps_without_a_period_are_named(period):
    with pytest.raises(ConfigError, match="lr_step_period"):
        LearningRate("step", 1.0, step_period=period)


def test_only_steps_read_their_period():
    assert LearningRate("linear", 1.0, total=10, step_period=2)(5) == 0.5
    assert not LearningRate("step", 1.0, step_period=2).depends_on_length


def test_decay_is_that_of_diffusers_ema():
    parameter = torch.nn.Parameter(torch.zeros(1))
    theirs, ours = EMAModel([parameter], decay=0.99), EmaDecay(0.99)
    for update in range(1200):
        theirs.step([parameter])
        assert ours(update) == pytest.approx(theirs.cur_decay_value, abs=1e-15)


@given(batch=st.integers(1, 64), half_life=st.floats(10, 1e6))
def test_after_the_half_life_a_weight_counts_half_whatever_the_batch_size(batch, half_life):
    decay = EmaDecay(0.9999, half_life, batch)(5)
    assert decay ** (half_life / batch) == pytest.approx(0.5)
