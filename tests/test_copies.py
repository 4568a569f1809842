"""Nearest training images and their control, held against scikit-learn, loops over pixels and counted arrangements."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from sklearn.neighbors import NearestNeighbors

from eval import copies
from toolkit.data.birds import BirdsSource
from toolkit.errors import DataError


def image_set(name, count, seed, width=6):
    random = np.random.default_rng(seed)
    return copies.ImageSet(
        name,
        random.normal(size=(count, width)).astype(np.float32),
        random.integers(256, size=(count, copies.SIDE, copies.SIDE, 3), dtype=np.uint8),
    )


def rows_of(images, rows, name="generated"):
    return copies.ImageSet(name, images.features[rows], images.pixels[rows])


def distance(a, b):
    """Root mean squared difference of a thumbnail and the nearer one of another and its mirror image."""
    a, b = a.astype(float), b.astype(float)
    return min(np.sqrt(((a - view) ** 2).mean()) for view in (b, b[:, ::-1]))


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(copies, "_BLOCK", 3)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("seed", range(4))
def test_the_nearest_in_features_is_scikit_learns(seed):
    generated, training = image_set("generated", 8, seed), image_set("training", 10, seed + 100)
    apart, nearest = (
        NearestNeighbors(n_neighbors=1, metric="cosine").fit(training.features).kneighbors(generated.features)
    )
    pairs = copies.find_copies(generated, training).features.pairs
    assert {pair.image: pair.nearest for pair in pairs} == dict(enumerate(nearest[:, 0]))
    assert [pair.similarity for pair in pairs] == pytest.approx(sorted(1 - apart[:, 0], reverse=True), abs=1e-6)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("seed", range(4))
def test_the_nearest_in_pixels_is_that_of_a_loop_over_images_and_mirror_images(seed):
    generated, training = image_set("generated", 5, seed), image_set("training", 7, seed + 100)
    apart = np.array([[distance(a, b) for b in training.pixels] for a in generated.pixels])
    pairs = copies.find_copies(generated, training).pixels.pairs
    assert {pair.image: pair.nearest for pair in pairs} == dict(enumerate(apart.argmin(axis=1)))
    assert [pair.pixel_distance for pair in pairs] == pytest.approx(sorted(apart.min(axis=1)), abs=1e-9)
    for pair in copies.find_copies(generated, training).features.pairs:
        assert pair.pixel_distance == pytest.approx(apart[pair.image, pair.nearest], abs=1e-9)


def test_thumbnails_are_means_of_areas_in_rgb():
    grey = Image.fromarray(np.kron(np.arange(0, 256, 8, dtype=np.uint8)[None, :], np.ones((64, 4), np.uint8)))
    small = copies.thumbnails([grey, Image.new("RGB", (7, 90), (9, 8, 7))])
    assert small.shape == (2, 32, 32, 3)
    assert small.dtype == np.uint8
    assert (small[0] == np.arange(0, 256, 8)[None, :, None]).all()
    assert (small[1] == (9, 8, 7)).all()
    checked = Image.fromarray(np.tile(np.array([[0, 100], [100, 200]], np.uint8), (32, 32)))
    assert (copies.thumbnails([checked]) == 100).all()


def test_a_mirrored_copy_of_another_size_is_a_copy():
    birds = BirdsSource("painted", "train", 64, 6)
    pictures = [birds.image(index) for index in range(6)]
    pixels = copies.thumbnails(pictures)
    training = copies.ImageSet("training", np.eye(6), pixels)
    generated = copies.ImageSet(
        "generated", np.eye(6)[[0]], copies.thumbnails([ImageOps.mirror(pictures[4]).resize((128, 128))])
    )
    (pair,) = copies.find_copies(generated, training).pixels.pairs
    assert pair.nearest == 4
    assert pair.pixel_distance < 3


def test_planted_copies_are_flagged_and_lead_the_list():
    training, held_out = image_set("training", 60, 0, 16), image_set("held-out", 200, 1, 16)
    fresh, taken = image_set("fresh", 40, 2, 16), [7, 9, 20, 31]
    planted = copies.ImageSet(
        "generated",
        np.concatenate([fresh.features, 3 * training.features[taken] + 0.01]),
        np.concatenate([fresh.pixels, training.pixels[taken[:2]], training.pixels[taken[2:], :, ::-1]]),
    )
    control = copies.measure_control(held_out, training)
    found = copies.find_copies(planted, training, control)
    for comparison in (found.features, found.pixels):
        assert {(pair.image, pair.nearest) for pair in comparison.pairs[:4]} == {(40, 7), (41, 9), (42, 20), (43, 31)}
        assert comparison.flagged == comparison.pairs[: comparison.count]
        assert 4 <= comparison.count < 8
        assert comparison.low < comparison.share == comparison.count / 44 < comparison.high
        assert comparison.p_value < 0.03
        beyond = [pair.beyond for pair in comparison.pairs]
        assert beyond == sorted(beyond, reverse=True)
        assert all((pair.beyond > 0) == (pair in comparison.flagged) for pair in comparison.pairs)
    assert copies.find_copies(fresh, training, control).features.p_value > 0.05


@pytest.mark.parametrize(("held_out", "nearer"), [(1, 0), (99, 0), (100, 1), (199, 1), (250, 2)])
def test_the_threshold_is_what_1_percent_of_held_out_images_exceed(held_out, nearer):
    training, real = image_set("training", 20, 0), image_set("held-out", held_out, 1)
    control = copies.measure_control(real, training)
    for measure, threshold, sign in (("features", control.features, 1), ("pixels", control.pixels, -1)):
        itself = getattr(copies.find_copies(real, training, control), measure)
        assert itself.count == control.nearer == nearer
        values = [pair.similarity if measure == "features" else pair.pixel_distance for pair in itself.pairs]
        assert threshold.value == sorted(values, reverse=sign > 0)[nearer]
        assert itself.pairs[nearer].image == threshold.pair.image
        assert itself.pairs[nearer].nearest == threshold.pair.nearest
    assert control.expected == pytest.approx((nearer + 1) / (held_out + 1))


@settings(max_examples=60)
@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 40, 70]), st.integers(0, 2**32 - 1))
def test_share_and_p_value_are_those_of_all_arrangements_of_like_images(generated, held_out, percent, seed):
    training = image_set("training", 3, seed, 3)
    images, real = image_set("generated", generated, seed + 1, 3), image_set("held-out", held_out, seed + 2, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "CONTROL_PERCENT", percent)
        found = copies.find_copies(images, training, copies.measure_control(real, training)).features
    # Of g + h images that are alike, any h may be the held-out ones. Flagged are the generated ones before that one
    # which so many of the held-out ones precede.
    nearer = held_out * percent // 100
    arrangements = [chosen[nearer] - nearer for chosen in itertools.combinations(range(generated + held_out), held_out)]
    assert found.p_value == pytest.approx(np.mean([flagged >= found.count for flagged in arrangements]))
    assert found.expected == pytest.approx(np.mean(arrangements) / generated)


def test_images_as_near_as_the_control_are_not_flagged():
    training = image_set("training", 20, 0)
    real = image_set("held-out", 30, 1)
    again = copies.ImageSet("generated", real.features * np.float32(0.7), real.pixels)
    found = copies.find_copies(again, training, copies.measure_control(real, training))
    assert (found.features.count, found.pixels.count) == (0, 0)
    assert (found.features.share, found.features.p_value) == (0, 1)


def test_without_a_control_images_are_ranked_and_none_is_flagged():
    training = image_set("training", 20, 0)
    found = copies.find_copies(rows_of(training, [3, 4]), training)
    for comparison in (found.features, found.pixels):
        assert [(pair.image, pair.nearest, pair.beyond) for pair in comparison.pairs] == [(0, 3, None), (1, 4, None)]
        assert comparison.flagged == ()
        assert {comparison.share, comparison.expected, comparison.p_value, comparison.threshold} == {None}
        assert "none is flagged" in comparison.note


def test_the_note_says_what_few_held_out_images_mean():
    training = image_set("training", 20, 0)
    few, many = (copies.measure_control(image_set("held-out", count, 1), training) for count in (20, 300))
    generated = image_set("generated", 4, 2)
    assert "1 in 21" in copies.find_copies(generated, training, few).features.note
    assert copies.find_copies(generated, training, many).features.note.startswith("3 of 300 held-out images")


def test_a_held_out_image_that_is_a_training_image_is_told():
    training = image_set("training", 20, 0)
    control = copies.measure_control(rows_of(training, [5], "held-out"), training)
    found = copies.find_copies(image_set("generated", 4, 2), training, control)
    assert "held-out image 0 is training image 5" in found.features.note
    assert "held-out image 0 is training image 5" in found.pixels.note


@pytest.mark.usefixtures("small_blocks")
def test_near_duplicates_in_the_training_set_are_told_once():
    training, held_out = image_set("training", 12, 0, 16), image_set("held-out", 40, 1, 16)
    rows = [*range(12), 2, 10]
    doubled = rows_of(training, rows, "training")
    found = copies.near_duplicates(doubled, copies.measure_control(held_out, doubled))
    for comparison in (found.features, found.pixels):
        assert {frozenset((pair.image, pair.nearest)) for pair in comparison.flagged} == {
            frozenset((2, 12)),
            frozenset((10, 13)),
        }
        assert len(comparison.flagged) == 2
        assert comparison.count == 4
        assert comparison.share == pytest.approx(4 / 14)
        assert comparison.expected == pytest.approx(1 / 41)
        assert comparison.p_value is None
        assert all(pair.image != pair.nearest for pair in comparison.pairs)


@pytest.mark.usefixtures("small_blocks")
def test_seeds_are_compared_within_their_prompt():
    training, held_out = image_set("training", 12, 0, 16), image_set("held-out", 40, 1, 16)
    generated = rows_of(image_set("some", 8, 3, 16), [0, 1, 2, 3, 0, 4, 5, 3])
    prompts = ["fox", "fox", "fox", "tree", "tree", "tree", "alone", "tree"]
    found = copies.across_seeds(generated, prompts, copies.measure_control(held_out, training))
    for comparison in (found.features, found.pixels):
        assert {pair.image for pair in comparison.pairs} == {0, 1, 2, 3, 4, 5, 7}
        assert all(prompts[pair.image] == prompts[pair.nearest] for pair in comparison.pairs)
        assert [{pair.image, pair.nearest} for pair in comparison.flagged] == [{3, 7}]
        assert (comparison.count, comparison.share) == (2, pytest.approx(2 / 7))
        assert (comparison.expected, comparison.p_value) == (None, None)


def test_nothing_to_compare_with_is_said():
    one = image_set("training", 1, 0)
    found = copies.near_duplicates(one, copies.measure_control(image_set("held-out", 3, 1), one))
    assert found.features.pairs == ()
    assert "nothing to compare" in found.features.note


def test_the_result_is_json():
    training, held_out = image_set("training", 5, 0), image_set("held-out", 4, 1)
    generated = rows_of(training, [2])
    for control in (None, copies.measure_control(held_out, training)):
        found = copies.find_copies(generated, training, control)
        table = json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))
        assert table["features"]["pairs"][0]["nearest"] == 2
        assert table["pixels"]["pairs"][0]["pixel_distance"] == 0


def test_broken_features_and_sets_that_do_not_fit_are_named():
    good = image_set("training", 4, 0)
    for bad in (np.nan, np.inf):
        features = good.features.copy()
        features[2, 1] = bad
        with pytest.raises(DataError, match="generated: the features of image 2"):
            copies.ImageSet("generated", features, good.pixels)
    with pytest.raises(DataError, match=r"image 0 .and 3 more. are NaN, infinite or all 0"):
        copies.ImageSet("generated", np.zeros((4, 3)), good.pixels)
    with pytest.raises(DataError, match=r"features are \(3, 6\)"):
        copies.ImageSet("generated", good.features[:3], good.pixels)
    with pytest.raises(DataError, match="float64"):
        copies.ImageSet("generated", good.features, good.pixels / 255)
    with pytest.raises(DataError, match="there are no images"):
        image_set("generated", 0, 0)
    with pytest.raises(DataError, match="generated has 5 features and training 6"):
        copies.find_copies(image_set("generated", 4, 0, 5), good)
    with pytest.raises(DataError, match="4 images and 3 prompts"):
        copies.across_seeds(good, ["fox"] * 3)
