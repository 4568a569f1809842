"""How the birds of `builtin:birds` are put together and posed.

A bird is drawn once, at rest and facing right, in groups that move as one: tail, body, folded wing, head and legs. A
pose turns the body about the hip and the head about the neck, and may spread the wings.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from toolkit.data.scene_figures import Figure, Outline, Point, bend, blob, figure, line
from toolkit.data.scene_styles import Colour

Outlines = tuple[Outline, ...]

_HATCHING = 6.5
"""Distance of the lines that darken a part of a sketch, on the grid of the birds."""


@dataclass(frozen=True, slots=True)
class Pose:
    """What a bird does, and where it can do it."""

    body: float
    """Degrees that the body leans forward from where it is at rest."""
    head: float
    """Degrees that the head bows, in addition."""
    perches: tuple[str, ...]
    legs: bool = True
    spread: bool = False
    """Whether the wings are spread."""


@dataclass(frozen=True, slots=True)
class Species:
    """The anatomy of a bird, on a grid of about 100 with x to the right and y down."""

    tail: Outlines
    body: Outlines
    wing: Outlines
    head: Outlines
    legs: Outlines
    near_wing: Outlines
    """Spread; its root is the origin."""
    far_wing: Outlines
    hip: Point
    neck: Point
    shoulder: Point
    foot: Point
    """What stands on the perch, or lies at the water line."""
    scale: float
    """How large it is in the picture beside the others."""
    poses: dict[str, Pose]
    backgrounds: tuple[str, ...]
    colours: dict[str, Colour]
    """Of the roles of its outlines."""
    dark: frozenset[str]
    """The roles that a sketch hatches."""


@dataclass(frozen=True, slots=True)
class PosedBird:
    """A species in a pose."""

    painted: Figure
    sketched: Figure
    """The same, with the dark parts hatched."""
    foot: Point
    """Of `Species.foot`, in the figure's unit box; in the air it means nothing."""
    bill: Point
    """The foremost point, in the figure's unit box."""


