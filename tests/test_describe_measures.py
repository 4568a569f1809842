"""What `python -m toolkit describe` measures of pictures, and how it finds those that are nearly the same."""

import io
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_folders import picture
from PIL import Image, ImageEnhance

from toolkit.data.birds import BirdsSource
from toolkit.data.describe.duplicates import (
    MOST_BITS,
    MOST_DISTANCE,
    closest_pair,
    difference_hash,
    distances,
    hash_pairs,
    near_duplicates,
    thumbnail,
)
from toolkit.data.describe.measure import aspect_ratios, colours, measure, read_pictures
from toolkit.data.describe.rows import Annotation, Rows, annotation_problems
from toolkit.data.scene_source import ScenesSource

HASHES = st.lists(
    st.tuples(st.sampled_from([0, 2**64 - 1, 0x0F0F3C3C00FF1234]), st.sets(st.integers(0, 63), max_size=6)), max_size=12
).map(lambda parts: np.array([base ^ sum(1 << bit for bit in bits) for base, bits in parts], dtype=np.uint64))


def jpeg(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def apart(first, second):
    """(bits, distance) of two pictures."""
    bits = (difference_hash(first) ^ difference_hash(second)).bit_count()
    return bits, distances(thumbnail(first)[None], thumbnail(second)[None])[0]


@given(HASHES, st.integers(1, 8))
def test_the_bands_together_find_every_pair_of_hashes_that_are_near_and_no_other(hashes, bands):
    found = set()
    for band in range(bands):
        for first, second in hash_pairs(hashes, band, bands):
            assert len(first) <= len(hashes)
            found |= {frozenset(pair) for pair in zip(first.tolist(), second.tolist(), strict=True)}
    near = {
        frozenset((a, b))
        for a, b in combinations(range(len(hashes)), 2)
        if (int(hashes[a]) ^ int(hashes[b])).bit_count() < bands
    }
    assert found == near


@given(HASHES, st.data(), st.integers(0, 7))
def test_groups_are_what_pairs_near_in_hash_and_pixels_connect(hashes, data, most_bits):
    levels = data.draw(st.lists(st.integers(0, 30), min_size=len(hashes), max_size=len(hashes)))
    thumbnails = np.array(levels, np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 16, 16, 3), np.uint8)
    group = list(range(len(hashes)))
    for a, b in combinations(range(len(hashes)), 2):
        if (int(hashes[a]) ^ int(hashes[b])).bit_count() <= most_bits and abs(levels[a] - levels[b]) <= 5:
            group = [group[a] if each == group[b] else each for each in group]
    wanted = [[i for i, each in enumerate(group) if each == name] for name in dict.fromkeys(group)]
    found = near_duplicates(hashes, thumbnails, most_bits=most_bits, most_distance=5)
    assert [part.tolist() for part in found] == [part for part in wanted if len(part) > 1]


def test_many_copies_of_one_picture_are_one_group_and_not_compared_two_by_two(monkeypatch):
    compared = []
    monkeypatch.setattr(
        "toolkit.data.describe.duplicates.distances", lambda a, b: compared.append(len(a)) or np.zeros(len(a))
    )
    count = 3000
    (group,) = near_duplicates(np.zeros(count, np.uint64), np.zeros((count, 16, 16, 3), np.uint8))
    assert len(group) == count
    assert sum(compared) < 2 * count


def test_the_hash_tells_where_it_gets_darker():
    falling = Image.fromarray(np.repeat(np.linspace(255, 0, 90, dtype=np.uint8)[None], 80, 0)).convert("RGB")
    assert difference_hash(falling) == 2**64 - 1
    assert difference_hash(falling.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) == 0
    half = falling.copy()
    half.paste("white", (0, 40, 90, 80))
    assert difference_hash(half) == 0xFFFFFFFF00000000


def test_distances_are_those_of_torch():
    first, second = (np.stack([np.asarray(picture(seed + i, 16, 16)) for i in range(3)]) for seed in (0, 9))
    wanted = torch.nn.functional.mse_loss(
        torch.tensor(first, dtype=torch.float64), torch.tensor(second, dtype=torch.float64), reduction="none"
    )
    assert distances(first, second) == pytest.approx(wanted.mean((1, 2, 3)).sqrt().numpy())


