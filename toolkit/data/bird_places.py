"""Puts a bird of `builtin:birds` on its perch, before its background and behind what hides it, and draws it all."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from toolkit.data.bird_figures import PosedBird
from toolkit.data.bird_scenery import (
    BACKGROUNDS,
    BRANCH,
    COVER_COLOURS,
    COVERS,
    FEEDER,
    FLOWER,
    LAND_COLOURS,
    PERCH_COLOURS,
    POST,
    REEDS,
    RIPPLES,
    ROCK,
    SKIES,
    SPRIG,
    WATER,
)
from toolkit.data.scene_figures import Figure, Point
from toolkit.data.scene_styles import WHITE, Box, Colour, PlacedFigure, mix, paint, paint_sky, sketch

FOOT_HEIGHTS: dict[str, tuple[float, float]] = {
    "branch": (0.55, 0.84),
    "post": (0.55, 0.82),
    "feeder": (0.58, 0.82),
    "rock": (0.64, 0.84),
    "ground": (0.8, 0.94),
    "water": (0.7, 0.9),
    "reeds": (0.7, 0.9),
    "flower": (0.5, 0.75),
    "air": (0.4, 0.8),
}
"""By perch, the highest and the lowest place of what stands on it, as a share of the picture's height from the top."""
HIDING: dict[str, tuple[str, ...]] = {
    "leaves": ("woodland", "garden"),
    "reeds": ("lake",),
    "branch": ("woodland", "garden", "winter"),
    "snow": ("winter",),
}
"""What hides birds, and before which backgrounds."""

_SUPERSAMPLING = 4
_LIGHTS: tuple[Colour, ...] = ((255, 226, 178), (236, 242, 255), (120, 128, 168), (255, 255, 244))
"""Evening, noon, dusk and haze."""
_OUTLINE: Colour = (56, 52, 64)
_EYE_COLOURS: dict[str, Colour] = {"ink": (20, 18, 24), "glint": WHITE}


def hiding_box(random: np.random.Generator, kind: str, bird: Box) -> Box:
    """The bounds of something that hides between a quarter and a half of a bird's box."""
    left, top, right, bottom = bird
    width, height, share = right - left, bottom - top, random.uniform(0.34, 0.44)
    if kind == "snow":
        return (left - 0.4 * width, bottom - 1.05 * share * height, right + 0.4 * width, 1.05)
    if kind == "branch":
        # Its leaves leave gaps.
        middle = bottom - random.uniform(0.38, 0.6) * height
        reach = 0.66 * share * height
        return (-0.05, middle - reach, 1.05, middle + reach)
    if kind == "reeds":
        start = left + random.uniform(0, 1 - 1.12 * share) * width
        return (start, top - 0.1 * height, start + 1.12 * share * width, 1.02)
    near, far = (left - 0.3 * width, left + share * width), (right - share * width, right + 0.3 * width)
    first, last = far if random.integers(2) else near
    return (first, top - 0.2 * height, last, max(1.05, bottom + 0.2 * height))


def draw_picture(
    bird: PlacedFigure,
    pose: PosedBird,
    background: str,
    perch: str,
    cover: tuple[str, Box] | None,
    painted: bool,
    size: int,
    random: np.random.Generator,
) -> Image.Image:
    """Draws a bird with everything around it.

    Args:
        bird: The bird in its place, with the colours of its species.
        pose: Where its foot and its bill are.
        background: One of `BACKGROUNDS`.
        perch: One of `FOOT_HEIGHTS`.
        cover: What hides it, and the bounds of that; None where nothing does.
        painted: Whether colours fill the shapes; if not, it is a sketch.
        size: Side of the square in pixels.
        random: Decides light, hand and where small things are.
    """
    side = size * _SUPERSAMPLING
    canvas = Image.new("RGB", (side, side), WHITE)
    pen = ImageDraw.Draw(canvas)
    light = (_LIGHTS[int(random.integers(len(_LIGHTS)))], random.uniform(0, 0.22))
    # Both styles place everything before the first stroke, so that they place it alike.
    behind = [_lit(thing, light) for thing in (*_land(background, random), *_behind(perch, bird, pose, random))]
    before = [_lit(thing, light, 0.6) for thing in (*_before(perch, bird, pose), *_covers(cover, random))]
    bird = _lit(bird, light, 0.3)
    bird = replace(bird, colours={**_EYE_COLOURS, **bird.colours})
    if painted:
        _paint_all(pen, behind, bird, before, [mix(colour, *light) for colour in SKIES[background]], side)
    else:
        for thing in (*behind, bird, *before):
            sketch(pen, thing, side, random)
    return canvas.reduce(_SUPERSAMPLING)


