"""Scores of pictures against texts and references, held against loops and against facts that must be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import scoring
from toolkit.errors import DataError


def unit(values):
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@st.composite
def scenes(draw, least_prompts=1):
    """(pictures (P, S, d), texts (P, d)) as unit vectors."""
    prompts, seeds, width = draw(st.integers(least_prompts, 5)), draw(st.integers(1, 4)), draw(st.integers(2, 6))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return unit(random.normal(size=(prompts, seeds, width))), unit(random.normal(size=(prompts, width)))


def test_similarity_of_the_reference_vectors():
    random = np.random.RandomState(42)
    images = random.randn(6, 16)
    texts = images + random.randn(6, 16) * 0.9
    found = scoring.similarity(unit(images)[:, None], unit(texts))
    assert found.mean() == pytest.approx(0.698976466871, rel=1e-9)
    assert scoring.recall_at(unit(images)[:, None], unit(texts)).all()


@given(scenes(least_prompts=2))
def test_content_is_the_own_prompt_less_the_mean_of_the_others(scene):
    pictures, texts = scene
    for p, s in np.ndindex(pictures.shape[:2]):
        cosines = texts @ pictures[p, s]
        assert scoring.content(*scene)[p, s] == pytest.approx(cosines[p] - np.delete(cosines, p).mean(), abs=1e-12)


@given(scenes(least_prompts=2))
def test_pictures_that_ignore_their_prompts_have_no_content_on_average(scene):
    pictures, texts = scene
    same = np.broadcast_to(pictures[:1, :1], pictures.shape)
    assert scoring.content(same, texts).mean() == pytest.approx(0, abs=1e-12)


@given(scenes(), scenes())
def test_style_is_the_mean_of_all_cosines(scene, other):
    pictures, reference = scene[0], np.resize(other[0], (7, scene[0].shape[-1]))
    reference = unit(reference + 1e-3)
    assert scoring.style(pictures, reference) == pytest.approx((pictures @ reference.T).mean(-1), abs=1e-12)


def test_gain_is_0_at_the_base_and_1_at_the_floor():
    assert scoring.gain(3.0, 3.0, 1.0) == 0
    assert scoring.gain(3.0, 1.0, 1.0) == 1
    assert scoring.gain(3.0, 4.0, 1.0) == -0.5
    assert scoring.gain(1.0, 1.0, 1.0) is None


@given(scenes())
def test_a_picture_that_moves_as_its_words_do_has_direction_1(scene):
    pictures, texts = scene
    styled = texts + 0.5
    moved = pictures + 0.3 * (styled - texts)[:, None]
    assert scoring.directional(pictures, moved, texts, styled) == pytest.approx(1, abs=1e-9)
    back = pictures - 0.3 * (styled - texts)[:, None]
    assert scoring.directional(pictures, back, texts, styled) == pytest.approx(-1, abs=1e-9)
    assert np.isnan(scoring.directional(pictures, pictures, texts, styled)).all()


def test_a_picture_that_has_not_moved_is_left_out_of_those_that_have():
    cosines = np.array([[0.1, np.nan], [np.nan, np.nan], [0.2, 0.3]])
    values, prompts = scoring.where_moved(cosines)
    assert (values.tolist(), prompts.tolist()) == ([0.1, 0.2, 0.3], [0, 2, 2])


@given(scenes(), st.integers(1, 5))
def test_recall_counts_those_that_no_k_others_beat(scene, k):
    pictures, texts = scene
    for p, s in np.ndindex(pictures.shape[:2]):
        cosines = texts @ pictures[p, s]
        assert scoring.recall_at(pictures, texts, k)[p, s] == (sum(np.delete(cosines, p) >= cosines[p]) < k)


def test_a_picture_as_near_to_another_prompt_has_not_found_its_own():
    texts = unit(np.array([[1.0, 0], [1.0, 0]]))
    assert not scoring.recall_at(texts[:, None], texts).any()


def test_diversity_is_the_mean_distance_of_different_seeds():
    pictures = unit(np.random.default_rng(0).normal(size=(3, 4, 5)))
    expected = [np.mean([1 - a[i] @ a[j] for i in range(4) for j in range(4) if i != j]) for a in pictures]
    assert scoring.diversity(pictures) == pytest.approx(expected)
    with pytest.raises(DataError, match="at least 2 rows"):
        scoring.diversity(pictures[:, :1])
