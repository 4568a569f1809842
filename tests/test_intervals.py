"""Jackknife intervals against brute force, closed forms and simulations of their coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eval.metrics.distances import kernel_distance
from eval.metrics.intervals import (
    interval,
    jackknifed_kernel_distance,
    jackknifed_mean,
    kernel_distance_difference,
    kernel_distance_interval,
    mean_of,
)
from toolkit.errors import ConfigError, DataError

D = 4
SEEDS = st.integers(0, 10_000)
SIZES = st.integers(3, 8)


def normal(seed, *shape, shift=0.0):
    return np.random.default_rng(seed).normal(size=shape) + shift


def moments(mean, variance=1.0):
    """E[x], E[x x^T] and E[x (x) x (x) x] of a normal vector with independent components."""
    mean, one = np.broadcast_to(np.asarray(mean, dtype=float), (D,)), variance * np.eye(D)
    second = one + np.outer(mean, mean)
    third = np.einsum("i,j,k->ijk", mean, mean, mean)
    for pattern in ("ij,k->ijk", "ik,j->ijk", "jk,i->ijk"):
        third = third + np.einsum(pattern, one, mean)
    return mean, second, third


def expected_kernel(one, other):
    """E[(x . y / d + 1)^3] of independent x and y, by their moments."""
    s1, s2, s3 = (float((a * b).sum()) for a, b in zip(one, other, strict=True))
    return s3 / D**3 + 3 * s2 / D**2 + 3 * s1 / D + 1


def true_distance(shift, variance=1.0):
    """KID of a normal distribution with that mean in every component from the standard one."""
    x, y = moments(shift, variance), moments(0.0)
    return expected_kernel(x, x) + expected_kernel(y, y) - 2 * expected_kernel(x, y)


def share_of(holds, repetitions=400):
    return np.mean([holds(seed) for seed in range(repetitions)])


def covers(found, truth):
    return found.low <= truth <= found.high


@given(SEEDS, SIZES, SIZES)
def test_the_distance_and_its_leave_one_out_values_are_those_of_brute_force(seed, n, m):
    x, y = normal(seed, n, D), normal(seed + 1, m, D, shift=0.5)
    found = jackknifed_kernel_distance(x, y)
    assert found.value == pytest.approx(kernel_distance(x, y), abs=1e-10)
    for place in range(n):
        assert found.without_own[place] == pytest.approx(kernel_distance(np.delete(x, place, 0), y), abs=1e-9)
    for place in range(m):
        assert found.without_shared[place] == pytest.approx(kernel_distance(x, np.delete(y, place, 0)), abs=1e-9)


@given(SEEDS, SIZES, SIZES)
def test_the_interval_is_made_of_the_two_of_a_brute_force_jackknife(seed, n, m):
    x, y = normal(seed, n, D), normal(seed + 1, m, D)
    found, value = kernel_distance_interval(x, y), kernel_distance(x, y)
    parts = []
    for rows, values in (
        (n, [kernel_distance(np.delete(x, place, 0), y) for place in range(n)]),
        (m, [kernel_distance(x, np.delete(y, place, 0)) for place in range(m)]),
    ):
        variance = (rows - 1) / rows * np.square(np.array(values) - np.mean(values)).sum()
        parts.append(stats.t.ppf(0.975, rows - 1) * variance**0.5)
    reach = np.hypot(*parts)
    assert found.mean == pytest.approx(value, abs=1e-10)
    assert (found.low, found.high) == pytest.approx((value - reach, value + reach), rel=1e-6)


def test_of_many_rows_the_interval_is_the_normal_one():
    x, y = normal(0, 400, D, shift=0.3), normal(1, 300, D)
    found, parts = kernel_distance_interval(x, y), jackknifed_kernel_distance(x, y)
    variance = sum(
        (len(values) - 1) / len(values) * np.square(values - values.mean()).sum()
        for values in (parts.without_own, parts.without_shared)
    )
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * variance**0.5, rel=0.01)


@given(SEEDS, SIZES, SIZES)
def test_a_difference_leaves_paired_rows_out_together(seed, n, m):
    one, other, y = normal(seed, n, D), normal(seed + 1, n, D, shift=0.2), normal(seed + 2, m, D)
    difference = jackknifed_kernel_distance(one, y) - jackknifed_kernel_distance(other, y)
    for place in range(n):
        expected = kernel_distance(np.delete(one, place, 0), y) - kernel_distance(np.delete(other, place, 0), y)
        assert difference.without_own[place] == pytest.approx(expected, abs=1e-9)
    found = kernel_distance_difference(one, other, y)
    assert found == interval([difference])
    turned = kernel_distance_difference(other, one, y)
    assert (turned.mean, turned.low, turned.high) == pytest.approx((-found.mean, -found.high, -found.low), abs=1e-12)


@pytest.mark.parametrize(("shift", "variance"), [(0.4, 1.0), (0.0, 1.6), (1.0, 0.5)])
def test_95_percent_of_the_intervals_hold_the_true_distance(shift, variance):
    truth = true_distance(shift, variance)

    def holds(seed):
        x = normal(seed, 60, D) * variance**0.5 + shift
        return covers(kernel_distance_interval(x, normal(seed + 10**6, 70, D)), truth)

    assert 0.92 <= share_of(holds) <= 0.98


def test_of_one_distribution_the_intervals_hold_zero_at_least_as_often():
    def holds(seed):
        return covers(kernel_distance_interval(normal(seed, 40, D), normal(seed + 10**6, 40, D)), 0.0)

    assert share_of(holds) >= 0.94


def test_95_percent_of_the_intervals_hold_the_true_difference_of_paired_sets():
    truth = true_distance(0.5) - true_distance(0.3)

    def holds(seed):
        x = normal(seed, 60, D)
        return covers(kernel_distance_difference(x + 0.5, x + 0.3, normal(seed + 10**6, 70, D)), truth)

    assert 0.92 <= share_of(holds) <= 0.98


def test_pairs_give_a_narrower_interval_than_sets_that_have_nothing_to_do_with_each_other():
    y = normal(2, 100, D)
    paired = kernel_distance_difference(normal(0, 80, D) + 0.5, normal(0, 80, D) + 0.4, y)
    apart = kernel_distance_difference(normal(0, 80, D) + 0.5, normal(1, 80, D) + 0.4, y)
    assert paired.high - paired.low < 0.5 * (apart.high - apart.low)


@pytest.mark.parametrize("trainings", [2, 3, 5])
def test_over_trainings_95_percent_hold_the_mean_over_all_trainings_and_one_training_alone_does_not(trainings):
    spread = 0.1
    shifts = np.random.default_rng(0).normal(0.5, spread, size=4000)
    truth = np.mean([true_distance(shift) for shift in shifts])

    def intervals(seed):
        random = np.random.default_rng(seed)
        sets = np.stack([random.normal(0.5, spread) + random.normal(size=(40, D)) for _ in range(trainings)])
        y = random.normal(size=(50, D))
        return kernel_distance_interval(sets, y), kernel_distance_interval(sets[0], y)

    found = [intervals(seed) for seed in range(300)]
    assert 0.92 <= np.mean([covers(over, truth) for over, _ in found]) <= 0.995
    assert np.mean([covers(alone, truth) for _, alone in found]) < 0.87


def test_one_training_is_a_set_and_their_order_does_not_matter():
    sets, y = normal(0, 3, 20, D), normal(1, 20, D)
    assert kernel_distance_interval(sets[:1], y) == kernel_distance_interval(sets[0], y)
    forwards, backwards = kernel_distance_interval(sets, y), kernel_distance_interval(sets[::-1], y)
    assert (forwards.low, forwards.high) == pytest.approx((backwards.low, backwards.high))
    assert forwards.mean == pytest.approx(np.mean([kernel_distance(each, y) for each in sets]))


@given(SEEDS, st.integers(2, 30))
def test_the_mean_of_rows_has_students_interval(seed, rows):
    values = normal(seed, rows)
    found = interval([jackknifed_mean(values)])
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@given(SEEDS, st.integers(2, 6))
def test_over_trainings_whose_rows_are_all_alike_it_is_students_interval_of_the_trainings(seed, trainings):
    means = normal(seed, trainings)
    found = interval([jackknifed_mean(np.full(7, mean)) for mean in means])
    expected = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_mean_over_pairs_of_arms_has_the_mean_of_their_values_without_each_row():
    values = normal(0, 2, 9)
    both, each = mean_of([jackknifed_mean(row) for row in values]), jackknifed_mean(values.mean(0))
    assert both.value == pytest.approx(each.value)
    assert both.without_shared == pytest.approx(each.without_shared)


def test_a_number_that_never_varies_has_an_interval_of_no_width_and_one_row_has_none():
    same = interval([jackknifed_mean([0.5, 0.5, 0.5])])
    assert (same.low, same.high) == (0.5, 0.5)
    with pytest.raises(DataError, match="at least 2 rows"):
        jackknifed_mean([0.5])


def test_a_wider_confidence_gives_a_wider_interval_and_an_impossible_one_is_refused():
    x, y = normal(0, 30, D), normal(1, 30, D)
    usual, wide = (kernel_distance_interval(x, y, confidence=each) for each in (0.95, 0.99))
    assert wide.low < usual.low < usual.high < wide.high
    with pytest.raises(ConfigError, match="confidence"):
        kernel_distance_interval(x, y, confidence=1.0)


def test_sets_that_are_no_pairs_or_too_small_are_refused():
    x, y = normal(0, 10, D), normal(1, 10, D)
    with pytest.raises(DataError, match="no pairs"):
        kernel_distance_difference(x, x[:9], y)
    with pytest.raises(DataError, match="at least 3 rows"):
        kernel_distance_interval(x[:2], y)
    with pytest.raises(DataError, match="NaN"):
        kernel_distance_interval(np.where(x == x[0, 0], np.nan, x), y)
