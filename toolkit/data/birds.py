"""`builtin:birds`: ten real species of birds with labels and captions, made of nothing but a seed and a number.

A `Bird` says what there is to see; label, caption and pictures are functions of it, so they cannot disagree. The same
bird is drawn `painted` or as a `sketch`, with the two pens of `builtin:scenes`.
"""

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from toolkit.data.bird_captions import Captions, read_captions, with_article
from toolkit.data.bird_figures import PosedBird, posed
from toolkit.data.bird_places import FOOT_HEIGHTS, HIDING, draw_picture, hiding_box
from toolkit.data.bird_scenery import BACKGROUNDS
from toolkit.data.bird_shapes import SPECIES
from toolkit.data.drawn import DrawnSource
from toolkit.data.scene_styles import STYLES, Box, PlacedFigure
from toolkit.draws import stream

VERSION = 2
"""To be raised whenever a row's label, caption or picture changes."""

LABELS = tuple(sorted(SPECIES))
"""The species, in the order of their labels."""
SPLITS = {"train": 2000, "validation": 256}
"""How many rows a split has where nobody says."""
SIZES = {"small": 0.5, "medium": 0.62, "large": 0.76}
"""The longer side of a bird of scale 1, as a share of the picture's."""
SMALLEST = 32
"""Pixels."""

_VALIDATION_SHARE = 8
"""One in so many descriptions of a species is never trained on."""
_HIDDEN_SHARE = 6
"""One in so many birds is half hidden."""
_MARGIN = 0.02
"""The least distance of a bird from the frame."""


@dataclass(frozen=True, slots=True)
class Bird:
    """The ground truth of a row."""

    species: str
    pose: str
    size: str
    perch: str
    background: str
    half_hidden_by: str | None
    mirrored: bool
    """Whether it looks to the left."""
    template: int
    """The number of its caption's template among those of its kind."""
    marks: tuple[str, str]
    """Two of the marks that it is told by, as captions name them."""
    box: Box
    """The bounds of its outline, whether hidden or not."""
    cover: Box | None
    """The bounds of what hides it."""

    @property
    def label(self) -> int:
        return LABELS.index(self.species)

    @property
    def description(self) -> tuple[str, str, str, str]:
        """What the splits share no value of: species, pose, perch and background in combination."""
        return (self.species, self.pose, self.perch, self.background)

    @property
    def caption(self) -> str:
        """A sentence from the template file."""
        words = _words()
        return words.templates["half_hidden" if self.half_hidden_by else "clear"][self.template].format(
            species=self.species,
            a_species=with_article(self.species),
            mark=self.marks[0],
            marks=" and ".join(self.marks),
            pose=words.poses[self.pose],
            perch=words.perches[self.perch],
            place=words.places[self.background],
            size=words.sizes[self.size],
            hidden=words.hidden.get(self.half_hidden_by or ""),
        )


@cache
def _words() -> Captions:
    words = read_captions()
    words.check_words("sizes", set(SIZES))
    words.check_words("poses", {pose for species in SPECIES.values() for pose in species.poses})
    words.check_words("perches", set(FOOT_HEIGHTS))
    words.check_words("places", set(BACKGROUNDS))
    words.check_words("hidden", set(HIDING))
    words.check_words("marks", set(SPECIES))
    return words


@cache
def _posed(species: str, pose: str) -> PosedBird:
    return posed(SPECIES[species], SPECIES[species].poses[pose])


