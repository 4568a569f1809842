"""Distances and diversity, against other libraries, published values and properties that must hold."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prdc import compute_prdc
from sklearn.metrics.pairwise import cosine_distances, cosine_similarity
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kernel_rbf, kid_features_to_metric, mmd2
from torch_fidelity.metric_prc import prc_features_to_metric
from vendi_score import vendi

from eval.metrics import features
from eval.metrics.distances import (
    Prdc,
    cmmd,
    frechet_distance,
    frechet_from_moments,
    inception_score,
    kernel_distance,
    mean_pairwise_distance,
    prdc,
    vendi_score,
)

EXACT = {"rel": 1e-9, "abs": 1e-12}
few = settings(max_examples=20)


def normal(rows, width, seed, scale=1.0, shift=0.0):
    return np.random.default_rng(seed).normal(shift, scale, (rows, width))


@st.composite
def two_sets(draw, least=7, most=24):
    """Two sets of normal rows of one width, which may be more or less than the rows."""
    seed, width = draw(st.integers(0, 2**32)), draw(st.integers(2, 40))
    n, m = draw(st.integers(least, most)), draw(st.integers(least, most))
    return normal(n, width, seed), normal(m, width, seed + 1, 1.3, 0.4)


@pytest.fixture
def reference():
    random = np.random.RandomState(2023)
    x, y = random.randn(64, 8), random.randn(48, 8) * 1.5 + 0.5
    assert x[0, 0] == pytest.approx(0.71167353, abs=1e-8)
    assert [x.sum(), y.sum()] == pytest.approx([13.471125025424, 153.103179895053], abs=1e-11)
    return x, y


def test_frechet_distance_has_the_value_that_five_programs_agree_on(reference):
    assert frechet_distance(*reference) == pytest.approx(4.558068255716, rel=1e-12)


def test_kernel_distance_has_the_reference_values(reference):
    assert kernel_distance(*reference) == pytest.approx(1.616953419706, **EXACT)
    assert kernel_distance(*reference, biased=True) == pytest.approx(2.799565369612, **EXACT)


def test_inception_score_has_the_reference_values():
    logits = np.random.RandomState(11).randn(100, 10) * 2
    whole, parts = inception_score(logits), inception_score(logits, splits=10)
    assert (whole.mean, whole.std, float(whole)) == (pytest.approx(2.753726686273, **EXACT), 0.0, whole.mean)
    assert (parts.mean, parts.std) == pytest.approx((2.385669384479, 0.220812667474), **EXACT)


def test_prdc_has_the_reference_values():
    random = np.random.RandomState(5)
    real, fake = random.randn(60, 4), random.randn(50, 4) * 0.7 + 0.3
    expected = Prdc(precision=0.98, recall=2 / 3, density=112 / 75, coverage=0.8)
    assert vars_of(prdc(real, fake, k=3)) == pytest.approx(vars_of(expected), **EXACT)


def vars_of(result):
    return {name: getattr(result, name) for name in result.__slots__}


@pytest.mark.parametrize("width", [8, 256])
def test_the_distance_of_unit_normals_a_unit_apart_in_each_feature_is_their_number(width):
    zero, one, unit = np.zeros(width), np.ones(width), np.eye(width)
    assert frechet_from_moments(zero, unit, one, unit) == pytest.approx(width, rel=1e-12)


@few
@given(two_sets())
def test_frechet_distance_is_torch_fidelitys_with_more_and_with_fewer_rows_than_features(sets):
    statistics = [fid_features_to_statistics(torch.from_numpy(rows)) for rows in sets]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    moments = [statistic[key] for statistic in statistics for key in ("mu", "sigma")]
    assert frechet_distance(*sets) == pytest.approx(theirs, rel=1e-5)  # Theirs has roots of eigenvalues of 1e-16.
    assert frechet_distance(*sets) == pytest.approx(frechet_from_moments(*moments), **EXACT)


@few
@given(two_sets(), st.integers(0, 99))
def test_frechet_distance_is_symmetric_and_knows_neither_rotation_nor_order_and_grows_with_the_square(sets, seed):
    x, y = sets
    rotation = np.linalg.qr(normal(x.shape[1], x.shape[1], seed))[0]
    shuffled = np.random.default_rng(seed).permutation(x)
    distance = frechet_distance(x, y)
    assert distance == pytest.approx(frechet_distance(y, x), **EXACT)
    assert distance == pytest.approx(frechet_distance(shuffled, y), **EXACT)
    assert distance == pytest.approx(frechet_distance(x @ rotation, y @ rotation), **EXACT)
    assert 9 * distance == pytest.approx(frechet_distance(3 * x + 5, 3 * y + 5), **EXACT)
    assert 0 <= frechet_distance(x, shuffled) < 1e-9


def test_frechet_distance_of_few_images_forms_no_covariance():
    tracemalloc.start()
    frechet_distance(normal(9, 5000, 1), normal(8, 5000, 2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5000 * 5000 * 8 / 20


def test_frechet_distance_of_sets_without_spread_is_the_squared_distance_of_their_means():
    still, unit = np.zeros((2, 2)), np.eye(2)
    assert frechet_from_moments(np.zeros(2), still, np.ones(2), still) == 2
    assert frechet_from_moments(np.zeros(2), still, np.zeros(2), unit) == 2
    assert frechet_distance(np.zeros((3, 2)), np.ones((3, 2))) == 2


@few
@given(two_sets())
def test_kernel_distance_is_torch_fidelitys_where_that_is_defined(sets):
    size = min(map(len, sets))
    x, y = sets[0][:size], sets[1][:size]
    theirs = kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subsets=3, kid_subset_size=size, verbose=False
    )
    ours = kernel_distance(x, y, subsets=3)
    assert kernel_distance(x, y) == pytest.approx(theirs["kernel_inception_distance_mean"], **EXACT)
    # Subsets of all rows, drawn without replacement, are the whole.
    assert (ours.mean, ours.std) == pytest.approx((kernel_distance(x, y), 0), **EXACT)


def test_kernel_distance_over_subsets_agrees_with_all_pairs_and_repeats_by_seed():
    x, y = normal(60, 8, 1), normal(40, 8, 2, 1.4)
    whole = kernel_distance(x, y)
    parts = kernel_distance(x, y, subsets=300, subset_size=20, seed=3)
    assert abs(parts.mean - whole) < 4 * parts.std / math.sqrt(300)
    assert parts.std > 0
    assert kernel_distance(x, y, subsets=1).std == 0
    assert parts == kernel_distance(x, y, subsets=300, subset_size=20, seed=3)
    assert parts != kernel_distance(x, y, subsets=300, subset_size=20, seed=4)


def test_unbiased_distances_of_one_distribution_are_0_on_average_even_at_4_images():
    pairs = [(normal(4, 6, 2 * i), normal(5, 6, 2 * i + 1)) for i in range(1500)]
    for distance in (kernel_distance, cmmd):
        values = np.array([distance(x, y) for x, y in pairs])
        assert abs(values.mean()) < 3 * values.std() / math.sqrt(len(values))
        assert values.min() < 0


@few
@given(two_sets())
def test_cmmd_is_a_thousand_times_torch_fidelitys_radial_kernel_on_unit_rows(sets):
    size = min(map(len, sets))
    x, y = (rows[:size] / np.linalg.norm(rows[:size], axis=1, keepdims=True) for rows in sets)
    kernels = [kernel_rbf(a, b, kid_kernel_rbf_sigma=10) for a, b in ((x, x), (x, y), (y, y))]
    lengths = np.linspace(0.1, 30, size)[:, None]
    for biased in (False, True):
        theirs = 1000 * mmd2(*kernels, mmd_est="biased" if biased else "unbiased")
        assert cmmd(lengths * x, y, biased=biased) == pytest.approx(theirs, rel=1e-9, abs=1e-9)


def test_the_bias_of_cmmd_is_what_the_mean_kernel_says():
    x, y = normal(20, 5, 1), normal(30, 5, 2)
    means = [np.exp((cosine_similarity(rows) - 1) / 100) for rows in (x, y)]
    within = [(k.sum() - len(k)) / (len(k) * (len(k) - 1)) for k in means]
    bias = 1000 * ((1 - within[0]) / 20 + (1 - within[1]) / 30)
    assert cmmd(x, y, biased=True) - cmmd(x, y) == pytest.approx(bias, rel=1e-9)


@few
@given(st.integers(0, 2**32), st.integers(1, 5))
def test_inception_score_is_torch_fidelitys(seed, splits):
    logits = normal(23, 7, seed, 3.0)
    theirs = isc_features_to_metric(torch.from_numpy(logits), splits=splits, shuffle=False)
    ours = inception_score(logits, splits=splits)
    assert [ours.mean, ours.std] == pytest.approx([*theirs.values()], **EXACT)


def test_inception_score_of_certain_and_even_classes_is_their_number_though_a_class_is_impossible():
    certain = np.where(np.arange(8)[:, None] % 4 == np.arange(4), 0.0, -1e4)
    assert float(inception_score(certain)) == pytest.approx(4)
    impossible = np.hstack([certain, np.full((8, 1), -1e4)])
    assert float(inception_score(impossible)) == pytest.approx(4)
    assert float(inception_score(np.zeros((5, 4)))) == pytest.approx(1)


@few
@given(two_sets(), st.integers(1, 5))
def test_prdc_is_that_of_its_authors(sets, k):
    assert vars_of(prdc(*sets, k=k)) == pytest.approx(compute_prdc(*sets, nearest_k=k), **EXACT)


@few
@given(two_sets())
def test_precision_and_recall_are_torch_fidelitys(sets):
    real, fake = map(torch.from_numpy, sets)
    theirs = prc_features_to_metric(fake, real, prc_neighborhood=3, prc_batch_size=9, save_cpu_ram=False, verbose=False)
    ours = prdc(real, fake, k=3)
    assert [ours.precision, ours.recall] == pytest.approx([theirs["precision"], theirs["recall"]], abs=1e-6)


def test_a_row_on_the_edge_of_a_ball_is_outside_and_copies_of_a_row_are_at_distance_0():
    real = np.array([[0.0], [1.0], [3.0]])  # Radii 1, 1 and 2.
    assert prdc(real, np.array([[5.0], [7.0]]), k=1) == Prdc(0, 0, 0, 0)
    assert prdc(real, np.array([[4.9], [6.9]]), k=1) == Prdc(0.5, 1 / 3, 0.5, 1 / 3)
    for seed in range(20):
        same = np.tile(normal(1, 50, seed), (4, 1))
        assert prdc(same, same, k=2) == Prdc(0, 0, 0, 0)
    # The k-th neighbour is on the edge, and inside are the row itself and k - 1 others.
    rows = normal(20, 50, 2)
    assert prdc(rows, rows.copy()) == Prdc(1, 1, 1, 1)


@few
@given(two_sets(least=1))
def test_vendi_score_is_that_of_its_authors_for_every_order(sets):
    x, _ = sets
    kernel = cosine_similarity(x)
    assert vendi_score(x) == pytest.approx(vendi.score_X(x), rel=1e-9)
    for q in (2, 3.5, 50):
        assert vendi_score(x, q=q) == pytest.approx(vendi.score_K(kernel, q=q), rel=1e-9)
    assert vendi_score(x, q=math.inf) == pytest.approx(vendi.score_K(kernel, q="inf"), rel=1e-9)
    assert vendi_score(x, q=2) == pytest.approx(len(x) ** 2 / (kernel**2).sum(), rel=1e-9)
    assert vendi_score(x, q=0) == pytest.approx(min(x.shape))
    assert vendi_score(x, q=2000) == pytest.approx(vendi_score(x, q=math.inf), rel=1e-2)
    assert vendi_score(x, q=1 + 1e-7) == pytest.approx(vendi_score(x), rel=1e-5)


@pytest.mark.parametrize("q", [0, 0.5, 1, 2, math.inf])
def test_vendi_score_counts_different_images(q):
    rows = np.repeat(3 * np.eye(5, 9), 4, axis=0)
    assert vendi_score(rows, q=q) == pytest.approx(5)
    assert vendi_score(rows[:4], q=q) == pytest.approx(1)


@few
@given(two_sets(least=2))
def test_diversity_is_the_mean_cosine_distance_of_distinct_pairs(sets):
    x, _ = sets
    distances = cosine_distances(x)[np.triu_indices(len(x), 1)]
    assert mean_pairwise_distance(x) == pytest.approx(distances.mean(), **EXACT)
    assert 0 <= mean_pairwise_distance(np.tile(x[:1], (5, 1))) < 1e-15


METRICS = [
    frechet_distance,
    kernel_distance,
    lambda x, y: kernel_distance(x, y, biased=True),
    cmmd,
    lambda x, y: vars_of(prdc(x, y)),
    lambda x, y: inception_score(x).mean,
    lambda x, y: vendi_score(x),
    lambda x, y: mean_pairwise_distance(x),
]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_arithmetic_is_in_float64_whatever_comes_in(metric, dtype):
    x, y = (torch.from_numpy(normal(9, 12, seed)).to(dtype).requires_grad_() for seed in (1, 2))
    wide = [rows.detach().double().numpy() for rows in (x, y)]
    assert metric(x, y) == metric(*wide)
    if dtype != torch.bfloat16:
        assert metric(x.detach().numpy(), y.detach().numpy()) == metric(*wide)


@pytest.mark.parametrize("metric", METRICS)
def test_working_in_blocks_changes_nothing(metric, monkeypatch):
    x, y = normal(23, 6, 1), normal(31, 6, 2)
    whole = metric(x, y)
    monkeypatch.setattr(features, "_BLOCK", 70)
    assert metric(x, y) == pytest.approx(whole, **EXACT)


@pytest.mark.parametrize("metric", [kernel_distance, cmmd, prdc])
def test_no_matrix_of_all_pairs_is_held(metric, monkeypatch):
    monkeypatch.setattr(features, "_BLOCK", 2**14)
    x, y = normal(1500, 4, 1), normal(1500, 4, 2)
    tracemalloc.start()
    metric(x, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1500 * 1500 * 8 / 8
