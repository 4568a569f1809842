"""Shares and their intervals, against scipy and against how often they hold."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import ConfigError, DataError
from toolkit.shares import paired_change, proportion, wilson


@given(st.integers(1, 300), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_a_share_has_scipys_wilson_interval(n, part, confidence):
    count = round(part * n)
    theirs = scipy.stats.binomtest(count, n).proportion_ci(confidence, method="wilson")
    ours = proportion(count, n, confidence=confidence)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-12)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1


def test_a_share_of_none_or_all_reaches_the_end_and_reads_as_words():
    assert proportion(0, 7).low == 0
    assert proportion(7, 7).high == 1
    assert str(proportion(58, 60)) == "0.967 (0.886 to 0.991, 58 of 60)"


def test_shares_of_many_pictures_of_few_prompts_are_as_uncertain_as_the_prompts_are_few():
    assert wilson(0.25, 4) == (pytest.approx(proportion(1, 4).low), pytest.approx(proportion(1, 4).high))
    assert wilson(0.0, 3) == (0.0, pytest.approx(proportion(0, 3).high))


@pytest.mark.parametrize(("count", "n"), [(0, 0), (3, 2), (-1, 4)])
def test_what_is_no_share_is_refused(count, n):
    with pytest.raises(DataError, match="is no share"):
        proportion(count, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_a_confidence_lies_between_none_and_all(confidence):
    with pytest.raises(ConfigError, match="confidence"):
        wilson(0.5, 10, confidence=confidence)


def test_the_interval_of_a_paired_change_holds_it_as_often_as_it_says():
    random = np.random.default_rng(0)
    for common, before, after in ((0.4, 0.1, 0.3), (0.0, 0.02, 0.95), (0.9, 0.05, 0.0)):
        held = 0
        for _ in range(400):
            drawn = random.choice(4, size=128, p=[common, before, after, 1 - common - before - after])
            change, low, high = paired_change(np.isin(drawn, (0, 2)).astype(float) - np.isin(drawn, (0, 1)))
            assert -1 <= low <= change <= high <= 1
            held += low - 1e-9 <= after - before <= high + 1e-9
        assert 0.92 < held / 400 <= 1
