"""Intervals that cover, p-values that are uniform, and defined answers for one, none and equal values."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics import features
from eval.metrics.distances import CMMD_SCALE, cmmd, kernel_distance
from eval.metrics.features import unit_rows
from eval.metrics.kernels import cmmd_kernel, polynomial_kernel, without_each_group
from eval.metrics.statistics import (
    Interval,
    Share,
    average_over_prompts,
    jackknife,
    kernel_permutation_test,
    paired_bootstrap,
    permutation_test,
    prompt_means,
    two_sample_permutation,
    win_rate,
)
from toolkit.errors import ConfigError, DataError
from toolkit.shares import proportion

DRAWS = {
    "normal": lambda random, n: random.normal(size=n),
    "skewed": lambda random, n: random.exponential(size=n) - 1,
    "heavy-tailed": lambda random, n: random.standard_t(3, size=n),
}


def coverage(draw, n, data_sets=400, **options):
    """The share of data sets of true mean 0 whose interval holds 0."""
    random = np.random.default_rng(n)
    intervals = [paired_bootstrap(draw(random, n), resamples=1000, seed=i, **options) for i in range(data_sets)]
    return np.mean([not interval.excludes_zero for interval in intervals])


@pytest.mark.parametrize("n", [3, 5, 10, 20, 60])
def test_the_interval_covers_95_percent_for_few_and_many_prompts(n):
    assert coverage(DRAWS["normal"], n) == pytest.approx(0.95, abs=0.025)
    assert coverage(DRAWS["heavy-tailed"], n) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize(("n", "least"), [(5, 0.85), (10, 0.89), (20, 0.91), (60, 0.92)])
def test_the_interval_covers_somewhat_less_of_a_skewed_distribution(n, least):
    assert least < coverage(DRAWS["skewed"], n) < 0.97


def test_the_interval_covers_as_much_as_it_is_asked_to():
    assert coverage(DRAWS["normal"], 30, confidence=0.8) == pytest.approx(0.8, abs=0.04)


def test_images_of_a_prompt_are_no_independent_evidence():
    def prompts(random, n):
        return random.normal(size=(n, 1)) + 0.5 * random.normal(size=(n, 6))

    assert coverage(prompts, 15) == pytest.approx(0.95, abs=0.025)
    assert coverage(lambda random, n: prompts(random, n).ravel(), 15) < 0.75


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(10, 40))
def test_the_interval_is_near_students_for_normal_values_and_moves_and_scales_with_them(seed, n):
    values = np.random.default_rng(seed).normal(size=n)
    error = scipy.stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)
    interval = paired_bootstrap(values)
    assert interval.low < interval.mean < interval.high
    assert (interval.high - interval.low) / (2 * error) == pytest.approx(1, abs=0.15)
    moved = paired_bootstrap(-3 * values + 7)
    assert moved.mean == pytest.approx(7 - 3 * values.mean())
    assert moved.high - moved.low == pytest.approx(3 * (interval.high - interval.low), rel=1e-9)


def test_an_interval_of_few_prompts_is_students():
    values = [0.3, -0.1, 0.4, 0.2, 0.1]
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    interval = paired_bootstrap(values)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_the_interval_repeats_by_seed_and_needs_little_memory(monkeypatch):
    values = np.random.default_rng(0).normal(size=30)
    assert paired_bootstrap(values) == paired_bootstrap(torch.from_numpy(values)) == paired_bootstrap(list(values))
    assert paired_bootstrap(values) != paired_bootstrap(values, seed=1)
    monkeypatch.setattr(features, "_BLOCK", 100)
    assert paired_bootstrap(values, resamples=2000).low == pytest.approx(paired_bootstrap(values).low, rel=0.1)


def test_one_prompt_has_a_mean_but_says_nothing_of_others_and_equal_values_are_certain():
    one = paired_bootstrap([[0.1, 0.3]])
    assert (one.mean, one.low, one.high, one.excludes_zero) == (pytest.approx(0.2), -math.inf, math.inf, False)
    for n in (2, 5, 30):
        assert paired_bootstrap(np.zeros(n)) == Interval(0, 0, 0)
        assert not paired_bootstrap(np.zeros(n)).excludes_zero
        assert paired_bootstrap(np.full(n, 0.5)) == Interval(0.5, 0.5, 0.5)
    assert (permutation_test([0.2]), permutation_test(np.zeros(30)), permutation_test(np.zeros((3, 4)))) == (1, 1, 1)


def test_an_interval_excludes_zero_when_both_ends_are_on_one_side():
    assert [Interval(1, low, high).excludes_zero for low, high in [(0.1, 2), (-2, -0.1), (-1, 2), (0, 2)]] == [
        True,
        True,
        False,
        False,
    ]


def test_prompts_count_the_same_whatever_their_number_of_images():
    values, groups = [1.0, 3.0, 10.0, 2.0], ["sun", "sun", "moon", "sun"]
    assert prompt_means(values, groups=groups).tolist() == [2, 10]
    assert average_over_prompts(values, groups=groups) == 6
    assert average_over_prompts(values) == 4
    assert average_over_prompts([[1, 3], [10, 20]]) == 8.5


@given(st.integers(0, 2**32), st.integers(1, 14), st.integers(1, 4))
def test_labelled_values_are_the_same_as_a_table(seed, prompts, seeds):
    table = np.random.default_rng(seed).normal(size=(prompts, seeds))
    order = np.random.default_rng(seed).permutation(table.size)
    order = sorted(order, key=lambda place: place // seeds)  # Any order within a prompt.
    values, groups = table.ravel()[order], [f"prompt {place // seeds}" for place in order]
    assert prompt_means(values, groups=groups) == pytest.approx(table.mean(axis=1), rel=1e-12, abs=1e-15)
    if prompts < 10:
        assert permutation_test(values, groups=groups) == permutation_test(table)
    assert win_rate(values, groups=groups) == win_rate(table)


@settings(max_examples=25)
@given(st.lists(st.sampled_from([-2.0, -0.3, 0.0, 0.1, 0.2, 1.0]), min_size=1, max_size=8))
def test_the_sign_flip_p_is_the_share_of_all_patterns(values):
    patterns = [np.dot(signs, values) for signs in itertools.product((1, -1), repeat=len(values))]
    expected = np.mean([abs(total) >= abs(sum(values)) - 1e-9 for total in patterns])
    assert permutation_test(values) == pytest.approx(expected, rel=1e-12)


def test_the_sign_flip_p_is_scipys():
    values = np.random.default_rng(4).normal(0.6, 1.0, 9)
    theirs = scipy.stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert permutation_test(values) == pytest.approx(theirs.pvalue, rel=1e-12)
    random = permutation_test(values, permutations=200)
    assert random != permutation_test(values, permutations=200, seed=1)
    assert random == pytest.approx(theirs.pvalue, abs=4 * math.sqrt(0.25 / 200))


def test_the_least_p_is_exact_for_five_prompts_and_counts_the_observed_pattern_for_many():
    assert permutation_test([1, 2, 3, 4, 5]) == 2 / 2**5
    assert permutation_test(np.ones(14)) == 2 / 2**14
    assert permutation_test(np.ones(100), permutations=999) == 1 / 1000


def test_the_sign_flip_p_is_below_5_percent_in_5_percent_of_data_sets_without_a_difference():
    for n, permutations in ((9, 10_000), (30, 400)):
        random = np.random.default_rng(n)
        p = [permutation_test(random.normal(size=n), permutations=permutations, seed=i) for i in range(400)]
        assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.03)


def test_signs_in_blocks_give_the_same_p(monkeypatch):
    values = np.random.default_rng(4).normal(0.5, 1.0, 9)
    whole = permutation_test(values)
    monkeypatch.setattr(features, "_BLOCK", 50)
    assert permutation_test(values) == whole


SETS = np.random.default_rng(8).normal(size=(4, 3)), np.random.default_rng(9).normal(0.5, 1.2, (5, 3))


@pytest.mark.parametrize(("kernel", "distance"), [(polynomial_kernel, kernel_distance), (cmmd_kernel, cmmd)])
def test_the_p_of_a_distance_is_the_share_of_divisions_that_are_as_far_apart(kernel, distance):
    pooled = np.concatenate(SETS)
    observed = distance(*SETS)
    divisions = [np.isin(np.arange(9), first) for first in itertools.combinations(range(9), 4)]
    expected = np.mean([distance(pooled[first], pooled[~first]) >= observed - 1e-9 for first in divisions])
    assert 0.05 < expected < 0.95
    p = two_sample_permutation(*SETS, kernel, permutations=20_000)
    assert p == pytest.approx(expected, abs=4 * math.sqrt(0.25 / 20_000))
    assert p == kernel_permutation_test(kernel(pooled, pooled), 4, permutations=20_000)
    assert p != kernel_permutation_test(kernel(pooled, pooled), 4, permutations=20_000, seed=1)


def test_the_p_of_a_distance_is_below_5_percent_in_5_percent_of_pairs_of_one_distribution(monkeypatch):
    random = np.random.default_rng(0)
    pairs = [(random.normal(size=(12, 4)), random.normal(size=(20, 4))) for _ in range(300)]
    p = [two_sample_permutation(x, y, polynomial_kernel, permutations=199, seed=i) for i, (x, y) in enumerate(pairs)]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.03)
    x, y = pairs[0]
    assert two_sample_permutation(x, y + 2, polynomial_kernel, permutations=199) == 1 / 200
    monkeypatch.setattr(features, "_BLOCK", 100)
    assert two_sample_permutation(x, y, polynomial_kernel, permutations=999) == pytest.approx(p[0], abs=0.15)


def test_a_division_and_its_mirror_image_are_as_far_apart():
    for seed in range(12):
        rows = np.random.default_rng(seed).normal(size=(4, 30))
        distances = [kernel_distance(rows[[0, i]], np.delete(rows, [0, i], axis=0)) for i in (1, 2, 3)]
        expected = np.mean(np.array(distances) >= distances[0])
        p = two_sample_permutation(rows[:2], rows[2:], polynomial_kernel, permutations=3000)
        assert p == pytest.approx(expected, abs=4 * math.sqrt(0.25 / 3000))


def test_equal_images_are_no_evidence_of_a_distance():
    same = np.ones((6, 3))
    assert two_sample_permutation(same, same, cmmd_kernel, permutations=99) == 1
    assert cmmd(*SETS) == pytest.approx(CMMD_SCALE * mmd_by_hand(*(unit_rows(rows, "x") for rows in SETS)))


def mmd_by_hand(x, y):
    def k(a, b):
        return math.exp(-((a - b) ** 2).sum() / 200)

    within = [np.mean([k(a, b) for a, b in itertools.permutations(rows, 2)]) for rows in (x, y)]
    return sum(within) - 2 * np.mean([k(a, b) for a in x for b in y])


def test_the_jackknife_of_a_mean_is_students_interval():
    values = np.random.default_rng(0).normal(size=8)
    left_out = (values.sum() - values) / 7
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = jackknife(values.mean(), left_out)
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), expected.low, expected.high))
    assert jackknife(0.3, [0.3]) == Interval(0.3, -math.inf, math.inf)


@pytest.mark.parametrize(
    ("kernel", "measure", "scale"), [(cmmd_kernel, cmmd, CMMD_SCALE), (polynomial_kernel, kernel_distance, 1)]
)
def test_distances_without_each_group_are_those_of_the_others(kernel, measure, scale):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(5, 3, 4)), random.normal(size=(11, 4))
    expected = [measure(np.delete(x, group, axis=0).reshape(-1, 4), y) for group in range(5)]
    assert scale * without_each_group(x, y, kernel) == pytest.approx(expected, rel=1e-9)


def test_a_tie_is_no_win():
    assert (win_rate([0.1, 0.0, -0.2, 0.3]).count, win_rate(np.negative([0.1, 0.0, -0.2, 0.3])).count) == (2, 1)
    assert win_rate([[0.3, -0.1], [0.1, -0.3], [0.0, 0.0]]) == Share(1, 3, *interval_of(1, 3))


def interval_of(count, n):
    share = proportion(count, n)
    return share.low, share.high


@pytest.mark.parametrize("function", [paired_bootstrap, permutation_test, win_rate, average_over_prompts])
@pytest.mark.parametrize(
    ("values", "groups", "message"),
    [
        ([], None, r"values have shape \(0,\)"),
        (np.zeros((3, 0)), None, r"values have shape \(3, 0\)"),
        (np.zeros((2, 2, 2)), None, r"values have shape \(2, 2, 2\)"),
        ([0.1, math.nan, 0.2, math.inf], None, "values: NaN or infinity in rows 1, 3"),
        ([[0.1, 0.2], [0.1, math.nan]], None, "values: NaN or infinity in row 1"),
        ([0.1, 0.2], ["a"], "2 values and 1 groups"),
        ([[0.1, 0.2]], ["a"], "have groups as well"),
    ],
)
def test_values_that_say_nothing_are_refused_in_words(function, values, groups, message):
    with pytest.raises(DataError, match=message):
        function(values, groups=groups)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: paired_bootstrap([1, 2], resamples=0), ConfigError, "resamples = 0"),
        (lambda: paired_bootstrap([1, 2], confidence=1), ConfigError, "confidence = 1"),
        (lambda: permutation_test([1, 2], permutations=0), ConfigError, "permutations = 0"),
        (lambda: kernel_permutation_test(np.eye(5), 2, permutations=0), ConfigError, "permutations = 0"),
        (lambda: kernel_permutation_test(np.eye(5), 4), DataError, "does not divide into a set of 4"),
        (lambda: kernel_permutation_test(np.eye(5), 1), DataError, "does not divide into a set of 1"),
        (lambda: kernel_permutation_test(np.ones((5, 4)), 2), DataError, r"shape \(5, 4\)"),
        (
            lambda: kernel_permutation_test(np.full((5, 5), np.nan), 2),
            DataError,
            "kernel: NaN or infinity in rows 0",
        ),
        (lambda: two_sample_permutation(SETS[0][:1], SETS[1], cmmd_kernel), DataError, "x needs at least 2 rows"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_words(call, error, message):
    with pytest.raises(error, match=message):
        call()