def _paint_all(
    pen: ImageDraw.ImageDraw,
    behind: list[PlacedFigure],
    bird: PlacedFigure,
    before: list[PlacedFigure],
    sky: list[Colour],
    side: int,
) -> None:
    paint_sky(pen, sky[0], sky[1], side)
    # The outline runs around the whole bird and not around each part: it is drawn first and shows where it sticks out.
    shadow = replace(bird, colours=dict.fromkeys((*bird.colours, "outline"), _OUTLINE))
    for thing in (*behind, shadow, bird, *before):
        paint(pen, thing, side)


def _lit(thing: PlacedFigure, light: tuple[Colour, float], share: float = 1.0) -> PlacedFigure:
    """The thing in a light of a colour and a strength; what is nearer takes less of it."""
    colour, strength = light
    return replace(thing, colours={role: mix(own, colour, share * strength) for role, own in thing.colours.items()})


def _land(name: str, random: np.random.Generator) -> Iterator[PlacedFigure]:
    background, colours = BACKGROUNDS[name], LAND_COLOURS[name]
    yield PlacedFigure(background.land, (0.0, 0.0, 1.0, 1.0), bool(random.integers(2)), colours)
    for scatter in background.scatters:
        left, top, right, bottom = scatter.region
        for i in range(scatter.count):
            across, y, height = random.uniform((0, top, scatter.heights[0]), (1, bottom, scatter.heights[1])).tolist()
            x = left + (right - left) * (i + across) / scatter.count
            yield PlacedFigure(scatter.figure, _around(x, y, height * scatter.figure.aspect, height), False, colours)


def _around(x: float, y: float, width: float, height: float) -> Box:
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _place_of(bird: PlacedFigure, point: Point) -> Point:
    """A point of the figure's unit box, in the picture."""
    (x, y), (width, height) = bird.corner, bird.extent
    return (x + width * point[0], y + height * point[1])


def _behind(perch: str, bird: PlacedFigure, pose: PosedBird, random: np.random.Generator) -> Iterator[PlacedFigure]:
    """What the bird is on or at, as far as it is behind the bird."""
    x, y = _place_of(bird, pose.foot)

    def placed(shape: Figure, left: float, top: float, width: float, height: float, flip: bool = False) -> PlacedFigure:
        return PlacedFigure(shape, (left, top, left + width, top + height), flip, PERCH_COLOURS)

    if perch == "branch":
        for across in random.uniform(0, 1, 3).tolist():
            yield placed(SPRIG, across - 0.1, y - 0.075, 0.2, 0.1, bool(random.integers(2)))
        yield placed(BRANCH, -0.1, y, 1.2, 0.08, bool(random.integers(2)))
    elif perch == "post":
        yield placed(POST, x - 0.08, y, 0.16, 0.64)
    elif perch == "feeder":
        yield placed(FEEDER, x - 0.28, y, 0.56, 1.12)
    elif perch == "rock":
        yield placed(ROCK, x - 0.32, y - 0.01, 0.64, max(0.3, 1.02 - y), bool(random.integers(2)))
    elif perch in ("water", "reeds"):
        yield placed(WATER, 0.0, y - 0.13, 1.0, 1.15 - y)
        for i, (across, height) in enumerate(random.uniform((0, 0.3), (1, 0.45), (7, 2)).tolist()):
            if perch == "reeds":
                yield placed(REEDS, (i + across) / 7 - 0.08, y - 0.02 - height, 0.36 * height, height)
    elif perch == "flower":
        x, y = _place_of(bird, pose.bill)
        forwards = -1 if bird.mirrored else 1
        left = x - 0.02 * forwards if forwards > 0 else x + 0.02 - 0.18
        yield placed(FLOWER, left, y - 0.04, 0.18, 0.4, bird.mirrored)


def _before(perch: str, bird: PlacedFigure, pose: PosedBird) -> Iterator[PlacedFigure]:
    """The water line, which the bird is in."""
    if perch in ("water", "reeds"):
        x, y = _place_of(bird, pose.foot)
        width = 0.72 * (bird.box[2] - bird.box[0])
        yield PlacedFigure(RIPPLES, (x - width / 2, y - 0.02, x + width / 2, y + 0.05), False, PERCH_COLOURS)


def _covers(cover: tuple[str, Box] | None, random: np.random.Generator) -> Iterator[PlacedFigure]:
    if cover:
        yield PlacedFigure(COVERS[cover[0]], cover[1], bool(random.integers(2)), COVER_COLOURS[cover[0]])