@pytest.mark.parametrize("source", [ScenesSource("sketch"), ScenesSource("painted"), BirdsSource("painted")])
def test_a_saved_shrunk_or_brightened_copy_is_near_and_another_picture_is_not(source):
    image, size = source.image(0), source.image(0).size
    copies = [jpeg(image, 50), image.resize((size[0] // 2, size[1] // 2), Image.Resampling.BICUBIC)]
    for copy in [*copies, ImageEnhance.Brightness(image).enhance(0.97)]:
        bits, distance = apart(image, copy)
        assert bits <= MOST_BITS and distance <= MOST_DISTANCE
    others = [source.image(row) for row in range(100)]
    hashes = np.array([difference_hash(other) for other in others], np.uint64)
    assert near_duplicates(hashes, np.stack([thumbnail(other) for other in others])) == []


def test_colours_are_those_of_torch_over_all_pixels_of_pictures_of_one_size():
    pictures = [picture(seed) for seed in range(4)]
    mean, std = colours(np.stack([measure(each, 0) for each in pictures]))
    pixels = torch.stack([torch.from_numpy(np.asarray(each) / 255) for each in pictures]).reshape(-1, 3)
    assert mean == pytest.approx(pixels.mean(0).numpy())
    assert std == pytest.approx(pixels.std(0, unbiased=False).numpy())


def test_a_large_picture_counts_no_more_than_a_small_one():
    black, white = (Image.new("RGB", size, colour) for size, colour in (((90, 90), "black"), ((3, 3), "white")))
    mean, std = colours(np.stack([measure(each, 0) for each in (black, white)]))
    assert mean == pytest.approx(0.5) and std == pytest.approx(0.5)


def test_a_picture_is_grey_unless_one_pixel_is_not():
    image = picture(0, channels=3).convert("L").convert("RGB")
    assert measure(image, 0)["grey"]
    image.putpixel((2, 3), (7, 7, 8))
    assert not measure(image, 0)["grey"]


@given(st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), min_size=1, max_size=20))
def test_every_picture_has_one_shape_and_turned_pictures_the_mirrored_one(sizes):
    widths, heights = np.array(sizes).T
    upright, turned = (list(aspect_ratios(*sides).values()) for sides in ((widths, heights), (heights, widths)))
    assert sum(upright) == len(sizes)
    assert upright == turned[::-1]


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((400, 300), "square to 4:3"),
        ((401, 300), "4:3 to 2:1"),
        ((3, 4), "3:4 to square"),
        ((7, 7), "square"),
        ((100, 201), "narrower than 1:2"),
        ((100, 200), "1:2 to 3:4"),
        ((201, 100), "wider than 2:1"),
    ],
)
def test_shapes_include_the_ratio_nearer_to_the_square(size, shape):
    assert [name for name, count in aspect_ratios(*np.array([size]).T).items() if count] == [shape]


def test_several_processes_read_what_one_does(tmp_path):
    rows = Rows(
        {"train": BirdsSource(size=32, count=40), "validation": BirdsSource(size=32, split="validation", count=30)}
    )
    one, two = (read_pictures(rows, range(3, 70), processes=count, progress=False) for count in (1, 2))
    assert one.seen.tobytes() == two.seen.tobytes()
    assert one.seen["row"].tolist() == list(range(3, 70))


@given(st.tuples(*[st.integers(1, 300)] * 4), st.integers(1, 50))
def test_a_box_is_right_as_long_as_it_lies_in_its_picture(numbers, beyond):
    left, top, width, height = numbers
    size = (left + width, top + height)
    for box in ([left, top, width, height], [0, 0, *size], None):
        assert annotation_problems(Annotation(box, None, None), size) == []
        assert annotation_problems(Annotation(box, *size), None) == []
        assert annotation_problems(Annotation(box, None, None), None) == []
    for words, box in {
        "reaches": [left + beyond, top, width, height],
        " reaches": [left, top, width, height + beyond],
        "begins outside": [-beyond, top, width, height],
        "no area": [left, top, 0, height],
    }.items():
        for given_size, read_size in (((None, None), size), (size, None)):
            (problem,) = annotation_problems(Annotation(box, *given_size), read_size)
            assert words in problem


@pytest.mark.parametrize("box", [[1, 2, 3], "1 2 3 4", [1, 2, "3", 4], [1, 2, float("nan"), 4], {"x": 1}])
def test_what_is_no_box_is_said_to_be_none(box):
    (problem,) = annotation_problems(Annotation(box, 5, 5), (5, 5))
    assert "not [left, top, width, height]" in problem


def test_a_row_that_says_another_size_than_its_picture_has_is_wrong_and_its_box_is_measured_on_the_picture():
    problems = annotation_problems(Annotation([0, 0, 9, 9], 10, 10), (5, 4))
    assert problems == [
        "its row says 10 x 10 pixels, and the picture has 5 x 4",
        "its box reaches 9, 9 in a picture of 5 x 4 pixels",
    ]


def test_the_closest_pair_is_of_different_sides_and_never_a_picture_with_itself():
    thumbnails = np.array([0, 9, 7, 30, 31], np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 16, 16, 3), np.uint8)
    pair = closest_pair([0, 1], [2, 3, 4], thumbnails)
    assert (pair.first, pair.second, pair.distance) == (1, 2, 2)
    pair = closest_pair([0, 1, 2, 3, 4], [0, 1, 2, 3, 4], thumbnails)
    assert (pair.first, pair.second, pair.distance) == (3, 4, 1)
