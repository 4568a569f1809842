"""Which row a position reads, and what is drawn about it."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from toolkit.data.examples import Framing, HeldOutExamples, TrainingExamples, collate
from toolkit.data.source import Source


class Numbers(Source):
    """Row n is a gradient of 24 x 16 px, no two pixels alike, with three captions."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return self.rows

    def row_id(self, index):
        return f"row-{index}"

    def captions(self, index):
        return tuple(f"{index} {word}" for word in ("one", "two", "three"))

    def image(self, index):
        ramp = np.arange(24 * 16, dtype=np.uint16).reshape(16, 24)
        return Image.fromarray(np.stack([ramp // 2, ramp % 256, ramp * 0 + index], -1).astype(np.uint8))

    def fingerprint(self):
        return str(self.rows)


def examples(rows=10, seed=0, **changes):
    framing = Framing(16, "nearest", changes.pop("center_crop", False), changes.pop("random_flip", False))
    return TrainingExamples(Numbers(rows), seed=seed, framing=framing, **changes)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 2**32), st.integers(0, 5))
def test_every_pass_reads_every_row_once(rows, seed, epoch):
    dataset = examples(rows, seed)
    assert sorted(dataset.row(epoch * rows + i) for i in range(rows)) == list(range(rows))


def test_passes_and_seeds_have_their_own_order():
    dataset, other = examples(50), examples(50, seed=1)
    first, second = [dataset.row(i) for i in range(50)], [dataset.row(50 + i) for i in range(50)]
    assert first != second
    assert first != [other.row(i) for i in range(50)]
    assert first != sorted(first)


@given(st.integers(0, 10_000))
def test_an_example_is_a_function_of_its_position(position):
    first, again = examples(random_flip=True)[position], examples(random_flip=True)[position]
    assert torch.equal(first.image, again.image)
    assert first.caption == again.caption
    assert first.row_id == f"row-{examples().row(position)}"


def test_switching_the_flip_on_moves_no_crop_and_no_caption():
    plain, flipping = examples(), examples(random_flip=True)
    mirrored = 0
    for position in range(200):
        before, after = plain[position], flipping[position]
        assert before.caption == after.caption
        is_mirrored = not torch.equal(before.image, after.image)
        assert torch.equal(before.image.flip(-1) if is_mirrored else before.image, after.image)
        mirrored += is_mirrored
    assert 70 < mirrored < 130


def test_flip_and_crop_are_independent():
    plain, flipping = examples(), examples(random_flip=True)
    crops = Counter()
    for position in range(600):
        before, after = plain[position].image, flipping[position].image
        crops[(int(before[1, 0, 0] * 127.5 + 127.5) < 4, torch.equal(before, after))] += 1
    assert min(crops[(left, kept)] / 600 for left in (True, False) for kept in (True, False)) > 0.1


def test_random_crops_go_everywhere_and_centre_crops_stay():
    corners = {float(examples()[position].image[1, 0, 0]) for position in range(200)}
    assert len(corners) == 24 - 16 + 1
    assert len({float(examples(center_crop=True)[position].image[1, 0, 0]) for position in range(50)}) == 1


def test_captions_of_a_row_are_drawn_alike_and_the_template_is_filled():
    words = Counter(examples(caption_template="a {caption} sketch")[p].caption.split()[2] for p in range(600))
    assert set(words) == {"one", "two", "three"}
    assert min(words.values()) > 150
    assert examples(caption_template="a {caption} sketch")[0].caption.startswith("a ")


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_captions_are_dropped_as_often_as_asked(share):
    dropped = sum(examples(proportion_empty_prompts=share)[p].caption == "" for p in range(800)) / 800
    assert dropped == pytest.approx(share, abs=0.06)


def test_dropping_captions_changes_only_captions():
    plain, dropping = examples(), examples(proportion_empty_prompts=0.5)
    for position in range(50):
        assert torch.equal(plain[position].image, dropping[position].image)
        assert dropping[position].caption in ("", plain[position].caption)


def test_held_out_rows_are_always_seen_alike():
    dataset = HeldOutExamples(Numbers(4), framing=Framing(16, "nearest", False, True), caption_template="x {caption}")
    assert [dataset[i].caption for i in range(4)] == [f"x {i} one" for i in range(4)]
    batch = collate([dataset[i] for i in range(4)])
    assert torch.equal(batch.images[2], dataset[2].image)
    assert batch.images.shape == (4, 3, 16, 16)
    assert float(batch.images[0, 1, 0, 0] * 127.5 + 127.5) == 4.0
