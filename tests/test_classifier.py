"""What pictures teach a classifier: on the built-in birds, on made-up features, and against scikit-learn's counts."""

import dataclasses
import json
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import recall_score

from eval import classifier
from eval.classifier import LabelledSet, compare_training_sets, linear_probe, paired_difference, small_network
from toolkit.data.birds import LABELS, BirdsSource
from toolkit.errors import ConfigError, DataError
from toolkit.shares import wilson


def birds(name, split, count, seed):
    source = BirdsSource("painted", split, 32, count, seed)
    pictures = [source.image(index) for index in range(count)]
    return name, pictures, [LABELS[source.label(index)] for index in range(count)]


@pytest.fixture(scope="module")
def pictures():
    """Birds to train on, others from another seed that stand for perfect generated ones, and held-out ones."""
    return birds("real", "train", 220, 0), birds("synthetic", "train", 220, 1), birds("test", "validation", 140, 0)


@pytest.fixture(scope="module")
def featured(pictures):
    """The same with simple features: the colours of 4 x 4 fields."""

    def means(image):
        return np.asarray(image.resize((4, 4), Image.Resampling.BOX), np.float32).ravel()

    return [
        LabelledSet(name, np.stack([means(image) for image in images]), labels) for name, images, labels in pictures
    ]


def shuffled(images):
    return dataclasses.replace(images, labels=np.random.default_rng(0).permutation(images.labels).tolist())


def blobs(name, labels, seed, noise=0.3):
    """Features (n, 3) that lie near their class's corner."""
    corners = {label: np.random.default_rng(index).normal(size=3) * 3 for index, label in enumerate("abcd")}
    random = np.random.default_rng(seed)
    return LabelledSet(name, np.array([corners[label] + noise * random.normal(size=3) for label in labels]), labels)


def result(correct):
    """A classification of which only the right answers matter."""
    return classifier.Classification(0.0, 0.0, 1.0, tuple(correct), (), (), (), 1, len(correct), {})


@pytest.fixture(scope="module")
def compared(featured):
    return compare_training_sets(*featured, classify=linear_probe)


def test_real_birds_teach_what_shuffled_labels_do_not(featured, compared):
    real, _, test = featured
    chance = linear_probe(shuffled(real), test)
    assert compared.real.low > 0.3
    assert chance.high < 0.25
    difference = paired_difference(compared.real, chance)
    assert difference.high < -0.2
    assert difference.p_value < 0.001


def test_birds_of_another_seed_teach_nearly_as_much_as_real_ones(compared):
    assert abs(compared.synthetic_against_real.mean) < 0.1
    assert compared.synthetic_against_real.low < 0 < compared.synthetic_against_real.high
    assert compared.both.accuracy > compared.real.accuracy - 0.05
    assert compared.both_against_real.mean == pytest.approx(compared.both.accuracy - compared.real.accuracy)
    assert compared.synthetic.accuracy - compared.real.accuracy == pytest.approx(compared.synthetic_against_real.mean)


def test_as_many_of_each_class_are_taken_as_both_sets_have():
    seen = []

    def spy(train, test):
        seen.append((train, test))
        return result([True])

    real = blobs("real", ["a"] * 7 + ["b"] * 2 + ["c"] * 4, 0)
    synthetic, test = blobs("synthetic", ["c"] * 3 + ["b"] * 5 + ["a"] * 3, 1), blobs("test", ["a", "b", "c"], 2)
    found = compare_training_sets(real, synthetic, test, classify=spy)
    counts = {"a": 3, "b": 2, "c": 3}
    assert found.n == 8
    assert [Counter(train.labels) for train, _ in seen] == [counts, counts, {each: 2 * n for each, n in counts.items()}]
    assert all(given_test is test for _, given_test in seen)
    for train, source in zip((seen[0][0], seen[1][0]), (real, synthetic), strict=True):
        rows = {
            (*row, label) for row, label in zip(source.inputs.tolist(), source.labels, strict=True) for row in [row]
        }
        assert {(*row, label) for row, label in zip(train.inputs.tolist(), train.labels, strict=True)} <= rows
        assert len(np.unique(train.inputs, axis=0)) == 8
    assert (seen[2][0].inputs == np.concatenate([seen[0][0].inputs, seen[1][0].inputs])).all()
    first = seen[0][0].inputs
    compare_training_sets(real, synthetic, test, classify=spy, seed=1)
    assert not np.array_equal(seen[3][0].inputs, first)


