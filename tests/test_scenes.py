"""The built-in scenes: what a caption says is what a picture shows, whatever the style, the size and the process."""

import hashlib
import pickle
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolkit.data.scene_shapes import FLYING, OBJECTS
from toolkit.data.scene_source import HELD_OUT_COLOURS, SPLITS, ScenesSource, split_of
from toolkit.data.scenes import (
    COLOURS,
    PLACES,
    RELATIONS,
    SIZES,
    STYLES,
    Scene,
    SceneObject,
    draw,
    sample_scene,
)
from toolkit.errors import ConfigError, DataError

ROWS_DIGEST = "e4fd9bdb525e4fc5ea7895be5564d0fca3240becc118b31de92ddf19f696cd17"
"""Of the captions and pictures of the first 100 rows of both styles. When it has to change, raise `scenes.VERSION`."""

SCENES = [sample_scene(0, index) for index in range(300)]
KINDS, COLOUR_WORDS = "|".join(OBJECTS), "|".join(COLOURS)
PHRASE = re.compile(rf"\ban? (?:({'|'.join(SIZES)}) )?({COLOUR_WORDS}) ({KINDS})\b")


def rows_digest() -> str:
    digest = hashlib.sha256()
    for style in STYLES:
        source = ScenesSource(style, "train")
        for index in range(100):
            digest.update(source.captions(index)[0].encode())
            digest.update(source.image(index).tobytes())
    return digest.hexdigest()


def pixels(scene: Scene, style: str, size: int = 64, index: int = 0) -> np.ndarray:
    return np.asarray(draw(scene, style, size, 0, index)).astype(int)


def touched(scene: Scene, style: str, size: int, index: int) -> np.ndarray:
    """Where the objects change the picture of their background, (size, size) bool."""
    empty = replace(scene, objects=())
    change = np.abs(pixels(scene, style, size, index) - pixels(empty, style, size, index))
    return np.asarray(change.max(axis=2) > 24)


def grown(mask: np.ndarray, reach: int) -> np.ndarray:
    padded = np.pad(mask, reach)
    offsets = range(2 * reach + 1)
    shifted = [padded[y : y + len(mask), x : x + len(mask)] for y in offsets for x in offsets]
    return np.asarray(np.any(shifted, axis=0))


def box_mask(scene: Scene, size: int) -> np.ndarray:
    mask = np.zeros((size, size), dtype=bool)
    for thing in scene.objects:
        left, top, right, bottom = (round(edge * size) for edge in thing.box)
        mask[top:bottom, left:right] = True
    return mask


def is_sketch(picture: np.ndarray) -> bool:
    grey = bool((np.ptp(picture, axis=2) == 0).all())
    return grey and bool((picture > 200).mean() > 0.6) and 0.003 < (picture < 100).mean() < 0.3