@cache
def _held_out(name: str) -> frozenset[tuple[str, str, str, str]]:
    """A species' descriptions that are never trained on: those that hash lowest."""
    species = SPECIES[name]
    all_of_them = [
        (name, pose, perch, background)
        for pose, where in species.poses.items()
        for perch in where.perches
        for background in species.backgrounds
    ]
    ordered = sorted(all_of_them, key=lambda each: hashlib.blake2b(repr(each).encode(), digest_size=8).digest())
    return frozenset(ordered[: max(1, len(ordered) // _VALIDATION_SHARE)])


def split_of(bird: Bird) -> str:
    """The split that a bird belongs to, by its description: how near it is and what is said of it do not matter."""
    return "validation" if bird.description in _held_out(bird.species) else "train"


def sample_bird(seed: int, index: int, split: str | None = None) -> Bird:
    """The bird of a number.

    Args:
        seed: Another seed gives other birds.
        index: 0 <= index < 2**64.
        split: The split that it has to belong to; None is any.

    Returns:
        All species are equally likely, whatever the split.
    """
    random = stream(seed, "birds.layout", index)
    # Drawn once, and not again with the rest, so that no species is rarer for what its descriptions hash to.
    species = _choose(random, LABELS)
    hidden = int(random.integers(_HIDDEN_SHARE)) == 0
    while True:
        bird = _try_bird(random, species, hidden)
        if split in (None, split_of(bird)):
            return bird


def _choose(random: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(random.integers(len(words)))]


def _try_bird(random: np.random.Generator, name: str, hidden: bool) -> Bird:
    species, words = SPECIES[name], _words()
    pose = _choose(random, tuple(species.poses))
    perch = _choose(random, species.poses[pose].perches)
    background = _choose(random, species.backgrounds)
    size = _choose(random, tuple(SIZES))
    hiding = _choose(random, tuple(kind for kind, places in HIDING.items() if background in places))
    kind = "half_hidden" if hidden else "clear"
    first, second = random.permutation(len(words.marks[name]))[:2].tolist()
    mirrored = bool(random.integers(2))
    box = _place(random, _posed(name, pose), SIZES[size] * species.scale, perch, mirrored)
    return Bird(
        species=name,
        pose=pose,
        size=size,
        perch=perch,
        background=background,
        half_hidden_by=hiding if hidden else None,
        mirrored=mirrored,
        template=int(random.integers(len(words.templates[kind]))),
        marks=(words.marks[name][first], words.marks[name][second]),
        box=box,
        cover=hiding_box(random, hiding, box) if hidden else None,
    )


def _place(random: np.random.Generator, bird: PosedBird, side: float, perch: str, mirrored: bool) -> Box:
    """A box inside the frame, whose foot is where the perch can be."""
    side *= random.uniform(0.95, 1.05)
    aspect = bird.painted.aspect
    width, height = (side, side / aspect) if aspect > 1 else (side * aspect, side)
    # A flower takes its place before the bill.
    ahead = 0.14 if perch == "flower" else 0.0
    before, behind = (ahead, 0.0) if mirrored else (0.0, ahead)
    left = random.uniform(_MARGIN + before, max(_MARGIN + before, 1 - _MARGIN - behind - width))
    highest, lowest = FOOT_HEIGHTS[perch]
    foot = height * bird.foot[1]
    least, most = _MARGIN, 1 - _MARGIN - height
    top = min(max(random.uniform(highest, lowest) - foot, least), max(least, most))
    return (left, top, left + width, top + height)


def draw_bird(bird: Bird, style: str, size: int, seed: int = 0, index: int = 0) -> Image.Image:
    """The picture of a bird.

    Args:
        bird: What to draw.
        style: `painted` or `sketch`.
        size: Side of the square in pixels, 32 or more. Sizes differ in detail, not in what is where.
        seed: With `index`, decides the light, how the hand trembles and where leaves, waves and the like are.
        index: The number of the bird.

    Returns:
        RGB, `size` x `size`; a sketch has equal channels.
    """
    assert style in STYLES, style
    species, figures = SPECIES[bird.species], _posed(bird.species, bird.pose)
    figure = figures.painted if style == "painted" else figures.sketched
    placed = PlacedFigure(figure, bird.box, bird.mirrored, species.colours)
    cover = (bird.half_hidden_by, bird.cover) if bird.half_hidden_by and bird.cover else None
    random = stream(seed, "birds.strokes", index)
    return draw_picture(placed, figures, bird.background, bird.perch, cover, style == "painted", size, random)


class BirdsSource(DrawnSource):
    """Rows of `builtin:birds`; `train` and `validation` share no `Bird.description`."""

    name = "builtin:birds"
    splits = SPLITS
    smallest = SMALLEST

    def _version(self) -> tuple[int, str]:
        return (VERSION, _words().digest)

    def bird(self, index: int) -> Bird:
        """The row's ground truth: what its label, its caption and its picture are made from."""
        return sample_bird(self._seed, self._number(index), self._split)

    def label(self, index: int) -> int:
        """The place of the row's species in `LABELS`."""
        return self.bird(index).label

    @property
    def label_names(self) -> tuple[str, ...]:
        return LABELS

    def captions(self, index: int) -> tuple[str, ...]:
        return (self.bird(index).caption,)

    def image(self, index: int) -> Image.Image:
        return draw_bird(self.bird(index), self.style, self._size, self._seed, self._number(index))