def test_equal_sets_are_taken_as_they_are():
    real, test = blobs("real", list("abcd") * 2, 0), blobs("test", list("abcd"), 1)
    found = compare_training_sets(real, real, test, classify=linear_probe)
    assert found.n == 8
    assert found.real == linear_probe(real, test) == found.synthetic
    assert (found.synthetic_against_real.mean, found.synthetic_against_real.p_value) == (0, 1)


def test_accuracy_recall_and_confusion_are_those_of_the_answers():
    labels = list("aaaabbbccd") * 3
    test = blobs("test", labels, 1, noise=3)
    found = linear_probe(blobs("training", list("abcd") * 8, 0, noise=3), test)
    assert found.classes == ("a", "b", "c", "d")
    assert [sum(row) for row in found.confusion] == [12, 9, 6, 3]
    right = np.trace(found.confusion)
    assert 0 < right < 30
    assert found.accuracy == right / 30 == np.mean(found.correct)
    assert (found.low, found.high) == pytest.approx(wilson(right / 30, 30))
    known = [label if correct else "" for label, correct in zip(labels, found.correct, strict=True)]
    assert found.recall == pytest.approx(
        recall_score(labels, known, labels=list("abcd"), average=None, zero_division=0)
    )
    assert (found.n_train, found.n_test) == (32, 30)


def test_a_feature_counts_whatever_its_scale():
    random = np.random.default_rng(0)
    labels = list("ab") * 8

    def drawn(name):
        telling = (np.array(labels) == "b") + 0.1 * random.normal(size=16)
        return LabelledSet(name, np.stack([5 + 1e-6 * telling, random.normal(size=16)], axis=1), labels)

    assert linear_probe(drawn("training"), drawn("test")).accuracy == 1


def test_cross_validation_takes_a_weak_penalty_for_clean_features_and_a_strong_one_for_noise():
    labels = list("abcd") * 10
    clean = linear_probe(blobs("training", labels, 0, noise=0.1), blobs("test", labels, 1))
    noise = linear_probe(shuffled(blobs("training", labels, 0, noise=3)), blobs("test", labels, 1))
    assert clean.settings["C"] >= 1
    assert noise.settings["C"] <= 0.01
    assert clean.settings["folds"] == 5
    assert linear_probe(blobs("training", list("aaaabb"), 0), blobs("test", list("ab"), 1)).settings["folds"] == 2


def test_the_seed_decides_the_folds():
    train, test = blobs("training", list("abcd") * 3, 0, noise=1), blobs("test", list("abcd"), 1, noise=1)
    first = linear_probe(train, test, seed=0)
    assert linear_probe(train, test, seed=0) == first
    assert linear_probe(train, test, seed=3).settings["C"] != first.settings["C"]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_differences_are_paired(answers):
    before, after = (result(side) for side in zip(*answers, strict=True))
    found = paired_difference(before, after)
    assert found.gained == answers.count((False, True))
    assert found.lost == answers.count((True, False))
    assert found.mean == pytest.approx(np.mean(after.correct) - np.mean(before.correct))
    assert -1 <= found.low <= found.mean <= found.high <= 1
    assert found.low < found.high
    if found.gained + found.lost:
        assert found.p_value == binomtest(found.lost, found.gained + found.lost).pvalue
    back = paired_difference(after, before)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


def test_the_interval_is_bonetts_and_prices():
    # The example of `ci.prop.ps` in the R package statpsych: 12, 4, 26 and 6 pairs.
    answers = [(False, False)] * 12 + [(True, False)] * 4 + [(False, True)] * 26 + [(True, True)] * 6
    found = paired_difference(*(result(side) for side in zip(*answers, strict=True)))
    assert (found.low, found.high) == pytest.approx((0.2548067, 0.6251933), abs=1e-7)


@pytest.fixture(scope="module")
def pixels(pictures):
    return [LabelledSet(name, classifier.as_pixels(images, 16), labels) for name, images, labels in pictures]


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_the_small_network_learns_birds(pixels):
    real, _, test = pixels
    assert small_network(real, test, updates=35).low > 0.25
    assert small_network(shuffled(real), test, updates=15).high < 0.3


@pytest.mark.usefixtures("one_thread")
def test_the_small_network_is_the_same_for_a_seed_and_leaves_torchs_own_numbers_alone(pixels):
    real, synthetic, test = pixels
    torch.manual_seed(5)
    before = torch.get_rng_state()
    network = partial(small_network, updates=4, seed=3)
    first = compare_training_sets(real, synthetic, test, classify=network)
    assert (torch.get_rng_state() == before).all()
    torch.manual_seed(6)
    assert compare_training_sets(real, synthetic, test, classify=network) == first
    assert small_network(real, test, updates=4, seed=4).confusion != first.real.confusion


