"""The built-in birds: what a label and a caption say is what is drawn, in every process and every style."""

import hashlib
import math
import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from toolkit.data import birds
from toolkit.data.bird_captions import KINDS, TEMPLATE_FILE, read_captions
from toolkit.data.bird_places import HIDING
from toolkit.data.bird_shapes import SPECIES
from toolkit.data.birds import LABELS, SIZES, SPLITS, STYLES, Bird, BirdsSource, draw_bird, sample_bird, split_of
from toolkit.errors import ConfigError, DataError

ROWS_DIGEST = "f83076918bbc7fabcccea1997269570a06a3bc5d2011f413748ee65a7c00f08d"
"""Of the captions and pictures of the first 100 rows of both styles. When it has to change, raise `birds.VERSION`."""

BIRDS = [sample_bird(0, index, "train") for index in range(3000)]
WORDS = read_captions()


def rows_digest() -> str:
    digest = hashlib.sha256()
    for style in STYLES:
        source = BirdsSource(style)
        for index in range(100):
            digest.update(f"{source.label(index)} {source.captions(index)[0]}".encode())
            digest.update(source.image(index).tobytes())
    return digest.hexdigest()


def pixels(bird: Bird, style: str, size: int = 64, index: int = 0) -> np.ndarray:
    return np.asarray(draw_bird(bird, style, size, 0, index)).astype(int)


def in_full_view(bird: Bird) -> Bird:
    return replace(bird, half_hidden_by=None, cover=None)


def within(bird: Bird, picture: np.ndarray) -> np.ndarray:
    left, top, right, bottom = (round(edge * len(picture)) for edge in bird.box)
    return picture[top:bottom, left:right]


def colour_share(bird: Bird, colour: tuple[int, int, int], index: int) -> float:
    """The share of the pixels of a bird's box that are of a colour, but for the light."""
    near = np.abs(within(bird, pixels(bird, "painted", 64, index)) - np.array(colour)).max(axis=2) < 40
    return float(near.mean())


