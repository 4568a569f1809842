"""`builtin:scenes`: captioned scenes of one to three objects, made of nothing but a seed and a number.

A `Scene` says what there is and where; its caption and its pictures are functions of it, so they cannot disagree.
The same scene is drawn `painted` (filled colours on a sky and a ground) or as a `sketch` (a black freehand line on
white paper, where nearer things hide farther ones).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from toolkit.data.scene_shapes import BACKGROUNDS, FLYING, OBJECTS
from toolkit.data.scene_styles import STYLES, WHITE, Box, Colour, PlacedFigure, mix, paint, paint_sky, sketch
from toolkit.draws import stream

VERSION = 3
"""To be raised whenever a row's caption or picture changes."""

COLOURS: dict[str, Colour] = {
    "red": (214, 48, 49),
    "orange": (245, 134, 32),
    "yellow": (250, 214, 52),
    "green": (46, 146, 70),
    "blue": (44, 104, 206),
    "purple": (132, 70, 178),
    "pink": (246, 146, 186),
    "brown": (134, 84, 48),
}
SIZES = {"small": 0.33, "large": 0.5}
"""The longer side of an object, as a share of the picture's."""
RELATIONS = ("next to", "above", "in front of")
PLACES = {"meadow": "in a meadow", "beach": "on a beach", "night": "under a night sky"}

_COUNTS = (1, 1, 2, 2, 3)
"""Numbers of objects, equally likely."""
_MARGIN = 0.03
"""The least distance of an object from the frame."""
_SUPERSAMPLING = 4
_FIXED_COLOURS: dict[str, Colour] = {
    "pale": (252, 248, 238),
    "ink": (44, 40, 50),
    "wood": (150, 104, 62),
    "leaf": (64, 132, 60),
    "accent": (255, 196, 60),
}
_SKIES: dict[str, tuple[Colour, Colour]] = {
    "meadow": ((128, 190, 240), (224, 242, 250)),
    "beach": ((104, 186, 238), (246, 240, 224)),
    "night": ((18, 20, 58), (70, 72, 130)),
}
_LAND_COLOURS: dict[str, dict[str, Colour]] = {
    "meadow": {"hill": (164, 206, 150), "ground": (176, 214, 112), "cloud": (252, 253, 255), "grass": (116, 172, 70)},
    "beach": {
        "sea": (64, 158, 190),
        "ground": (240, 220, 172),
        "cloud": (255, 252, 248),
        "foam": (214, 240, 244),
        "pebble": (206, 180, 134),
    },
    "night": {"hill": (50, 62, 92), "ground": (74, 96, 92), "star": (255, 246, 200), "moon": (255, 240, 186)},
}

GROUNDS: dict[str, Colour] = {background: colours["ground"] for background, colours in _LAND_COLOURS.items()}
"""What painted scenes stand on."""


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object of a scene."""

    kind: str
    colour: str
    size: str
    size_named: bool
    """Whether the caption speaks of the size."""
    mirrored: bool
    box: Box
    """The bounds of its outline."""

    @property
    def phrase(self) -> str:
        words = [*([self.size] if self.size_named else []), self.colour, self.kind]
        return f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to see."""

    background: str
    objects: tuple[SceneObject, ...]
    """One to three, of different kinds, the nearest first."""
    relation: str | None
    """How the first object stands to each of the others; None where it is alone."""

    @property
    def caption(self) -> str:
        first, *others = (thing.phrase for thing in self.objects)
        related = [self.relation, " and ".join(others)] if self.relation else []
        return " ".join([first, *related, PLACES[self.background]])


def sample_scene(seed: int, index: int, accept: Callable[[Scene], bool] = lambda scene: True) -> Scene:
    """The first scene that is accepted of those numbered `index` (0 <= index < 2**64) of a seed."""
    random = stream(seed, "scenes.layout", index)
    background = _choose(random, tuple(PLACES))
    count = _COUNTS[int(random.integers(len(_COUNTS)))]
    relation = _choose(random, RELATIONS) if count > 1 else None
    # Not everything fits everywhere; trying again leaves the shares of counts and relations as they were drawn.
    while True:
        objects = _try_objects(random, count, relation)
        if all(_MARGIN <= edge <= 1 - _MARGIN for thing in objects for edge in thing.box) and _holds(relation, objects):
            scene = Scene(background, objects, relation)
            if accept(scene):
                return scene


def _choose(random: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(random.integers(len(words)))]


def _try_objects(random: np.random.Generator, count: int, relation: str | None) -> tuple[SceneObject, ...]:
    """Objects placed for a relation, which may still stick out of the frame or miss the relation."""
    first = _choose(random, FLYING if relation == "above" else tuple(OBJECTS))
    others = [kind for kind in OBJECTS if kind != first]
    kinds = [first, *(others[i] for i in random.permutation(len(others))[: count - 1])]
    sizes = [_choose(random, tuple(SIZES)) for _ in kinds]
    extents = [_extent(kind, size, random.uniform(0.94, 1.06)) for kind, size in zip(kinds, sizes, strict=True)]
    boxes = _place(random, relation, kinds, extents)
    return tuple(
        SceneObject(
            kind, _choose(random, tuple(COLOURS)), size, bool(random.integers(2)), bool(random.integers(2)), box
        )
        for kind, size, box in zip(kinds, sizes, boxes, strict=True)
    )