def halves(name, vertical, count):
    """Images of which one half is bright: left or right, or top or bottom."""
    ramp = np.repeat([40, 220], 8).astype(np.uint8)
    sides = [np.broadcast_to(edge, (16, 16)) for edge in (ramp, ramp[::-1])]
    images = [Image.fromarray((sides[i % 2].T if vertical else sides[i % 2]).copy()) for i in range(count)]
    return LabelledSet(name, classifier.as_pixels(images, 16), ["dark first", "bright first"] * (count // 2))


@pytest.mark.usefixtures("one_thread")
def test_the_small_network_sees_images_mirrored_left_to_right_and_never_upside_down():
    upright = small_network(halves("training", True, 16), halves("test", True, 8), updates=12)
    assert upright.accuracy == 1
    mirrored = small_network(halves("training", False, 16), halves("test", False, 8), updates=12)
    assert mirrored.accuracy == 0.5


def test_the_small_network_is_small():
    weights = sum(each.numel() for each in classifier._network(10).parameters())
    assert 200_000 < weights < 300_000


def test_images_become_pixels_channels_first():
    image = Image.new("RGB", (50, 20), (1, 2, 3))
    found = classifier.as_pixels([image, image.convert("L")], 24)
    assert found.shape == (2, 3, 24, 24)
    assert found.dtype == np.uint8
    assert (found[0] == np.array([1, 2, 3])[:, None, None]).all()
    column = Image.fromarray(np.tile(np.arange(16, dtype=np.uint8)[:, None, None] * 10, (1, 16, 3)))
    assert (classifier.as_pixels([column], 16)[0, 1, :, 5] == np.arange(16) * 10).all()
    assert classifier.as_pixels([], 24).shape == (0, 3, 24, 24)
    for size in (8, 128):
        with pytest.raises(ConfigError, match=f"{size} pixels"):
            classifier.as_pixels([image], size)


def test_the_result_is_json(compared):
    table = json.loads(json.dumps(dataclasses.asdict(compared), allow_nan=False))
    assert table["real"]["classes"] == list(LABELS)
    numbered = linear_probe(
        LabelledSet("training", np.eye(6), np.array([1, 1, 1, 0, 0, 0])),
        LabelledSet("test", np.eye(6)[1:5], [1, 1, 0, 0]),
    )
    assert json.loads(json.dumps(dataclasses.asdict(numbered)))["classes"] == [0, 1]


def test_classes_that_are_not_in_all_sets_are_named():
    real, test = blobs("real", list("aabbcc"), 0), blobs("test", list("abc"), 1)
    with pytest.raises(DataError, match="synthetic has no image of c"):
        compare_training_sets(real, blobs("synthetic", list("aabb"), 2), test, classify=linear_probe)
    with pytest.raises(DataError, match="test has no image of b, c"):
        linear_probe(real, blobs("test", list("aa"), 1))
    with pytest.raises(DataError, match="real has no image of d"):
        linear_probe(real, blobs("test", list("abcd"), 1))


def test_a_class_with_one_image_and_a_set_of_one_class_are_named():
    test = blobs("test", list("abc"), 1)
    with pytest.raises(DataError, match="training: class b has one image"):
        linear_probe(blobs("training", list("aabcc"), 0), test)
    with pytest.raises(DataError, match="synthetic: class b has one image"):
        compare_training_sets(
            blobs("real", list("aabbcc"), 0), blobs("synthetic", list("aabcc"), 0), test, classify=linear_probe
        )
    with pytest.raises(DataError, match="training: all images are of one class"):
        linear_probe(blobs("training", list("aaa"), 0), blobs("test", list("a"), 1))


def test_inputs_that_cannot_be_used_are_named(pixels):
    features = np.eye(4)
    features[2, 1] = np.nan
    with pytest.raises(DataError, match=r"synthetic: the features of image 2 \(and 0 more\) are NaN"):
        LabelledSet("synthetic", features, list("aabb"))
    with pytest.raises(DataError, match="real: there are 4 images and 3 labels"):
        LabelledSet("real", np.eye(4), list("aab"))
    with pytest.raises(DataError, match="real: there are 0 images"):
        LabelledSet("real", np.empty((0, 4)), [])
    two = LabelledSet("training", np.eye(4), list("aabb"))
    with pytest.raises(DataError, match=r"training has inputs of shape .4,. and test .3,."):
        linear_probe(two, LabelledSet("test", np.eye(3)[:2], list("ab")))
    with pytest.raises(DataError, match="real: features have shape"):
        linear_probe(pixels[0], pixels[2])
    with pytest.raises(DataError, match="training: images have shape"):
        small_network(two, LabelledSet("test", np.eye(4), list("aabb")))
