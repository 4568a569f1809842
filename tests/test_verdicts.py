"""What two levels of a factor are found to differ in, by hand-made numbers, and the sentences that say it."""

from itertools import product

import numpy as np
import pytest
from studies import judged, scratch

from eval.metrics.statistics import Interval
from experiments.arms import Arm, Contrast, contrasts
from experiments.comparing import compare, decimals, told

PAIR = Contrast("objective.loss_type", "l1", "mse", (("l1", "mse"),))


def verdict(l1, mse, **others):
    """On two arms with one KID for each seed."""
    table = {("l1", seed): judged("l1", seed, kid) for seed, kid in enumerate(l1)}
    table |= {("mse", seed): judged("mse", seed, kid) for seed, kid in enumerate(mse)}
    (found,) = compare([PAIR], table)
    return found


def test_a_better_level_is_named_with_the_interval_of_the_difference():
    found = verdict([0.010, 0.012, 0.011], [0.020, 0.024, 0.022])
    assert found.kid.mean == pytest.approx(-0.011)
    reach = 4.302653 * 0.001 / 3**0.5
    assert (found.kid.low, found.kid.high) == pytest.approx((-0.011 - reach, -0.011 + reach), rel=1e-5)
    assert found.sentence == "l1 is better than mse in KID: -0.0110 (95 % -0.0135 to -0.0085), 3 seeds"
    turned = verdict([0.020, 0.024, 0.022], [0.010, 0.012, 0.011])
    assert turned.sentence == "mse is better than l1 in KID: -0.0110 (95 % -0.0135 to -0.0085), 3 seeds"


def test_a_difference_that_seeds_do_not_agree_on_is_not_distinguishable():
    found = verdict([0.010, 0.030, 0.011], [0.020, 0.020, 0.020])
    assert found.sentence.startswith("l1 and mse are not distinguishable in KID at this budget: -0.003 (95 % -0.031 to")
    assert found.sentence.endswith("3 seeds")


def test_one_training_each_is_said_to_be_of_one_training():
    kid = np.array([0.010, 0.011, 0.012, 0.011])
    found = verdict([kid], [kid + 0.01])
    assert found.sentence.startswith("l1 is better than mse in KID: -0.0100")
    assert found.sentence.endswith("one training each: another seed may say otherwise")


def test_only_seeds_that_both_arms_have_finished_count():
    found = verdict([0.010, 0.012, 0.011, 0.5], [0.020, 0.024, 0.022])
    assert found.seeds == (0, 1, 2)
    assert found.kid == verdict([0.010, 0.012, 0.011], [0.020, 0.024, 0.022]).kid
    assert compare([PAIR], {("l1", 0): judged("l1", 0, 0.01), ("mse", 1): judged("mse", 1, 0.02)}) == []


def test_over_another_factor_it_is_the_mean_of_the_differences_at_its_levels():
    table = {}
    for seed, shift in enumerate((0.0, 0.001, -0.001)):
        for arm, kid in (("a,x", 0.01), ("b,x", 0.03), ("a,y", 0.05), ("b,y", 0.05)):
            table[arm, seed] = judged(arm, seed, kid + shift * ("b" in arm))
    arms = [Arm(f"{p},{q}", {"first": p, "second": q}, {}) for p, q in product("ab", "xy")]
    found = {(each.factor, each.given): each for each in compare(contrasts(arms), table)}
    assert found["first", ""].kid.mean == pytest.approx(-0.01)
    assert found["first", "x"].kid.mean == pytest.approx(-0.02)
    assert found["first", "y"].kid.mean == pytest.approx(0.0)
    assert found["first", "x"].sentence.startswith("With x: a is better than b in KID: -0.0200")
    assert found["second", ""].kid.mean == pytest.approx(-0.03)


def test_held_out_losses_are_compared_row_by_row_and_band_by_band():
    rows = np.random.default_rng(0).normal(1.0, 0.5, (40, 2))
    better = rows - np.array([0.0, 0.02]) + np.random.default_rng(1).normal(0, 0.005, (40, 2))
    table = {("l1", 0): judged("l1", 0, 0.1, better), ("mse", 0): judged("mse", 0, 0.1, rows)}
    (found,) = compare([PAIR], table)
    assert found.held_out.mean == pytest.approx(-0.01, abs=0.002)
    assert not found.held_out_by_band[0].excludes_zero
    assert found.held_out_by_band[1].high < 0
    assert found.held_out_sentence.startswith("l1 has a lower held-out loss than mse: -0.0")


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"objective": {"loss_type": "l1"}}, "objective.loss_type"),
        ({"objective": {"snr_gamma": 5}}, "objective.snr_gamma"),
        ({"noise": {"num_train_timesteps": 20}}, "noise.num_train_timesteps"),
        ({"data": {"resolution": 64}}, "data.resolution"),
        ({"model": {"dropout": 0.1}}, ""),
        ({"optimizer": {"learning_rate": 0.1}, "task": {"condition": "none"}}, ""),
        ({"objective": {"self_conditioning": True}}, ""),
    ],
)
def test_losses_of_different_scales_are_not_compared(sections, key):
    losses = np.random.default_rng(0).normal(1.0, 0.1, (5, 2))
    table = {
        ("l1", 0): judged("l1", 0, 0.1, losses, scratch(**sections)),
        ("mse", 0): judged("mse", 0, 0.1, losses + 0.1, scratch()),
    }
    (found,) = compare([PAIR], table)
    assert (found.held_out is None) == bool(key)
    assert found.held_out_sentence.endswith(f"they differ in {key}") == bool(key)


def test_losses_that_were_not_measured_are_not_compared():
    losses = np.ones((5, 2))
    for one, words in ((None, "not measured"), (np.ones((4, 2)), "other rows"), (np.ones((1, 2)), "not measured")):
        table = {("l1", 0): judged("l1", 0, 0.1, one), ("mse", 0): judged("mse", 0, 0.1, losses)}
        (found,) = compare([PAIR], table)
        assert found.held_out is None
        assert words in found.held_out_sentence


def test_numbers_have_the_digits_that_their_interval_gives_a_meaning_to():
    assert told(Interval(-0.0123456, -0.0204, -0.0041)) == "-0.0123 (95 % -0.0204 to -0.0041)"
    assert told(Interval(12.3456, 10.0, 14.7), sign="") == "12.3 (95 % 10.0 to 14.7)"
    assert told(Interval(0.5, -np.inf, np.inf)) == "+0.5 (no interval)"
    assert [decimals(error) for error in (250.0, 2.5, 0.25, 0.025, 0.0)] == [0, 1, 2, 3, 4]