def test_rows_are_the_same_in_every_process() -> None:
    command = "from test_scenes import rows_digest; print(rows_digest())"
    other = subprocess.run(
        [sys.executable, "-c", command], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == rows_digest() == ROWS_DIGEST


def test_a_row_does_not_depend_on_the_rows_read_before_it() -> None:
    forwards = [ScenesSource("sketch", "train").image(index).tobytes() for index in range(4)]
    backwards = [ScenesSource("sketch", "train").image(index).tobytes() for index in reversed(range(4))]
    assert forwards == backwards[::-1]


@pytest.mark.parametrize("scene", SCENES[:60], ids=lambda scene: scene.caption)
def test_caption_names_every_object_once_with_its_colour(scene: Scene) -> None:
    found = [match.groups() for match in PHRASE.finditer(scene.caption)]
    assert found == [(thing.size if thing.size_named else None, thing.colour, thing.kind) for thing in scene.objects]
    rest = PHRASE.sub("_", scene.caption)
    sentence = {1: "_", 2: f"_ {scene.relation} _", 3: f"_ {scene.relation} _ and _"}[len(scene.objects)]
    assert rest == f"{sentence} {PLACES[scene.background]}"
    assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", scene.caption)


def test_the_first_scenes_use_every_word() -> None:
    things = [thing for scene in SCENES for thing in scene.objects]
    assert {thing.kind for thing in things} == set(OBJECTS)
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {thing.size for thing in things} == set(SIZES)
    assert {thing.size_named for thing in things} == {True, False}
    assert {scene.background for scene in SCENES} == set(PLACES)
    assert {scene.relation for scene in SCENES} == {None, *RELATIONS}
    assert {len(scene.objects) for scene in SCENES} == {1, 2, 3}


def test_kinds_do_not_repeat_in_a_scene() -> None:
    assert all(len({thing.kind for thing in scene.objects}) == len(scene.objects) for scene in SCENES)


def test_boxes_agree_with_sizes_and_shapes_and_stay_inside_the_frame() -> None:
    for thing in (thing for scene in SCENES for thing in scene.objects):
        left, top, right, bottom = thing.box
        assert min(left, top, 1 - right, 1 - bottom) >= 0.029
        assert max(right - left, bottom - top) == pytest.approx(SIZES[thing.size], rel=0.061)
        assert (right - left) / (bottom - top) == pytest.approx(OBJECTS[thing.kind].aspect)


def test_boxes_agree_with_relations() -> None:
    for scene in SCENES:
        boxes = [thing.box for thing in scene.objects]
        for left, top, right, bottom in boxes[1:]:
            across = min(right, boxes[0][2]) - max(left, boxes[0][0])
            if scene.relation == "next to":
                assert -0.08 < across < 0
                assert min(bottom, boxes[0][3]) > max(top, boxes[0][1])
            elif scene.relation == "above":
                assert boxes[0][3] < top
                assert scene.objects[0].kind in FLYING
            else:
                hidden = across * (min(bottom, boxes[0][3]) - max(top, boxes[0][1]))
                assert 0 < hidden < 0.41 * (right - left) * (bottom - top)
                assert boxes[0][3] > bottom


@pytest.mark.parametrize("style", STYLES)
def test_a_nearer_object_hides_a_farther_one(style: str) -> None:
    tree = SceneObject("tree", "red", "large", False, False, (0.3, 0.4, 0.7, 0.9))
    house = SceneObject("house", "blue", "large", False, False, (0.2, 0.3, 0.7, 0.8))
    crown = np.s_[66:86, 56:72]
    near, far = (pixels(Scene("meadow", pair, None), style, 128)[crown] for pair in [(tree, house), (house, tree)])
    assert (near == (COLOURS["red"] if style == "painted" else 255)).all()
    assert (far != near).any()


@pytest.mark.parametrize("style", STYLES)
def test_objects_fill_their_boxes_and_nothing_else(style: str) -> None:
    for index, scene in enumerate(SCENES[:40]):
        mask = touched(scene, style, 128, index)
        assert not (mask & ~grown(box_mask(scene, 128), 4)).any(), scene.caption
        if len(scene.objects) == 1:
            rows, columns = np.nonzero(mask)
            drawn = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert drawn == pytest.approx([128 * edge for edge in scene.objects[0].box], abs=4.5), scene.caption


def test_sketch_lines_follow_the_painted_shapes() -> None:
    for index, scene in enumerate(SCENES[:40]):
        painted, sketched = touched(scene, "painted", 128, index), touched(scene, "sketch", 128, index)
        assert (sketched & grown(painted, 3)).sum() > 0.97 * sketched.sum(), scene.caption
        assert sketched.sum() > 0.1 * painted.sum(), scene.caption


def test_sketches_are_black_lines_on_white_and_paintings_are_not() -> None:
    for index, scene in enumerate(SCENES[:60]):
        assert is_sketch(pixels(scene, "sketch", 64, index)), scene.caption
        assert not is_sketch(pixels(scene, "painted", 64, index)), scene.caption


def test_named_colours_appear_where_the_object_is() -> None:
    for index, scene in enumerate(SCENES[:100]):
        picture = pixels(scene, "painted", 64, index)
        for thing in scene.objects:
            left, top, right, bottom = (round(edge * 64) for edge in thing.box)
            inside = picture[top:bottom, left:right]
            exact = np.abs(inside - np.array(COLOURS[thing.colour])).max(axis=2) <= 6
            assert exact.sum() >= 4, (index, scene.caption, thing)


@pytest.mark.parametrize("style", STYLES)
def test_a_larger_picture_is_the_same_picture(style: str) -> None:
    for index, scene in enumerate(SCENES[:10]):
        small = pixels(scene, style, 64, index)
        large = np.asarray(draw(scene, style, 256, 0, index).resize((64, 64), Image.Resampling.BOX)).astype(int)
        # Another hand, which draws the same objects, agrees to about 0.6 in a sketch.
        assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.95, scene.caption


def test_both_styles_share_ids_captions_and_scenes() -> None:
    painted, sketch = ScenesSource("painted", "train", count=30), ScenesSource("sketch", "train", count=30)
    for index in range(30):
        assert painted.captions(index) == sketch.captions(index) == (painted.scene(index).caption,)
        assert painted.row_id(index) == sketch.row_id(index)
        assert painted.scene(index) == sketch.scene(index)


def test_splits_have_their_lengths_and_ids() -> None:
    sources = {split: ScenesSource("painted", split) for split in SPLITS}
    assert {split: len(source) for split, source in sources.items()} == SPLITS
    assert [source.row_id(17) for source in sources.values()] == [f"{split}-000017" for split in SPLITS]


def description(scene: Scene) -> tuple[object, ...]:
    """What there is to see, whatever the order in which a caption tells it."""
    first, *others = ((thing.kind, thing.colour) for thing in scene.objects)
    told = frozenset((first, *others)) if scene.relation == "next to" else (first, frozenset(others))
    return (scene.background, scene.relation, told)


def test_no_description_is_in_two_splits() -> None:
    """Not even with another size, place or side: those would be remembered, not understood."""
    seen = {}
    for split in ("train", "validation", "composition"):
        source = ScenesSource("painted", split)
        scenes = [source.scene(index) for index in range(len(source))]
        assert {split_of(scene) for scene in scenes} == {split}
        seen[split] = {description(scene) for scene in scenes}
    assert not seen["train"] & seen["validation"]
    assert not seen["composition"] & (seen["train"] | seen["validation"])


def test_neither_of_two_things_next_to_each_other_is_the_first() -> None:
    pairs = [scene for scene in map(partial(sample_scene, 0), range(2000)) if scene.relation == "next to"]
    assert all(split_of(scene) == split_of(replace(scene, objects=scene.objects[::-1])) for scene in pairs)


def test_all_has_every_combination_and_no_description_of_validation() -> None:
    source = ScenesSource("painted", "all")
    found = Counter(split_of(source.scene(index)) for index in range(600))
    assert found.keys() == {"train", "composition"}
    assert found["composition"] > 60


def test_held_out_combinations_are_in_every_row_of_composition_and_in_no_other() -> None:
    def held_out(scene: Scene) -> int:
        return sum(HELD_OUT_COLOURS[thing.kind] == thing.colour for thing in scene.objects)

    for split in ("train", "validation", "composition"):
        source = ScenesSource("painted", split)
        counts = [held_out(source.scene(index)) for index in range(250)]
        assert min(counts) >= 1 if split == "composition" else max(counts) == 0
    # Each half of a held-out combination is trained on with other partners.
    things = [thing for scene in SCENES if split_of(scene) == "train" for thing in scene.objects]
    assert HELD_OUT_COLOURS.keys() == {thing.kind for thing in things} == set(OBJECTS)
    assert set(HELD_OUT_COLOURS.values()) < {thing.colour for thing in things}
    assert "brown" not in HELD_OUT_COLOURS.values()


def test_a_split_does_not_change_how_many_objects_and_which_relations_there_are() -> None:
    for split in SPLITS:
        scenes = [ScenesSource("painted", split, count=600).scene(index) for index in range(600)]
        for count, expected in ((1, 0.4), (2, 0.4), (3, 0.2)):
            assert np.mean([len(scene.objects) == count for scene in scenes]) == pytest.approx(expected, abs=0.08)
        for relation in RELATIONS:
            assert np.mean([scene.relation == relation for scene in scenes]) == pytest.approx(0.2, abs=0.06)


def test_more_rows_leave_the_first_as_they_are_and_seeds_differ() -> None:
    few, many = ScenesSource("sketch", "train", count=5), ScenesSource("sketch", "train", count=50)
    assert (len(few), len(many)) == (5, 50)
    assert few.image(4).tobytes() == many.image(4).tobytes()
    assert few.scene(4) != ScenesSource("sketch", "train", seed=1).scene(4)


def test_images_are_rgb_at_the_size_asked_for() -> None:
    image = ScenesSource("sketch", "train", size=100).image(0)
    assert (image.mode, image.size) == ("RGB", (100, 100))


def test_fingerprint_tells_sources_apart_and_survives_pickling() -> None:
    source = ScenesSource("painted", "train")
    others = [
        ScenesSource("sketch", "train"),
        ScenesSource("painted", "validation"),
        ScenesSource("painted", "train", size=65),
        ScenesSource("painted", "train", count=1999),
        ScenesSource("painted", "train", seed=1),
    ]
    assert len({other.fingerprint() for other in [source, *others]}) == 6
    copy = pickle.loads(pickle.dumps(source))
    assert copy.fingerprint() == ScenesSource("painted", "train", count=2000).fingerprint() == source.fingerprint()
    assert copy.image(3).tobytes() == source.image(3).tobytes()


def test_an_unknown_style_names_the_key_and_the_nearest_style() -> None:
    with pytest.raises(ConfigError, match=r"data\.dataset_config_name: `sketches`[\s\S]*Did you mean `sketch`\?"):
        ScenesSource("sketches", "train")


def test_an_unknown_split_lists_the_splits() -> None:
    with pytest.raises(DataError, match=r"`test`[\s\S]*train, validation, composition, all"):
        ScenesSource("painted", "test")


def test_a_size_below_64_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.resolution: .* 32 pixels"):
        ScenesSource("painted", "train", size=32)
