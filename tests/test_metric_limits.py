"""What the metrics refuse, and from how many images on they are shown."""

import dataclasses
import math

import numpy as np
import pytest
from test_fidelity import by_colours

from eval.feature_sets import FeatureSet
from eval.fidelity_figures import figures_of
from eval.metrics.distances import (
    cmmd,
    frechet_distance,
    inception_score,
    kernel_distance,
    mean_pairwise_distance,
    prdc,
    vendi_score,
)
from eval.metrics.minimum import MINIMUM, reportable
from toolkit.errors import ConfigError, DataError


def normal(rows, width, seed):
    return np.random.default_rng(seed).normal(size=(rows, width))


BROKEN = normal(14, 4, 1)
BROKEN[[3, 5], 2] = np.nan, np.inf
ZERO = np.vstack([normal(8, 4, 1), np.zeros((1, 4))])
GOOD = normal(9, 4, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: frechet_distance(GOOD[:1], GOOD), "x needs at least 2 rows and has 1"),
        (lambda: kernel_distance(GOOD, GOOD[:1]), "y needs at least 2 rows and has 1"),
        (lambda: cmmd(GOOD, GOOD[:0]), "y needs at least 2 rows and has 0"),
        (lambda: prdc(GOOD, GOOD[:5]), "fake needs at least 6 rows and has 5"),
        (lambda: prdc(GOOD[:5], GOOD), "real needs at least 6 rows and has 5"),
        (lambda: inception_score(GOOD, splits=10), "logits needs at least 10 rows and has 9"),
        (lambda: vendi_score(GOOD[:0]), "x needs at least 1 rows and has 0"),
        (lambda: mean_pairwise_distance(GOOD[:1]), "x needs at least 2 rows and has 1"),
        (lambda: frechet_distance(GOOD, BROKEN), r"y: NaN or infinity in rows 3, 5 \(counted from 0\)"),
        (lambda: inception_score(BROKEN), "logits: NaN or infinity in rows 3, 5"),
        (lambda: vendi_score(np.full((14, 2), np.nan)), "x: NaN or infinity in rows 0, .*, 9 and 4 more"),
        (lambda: cmmd(GOOD, ZERO), "y: nothing but zeros in row 8"),
        (lambda: vendi_score(ZERO), "x: nothing but zeros in row 8"),
        (lambda: prdc(GOOD, GOOD[:, :3]), "real has 4 features in a row and fake has 3"),
        (lambda: vendi_score(GOOD[0]), r"x has shape \(4,\)"),
        (lambda: frechet_distance(GOOD.reshape(3, 3, 4), GOOD), r"x has shape \(3, 3, 4\)"),
        (lambda: mean_pairwise_distance(GOOD[:, :0]), r"x has shape \(9, 0\)"),
    ],
)
def test_sets_that_cannot_be_scored_are_refused_in_words(call, message):
    with pytest.raises(DataError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernel_distance(GOOD, GOOD, subset_size=4), "subsets is not"),
        (lambda: kernel_distance(GOOD, GOOD, subsets=3, subset_size=10), "3 subsets of 10 rows"),
        (lambda: kernel_distance(GOOD, GOOD, subsets=0), "0 subsets of 9 rows"),
        (lambda: kernel_distance(GOOD, GOOD, subsets=1, subset_size=1), "1 subsets of 1 rows"),
        (lambda: inception_score(GOOD, splits=0), "splits = 0"),
        (lambda: prdc(GOOD, GOOD, k=0), "k = 0"),
        (lambda: vendi_score(GOOD, q=-1), "q = -1"),
        (lambda: vendi_score(GOOD, q=math.nan), "q = nan"),
        (lambda: reportable("kernel_distanc", 24, 8), "not a metric"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_words(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_every_metric_says_from_how_many_images_on_it_is_shown():
    for metric, minimum in MINIMUM.items():
        needed = minimum.of(64)
        assert reportable(metric, needed, 64) is None
        assert str(reportable(metric, needed - 1, 64)).startswith(f"not reportable: n = {needed - 1}, and {needed} are")
    assert reportable("cmmd", 20, 768) is None
    assert str(reportable("frechet_distance", 24, 64)).startswith("not reportable: n = 24, and 64 are needed")
    assert reportable("frechet_distance", 10_000, 2048) is None


def test_the_frechet_bias_is_over_a_third_of_the_spread_at_the_floor_and_falls_with_n():
    def bias(n):
        return np.mean([frechet_distance(normal(n, 32, 2 * i), normal(n, 32, 2 * i + 1)) for i in range(8)]) / 32

    assert bias(MINIMUM["frechet_distance"].of(32)) > 0.35
    assert bias(5 * 32) == pytest.approx(0.115, abs=0.015)


def test_at_the_floor_the_inception_score_is_short_by_about_a_tenth():
    classes = 50
    drawn = np.random.default_rng(0).integers(classes, size=(20, MINIMUM["inception_score"].of(classes)))
    scores = [float(inception_score(np.where(row[:, None] == np.arange(classes), 0.0, -99.0))) for row in drawn]
    assert np.log(np.mean(scores) / classes) == pytest.approx(-0.1, abs=0.02)


@pytest.mark.parametrize("width", [6, 30])
def test_a_distance_never_stands_without_its_floor_at_equal_n(width):
    """Halves of the reference have fewer pictures than the distance is of: fewer than features too, or only fewer."""
    random = np.random.default_rng(0)
    sets = [FeatureSet(44, random.normal(size=(44, width)).astype(np.float32)) for _ in range(2)]
    network = dataclasses.replace(by_colours(), metrics=("frechet_distance",))
    got = {each.name: each for each in figures_of(network, *sets)}
    assert got["frechet_distance"].value > 0
    assert (got["frechet_distance_floor"].value is None) == (width > 22)
    few, floor = got["frechet_distance_of_few"], got["frechet_distance_of_few_floor"]
    assert few.n == floor.n == 22
    assert few.value == pytest.approx(floor.value, rel=0.25)