def turned(outlines: Outlines, degrees: float, pivot: Point) -> Outlines:
    """Outlines rotated about a point, clockwise to the eye."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def turn(point: Point) -> Point:
        x, y = point[0] - pivot[0], point[1] - pivot[1]
        return (pivot[0] + x * cosine - y * sine, pivot[1] + x * sine + y * cosine)

    return _mapped(outlines, turn)


def resized(outlines: Outlines, x: float, y: float, pivot: Point) -> Outlines:
    """Outlines stretched by the two factors away from a point that stays."""
    return _mapped(outlines, lambda p: (pivot[0] + (p[0] - pivot[0]) * x, pivot[1] + (p[1] - pivot[1]) * y))


def _mapped(outlines: Outlines, place: Callable[[Point], Point]) -> Outlines:
    return tuple(replace(outline, points=tuple(place(point) for point in outline.points)) for outline in outlines)


def feet(hips: tuple[Point, ...], foot: float, stride: float = 0.0) -> Outlines:
    """Legs of the role `leg` from the hips down to the height of the foot, with toes."""
    outlines = []
    for x, y in hips:
        toe = x + stride
        outlines += [
            line("leg", (x, y), (toe, foot)),
            bend("leg", (toe - 4, foot + 1), (toe + 2, foot), (toe + 7, foot + 1)),
        ]
    return tuple(outlines)


def dashes(role: str, length: float, slant: float, *starts: Point) -> Outlines:
    """Short lines that run `length` down and `slant` to the right: the streaks and bars of a plumage."""
    return tuple(line(role, (x, y), (x + slant, y + length)) for x, y in starts)


def spread_wing(span: Point, chord: Point, pointed: bool, role: str, bar: str | None = None) -> Outlines:
    """A spread wing whose root is the origin.

    Args:
        span: From the root to about the tip.
        chord: From the front edge to the rear edge at the root.
        pointed: Whether the wing narrows to a point, or ends in fingers.
        role: Of the coverts; the flight feathers are of `flight`.
        bar: The role of a bar across the wing, if there is one.
    """
    if pointed:
        rim = [(0.0, 0.0), (0.3, -0.1), (0.65, -0.02), (1.05, 0.34), (0.82, 0.46), (0.6, 0.6), (0.36, 0.84), (0.0, 1.0)]
        feathers = blob("flight", *rim)
    else:
        front = [(0.0, 0.0), (0.3, -0.14), (0.6, -0.16), (0.86, -0.06)]
        tips = [
            (1.04, 0.12),
            (1.03, 0.36),
            (0.95, 0.58),
            (0.82, 0.76),
            (0.64, 0.88),
            (0.42, 0.96),
            (0.2, 1.02),
            (0.0, 1.0),
        ]
        notches = [(0.93, 0.26), (0.9, 0.46), (0.83, 0.63), (0.7, 0.76), (0.52, 0.85), (0.31, 0.9), (0.1, 0.92)]
        rear = [point for pair in itertools.zip_longest(tips, notches) for point in pair if point is not None]
        feathers = Outline("flight", (*front, *rear), closed=True)
    coverts = blob(role, (0.0, 0.0), (0.3, -0.1), (0.62, -0.08), (0.78, 0.08), (0.6, 0.34), (0.3, 0.5), (0.0, 0.6))
    bars = [bend(bar, (0.04, 0.58), (0.32, 0.5), (0.62, 0.34), (0.76, 0.12))] if bar else []
    (sx, sy), (cx, cy) = span, chord
    return _mapped((feathers, coverts, *bars), lambda p: (p[0] * sx + p[1] * cx, p[0] * sy + p[1] * cy))


def posed(species: Species, pose: Pose) -> PosedBird:
    """The figures of a species in a pose."""
    outlines = _outlines(species, pose)
    # Everything in a sketch is filled with white, so that a hatched part has to be darkened before the next is drawn.
    hatched = [each for outline in outlines for each in (outline, *_hatching(outline, species.dark))]
    corners = np.array([point for outline in outlines for point in outline.points])
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    front = corners[corners[:, 0].argmax()]

    def unit(point: Point) -> Point:
        return (float((point[0] - left) / (right - left)), float((point[1] - top) / (bottom - top)))

    box = (float(left), float(top), float(right), float(bottom))
    return PosedBird(figure(*outlines, box=box), figure(*hatched, box=box), unit(species.foot), unit(tuple(front)))


def _outlines(species: Species, pose: Pose) -> Outlines:
    head = turned(species.head, pose.head, species.neck)
    folded = () if pose.spread else species.wing
    trunk = turned((*species.tail, *species.body, *head, *folded), pose.body, species.hip)
    legs = species.legs if pose.legs else ()
    if not pose.spread:
        return (*legs, *trunk)
    root = turned((Outline("", (species.shoulder,), closed=False),), pose.body, species.hip)[0].points[0]
    far, near = (
        _mapped(wing, lambda p: (p[0] + root[0], p[1] + root[1])) for wing in (species.far_wing, species.near_wing)
    )
    return (*far, *legs, *trunk, *near)


def _hatching(outline: Outline, dark: frozenset[str]) -> Iterator[Outline]:
    """Lines at 45 degrees across a closed outline of a dark role."""
    if not outline.closed or outline.role not in dark:
        return
    path = [(x + y, x - y) for x, y in outline.points]
    edges = list(zip(path, (*path[1:], path[0]), strict=True))
    lowest, highest = min(p for p, _ in path), max(p for p, _ in path)
    step = _HATCHING * math.sqrt(2)
    for number in range(math.ceil(lowest / step), math.floor(highest / step) + 1):
        level = number * step
        cuts = sorted(
            before + (after - before) * (level - start) / (end - start)
            for (start, before), (end, after) in edges
            if min(start, end) <= level < max(start, end)
        )
        for low, high in zip(cuts[::2], cuts[1::2], strict=True):
            if high - low > 0.7 * _HATCHING:
                yield line(
                    "hatch",
                    ((level + low + 2) / 2, (level - low - 2) / 2),
                    ((level + high - 2) / 2, (level - high + 2) / 2),
                )