def _extent(kind: str, size: str, factor: float) -> tuple[float, float]:
    aspect = OBJECTS[kind].aspect
    side = SIZES[size] * factor
    return (side, side / aspect) if aspect > 1 else (side * aspect, side)


def _place(
    random: np.random.Generator, relation: str | None, kinds: list[str], extents: list[tuple[float, float]]
) -> list[Box]:
    if relation is None:
        (width, height), flies = extents[0], kinds[0] in FLYING
        left = random.uniform(_MARGIN, 1 - _MARGIN - width)
        return [_standing(left, random.uniform(0.45, 0.85) if flies else random.uniform(0.8, 0.96), width, height)]
    if relation == "next to":
        order = [1, 0, 2][: len(kinds)] if random.integers(2) else [2, 0, 1][-len(kinds) :]
        boxes = dict(zip(order, _row(random, [extents[i] for i in order], random.uniform(0.8, 0.92)), strict=True))
        return [boxes[i] for i in range(len(kinds))]
    ground = random.uniform(0.86, 0.94) if relation == "above" else random.uniform(0.72, 0.84)
    others = _row(random, extents[1:], ground)
    width, height = extents[0]
    middle = (others[0][0] + others[-1][2]) / 2
    if relation == "above":
        ceiling = min(box[1] for box in others)
        left = middle - width / 2 + random.uniform(-0.06, 0.06)
        return [_standing(left, ceiling - random.uniform(0.02, 0.12), width, height), *others]
    left = middle - width / 2 + random.uniform(-0.3, 0.3) / len(others) ** 2
    return [_standing(left, max(box[3] for box in others) + random.uniform(0.06, 0.12), width, height), *others]


def _row(random: np.random.Generator, extents: list[tuple[float, float]], ground: float) -> list[Box]:
    """Boxes side by side, standing at about the same height; they stick out to the right where they are too wide."""
    gaps = [random.uniform(0.02, 0.07) for _ in extents[1:]]
    slack = 1 - 2 * _MARGIN - sum(width for width, _ in extents) - sum(gaps)
    left = _MARGIN + max(slack, 0) * random.random()
    boxes = []
    for (width, height), gap in zip(extents, [*gaps, 0.0], strict=True):
        boxes.append(_standing(left, ground + random.uniform(-0.03, 0.03), width, height))
        left += width + gap
    return boxes


def _standing(left: float, bottom: float, width: float, height: float) -> Box:
    return (left, bottom - height, left + width, bottom)


def _holds(relation: str | None, objects: tuple[SceneObject, ...]) -> bool:
    """Whether an object in front hides a part of each of the others, and leaves enough of them to see."""
    if relation != "in front of":
        return True
    first, *others = (thing.box for thing in objects)
    return all(0.06 <= _hidden_share(box, first) <= 0.4 for box in others)


def _hidden_share(box: Box, nearer: Box) -> float:
    width = min(box[2], nearer[2]) - max(box[0], nearer[0])
    height = min(box[3], nearer[3]) - max(box[1], nearer[1])
    return max(width, 0) * max(height, 0) / ((box[2] - box[0]) * (box[3] - box[1]))


def draw(scene: Scene, style: str, size: int, seed: int = 0, index: int = 0) -> Image.Image:
    """The picture of a scene.

    Args:
        scene: What to draw.
        style: `painted` or `sketch`.
        size: Side of the square in pixels, 64 or more. Sizes differ in detail, not in what is where.
        seed: With `index`, decides how the hand trembles and where clouds, grass and the like are.
        index: The number of the scene.

    Returns:
        RGB, `size` x `size`; a sketch has equal channels.
    """
    assert style in STYLES, style
    side = size * _SUPERSAMPLING
    random = stream(seed, "scenes.strokes", index)
    canvas = Image.new("RGB", (side, side), WHITE)
    pen = ImageDraw.Draw(canvas)
    # Both styles place everything before the first stroke, so that they place it alike.
    things = list(_placed(scene, random))
    if style == "painted":
        paint_sky(pen, *_SKIES[scene.background], side)
    for thing in things:
        if style == "painted":
            paint(pen, thing, side)
        else:
            sketch(pen, thing, side, random)
    return canvas.reduce(_SUPERSAMPLING)


def _placed(scene: Scene, random: np.random.Generator) -> Iterator[PlacedFigure]:
    """Everything but the sky, the farthest first."""
    background, colours = BACKGROUNDS[scene.background], _LAND_COLOURS[scene.background]
    yield PlacedFigure(background.land, (0.0, 0.0, 1.0, 1.0), bool(random.integers(2)), colours)
    for scatter in background.scatters:
        left, top, right, bottom = scatter.region
        least, greatest = scatter.heights
        for i in range(scatter.count):
            across, y, height = random.uniform((0, top, least), (1, bottom, greatest)).tolist()
            x = left + (right - left) * (i + across) / scatter.count
            width = height * scatter.figure.aspect
            yield PlacedFigure(scatter.figure, _standing(x - width / 2, y + height / 2, width, height), False, colours)
    for thing in reversed(scene.objects):
        yield PlacedFigure(OBJECTS[thing.kind], thing.box, thing.mirrored, _object_colours(COLOURS[thing.colour]))


def _object_colours(body: Colour) -> dict[str, Colour]:
    shades = {"body": body, "shade": mix(body, (20, 0, 40), 0.25), "tint": mix(body, WHITE, 0.5)}
    return {**_FIXED_COLOURS, **shades, "outline": mix(body, (20, 0, 30), 0.62)}