def edited_templates(tmp_path: Path, kind: str, template: str) -> Path:
    content = yaml.safe_load(TEMPLATE_FILE.read_text())
    content["templates"][kind].append(template)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_rows_are_the_same_in_every_process() -> None:
    command = "from test_birds import rows_digest; print(rows_digest())"
    other = subprocess.run(
        [sys.executable, "-c", command], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == rows_digest() == ROWS_DIGEST


def test_a_row_does_not_depend_on_the_rows_read_before_it() -> None:
    forwards = [BirdsSource("sketch").image(index).tobytes() for index in range(4)]
    backwards = [BirdsSource("sketch").image(index).tobytes() for index in reversed(range(4))]
    assert forwards == backwards[::-1]


def test_labels_are_the_places_of_the_species_in_the_alphabet() -> None:
    assert list(LABELS) == sorted(SPECIES)
    assert len(LABELS) == 10
    source = BirdsSource()
    assert all(LABELS[source.label(index)] == source.bird(index).species for index in range(50))


@pytest.mark.parametrize("split", SPLITS)
def test_species_are_equally_frequent(split: str) -> None:
    counts = Counter(sample_bird(0, index, split).label for index in range(2000))
    assert sorted(counts) == list(range(10))
    # Four and a half standard deviations of a binomial.
    assert all(abs(count - 200) < 4.5 * math.sqrt(2000 * 0.1 * 0.9) for count in counts.values())


def test_captions_name_the_species_and_nothing_of_another() -> None:
    for bird in BIRDS:
        assert bird.species in bird.caption
        assert not any(other in bird.caption for other in LABELS if other != bird.species)
        assert bird.marks[0] != bird.marks[1]
        named = [mark for marks in WORDS.marks.values() for mark in marks if mark in bird.caption]
        own = [mark for mark in bird.marks if mark in bird.caption]
        # A mark may lie inside another species' longer one, but none is named that is not this bird's.
        assert set(named) <= {mark for mark in named if any(mark in each for each in own)}
        assert set(bird.marks) <= set(WORDS.marks[bird.species])


def test_captions_say_only_what_the_row_is() -> None:
    for bird in BIRDS:
        true = {
            "sizes": bird.size,
            "perches": bird.perch,
            "places": bird.background,
            "hidden": bird.half_hidden_by,
            "poses": bird.pose,
        }
        for table, key in true.items():
            rest = bird.caption
            phrases = getattr(WORDS, table)
            if key:
                rest = rest.replace(phrases[key], "_")
            assert not any(f" {phrase}" in f" {rest}" for phrase in phrases.values()), (table, bird.caption)
        assert ("half hidden" in bird.caption) == (bird.half_hidden_by is not None)
        assert not any(brace in bird.caption for brace in "{}")
        assert " a A" not in f" {bird.caption}" and " an B" not in f" {bird.caption}"


def test_every_template_is_used() -> None:
    for kind in KINDS:
        hidden = kind == "half_hidden"
        used = {bird.template for bird in BIRDS if (bird.half_hidden_by is not None) == hidden}
        assert used == set(range(len(WORDS.templates[kind])))


def test_the_first_birds_use_every_word_and_every_mark() -> None:
    assert {mark for bird in BIRDS for mark in bird.marks} == {mark for own in WORDS.marks.values() for mark in own}
    assert {(bird.species, bird.pose) for bird in BIRDS} == {
        (name, pose) for name in LABELS for pose in SPECIES[name].poses
    }
    assert {bird.size for bird in BIRDS} == set(WORDS.sizes) == set(SIZES)
    assert {bird.perch for bird in BIRDS} == set(WORDS.perches)
    assert {bird.background for bird in BIRDS} == set(WORDS.places)
    assert {bird.half_hidden_by for bird in BIRDS} == {None, *WORDS.hidden}
    assert {bird.mirrored for bird in BIRDS} == {True, False}


@pytest.mark.parametrize(
    ("kind", "template", "message"),
    [
        ("clear", "{a_species} with {mrak}", r"\{a_species\} with \{mrak\}[\s\S]*Did you mean `mark`\?"),
        ("clear", "{a_species with", r"`\{a_species with` is broken"),
        ("clear", "a bird {perch}", r"`a bird \{perch\}` names no species"),
        ("clear", "{species} {hidden}", r"`\{species\} \{hidden\}` is not for `clear`"),
        ("half_hidden", "{species}", r"`\{species\}` is not for `half_hidden`"),
        ("half_hidden", "{species} {hidden} {mark}", r"names marks, which may be hidden"),
    ],
)
def test_a_broken_template_is_refused_by_name(tmp_path: Path, kind: str, template: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_captions(edited_templates(tmp_path, kind, template))


def test_a_template_file_without_a_table_or_with_a_wrong_entry_is_refused(tmp_path: Path) -> None:
    content = yaml.safe_load(TEMPLATE_FILE.read_text())
    path = tmp_path / "mine.yaml"
    for edit, message in [
        ({"sizes": None}, r"`sizes\.` is None"),
        ({"marks": {**content["marks"], "Mallard": ["a green head"]}}, r"`marks\.Mallard` .*[\s\S]*2 or more"),
        ({"birds": {}}, r"mine\.yaml does not have the tables"),
    ]:
        path.write_text(yaml.safe_dump({**content, **edit}))
        with pytest.raises(DataError, match=message):
            read_captions(path)
    with pytest.raises(DataError, match=r"`sizes` has no entry `huge`"):
        WORDS.check_words("sizes", {*SIZES, "huge"})
    with pytest.raises(DataError, match=r"unknown entry `large`"):
        WORDS.check_words("sizes", {"small", "medium"})


def test_splits_share_no_description() -> None:
    train, validation = BirdsSource(split="train"), BirdsSource(split="validation")
    assert (len(train), len(validation)) == (2000, 256)
    assert (train.row_id(17), validation.row_id(0)) == ("train-000017", "validation-000000")
    trained = {train.bird(index).description for index in range(2000)}
    held_out = [validation.bird(index) for index in range(256)]
    assert not trained & {bird.description for bird in held_out}
    assert all(split_of(bird) == "validation" for bird in held_out)
    assert not {sample_bird(0, index, "train").description for index in range(2000, 5000)} & {
        bird.description for bird in held_out
    }


def test_every_species_has_descriptions_in_both_splits() -> None:
    for split in SPLITS:
        described = {sample_bird(0, index, split).description for index in range(500)}
        assert {species for species, *_ in described} == set(LABELS)


def test_both_styles_share_ids_labels_captions_and_birds() -> None:
    painted, sketch = BirdsSource("painted", count=30), BirdsSource("sketch", count=30)
    for index in range(30):
        assert painted.captions(index) == sketch.captions(index) == (painted.bird(index).caption,)
        assert painted.bird(index) == sketch.bird(index)
        assert (painted.row_id(index), painted.label(index)) == (sketch.row_id(index), sketch.label(index))


def test_one_in_six_is_hidden_by_what_grows_there() -> None:
    hidden = [bird for bird in BIRDS if bird.half_hidden_by]
    assert abs(len(hidden) - 500) < 3 * math.sqrt(3000 * 5 / 36)
    assert all(bird.background in HIDING[bird.half_hidden_by or ""] for bird in hidden)


def test_half_hidden_birds_are_hidden_between_a_quarter_and_a_half() -> None:
    hidden = [bird for bird in BIRDS[:1200] if bird.half_hidden_by]
    for index, bird in enumerate(hidden):
        change = np.abs(pixels(bird, "painted", 64, index) - pixels(in_full_view(bird), "painted", 64, index))
        share = float(within(bird, change.max(axis=2) > 8).mean())
        assert 0.23 < share < 0.52, (bird, share)


def test_birds_stay_inside_the_frame_and_differ_in_size() -> None:
    for bird in BIRDS:
        left, top, right, bottom = bird.box
        assert min(left, top, 1 - right, 1 - bottom) >= 0.019, bird
        expected = SIZES[bird.size] * SPECIES[bird.species].scale
        assert max(right - left, bottom - top) == pytest.approx(expected, rel=0.051)


MARKING_COLOURS = {
    "Northern Cardinal": "body",
    "Blue Jay": "wing",
    "American Goldfinch": "body",
    "American Robin": "breast",
    "Mallard": "head",
    "American Crow": "body",
    "Allen's Hummingbird": "green",
    "Great Blue Heron": "wing",
    "Snowy Owl": "body",
    "House Finch": "head",
}


def test_birds_have_the_colours_of_their_species() -> None:
    for index, bird in enumerate(BIRDS[:300]):
        share = colour_share(in_full_view(bird), SPECIES[bird.species].colours[MARKING_COLOURS[bird.species]], index)
        assert share > 0.025, (index, bird, share)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [32, 96])
def test_a_larger_picture_is_the_same_picture(style: str, size: int) -> None:
    for index, bird in enumerate(BIRDS[:10]):
        small = pixels(bird, style, size, index)
        large = draw_bird(bird, style, 4 * size, 0, index).resize((size, size), Image.Resampling.BOX)
        assert np.corrcoef(small.ravel(), np.asarray(large).ravel())[0, 1] > 0.93, bird


def test_sketches_are_grey_lines_on_white_and_paintings_are_not() -> None:
    for index, bird in enumerate(BIRDS[:40]):
        sketched, painted = (pixels(bird, style, 64, index) for style in ("sketch", "painted"))
        assert (np.ptp(sketched, axis=2) == 0).all()
        assert (sketched > 200).mean() > 0.5
        assert np.ptp(painted, axis=2).max() > 20


def test_more_rows_leave_the_first_as_they_are_and_seeds_differ() -> None:
    few, many = BirdsSource("sketch", count=5), BirdsSource("sketch", count=50)
    assert (len(few), len(many)) == (5, 50)
    assert few.image(4).tobytes() == many.image(4).tobytes()
    assert few.bird(4) != BirdsSource(seed=1).bird(4)


def test_images_are_rgb_at_the_size_asked_for() -> None:
    image = BirdsSource(size=100).image(0)
    assert (image.mode, image.size) == ("RGB", (100, 100))


def test_fingerprint_tells_sources_and_template_files_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = BirdsSource()
    others = [
        BirdsSource("sketch"),
        BirdsSource(split="validation"),
        BirdsSource(size=65),
        BirdsSource(count=1999),
        BirdsSource(seed=1),
    ]
    with monkeypatch.context() as patched:
        patched.setattr(birds, "_words", lambda: read_captions(edited_templates(tmp_path, "clear", "{species}")))
        reworded = BirdsSource()
    assert len({other.fingerprint() for other in [source, *others, reworded]}) == 7
    copy = pickle.loads(pickle.dumps(source))
    assert copy.fingerprint() == BirdsSource(count=2000).fingerprint() == source.fingerprint()
    assert copy.image(3).tobytes() == source.image(3).tobytes()


def test_unknown_styles_and_splits_and_small_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.dataset_config_name: `sketches`[\s\S]*Did you mean `sketch`\?"):
        BirdsSource("sketches")
    with pytest.raises(DataError, match=r"`test`[\s\S]*train, validation"):
        BirdsSource(split="test")
    with pytest.raises(ConfigError, match=r"data\.resolution: .* 31 pixels[\s\S]*32 pixels or more"):
        BirdsSource(size=31)
